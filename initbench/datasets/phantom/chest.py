"""One chest, painted from the skin inwards, and the labels of its heart and nodules. Lengths are in mm, intensities in HU."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from initbench.datasets.phantom.drawing import Array, Draw, Grid, common, smoothed

CLASSES = ("background", "heart", "nodule")
HEART, NODULE = 1, 2
AIR, FAT, MUSCLE, BONE = -1000.0, -100.0, 45.0, 800.0
VESSELS = 45  # in each lung


class Chest:
    """The shapes of one chest: half the size of its trunk (width, depth) and its organs; the ribs enclose the cavity."""

    def __init__(self, grid: Grid, draw: Draw) -> None:
        self.grid = grid
        self.width = grid.half[0] * draw.uniform(0.86, 0.94)
        self.depth = min(self.width * draw.uniform(0.70, 0.80), 0.86 * grid.half[1])
        wall = draw.uniform(14.0, 20.0)  # from the skin to the inside of the ribs
        narrow = 1.0 - 0.32 * np.maximum(grid.z / grid.half[2], 0.0) ** 2  # towards the neck
        back = wall - 0.86 * self.depth
        self.trunk = grid.ellipsoid((0.0, 0.0, 0.0), (self.width, self.depth, math.inf))
        self.cavity = grid.ellipsoid((0.0, 0.0, 0.0), ((self.width - wall) * narrow, (self.depth - wall) * narrow, math.inf))
        self.spine = grid.ellipsoid((0.0, back, 0.0), (draw.uniform(14.0, 17.0), draw.uniform(12.0, 15.0), math.inf))
        self.heart = common(self._heart(draw), self.cavity)
        self.above_diaphragm = self._above_diaphragm(draw)
        self.lungs = self._lungs(draw)

    def _heart(self, draw: Draw) -> Array:
        """Draws the heart in front, on the left, in the lower half."""
        size = np.array([self.width, self.depth, self.grid.half[2]])
        centre = np.array([draw.uniform(-0.20, -0.12), draw.uniform(0.14, 0.24), draw.uniform(-0.46, -0.32)])
        radii = np.array([draw.uniform(0.28, 0.34), draw.uniform(0.34, 0.42), draw.uniform(0.32, 0.40)])
        return self.grid.ellipsoid(centre * size, tuple(radii * size))

    def _above_diaphragm(self, draw: Draw) -> Array:
        """Draws the diaphragm as a dome under each lung, higher on the right, and returns what is above it."""
        grid = self.grid
        outward = (np.abs(grid.x) - 0.40 * self.width) / (0.5 * self.width)
        forward = (grid.y - 0.2 * self.depth) / (0.9 * self.depth)
        top = draw.uniform(-0.62, -0.52) + 0.06 * np.sign(grid.x)
        dome = grid.half[2] * (top - 0.35 * (outward**2 + forward**2))
        return np.asarray(0.7 * (dome - grid.z))  # the dome slants, so it is nearer than straight down

    def _lungs(self, draw: Draw) -> Array:
        """Draws the lungs: what the other organs leave of the cavity, with a gap between the two that is widest at mid-depth."""
        grid = self.grid
        middle = np.maximum(1.0 - (grid.y / (0.45 * self.depth)) ** 2, 0.0)  # 1 at mid-depth, 0 in front and behind
        gap = self.width * draw.uniform(0.13, 0.18) * (0.5 + 0.7 * middle)
        apex = np.where(grid.z > 0.0, grid.half[2] * draw.uniform(0.74, 0.84), math.inf)
        dome = grid.ellipsoid((0.0, 0.0, 0.0), (1.15 * self.width, 1.15 * self.depth, apex))
        smooth = common(self.cavity, dome, self.above_diaphragm, gap - np.abs(grid.x), 1.5 - self.heart, 2.0 - self.spine)
        return smooth + 1.5 * draw.texture(grid.shape, 3.0)


def draw_chest(grid: Grid, draw: Draw) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Draws one chest, and returns its image ``(X, Y, Z)`` in whole HU and its label with the numbers of `CLASSES`."""
    chest, blood = Chest(grid, draw), draw.uniform(45.0, 85.0)
    hu, label = np.full(grid.shape, AIR), np.zeros(grid.shape, dtype=np.uint8)
    label[chest.heart < 0.0] = HEART
    _paint_soft_tissue(hu, chest, blood, draw)
    _paint_bones(hu, chest, draw)
    _paint_lungs(hu, chest, blood, draw)
    _add_nodules(hu, label, chest, draw)
    scan = smoothed(hu, draw.uniform(0.4, 0.55)) + draw.uniform(15.0, 30.0) * draw.noise(grid.shape)
    return np.clip(np.rint(scan), -1024, 1500).astype(np.float32), label


def _paint_soft_tissue(hu: Array, chest: Chest, blood: float, draw: Draw) -> None:
    """Paints fat, muscle, aorta, windpipe, liver and heart."""
    grid = chest.grid
    grid.paint(hu, chest.trunk, FAT)
    grid.paint(hu, chest.trunk + draw.uniform(4.0, 9.0) + 1.5 * draw.texture(grid.shape, 3.0), MUSCLE)
    grid.paint(hu, chest.cavity, 20.0 * draw.texture(grid.shape, 2.0))
    # The aorta is half a ring on two straight legs. The front leg ends in the heart, which is painted later.
    rise = np.maximum(grid.z - 0.3 * grid.half[2], 0.0)
    ring = np.sqrt((grid.y + 0.2 * chest.depth) ** 2 + rise**2) - 0.3 * chest.depth
    grid.paint(hu, np.sqrt((grid.x + 8.0) ** 2 + ring**2) - 10.0, blood + 20.0)
    windpipe = common(grid.ellipsoid((2.0, -0.1 * chest.depth, 0.0), (7.0, 7.0, math.inf)), 0.2 * grid.half[2] - grid.z)
    grid.paint(hu, windpipe, AIR)
    abdomen = common(chest.cavity, 2.0 - chest.above_diaphragm)
    grid.paint(hu, abdomen, FAT)
    grid.paint(hu, common(abdomen, -20.0 - grid.x), 60.0)  # the liver
    grid.paint(hu, chest.heart, MUSCLE)
    grid.paint(hu, chest.heart + 8.0, blood)


def _paint_bones(hu: Array, chest: Chest, draw: Draw) -> None:
    """Paints vertebrae and discs, ribs that fall from back to front, and the sternum."""
    grid, pitch = chest.grid, draw.uniform(22.0, 27.0)  # from one vertebra, or rib, to the next
    to_disc = np.abs(grid.z - pitch * np.rint(grid.z / pitch))
    grid.paint(hu, chest.spine, 0.3 * BONE)
    grid.paint(hu, common(chest.spine, 3.5 - to_disc), 0.8 * BONE)
    cage = np.abs(chest.cavity - 5.0) - 3.5
    level = grid.z + draw.uniform(0.25, 0.40) * grid.y
    to_rib = np.abs(level - pitch * np.rint(level / pitch))
    grid.paint(hu, common(cage, to_rib - 5.0, 8.0 - np.abs(grid.x)), BONE)
    sternum = common(cage, np.abs(grid.x) - 11.0, np.abs(grid.z) - 0.6 * grid.half[2], -grid.y)
    grid.paint(hu, sternum, 0.6 * BONE)


def _paint_lungs(hu: Array, chest: Chest, blood: float, draw: Draw) -> None:
    """Paints lung tissue, and a tree of vessels in each lung that get thinner on their way outwards."""
    grid = chest.grid
    grid.paint(hu, chest.lungs, draw.uniform(-880.0, -820.0) + 25.0 * draw.texture(grid.shape, 1.5))
    for side in (-1.0, 1.0):
        root = np.array([12.0 * side, -6.0, -5.0])
        tree = _grow(root, common(chest.lungs + 6.0, -side * grid.x) < 0.0, chest, draw)
        way = np.sqrt(((tree - root) ** 2).sum(axis=1)) / (0.8 * chest.width)
        grid.paint(hu, chest.lungs, blood - 20.0, opacity=grid.filled(tree, 60.0 - 55.0 * np.minimum(way, 1.0)))


def _grow(root: Array, mask: NDArray[np.bool_], chest: Chest, draw: Draw) -> Array:
    """Joins voxels of the mask to a tree, each to the nearest point that is there, and returns points along it, ``(N, 3)``."""
    tree, steps = root[np.newaxis], np.arange(1, 41)[:, np.newaxis] / 40.0
    for _ in range(VESSELS):
        tip = chest.grid.choose(mask, draw)
        joint = tree[((tree - tip) ** 2).sum(axis=1).argmin()]
        tree = np.concatenate([tree, joint + steps * (tip - joint)])
    return tree


def _add_nodules(hu: Array, label: NDArray[np.uint8], chest: Chest, draw: Draw) -> None:
    """Paints 3 to 5 uneven balls into the lungs, apart from each other, and labels them."""
    grid, free = chest.grid, chest.lungs
    for _ in range(draw.integer(3, 5)):
        radius = draw.uniform(17.0, 23.0)
        centre = grid.choose(free < -0.7 * radius, draw)
        radii = tuple(radius * draw.uniform(0.85, 1.15) for _ in range(3))
        nodule = common(grid.ellipsoid(centre, radii) + 1.2 * draw.texture(grid.shape, 2.0), chest.lungs)
        grid.paint(hu, nodule, draw.uniform(550.0, 650.0))
        label[nodule < 0.0] = NODULE
        free = np.maximum(free, 0.5 * radius + 12.0 - np.maximum(nodule, 0.0))
