"""Augmentation of recipe R1: numbers drawn on the CPU, applied on the device.

Source: ShahinaKK/LWI-VMS@7f21654:UNETR/BTCV/utils/data_utils.py (flips, in-plane quarter turns,
intensity scale and shift).
"""

from __future__ import annotations

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
    turns = rng.integers(1, 4, batch) if patch[1] == patch[2] else np.full(batch, 2)
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
    axes = [axis - 3 for axis in range(3) if flips[axis]]
    if axes:
        volume = torch.flip(volume, axes)
    return torch.rot90(volume, turns, (-2, -1)) if turns else volume


def adjust(images: Tensor, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Tensor:
    """``images * scale + shift``.

    Args:
        images: ``(N, C, D, H, W)``.
        scale: ``(N,)`` factors.
        shift: ``(N,)`` offsets.
    """
    shape = (-1, 1, 1, 1, 1)
    factors = torch.tensor(scale, dtype=images.dtype).to(images.device, non_blocking=True).view(shape)
    offsets = torch.tensor(shift, dtype=images.dtype).to(images.device, non_blocking=True).view(shape)
    return images * factors + offsets
