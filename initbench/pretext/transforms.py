"""What a pretext does to its input: shuffle slabs along D, mask cells. Numbers from a numpy generator, work on the device.

Source: LWI section 3.2; ShahinaKK/LWI-VMS@7f21654:UNETR/BTCV/trainer.py l.40-103 (with the depth axis bound by name).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initbench.errors import UsageError
from initbench.protocols import Grid

DrawnPer = Literal["batch", "sample"]
PADDING = -100  # label of a slab position that holds padding; cross-entropy ignores it


@dataclass(frozen=True)
class Shuffle:
    """Permutes `count` slabs along D; slabs that hold padding stay where they are.

    One permutation serves the whole batch, as in the release, or each sample draws its own. The identity is a permutation.
    """

    count: int
    scope: DrawnPer = "batch"

    def __call__(self, image: Tensor, inside: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Shuffles ``(N, C, D, H, W)``.

        Returns:
            The shuffled image and ``(N, B)`` int64: at each position the original index of the slab now there.
        """
        number, depth = image.shape[0], image.shape[2]
        thickness = depth // self.count
        shared = rng.permutation(self.count)
        orders = np.full((number, self.count), PADDING, np.int64)
        sources = np.broadcast_to(np.arange(depth), (number, depth)).copy()  # the slice that comes to each place
        for n in range(number):
            permutation = shared if self.scope == "batch" else rng.permutation(self.count)
            whole = int(inside[n, 0, 1]) // thickness  # the volume starts at the first slice
            order = permutation[permutation < whole]
            orders[n, :whole] = order
            sources[n, : whole * thickness] = np.concatenate([np.arange(thickness) + thickness * slab for slab in order])
        # One copy for all samples, for which nobody waits.
        sent = torch.from_numpy(np.concatenate([sources, orders], axis=1)).to(image.device, non_blocking=True)
        shuffled = torch.stack([sample.index_select(1, sent[n, :depth]) for n, sample in enumerate(image)])
        return shuffled, sent[:, depth:].contiguous()


@dataclass(frozen=True)
class Mask:
    """Sets ``int(ratio x cells)`` random cells to 0 in the network's input space.

    A cell is a cube with the edge `patch`; in patches that are one slice deep it is a square. `tube` draws one in-plane mask and
    holds it along the whole depth (VideoMAE's tube). One mask serves the whole batch, as in the release, or each sample draws its
    own.
    """

    ratio: float
    patch: int
    tube: bool = False
    scope: DrawnPer = "batch"

    def cells(self, size: Grid) -> Grid:
        """Cells per axis.

        Raises:
            UsageError: ratio outside (0, 1), or a cell edge that does not divide the patch.
        """
        if not 0 < self.ratio < 1:
            raise UsageError(f"mask_ratio must lie between 0 and 1, got {self.ratio}")
        divided = size[1:] if size[0] == 1 else size
        if self.patch < 1 or any(axis % self.patch for axis in divided):
            common = math.gcd(*divided)
            works = ", ".join(str(edge) for edge in range(1, common + 1) if common % edge == 0)
            raise UsageError(f"mask_patch {self.patch} does not divide the patch {size}; these do: {works}")
        d, h, w = (axis // edge for axis, edge in zip(size, self._edges(size), strict=True))
        return d, h, w

    def _edges(self, size: Grid) -> Grid:
        """Voxels of a cell along D, H and W."""
        return 1 if size[0] == 1 else self.patch, self.patch, self.patch

    def __call__(self, image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Masks ``(N, C, D, H, W)``; returns the image and ``(N, 1, D, H, W)`` bool, true where masked."""
        number = image.shape[0]
        size: Grid = (image.shape[2], image.shape[3], image.shape[4])
        grid = self.cells(size)
        drawn = [self._draw(grid, rng) for _ in range(1 if self.scope == "batch" else number)]
        chosen = np.stack(drawn * number if self.scope == "batch" else drawn)
        coarse = torch.from_numpy(chosen).to(image.device, non_blocking=True)
        mask = coarse[:, None]
        for axis, edge in zip((2, 3, 4), self._edges(size), strict=True):
            mask = mask.repeat_interleave(edge, dim=axis)
        return image.masked_fill(mask, 0.0), mask

    def _draw(self, grid: Grid, rng: np.random.Generator) -> NDArray[np.bool_]:
        shape = (1, *grid[1:]) if self.tube else grid
        flat = np.zeros(math.prod(shape), bool)
        flat[rng.permutation(flat.size)[: int(self.ratio * flat.size)]] = True
        return np.broadcast_to(flat.reshape(shape), grid)
