"""Transforms the input of a pretext: shuffles slabs along D, masks cells. A generator of numpy draws, the device computes.

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
    """Permutes slabs along D; slabs that hold padding stay where they are. The identity is a permutation, too.

    Attributes:
        count: number of slabs.
        scope: whether a batch shares one permutation, as in the release, or each sample draws its own.
    """

    count: int
    scope: DrawnPer = "batch"

    def __call__(self, image: Tensor, inside: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Shuffles a batch.

        Args:
            image: ``(N, C, D, H, W)``.
            inside: ``(N, 3, 2)``, the first and one-past-last voxel of each patch without padding, along each axis.
            rng: draws the permutations.

        Returns:
            The shuffled image and ``(N, B)`` int64: at each position the original index of the slab now there.
        """
        number, depth = image.shape[0], image.shape[2]
        thickness = depth // self.count
        shared = rng.permutation(self.count)
        orders = np.full((number, self.count), PADDING, np.int64)
        sources = np.broadcast_to(np.arange(depth), (number, depth)).copy()  # the slice that comes to each place
        for n in range(number):
            permutation = shared
            if self.scope != "batch":
                permutation = rng.permutation(self.count)
            whole = int(inside[n, 0, 1]) // thickness  # the volume starts at the first slice
            order = permutation[permutation < whole]
            orders[n, :whole] = order
            sources[n, : whole * thickness] = (np.arange(thickness) + thickness * order[:, None]).flatten()
        # One copy for all samples, for which nobody waits.
        sent = torch.from_numpy(np.concatenate([sources, orders], axis=1)).to(image.device, non_blocking=True)
        shuffled = torch.stack([sample.index_select(1, sent[n, :depth]) for n, sample in enumerate(image)])
        return shuffled, sent[:, depth:].contiguous()


@dataclass(frozen=True)
class Mask:
    """Sets ``int(ratio x cells)`` random cells to 0 in the network's input space.

    Attributes:
        ratio: share of the cells, between 0 and 1.
        patch: edge of a cell in voxels. A cell is a cube; in patches that are one slice deep it is a square.
        tube: whether one mask in plane is held along the whole depth (VideoMAE's tube).
        scope: whether a batch shares one mask, as in the release, or each sample draws its own.
    """

    ratio: float
    patch: int
    tube: bool = False
    scope: DrawnPer = "batch"

    def cells(self, size: Grid) -> Grid:
        """Returns the number of cells along each axis of a patch.

        Args:
            size: (D, H, W) of the patch in voxels.

        Raises:
            UsageError: ratio outside (0, 1), or a cell edge that does not divide the patch.
        """
        if not 0 < self.ratio < 1:
            raise UsageError(f"mask_ratio must lie between 0 and 1, got {self.ratio}")
        common = math.gcd(size[1], size[2])
        if size[0] > 1:
            common = math.gcd(common, size[0])
        if self.patch < 1 or common % self.patch:
            works = ", ".join(str(edge) for edge in range(1, common + 1) if common % edge == 0)
            raise UsageError(f"mask_patch {self.patch} does not divide the patch {size}; these do: {works}")
        d, h, w = self._edges(size)
        return size[0] // d, size[1] // h, size[2] // w

    def _edges(self, size: Grid) -> Grid:
        """Returns the voxels of a cell along D, H and W."""
        if size[0] == 1:
            return 1, self.patch, self.patch
        return self.patch, self.patch, self.patch

    def __call__(self, image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Masks images ``(N, C, D, H, W)``; returns them and ``(N, 1, D, H, W)`` bool, true where masked."""
        number = image.shape[0]
        size: Grid = (image.shape[2], image.shape[3], image.shape[4])
        grid = self.cells(size)
        if self.scope == "batch":
            drawn = [self._draw(grid, rng)] * number
        else:
            drawn = [self._draw(grid, rng) for _ in range(number)]
        chosen = np.stack(drawn)
        coarse = torch.from_numpy(chosen).to(image.device, non_blocking=True)
        mask = coarse[:, None]
        for axis, edge in zip((2, 3, 4), self._edges(size), strict=True):
            mask = mask.repeat_interleave(edge, dim=axis)
        return image.masked_fill(mask, 0.0), mask

    def _draw(self, grid: Grid, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Draws the masked cells of one sample, ``(D, H, W)`` bool on the grid of cells."""
        shape = grid
        if self.tube:
            shape = (1, grid[1], grid[2])
        flat = np.zeros(math.prod(shape), bool)
        flat[rng.permutation(flat.size)[: int(self.ratio * flat.size)]] = True
        return np.broadcast_to(flat.reshape(shape), grid)
