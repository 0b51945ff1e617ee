"""Augmentation of LWI's UNETR, by MONAI's rules: numbers drawn on the CPU, applied on the device.

Source: ShahinaKK/LWI-VMS@7f21654:UNETR/BTCV/utils/data_utils.py (flips, in-plane quarter turns,
intensity scale and shift).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initbench.protocols import Grid
from initbench.recipes.settings import Augment

_CACHED = 2**18  # bytes


@dataclass(frozen=True)
class Draw:
    """The numbers of a batch of N patches.

    Attributes:
        flips: ``(N, 3)`` bool, axes D, H, W.
        turns: ``(N,)`` quarter turns in the (H, W) plane.
        scale: ``(N,)`` factors. shift: ``(N,)`` offsets, in units of the network's input.
    """

    flips: NDArray[np.bool_]
    turns: NDArray[np.int64]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def order(self, n: int) -> Order:
        """Returns the order of the voxels of patch `n`."""
        return order_of(self.flips[n], int(self.turns[n]))


def draw(rng: np.random.Generator, batch: int, patch: Grid, settings: Augment, *, flip_depth: bool = True) -> Draw:
    """Draws the numbers of one batch. A patch that is not square in plane is turned by 180 degrees only.

    Args:
        rng: its state decides the numbers.
        batch: number of patches.
        patch: (D, H, W) in voxels.
        settings: probabilities and ranges.
        flip_depth: whether patches may be flipped along D.
    """
    flips = rng.random((batch, 3)) < settings.flip
    if not flip_depth:
        flips[:, 0] = False
    turned = rng.random(batch) < settings.rot90
    if patch[1] == patch[2]:
        turns = rng.integers(1, 4, batch)
    else:
        turns = np.full(batch, 2)
    scale = 1 + _sometimes(rng, batch, settings.scale_probability, settings.scale_range)
    shift = _sometimes(rng, batch, settings.shift_probability, settings.shift_range)
    return Draw(flips, np.where(turned, turns, 0), scale, shift)


def _sometimes(rng: np.random.Generator, batch: int, probability: float, width: float) -> NDArray[np.float64]:
    chosen = rng.random(batch) < probability
    return np.where(chosen, rng.uniform(-width, width, batch), 0.0)


class Order(NamedTuple):
    """In which order the voxels of a patch are read.

    Attributes:
        flipped: axes to flip, counted from the last: -3 is D, -2 H, -1 W.
        swapped: whether H and W change places after that.
    """

    flipped: tuple[int, ...]
    swapped: bool


def order_of(flips: NDArray[np.bool_], turns: int) -> Order:
    """Joins flips and the quarter turns that follow them.

    Args:
        flips: ``(3,)``, whether to flip along D, H and W.
        turns: quarter turns in the (H, W) plane.
    """
    depth, height, width = flips.tolist()
    if turns in (2, 3):
        height = not height
    if turns in (1, 2):
        width = not width
    flipped = []
    for axis, chosen in ((-3, depth), (-2, height), (-1, width)):
        if chosen:
            flipped.append(axis)
    return Order(tuple(flipped), turns in (1, 3))


def move(volume: Tensor, order: Order) -> Tensor:
    """Returns the last three axes of a volume ``(..., D, H, W)`` in another order, as a view where that can be."""
    if order.flipped:
        volume = torch.flip(volume, order.flipped)
    if order.swapped:
        volume = volume.transpose(-2, -1)
    return volume


def place(out: NDArray[Any], volume: NDArray[Any], order: Order) -> None:
    """Writes what `move` returns into `out`.

    Args:
        out: ``(..., D, H, W)``.
        volume: ``(..., D, H, W)``, in the type of `out`.
        order: of the voxels.
    """
    # Where a voxel goes is a view of `out`, so that most patches are copied once.
    target = out
    if order.swapped:
        target = target.swapaxes(-2, -1)
    lines = tuple(axis for axis in order.flipped if axis != -1)
    if lines:
        target = np.flip(target, lines)
    if -1 not in order.flipped:
        np.copyto(target, volume)
        return
    # Torch reverses lines much faster than numpy writes them backwards; some slices at a time stay in the processor's cache.
    slices = max(1, _CACHED // (volume.nbytes // volume.shape[-3]))
    for first in range(0, volume.shape[-3], slices):
        part = torch.from_numpy(volume[..., first : first + slices, :, :])
        np.copyto(target[..., first : first + slices, :, :], part.flip(-1).numpy())


def adjust(
    images: Tensor, scale: NDArray[np.float64], shift: NDArray[np.float64], *, negative_zero: Sequence[bool] | None = None
) -> Tensor:
    """Computes ``images * scale + shift`` in place; each step rounds. A patch that is neither scaled nor shifted stays as it is.

    Args:
        images: ``(N, C, D, H, W)``; they are overwritten, and returned.
        scale: ``(N,)`` factors.
        shift: ``(N,)`` offsets.
        negative_zero: ``(N,)`` whether a patch may hold -0, of which the sum makes 0; None where all of them may.
    """
    for n, (factor, offset) in enumerate(zip(scale.tolist(), shift.tolist(), strict=True)):
        if factor != 1:  # a factor of 1 changes no bit
            images[n].mul_(factor)
        # A product is -0 where the voxel was, or where a factor of no more than a half takes the smallest number to 0.
        may_hold = negative_zero is None or negative_zero[n] or factor <= 0.5
        if offset != 0 or may_hold:
            images[n].add_(offset)
    return images
