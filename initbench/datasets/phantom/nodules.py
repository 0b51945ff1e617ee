"""One to four nodules a case: solid, part-solid or ground-glass, in the lung, on the pleura or on a vessel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from initbench.datasets.phantom.randomness import Draw, pick
from initbench.datasets.phantom.shapes import Array, Point, VoxelGrid, along, apart, blur, paint, soft, stamp_tube

NODULE_RADIUS = (9.0, 17.0)  # mm
MIN_NODULE_VOXELS = 20  # a smaller one is not painted
MIN_CASE_VOXELS = 200  # fewer would make the Dice of a case all or nothing
MAX_NODULES = 4
ATTEMPTS = 60  # at placing the nodules of a case: many places have no room


@dataclass(frozen=True)
class _Nodule:
    """One nodule.

    Attributes:
        centre: position (mm).
        radius: mean radius (mm).
        body: occupancy over the volume; the label is where it exceeds one half.
        rays: occupancy of the spicules, which are seen and not labelled.
    """

    centre: Point
    radius: float
    body: Array
    rays: Array

    def mask(self) -> NDArray[np.bool_]:
        """The labelled voxels ``(X, Y, Z)``."""
        return np.asarray(self.body > 0.5)


def paint_nodules(hu: Array, grid: VoxelGrid, lung: Array, vessels: Array, draw: Draw) -> NDArray[np.uint8]:
    """Paints the nodules of a case and returns their label ``(X, Y, Z)``.

    Args:
        hu: the volume, changed in place.
        grid: the voxel grid.
        lung: distance to the aerated lung (mm).
        vessels: occupancy of the vessels in it.
        draw: random numbers.
    """
    label = np.zeros(grid.shape, dtype=np.uint8)
    wanted = draw.integer(1, MAX_NODULES)
    found: list[_Nodule] = []
    for _ in range(ATTEMPTS):
        # One tiny nodule alone would make the Dice of its case all or nothing, so such a case gets another one.
        enough = len(found) >= wanted and np.count_nonzero(label) >= MIN_CASE_VOXELS
        if enough or len(found) == MAX_NODULES:
            break
        nodule = _draw_nodule(grid, lung, vessels, draw)
        if nodule is None or any(apart(nodule.centre, o.centre) < 1.8 * (nodule.radius + o.radius) for o in found):
            continue
        if np.count_nonzero(nodule.mask()) < MIN_NODULE_VOXELS:
            continue
        _paint_nodule(hu, nodule, draw)
        label[nodule.mask()] = 1
        found.append(nodule)
    return label


def _draw_nodule(grid: VoxelGrid, lung: Array, vessels: Array, draw: Draw) -> _Nodule | None:
    """A nodule inside the lung, on the pleura or on a vessel; None where there is no room for it."""
    radius = draw.uniform(*NODULE_RADIUS)
    kind = draw.uniform(0.0, 1.0)
    if kind < 0.40:
        room = lung < -(radius + 1.0)
    elif kind < 0.70:
        room = (lung < -0.35 * radius) & (lung > -0.8 * radius)
    else:
        room = (lung < -0.7 * radius) & (vessels > 0.5)
    flat = np.flatnonzero(room)
    if not len(flat):
        return None
    centre = pick(grid, flat, draw)
    if kind >= 0.70:
        centre = along(centre, draw.direction(), 0.6 * radius)
    inside = soft(lung, grid.spacing[0])
    body, rays = _lobulated(grid, centre, radius, draw) * inside, np.zeros(grid.shape)
    for _ in range(draw.integer(0, 7)):
        ray = draw.direction()
        ends = (along(centre, ray, 0.6 * radius), along(centre, ray, radius * draw.uniform(1.4, 2.2)))
        stamp_tube(rays, grid, ends, (1.3, 0.4))
    return _Nodule(centre, radius, body, rays * inside)


def _lobulated(grid: VoxelGrid, centre: Point, radius: float, draw: Draw) -> Array:
    """Occupancy of a stretched ball with bumps and dents."""
    field = np.zeros(grid.shape)
    reach = 2.2 * radius
    box = grid.box(
        (centre[0] - reach, centre[1] - reach, centre[2] - reach),
        (centre[0] + reach, centre[1] + reach, centre[2] + reach),
    )
    x = (grid.axis(0)[box[0]] - centre[0]) * draw.uniform(0.85, 1.20)
    y = (grid.axis(1)[:, box[1]] - centre[1]) * draw.uniform(0.85, 1.20)
    z = (grid.axis(2)[:, :, box[2]] - centre[2]) * draw.uniform(0.85, 1.10)
    distance = np.sqrt(x * x + y * y + z * z)
    size = np.full(distance.shape, 0.92)
    for _ in range(draw.integer(3, 6)):
        lobe = draw.direction()
        cosine = np.maximum((x * lobe[0] + y * lobe[1] + z * lobe[2]) / np.maximum(distance, 1.0), 0.0)
        size += draw.uniform(-0.25, 0.40) * cosine * cosine * cosine
    field[box] = soft(distance - radius * size, grid.spacing[0])
    return field


def _paint_nodule(hu: Array, nodule: _Nodule, draw: Draw) -> None:
    """Solid, part-solid or ground-glass; vessels stay visible in the latter."""
    kind, solid = draw.uniform(0.0, 1.0), draw.uniform(-30.0, 110.0)
    if kind < 0.75:
        paint(hu, np.maximum(nodule.body, 0.7 * nodule.rays), solid)
        return
    haze = draw.uniform(-600.0, -380.0)
    paint(hu, nodule.body, np.maximum(hu, haze))
    if kind < 0.85:
        paint(hu, np.clip(2.5 * nodule.body * _nearness(nodule) - 0.4, 0.0, 1.0), solid)


def _nearness(nodule: _Nodule) -> Array:
    """A blurred copy of the body: high in its core only."""
    return blur(nodule.body, (1.5, 1.5, 0.75)) ** 2
