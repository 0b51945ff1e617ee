"""What a pretext asks of the network: the order of slabs on every tapped level, the image without its mask."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.pretext.transforms import PADDING
from initbench.protocols import Level


def to_channels_first(features: Tensor, level: Level) -> Tensor:
    """A level's features as ``(N, C, D, H, W)``.

    Raises:
        ValueError: they are not what the level declares.
    """
    channels = level.channels
    grid = level.grid if level.axes == "DHW" else level.grid[::-1]
    shapes = {
        "NCDHW": (channels, *grid),
        "NDHWC": (*grid, channels),
        "NLC": (grid[0] * grid[1] * grid[2], channels),
    }
    if tuple(features.shape[1:]) != shapes[level.layout]:
        raise ValueError(
            f"level {level.module} gives {tuple(features.shape[1:])}, declared {shapes[level.layout]} "
            f"({level.layout}, {level.axes})"
        )
    if level.layout == "NLC":
        features = features.reshape(features.shape[0], *grid, channels)
    features = features if level.layout == "NCDHW" else features.movedim(-1, 1)
    return features if level.axes == "DHW" else features.transpose(2, 4)


class OrderHeads(nn.Module):
    """One linear classifier per level on the mean feature of each slab (LWI section 3.2.2: D is kept, H and W are averaged)."""

    def __init__(self, levels: Sequence[Level], slabs: int) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.slabs = slabs
        self.classifiers = nn.ModuleList(nn.Linear(level.channels, slabs) for level in levels)

    def pool(self, features: Tensor, level: Level) -> Tensor:
        """Features of a level to ``(N, B, C)``: the mean over each slab's slices and over H and W."""
        z = to_channels_first(features, level).float()
        slabs = z.reshape(*z.shape[:2], self.slabs, -1, *z.shape[3:])
        return slabs.mean(dim=(3, 4, 5)).transpose(1, 2)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Logits ``(N, B, B)`` per level: for each position, which slab is there."""
        pooled = [self.pool(z, level) for z, level in zip(features, self.levels, strict=True)]
        return [classifier(z) for classifier, z in zip(self.classifiers, pooled, strict=True)]


def order_losses(logits: Sequence[Tensor], order: Tensor) -> Tensor:
    """Cross-entropy per level, averaged over samples and slab positions: ``(levels,)``. ln B is chance."""
    flat = order.flatten()
    losses = [functional.cross_entropy(item.flatten(0, 1).float(), flat, ignore_index=PADDING) for item in logits]
    return torch.stack(losses)


def reconstruction_loss(output: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean squared error over the voxels in `counted` ``(N, 1, D, H, W)``; 0 where there are none."""
    weight = counted.to(output.dtype).expand_as(target)
    return ((output.float() - target).square() * weight).sum() / weight.sum().clamp(min=1)


class Taps:
    """Collects the outputs of modules during a forward pass. `enough` ends the pass after the last tap."""

    def __init__(self, model: nn.Module, levels: Sequence[Level], *, enough: bool) -> None:
        self._model = model
        self._enough = enough
        self._found: dict[str, Tensor] = {}
        self._names = [level.module for level in levels]
        self._handles = [model.get_submodule(name).register_forward_hook(self._hook(name)) for name in self._names]

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self._found[name] = output
            if self._enough and len(self._found) == len(set(self._names)):
                raise _EnoughError

        return keep

    def run(self, image: Tensor) -> tuple[Any, list[Tensor]]:
        """Forward pass: the network's output (None where it was cut short) and the taps in order."""
        self._found.clear()
        output: Any = None
        with contextlib.suppress(_EnoughError):
            output = self._model(image)
        return output, [self._found[name] for name in self._names]

    def remove(self) -> None:
        """Takes the hooks off the network."""
        for handle in self._handles:
            handle.remove()


class _EnoughError(Exception):
    """All taps are there: what lies behind them gets no gradient, so it need not run."""
