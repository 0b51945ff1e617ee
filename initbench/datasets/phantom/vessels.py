"""Tubes: aorta, vena cava, oesophagus, airways, and the vessels that fork in the lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from initbench.datasets.phantom.anatomy import Anatomy, Regions, spine_y
from initbench.datasets.phantom.randomness import Draw, pick
from initbench.datasets.phantom.shapes import Array, Point, VoxelGrid, along, minus, paint, stamp_tube, tube, unit
from initbench.datasets.phantom.tissue import AIR, MUSCLE

GENERATIONS = 6  # of branches, the stem counted


def paint_great_vessels(hu: Array, grid: VoxelGrid, anatomy: Anatomy) -> Array:
    """Paints the tubes of the mediastinum and returns the occupancy of all of them.

    Args:
        hu: the image in HU, changed in place.
        grid: the voxels.
        anatomy: sizes and densities of the body.
    """
    h, depth = grid.height, anatomy.body[1]
    arch, carina = anatomy.arch, anatomy.carina
    behind = spine_y(anatomy) + anatomy.spine
    rising = [(4.0, 0.18 * depth, h(arch - 0.25)), (7.0, 0.22 * depth, h(arch - 0.06)), (1.0, 0.10 * depth, h(arch))]
    falling = [(-9.0, -0.12 * depth, h(arch)), (-13.0, behind, h(arch - 0.08)), (-10.0, behind, h(0.0))]
    cava = [(15.0, 0.12 * depth, h(carina - 0.12)), (15.0, 0.14 * depth, h(0.92)), (24.0, 0.14 * depth, h(1.05))]
    gullet = [(-4.0, behind + 4.0, h(0.1)), (-3.0, behind + 4.0, h(1.05))]
    tubes = (
        (tube(grid, rising + falling, [9.5, 9.5, 9.0, 8.5, 8.0, 7.0]), anatomy.blood + 20.0),
        (tube(grid, cava, [6.5, 6.0, 5.0]), anatomy.blood),
        (tube(grid, gullet, [4.0, 3.5]), MUSCLE),
        (_airways(grid, anatomy, 2.0), 20.0),
        (_airways(grid, anatomy, 0.0), AIR + 15.0),
    )
    central = np.zeros(grid.shape)
    for occupancy, value in tubes:
        paint(hu, occupancy, value)
        np.maximum(central, occupancy, out=central)
    return central


def _airways(grid: VoxelGrid, anatomy: Anatomy, wall: float) -> Array:
    """Occupancy of trachea and main bronchi, `wall` mm wider than the air in them."""
    h, depth, carina = grid.height, anatomy.body[1], anatomy.carina
    fork = (1.0, -0.06 * depth, h(carina))
    mouth = (1.0, 0.05 * depth, h(1.05))
    right, left = (28.0, -0.10 * depth, h(carina - 0.09)), (-31.0, -0.10 * depth, h(carina - 0.10))
    field = tube(grid, [mouth, fork, right], [6.0 + wall, 5.2 + wall, 2.8 + wall])
    return np.asarray(np.maximum(field, tube(grid, [fork, left], [4.6 + wall, 2.5 + wall])))


def vessel_tree(grid: VoxelGrid, anatomy: Anatomy, regions: Regions, draw: Draw) -> Array:
    """Occupancy of the vessels of both lungs: they fork on the way from the hilum and get thinner.

    Args:
        grid: the voxels.
        anatomy: sizes and densities of the body.
        regions: where trunk, cavity, heart and lungs lie.
        draw: random numbers.
    """
    field = np.zeros(grid.shape)
    for side, lung in enumerate(regions.lungs):
        inner = np.flatnonzero(lung < -8.0)
        for _ in range(draw.integer(11, 13)):
            root = (
                (1.0, -1.0)[side] * (anatomy.mediastinum + draw.uniform(-2.0, 5.0)),
                anatomy.body[1] * draw.uniform(-0.14, 0.04),
                grid.height(anatomy.carina - draw.uniform(0.03, 0.17)),
            )
            towards = unit(minus(pick(grid, inner, draw), root))
            stem = _Branch(root, towards, draw.uniform(20.0, 30.0), anatomy.calibre * draw.uniform(2.6, 4.2), 0)
            _grow(field, grid, lung, stem, draw)
    return field


@dataclass(frozen=True)
class _Branch:
    """One straight piece of a vessel; lengths in mm."""

    start: Point
    direction: Point
    length: float
    radius: float
    generation: int


def _grow(field: Array, grid: VoxelGrid, lung: Array, stem: _Branch, draw: Draw) -> None:
    """Stamps `stem` and everything that forks off it into `field`, as far as it stays in the lung."""
    todo = [stem]
    while todo:
        branch = todo.pop()
        end = along(branch.start, branch.direction, branch.length)
        if lung[grid.voxel(end)] > -2.5:
            end = along(branch.start, branch.direction, 0.5 * branch.length)
            if branch.generation and lung[grid.voxel(end)] > -1.0:
                continue
        thin = 0.84 * branch.radius
        stamp_tube(field, grid, (branch.start, end), (branch.radius, thin))
        if branch.generation + 1 == GENERATIONS:
            continue
        sideways = draw.direction()
        for sign, ratio in ((1.0, 1.0), (-1.0, draw.uniform(0.7, 1.0))):
            direction = unit(along(branch.direction, sideways, sign * draw.uniform(0.35, 0.8)))
            length = branch.length * draw.uniform(0.72, 0.95)
            todo.append(_Branch(end, direction, length, thin * ratio, branch.generation + 1))
