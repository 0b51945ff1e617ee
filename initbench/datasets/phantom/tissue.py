"""Trunk, organs, bones and lung tissue."""

from __future__ import annotations

import numpy as np

from initbench.datasets.phantom.anatomy import Anatomy, Regions, cavity_radii, spine_y, vertebra
from initbench.datasets.phantom.randomness import Draw
from initbench.datasets.phantom.shapes import Array, VoxelGrid, ellipsoid, paint, soft

AIR, FAT, MUSCLE, WATER, ORGAN = -1000.0, -100.0, 45.0, 10.0, 60.0


def soft_tissue(grid: VoxelGrid, anatomy: Anatomy, regions: Regions, draw: Draw) -> Array:
    """HU of the trunk without bones, blood and lungs.

    Args:
        grid: the voxels.
        anatomy: sizes and densities of the body.
        regions: where trunk, cavity, heart and lungs lie.
        draw: random numbers.
    """
    x, y, z = grid.axes()
    ramp = grid.spacing[0]
    hu = np.full(grid.shape, AIR)
    table = ellipsoid((x, y), (0.0, 0.9 * anatomy.body[1]), (2.2 * anatomy.body[0], 2.0 * anatomy.body[1]))
    paint(hu, soft(np.abs(table) - 1.5, ramp) * (y < 0), -350.0)
    paint(hu, soft(regions.trunk, ramp), FAT)
    flesh = np.maximum(regions.trunk + anatomy.fat, 1.0 - regions.cavity) + 1.5 * draw.texture(grid.shape, 4.0)
    paint(hu, soft(np.maximum(flesh, regions.trunk + 2.0), 1.5 * ramp), MUSCLE)
    paint(hu, soft(regions.cavity - 2.0, ramp), -40.0 + 45.0 * draw.texture(grid.shape, 2.5))
    _abdomen(hu, grid, anatomy, regions)
    paint(hu, soft(regions.heart, ramp), MUSCLE)
    chambers = ellipsoid((x, y, z), anatomy.heart, (*(0.72 * r for r in anatomy.heart_radii),))
    septum = np.abs(x - anatomy.heart[0] - 0.5 * (y - anatomy.heart[1])) - 3.0
    paint(hu, soft(np.maximum(chambers, -septum), ramp), anatomy.blood)
    return hu


def _abdomen(hu: Array, grid: VoxelGrid, anatomy: Anatomy, regions: Regions) -> None:
    """Liver, spleen and stomach under the diaphragm, with gas in front in the stomach."""
    x, y, z = grid.axes()
    width, depth = anatomy.body
    ramp, floor = grid.spacing[0], grid.height(0.0)
    below = np.maximum(regions.cavity + 1.0, 2.5 - regions.dome)
    paint(hu, soft(below, ramp), FAT)
    liver = ellipsoid((x, y, z), (0.34 * width, 0.0, floor - 15.0), (0.60 * width, 0.75 * depth, 90.0))
    spleen = ellipsoid((x, y, z), (-0.55 * width, -0.30 * depth, floor), (0.22 * width, 0.30 * depth, 40.0))
    stomach = ellipsoid((x, y, z), (-0.40 * width, 0.22 * depth, floor), (0.26 * width, 0.30 * depth, 36.0))
    paint(hu, soft(np.maximum(below, liver), ramp), ORGAN + 0.3 * anatomy.blood)
    paint(hu, soft(np.maximum(below, spleen), ramp), ORGAN + 0.4 * anatomy.blood)
    paint(hu, soft(np.maximum(below, stomach), ramp), MUSCLE)
    gas = np.maximum(stomach + 4.0, 0.28 * depth - y)
    paint(hu, soft(np.maximum(below, stomach + 4.0), ramp), WATER)
    paint(hu, soft(np.maximum(below, gas), ramp), AIR)


def paint_bones(hu: Array, grid: VoxelGrid, anatomy: Anatomy, regions: Regions) -> None:
    """Spine, ribs, sternum and shoulder blades.

    Args:
        hu: the image in HU, changed in place.
        grid: the voxels.
        anatomy: sizes and densities of the body.
        regions: where trunk, cavity, heart and lungs lie.
    """
    x, y, z = grid.axes()
    ramp = grid.spacing[0]
    _ribs(hu, grid, anatomy, regions)
    body = np.broadcast_to(vertebra(grid, anatomy), grid.shape)
    level = (z + 0.5 * anatomy.ribs[0]) / anatomy.ribs[0] - anatomy.ribs[1]
    disc = np.abs(level - np.rint(level)) * anatomy.ribs[0] - 3.0
    paint(hu, soft(body, ramp), 0.75 * anatomy.bone)
    paint(hu, soft(body + 2.5, ramp), 0.42 * anatomy.bone)
    paint(hu, soft(np.maximum(body, disc), ramp), 85.0)
    back = spine_y(anatomy) - anatomy.spine
    lamina = ellipsoid((x, y), (0.0, back - 5.0), (11.0, 8.0))
    paint(hu, soft(lamina, ramp), 0.7 * anatomy.bone)
    paint(hu, soft(lamina + 4.0, ramp), 25.0)
    process = np.maximum(np.abs(x) - 2.5, np.abs(y - back + 16.0) - 7.0)
    paint(hu, soft(np.maximum(process, -disc - 4.0), ramp), 0.7 * anatomy.bone)
    _sternum_and_blades(hu, grid, anatomy)


def _ribs(hu: Array, grid: VoxelGrid, anatomy: Anatomy, regions: Regions) -> None:
    """Arcs in the chest wall that fall from back to front, so that they wander from slice to slice."""
    x, y, z = grid.axes()
    pitch, phase, fall = anatomy.ribs
    forward = y / cavity_radii(anatomy, grid.t())[1]
    level = (z + fall * forward) / pitch - phase
    distance = np.maximum(np.abs(level - np.rint(level)) * pitch - 4.5, np.abs(regions.cavity - 4.0) - 3.2)
    distance = np.maximum(distance, 6.0 - np.abs(x))
    cartilage = np.clip((forward - 0.62) / 0.2, 0.0, 1.0)
    paint(hu, soft(distance, grid.spacing[0]), 0.85 * anatomy.bone * (1.0 - cartilage) + 110.0 * cartilage)
    paint(hu, 0.7 * soft(distance + 2.2, grid.spacing[0]) * (1.0 - cartilage), 0.35 * anatomy.bone)


def _sternum_and_blades(hu: Array, grid: VoxelGrid, anatomy: Anatomy) -> None:
    x, y, z = grid.axes()
    t = grid.t()
    half_width, half_depth = cavity_radii(anatomy, t)
    plate = np.maximum(np.abs(x) - 9.0 - 6.0 * (t > 0.72), np.abs(y - half_depth - 4.0) - 4.0)
    sternum = np.maximum(plate, np.maximum(grid.height(0.30) - z, z - grid.height(0.84)))
    paint(hu, soft(sternum, grid.spacing[0]), 0.5 * anatomy.bone)
    for sign in (-1.0, 1.0):
        along = (sign * x - 0.62 * half_width) * 0.8 - (y + 0.95 * half_depth) * 0.6
        across = (sign * x - 0.62 * half_width) * 0.6 + (y + 0.95 * half_depth) * 0.8 + 8.0
        size = 26.0 * np.clip((t - 0.52) / 0.3, 0.02, 1.0)
        blade = np.maximum(np.abs(along) - size, np.abs(across) - 2.2)
        paint(hu, soft(np.maximum(blade, grid.height(0.55) - z), grid.spacing[0]), 0.6 * anatomy.bone)


def parenchyma(grid: VoxelGrid, anatomy: Anatomy, draw: Draw) -> Array:
    """HU of lung tissue: denser at the back, patchy, with a fissure in each lung.

    Args:
        grid: the voxels.
        anatomy: sizes and densities of the body.
        draw: random numbers.
    """
    x, y, z = grid.axes()
    back = np.clip(0.5 - y / (2.0 * anatomy.body[1]), 0.0, 1.0)
    patches = np.maximum(draw.texture(grid.shape, 5.0) - 0.6, 0.0)
    hu = anatomy.lung + anatomy.gravity * back**2 - anatomy.emphysema * patches
    hu += 22.0 * draw.texture(grid.shape, 1.0)
    fissure = 0.55 * (z - grid.height(0.42)) + 0.83 * (y + np.abs(x) * 0.15 - draw.uniform(-8.0, 8.0))
    paint(hu, 0.28 * soft(np.abs(fissure) - 0.4, 2.0 * grid.spacing[0]), -300.0)
    return hu
