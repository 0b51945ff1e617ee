"""Networks and weights of their own kind for the tests of checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from initbench.checkpoints.matching import Request, load_checkpoint
from initbench.checkpoints.reading import Checkpoint
from initbench.checkpoints.report import Report
from initbench.protocols import Grid, structure_of
from tests.networks import PATCHES, tiny

State = dict[str, Tensor]


def build(name: str, variant: str | None = None, *, patch: Grid | None = None, channels: int = 1, classes: int = 3) -> nn.Module:
    """A network at tiny size, always drawn from the same seed."""
    return tiny(name, in_channels=channels, num_classes=classes, patch_size=patch or PATCHES[name], variant=variant, seed=1)


def trained(name: str, variant: str | None = None, **options: Any) -> State:
    """Weights that differ from those of any network: every float entry is drawn from a generator of its own."""
    state: State = {}
    model = build(name, variant, **options)
    first: dict[int, str] = {}
    for i, (key, value) in enumerate(model.state_dict(keep_vars=True).items()):
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(i))
        tied = first.setdefault(id(value), key)  # one parameter under two names has one value
        state[key] = state[tied].clone() if tied != key else noise if value.is_floating_point() else value.clone()
    return state


def put(model: nn.Module, state: State, **request: Any) -> Report:
    """Loads weights into a network, as from a file weights.pt, and returns the report."""
    return load_checkpoint(model, Checkpoint(Path("weights.pt"), state), structure_of(model), Request(**request))


def is_head(model: nn.Module, key: str) -> bool:
    """Whether an entry of a state dict belongs to an output head."""
    return key.startswith(tuple(f"{head}." for head in structure_of(model).heads))


def natural(name: str) -> str | None:
    """The variant of a network that takes weights as they were published; None where there is one variant."""
    return {"unetr": "perceptron-xyz", "swin-unetr": "legacy-merge-xyz"}.get(name)


def noise(*shape: int) -> Tensor:
    """Normal numbers in double precision, the same at every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    """What a network gives in double precision and evaluation mode."""
    with torch.no_grad():
        found: Tensor = model.double().eval()(x)
    return found


def with_heads(model: nn.Module, state: State) -> nn.Module:
    """Copies the heads too, which loading leaves alone, so that outputs can be compared."""
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if is_head(model, key):
                value.copy_(state[key])
    return model


def as_swinvit(state: State) -> State:
    """Turns weights into what `model_swinvit.pt` holds.

    It holds the encoder alone, under DataParallel's prefix and other names in the MLP, with heads of its pretexts.
    """
    encoder = {key.removeprefix("swinViT."): value for key, value in state.items() if key.startswith("swinViT.")}
    renamed = {key.replace("mlp.linear", "mlp.fc"): value for key, value in encoder.items()}
    extra = {"norm.weight": torch.ones(3), "rotation_head.weight": torch.ones(4, 3), "contrastive_head.bias": torch.ones(2)}
    return {f"module.{key}": value for key, value in (renamed | extra).items()}
