"""The objectives of pretexts: to tell the order of slabs on every tapped level, and to restore a masked image."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from initbench.pretext.transforms import PADDING
from initbench.protocols import Level

Pool = Literal["depth", "width", "interleaved"]
OverSlots = Literal["mean", "sum"]


def to_channels_first(features: Tensor, level: Level) -> Tensor:
    """Returns the features of a level as ``(N, C, D, H, W)``.

    Args:
        features: as the module of the level gives them.
        level: declares their layout.

    Raises:
        ValueError: they are not what the level declares.
    """
    channels = level.channels
    grid = level.grid
    if level.axes == "WHD":
        grid = (grid[2], grid[1], grid[0])
    shapes = {
        "NCDHW": (channels, *grid),
        "NDHWC": (*grid, channels),
        "NLC": (grid[0] * grid[1] * grid[2], channels),
        "NCHW": (channels, *grid[1:]),
    }
    if tuple(features.shape[1:]) != shapes[level.layout]:
        raise ValueError(
            f"level {level.module} gives {tuple(features.shape[1:])}, declared {shapes[level.layout]} "
            f"({level.layout}, {level.axes})"
        )
    if level.layout == "NCHW":
        return features.reshape(-1, grid[0], channels, *grid[1:]).transpose(1, 2)
    if level.layout == "NLC":
        features = features.reshape(features.shape[0], *grid, channels)
    if level.layout != "NCDHW":
        features = features.movedim(-1, 1)
    if level.axes == "WHD":
        features = features.transpose(2, 4)
    return features


def pool_slabs(z: Tensor, slabs: int, pool: Pool) -> Tensor:
    """Averages features ``(N, C, D, H, W)`` over each slab: ``(N, slabs, C)``.

    ``depth`` averages each slab along D, as LWI section 3.2.2 means it. The others are what its release does: ``width`` takes
    slabs along W (UNETR), ``interleaved`` every `slabs`-th voxel in row-major order (UNETR++, whose slots then see all depths).

    Args:
        z: the features.
        slabs: number of slabs.
        pool: how the voxels are divided into slabs.

    Raises:
        ValueError: the features do not divide into `slabs` parts that way.
    """
    number, channels = z.shape[:2]
    if pool == "interleaved":
        groups = z.reshape(number, channels, -1, slabs).transpose(2, 3)
    else:
        if pool == "width":
            z = z.movedim(4, 2)
        groups = z.reshape(number, channels, slabs, -1)
    return groups.mean(dim=3).transpose(1, 2)


class OrderHeads(nn.Module):
    """Classifies the mean feature of each slab, with one linear layer per level (LWI section 3.2.2)."""

    def __init__(self, levels: Sequence[Level], slabs: int, pool: Pool = "depth") -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.slabs = slabs
        self.pool = pool
        self.classifiers = nn.ModuleList(nn.Linear(level.channels, slabs) for level in levels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Returns logits ``(N, B, B)`` for each level: which slab is at each position."""
        logits = []
        for found, level, classifier in zip(features, self.levels, self.classifiers, strict=True):
            volume = to_channels_first(found, level).float()
            logits.append(classifier(pool_slabs(volume, self.slabs, self.pool)))
        return logits


def order_losses(logits: Sequence[Tensor], order: Tensor) -> Tensor:
    """Returns the cross-entropy of each level, averaged over samples and slab positions: ``(levels,)``. ln B is chance.

    Args:
        logits: ``(N, B, B)`` for each level.
        order: ``(N, B)``, the slab at each position; `PADDING` is not counted.
    """
    flat = order.flatten()
    losses = [functional.cross_entropy(item.flatten(0, 1).float(), flat, ignore_index=PADDING) for item in logits]
    return torch.stack(losses)


def slots_of_a_sample(order: Tensor) -> Tensor:
    """Returns the mean number of slab positions of a sample that are asked for: B, or less where slabs hold padding.

    The losses of `order_losses` times this number are sums over the positions, averaged over samples: LWI's eq. 7 as printed.
    """
    return (order != PADDING).sum() / len(order)


def reconstruction_loss(output: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Returns the mean squared error over some voxels; 0 over none.

    Args:
        output: ``(N, C, D, H, W)``.
        target: of the same shape.
        counted: ``(N, 1, D, H, W)`` bool, true at the voxels that count.
    """
    weight = counted.to(output.dtype).expand_as(target)
    return ((output.float() - target).square() * weight).sum() / weight.sum().clamp(min=1)


class Taps:
    """Collects the outputs of modules during a forward pass."""

    def __init__(self, model: nn.Module, levels: Sequence[Level], *, enough: bool) -> None:
        """Puts hooks on the modules of some levels.

        Args:
            model: the network.
            levels: whose outputs are collected.
            enough: whether a pass ends after the last of them.
        """
        self._model = model
        self._enough = enough
        self._found: dict[str, Tensor] = {}
        self._names = [level.module for level in levels]
        self._handles: list[RemovableHandle] = []
        for name in self._names:
            keep = functools.partial(self._keep, name)
            self._handles.append(model.get_submodule(name).register_forward_hook(keep))

    def _keep(self, name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        """Keeps the output of the module of a `name`."""
        self._found[name] = output
        if self._enough and len(self._found) == len(set(self._names)):
            raise _EnoughError

    def run(self, image: Tensor) -> tuple[Any, list[Tensor]]:
        """Runs a forward pass; returns the network's output (None where the pass was cut short) and the taps in order."""
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
