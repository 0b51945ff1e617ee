"""Fills networks as the recorded ones were filled, and compares their gradients with the recorded ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from initbench.protocols import structure_of
from tests.recordings import Json, recorded_weight


def fill(model: nn.Module, extra: dict[str, tuple[int, ...]] | None = None, kept: Sequence[str] = ()) -> str:
    """Fills a model in place, the last of two tied entries winning, and returns the digest of `extra` and what it wrote.

    Entries in `kept` stay as they were constructed.
    """
    digest = hashlib.sha256()

    def value(key: str, shape: tuple[int, ...]) -> np.ndarray:
        number = recorded_weight(key, shape)
        digest.update(key.encode() + b"\0" + number.astype("<f4").tobytes())
        return number

    for key, shape in (extra or {}).items():
        value(key, shape)
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and key not in kept:
            tensor.copy_(torch.from_numpy(value(key, tuple(tensor.shape))))
    return digest.hexdigest()


def check_keys(model: nn.Module, recording: Json) -> None:
    """Compares keys with their order, shapes, types and kinds, and the numbers of parameters."""
    parameters = dict(model.named_parameters())
    ours = []
    for key, value in model.state_dict().items():
        kind = "param" if key in parameters else "buffer"
        ours.append([key, list(value.shape), str(value.dtype).removeprefix("torch."), kind])
    assert ours == recording["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == recording["parameters"]
    children = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert children == recording["children_parameters"]


def check_gradients(model: nn.Module, recorded: dict[str, float], unused: list[str], bound: float, floor: float) -> None:
    """Compares the norm of every parameter's gradient, and which parameters get none."""
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert {name for name, g in gradients.items() if g is None} == set(unused) == set(structure_of(model).unused)
    norms = {name: float(g.double().norm()) for name, g in gradients.items() if g is not None}
    assert norms.keys() == recorded.keys()
    off = {
        name: (norm, recorded[name])
        for name, norm in norms.items()
        if abs(norm - recorded[name]) > max(bound * recorded[name], floor)
    }
    assert not off
