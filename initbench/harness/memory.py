"""An estimate of a training step's memory before it is tried: on a CPU the real thing is a kill."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import InitbenchError
from initbench.protocols import Grid
from initbench.units import gib

_WEIGHT_COPIES = 4  # weights, gradients and two optimizer moments, float32
_BF16_SHARE = 0.6  # of the float32 activations; norms, softmax and losses stay in float32


def on_meta(model: nn.Module) -> nn.Module:
    """Copies a network without its data: what it computes has shapes and no values, and costs neither memory nor arithmetic."""
    with torch.no_grad():
        return copy.deepcopy(model).to("meta")


def estimate_bytes(model: nn.Module, channels: int, patch: Grid, batch: int, precision: str, copies: int = 0) -> int:
    """Estimates the bytes of a training step: weights, gradients, moments, and what autograd keeps, counted on the meta device.

    The forward pass runs on tensors without data, so it costs no memory and no arithmetic.

    Args:
        model: the network.
        channels: of its input.
        patch: size (D, H, W) of its input.
        batch: patches of a step.
        precision: bf16 or float32.
        copies: of the network that the regimen keeps beside it.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    shadow = on_meta(model)
    shadow.train()
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # keeps storages alive, so that an id is not given to two of them

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        held.append(tensor)
        return tensor

    def unpack(tensor: Tensor) -> Tensor:
        return tensor

    own = {parameter.untyped_storage()._cdata for parameter in shadow.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        output: Any = shadow(torch.zeros((batch, channels, *patch), device="meta"))
    activations = 0.0
    for storage, size in kept.items():
        if storage not in own:
            activations += size
    del output
    if precision == "bf16":
        activations *= _BF16_SHARE
    return int((_WEIGHT_COPIES + copies) * weights + activations)


class NoMemoryError(InitbenchError):
    """The memory of the device, or of the machine, did not suffice. Alone on its device the run may fit."""


def out_of_memory(what: str) -> NoMemoryError:
    """Makes the error for memory that did not suffice."""
    return NoMemoryError(
        f"out of memory {what}. Lower what fills it: --set patch.batch=1, a smaller --set patch.size=D,H,W, --size tiny, "
        "fewer --jobs, or --precision bf16"
    )


def check_memory(step: int, volumes: int, available: int) -> None:
    """Refuses a run that cannot fit.

    Args:
        step: bytes that a training step needs.
        volumes: bytes of the training volumes that have to be brought to the device.
        available: bytes that the run may take.

    Raises:
        NoMemoryError: says what to lower.
    """
    if step + volumes <= available:
        return
    found = f"a training step needs about {gib(step)}, the training volumes {gib(volumes)}, and {gib(available)} are free"
    if volumes > available:
        raise NoMemoryError(
            f"out of memory expected: {found}. Lower what fills it: a coarser --set preprocess.spacing=D,H,W, fewer "
            "--train-cases, or fewer --jobs"
        )
    raise out_of_memory(f"expected: {found}")
