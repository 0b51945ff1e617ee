"""Augmentation of LWI's UNETR, by MONAI's rules: numbers drawn on the CPU, applied on the device.

Source: ShahinaKK/LWI-VMS@7f21654:UNETR/BTCV/utils/data_utils.py (flips, in-plane quarter turns,
intensity scale and shift).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initbench.protocols import Grid
from initbench.recipes.settings import Augment


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


def move(volume: Tensor, flips: NDArray[np.bool_], turns: int) -> Tensor:
    """Flips and turns the last three axes of a volume.

    Args:
        volume: ``(..., D, H, W)``.
        flips: ``(3,)``, whether to flip along D, H and W.
        turns: quarter turns in the (H, W) plane.
    """
    axes, swapped = _as_flips(flips, turns)
    if axes:
        volume = torch.flip(volume, axes)
    if swapped:
        volume = volume.transpose(-2, -1)
    return volume


def place(out: Tensor, volume: Tensor, flips: NDArray[np.bool_], turns: int) -> None:
    """Writes what `move` returns into `out`, in the type of `out`.

    Args:
        out: ``(..., D, H, W)``.
        volume: ``(..., D, H, W)``, on the device of `out`.
        flips: ``(3,)``, whether to flip along D, H and W.
        turns: quarter turns in the (H, W) plane.
    """
    if volume.device.type != "cpu":
        out.copy_(move(volume, flips, turns))
        return
    axes, swapped = _as_flips(flips, turns)
    if -1 in axes:  # torch reverses rows much faster than numpy copies them backwards
        volume, axes = torch.flip(volume, axes), []
    view = np.flip(volume.numpy(), tuple(axes))  # rows in another order are a view, which is copied once
    if swapped:
        view = view.swapaxes(-2, -1)
    np.copyto(out.numpy(), view)


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
    for n, image in enumerate(images):
        if scale[n] != 1:  # a factor of 1 changes no bit
            image.mul_(float(scale[n]))
        may_hold = negative_zero is None or negative_zero[n]
        if scale[n] != 1 or shift[n] != 0 or may_hold:
            image.add_(float(shift[n]))
    return images


def _as_flips(flips: NDArray[np.bool_], turns: int) -> tuple[list[int], bool]:
    """Joins flips and turns: returns the axes to flip, counted from the last, and whether H and W change places after it."""
    depth, height, width = flips.tolist()
    if turns in (2, 3):
        height = not height
    if turns in (1, 2):
        width = not width
    axes = []
    for axis, flipped in ((-3, depth), (-2, height), (-1, width)):
        if flipped:
            axes.append(axis)
    return axes, turns in (1, 3)
