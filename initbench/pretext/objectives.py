"""What a pretext asks of the network: the order of slabs on every tapped level, the image without its mask."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.pretext.transforms import PADDING
from initbench.protocols import Level

Pool = Literal["depth", "width", "interleaved"]
OverSlots = Literal["mean", "sum"]


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
    features = features if level.layout == "NCDHW" else features.movedim(-1, 1)
    return features if level.axes == "DHW" else features.transpose(2, 4)


def pool_slabs(z: Tensor, slabs: int, pool: Pool) -> Tensor:
    """Features ``(N, C, D, H, W)`` to one mean per slab, ``(N, slabs, C)``.

    ``depth`` averages each slab along D, as LWI section 3.2.2 means it. The others are what its release does: ``width`` takes
    slabs along W (UNETR), ``interleaved`` every `slabs`-th voxel in row-major order (UNETR++, whose slots then see all depths).

    Raises:
        ValueError: the features do not divide into `slabs` parts that way.
    """
    number, channels = z.shape[:2]
    if pool == "interleaved":
        groups = z.reshape(number, channels, -1, slabs).transpose(2, 3)
    else:
        ordered = z.movedim(4, 2) if pool == "width" else z
        groups = ordered.reshape(number, channels, slabs, -1)
    return groups.mean(dim=3).transpose(1, 2)


class OrderHeads(nn.Module):
    """One linear classifier per level on the mean feature of each slab (LWI section 3.2.2)."""

    def __init__(self, levels: Sequence[Level], slabs: int, pool: Pool = "depth") -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.slabs = slabs
        self.pool = pool
        self.classifiers = nn.ModuleList(nn.Linear(level.channels, slabs) for level in levels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Logits ``(N, B, B)`` per level: for each position, which slab is there."""
        volumes = [to_channels_first(z, level).float() for z, level in zip(features, self.levels, strict=True)]
        pooled = [pool_slabs(z, self.slabs, self.pool) for z in volumes]
        return [classifier(z) for classifier, z in zip(self.classifiers, pooled, strict=True)]


def order_losses(logits: Sequence[Tensor], order: Tensor) -> Tensor:
    """Cross-entropy per level, averaged over samples and slab positions: ``(levels,)``. ln B is chance."""
    flat = order.flatten()
    losses = [functional.cross_entropy(item.flatten(0, 1).float(), flat, ignore_index=PADDING) for item in logits]
    return torch.stack(losses)


def slots_of_a_sample(order: Tensor) -> Tensor:
    """How many slab positions of a sample are asked for, on average: B, less where slabs hold padding.

    The losses of `order_losses` times this number are sums over the positions, averaged over samples: LWI's eq. 7 as printed.
    """
    return (order != PADDING).sum() / len(order)


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
