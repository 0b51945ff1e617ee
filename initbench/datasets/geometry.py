"""Native voxel axes to (D, H, W) and back. The only place where an axis is an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from initbench.protocols import Grid, Spacing

ANISOTROPY = 3.0  # one spacing at least this many times the others: that axis is D

_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}


@dataclass(frozen=True)
class Axes:
    """How the native array becomes (D, H, W): `permutation` of its axes, then `flips` of the result.

    `permutation[i]` is the native axis that becomes the i-th of (D, H, W).
    """

    permutation: Grid
    flips: tuple[bool, bool, bool]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Returns a native array ``(..., X, Y, Z)`` as ``(..., D, H, W)``."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + axis for axis in self.permutation))
        return np.flip(moved, self._flipped())

    def invert(self, array: NDArray[Any]) -> NDArray[Any]:
        """Returns an array ``(D, H, W)`` with its native axes."""
        return np.flip(array, self._flipped()).transpose(np.argsort(self.permutation))

    def _flipped(self) -> tuple[int, ...]:
        """Returns the flipped ones of (D, H, W), counted from the end of an array's shape."""
        return tuple(axis - 3 for axis, flip in enumerate(self.flips) if flip)

    def towards(self, affine: NDArray[np.float64]) -> tuple[str, str, str]:
        """Returns the sides of the patient that (D, H, W) grow towards, each as one of R, L, A, P, S, I.

        Where the affine is oblique, it is the nearest side. `bind_axes` gives axes that grow towards R, A and S.
        """
        codes = nibabel.orientations.aff2axcodes(affine)
        found = []
        for native, flip in zip(self.permutation, self.flips, strict=True):
            side = str(codes[native])
            if flip:
                side = _OPPOSITE[side]
            found.append(side)
        return found[0], found[1], found[2]

    def spacing(self, affine: NDArray[np.float64]) -> Spacing:
        """Returns the spacing (D, H, W) in mm of a native affine."""
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        d, h, w = self.permutation
        return float(sizes[d]), float(sizes[h]), float(sizes[w])


def bind_axes(affine: NDArray[np.float64], depth: str) -> Axes:
    """Finds the axes of one case for a depth axis of the RAS volume (``x``, ``y`` or ``z``).

    D grows towards superior (right, anterior for the others); H and W are the remaining axes in the order z, y, x.
    """
    world = nibabel.orientations.io_orientation(affine)  # native axis -> (world axis, direction)
    natives = world[:, 0].astype(int).tolist()
    permutation = []
    flips = []
    for axis in world_order(depth):
        native = natives.index(axis)
        permutation.append(native)
        flips.append(bool(world[native, 1] < 0))
    return Axes((permutation[0], permutation[1], permutation[2]), (flips[0], flips[1], flips[2]))


def world_order(depth: str) -> Grid:
    """Returns the axes x, y, z of the RAS volume, as 0, 1, 2, in the order (D, H, W): `depth`, then the others from z to x."""
    first = "xyz".index(depth)
    others = [2, 1, 0]
    others.remove(first)
    return first, others[0], others[1]


def shape_along(axis: int) -> list[int]:
    """Returns the shape that makes a vector lie along one of three axes, so that it is broadcast over a volume."""
    shape = [1, 1, 1]
    shape[axis] = -1
    return shape


def choose_depth(spacing_xyz: NDArray[np.float64]) -> str:
    """Returns the slice axis for RAS spacings (x, y, z) in mm: z, or the coarsest where it is 3 times the others or more."""
    coarsest = int(np.argmax(spacing_xyz))
    others = np.delete(spacing_xyz, coarsest)
    if spacing_xyz[coarsest] >= ANISOTROPY * others.max():
        return "xyz"[coarsest]
    return "z"


def resample(volume: NDArray[Any], shape: Grid, order: int) -> NDArray[Any]:
    """Resamples ``(D, H, W)`` to `shape` by a spline of `order`; voxel centres follow the half-pixel rule, edges repeat.

    ``torch.nn.functional.interpolate(align_corners=False)``, which carries predictions back, has the same rule.
    """
    if volume.shape == shape:
        return volume
    if order == 0:  # indexing is exact; zoom at order 0 rounds half-way positions by float error
        index = []
        for wanted, size in zip(shape, volume.shape, strict=True):
            index.append(np.minimum((np.arange(wanted) * 2 + 1) * size // (2 * wanted), size - 1))
        return volume[np.ix_(*index)]
    return zoom(volume, shape, order)


def zoom(volume: NDArray[Any], shape: Sequence[int], order: int) -> NDArray[Any]:
    """Resamples an array of any number of axes to `shape` by a spline of `order`, by the rule of `resample`."""
    from scipy import ndimage  # takes long to import, and a run with prepared data needs none of it

    factors = [n / m for n, m in zip(shape, volume.shape, strict=True)]
    out = np.empty(shape, volume.dtype)
    ndimage.zoom(volume, factors, output=out, order=order, mode="nearest", grid_mode=True)  # type: ignore[call-overload]
    return out


def box(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Returns the smallest box around the voxels of a mask ``(D, H, W)``, by its bounds; the whole array where it has none."""
    if not mask.any():
        d, h, w = mask.shape
        return (0, d), (0, h), (0, w)
    spans = []
    for axis in range(3):
        others = [0, 1, 2]
        others.remove(axis)
        first, second = others
        hit = np.flatnonzero(np.any(np.any(mask, axis=second), axis=first))
        spans.append((int(hit[0]), int(hit[-1]) + 1))
    return spans[0], spans[1], spans[2]


def resampled_shape(shape: Grid, spacing: Spacing, target: Spacing) -> Grid:
    """Returns the voxels per axis after resampling to `target` spacing; at least one."""
    d, h, w = (max(1, round(n * s / t)) for n, s, t in zip(shape, spacing, target, strict=True))
    return d, h, w
