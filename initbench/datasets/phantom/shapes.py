"""The voxel grid and signed distances on it: mm, negative inside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from initbench.protocols import Spacing

Array = NDArray[np.float64]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class VoxelGrid:
    """The voxel grid of one case.

    Attributes:
        shape: ``(X, Y, Z)`` voxels.
        spacing: mm per voxel, same order.
        shift: world position (mm) of the middle of the volume.
    """

    shape: tuple[int, int, int]
    spacing: Spacing
    shift: Point

    def axis(self, i: int) -> Array:
        """Coordinates (mm) along axis `i`, shaped to broadcast over the volume."""
        values: Array = (np.arange(self.shape[i], dtype=np.float64) - 0.5 * (self.shape[i] - 1)) * self.spacing[i]
        return values.reshape([-1 if j == i else 1 for j in range(3)])

    def axes(self) -> tuple[Array, Array, Array]:
        """The three coordinates (mm)."""
        return self.axis(0), self.axis(1), self.axis(2)

    def t(self) -> Array:
        """Height from 0 (lowest slice) to 1, ``(1, 1, Z)``."""
        heights: Array = np.arange(self.shape[2], dtype=np.float64) / (self.shape[2] - 1)
        return heights.reshape(1, 1, -1)

    def height(self, t: float) -> float:
        """Height in mm of `t`."""
        return (t - 0.5) * (self.shape[2] - 1) * self.spacing[2]

    def point(self, index: tuple[int, int, int]) -> Point:
        """Position (mm) of a voxel."""
        x, y, z = ((index[i] - 0.5 * (self.shape[i] - 1)) * self.spacing[i] for i in range(3))
        return (x, y, z)

    def voxel(self, point: Point) -> tuple[int, int, int]:
        """The voxel nearest to a position (mm), clipped to the volume."""
        x, y, z = (min(max(int(point[i] / self.spacing[i] + 0.5 * self.shape[i]), 0), self.shape[i] - 1) for i in range(3))
        return (x, y, z)

    def box(self, low: Point, high: Point) -> tuple[slice, slice, slice]:
        """The part of the volume between two positions (mm), with a voxel around it; empty when it lies outside."""
        first, last = self.voxel(low), self.voxel(high)
        x, y, z = (slice(max(first[i] - 1, 0), min(last[i] + 2, self.shape[i])) for i in range(3))
        return (x, y, z)

    def affine(self) -> Array:
        """Voxel to world (RAS, mm), ``(4, 4)``."""
        affine = np.diag([*self.spacing, 1.0])
        first = self.point((0, 0, 0))
        affine[:3, 3] = [first[i] + self.shift[i] for i in range(3)]
        return affine


def unit(v: Point) -> Point:
    """`v` scaled to length 1."""
    norm = max(math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), 1e-6)
    return (v[0] / norm, v[1] / norm, v[2] / norm)


def along(start: Point, direction: Point, length: float) -> Point:
    """The point `length` from `start`."""
    return (
        start[0] + length * direction[0],
        start[1] + length * direction[1],
        start[2] + length * direction[2],
    )


def minus(a: Point, b: Point) -> Point:
    """`a` - `b`."""
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def apart(a: Point, b: Point) -> float:
    """Distance of two points."""
    x, y, z = minus(a, b)
    return math.sqrt(x * x + y * y + z * z)


def ellipsoid(
    coordinates: tuple[Array | float, ...], centre: tuple[Array | float, ...], radii: tuple[Array | float, ...]
) -> Array:
    """Distance to an ellipse or ellipsoid to first order; one axis per coordinate, all broadcast.

    Args:
        coordinates: in mm, one array an axis.
        centre: likewise.
        radii: likewise.
    """
    value, slope = np.asarray(-1.0), np.asarray(1e-12)
    for x, c, r in zip(coordinates, centre, radii, strict=True):
        scaled = (x - c) / r
        value = value + scaled * scaled
        slope = slope + (scaled / r) * (scaled / r)
    # Near the centre the gradient vanishes and the quotient explodes; only "deep inside" matters there.
    distance: Array = np.maximum(value / (2.0 * np.sqrt(slope)), -60.0)
    return distance


def soft(distance: Array, ramp: float) -> Array:
    """Occupancy 0 to 1 of a signed distance, with a linear edge `ramp` mm wide."""
    occupancy: Array = np.clip(0.5 - distance / ramp, 0.0, 1.0)
    return occupancy


def blur(volume: Array, sigma: float | tuple[float, float, float]) -> Array:
    """Gaussian smoothing, `sigma` in voxels."""
    return np.asarray(ndimage.gaussian_filter(volume, sigma, mode="nearest"), dtype=np.float64)


def paint(hu: Array, occupancy: Array, value: float | Array) -> None:
    """Mixes `value` into `hu` in place."""
    hu += occupancy * (value - hu)


def stamp_tube(field: Array, grid: VoxelGrid, ends: tuple[Point, Point], radii: tuple[float, float]) -> None:
    """Adds a tapered tube to an occupancy field in place; only the voxels around it are touched.

    Args:
        field: occupancies from 0 to 1, of the grid's shape.
        grid: the voxels.
        ends: of its axis, in mm.
        radii: at the two ends, in mm.
    """
    (a, b), margin = ends, max(radii) + grid.spacing[0]
    low, high = (
        (pick(a[0], b[0]) + sign, pick(a[1], b[1]) + sign, pick(a[2], b[2]) + sign)
        for pick, sign in ((min, -margin), (max, margin))
    )
    box = grid.box(low, high)
    axes = (grid.axis(0)[box[0]], grid.axis(1)[:, box[1]], grid.axis(2)[:, :, box[2]])
    delta = [b[i] - a[i] for i in range(3)]
    length = max(sum(d * d for d in delta), 1e-6)
    share = np.clip(sum(((axes[i] - a[i]) * delta[i] for i in range(3)), np.zeros(())) / length, 0.0, 1.0)
    square = sum(((axes[i] - a[i] - share * delta[i]) ** 2 for i in range(3)), np.zeros(()))
    radius = radii[0] + share * (radii[1] - radii[0])
    # A tube thinner than a voxel fills part of it only.
    weight = np.minimum(1.0, radius / (0.5 * grid.spacing[0]))
    np.maximum(field[box], weight * soft(np.sqrt(square) - radius, grid.spacing[0]), out=field[box])


def tube(grid: VoxelGrid, points: list[Point], radii: list[float]) -> Array:
    """Occupancy of a tube through `points`."""
    field = np.zeros(grid.shape)
    for i in range(len(points) - 1):
        stamp_tube(field, grid, (points[i], points[i + 1]), (radii[i], radii[i + 1]))
    return field
