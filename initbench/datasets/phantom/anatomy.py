"""What distinguishes one body from another, and where its lungs lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from initbench.datasets.phantom.randomness import Draw
from initbench.datasets.phantom.shapes import Array, Point, VoxelGrid, ellipsoid


@dataclass(frozen=True)
class Anatomy:
    """What distinguishes one body from another. Lengths in mm, heights as ``t``, intensities in HU.

    Attributes:
        body: half width and half depth of the trunk.
        fat: thickness under the skin.
        wall: thickness of muscle and ribs.
        apex: top of the right and the left lung.
        dome: height of the right and the left half of the diaphragm.
        mediastinum: half width of the tissue between the lungs.
        heart: centre of the heart.
        heart_radii: its half axes.
        spine: radius of a vertebral body.
        ribs: distance from rib to rib, phase, and how far they fall from back to front.
        carina: height where the trachea divides.
        arch: height of the aortic arch.
        blood: blood with contrast agent.
        lung: aerated lung at the front.
        gravity: how much denser it is at the back.
        emphysema: density lost in the worst patches.
        bone: cortical bone.
        noise: standard deviation of the scanner noise.
        blur: its resolution in voxels.
        calibre: gain of the width of the vessels in the lungs.
    """

    body: tuple[float, float]
    fat: float
    wall: float
    apex: tuple[float, float]
    dome: tuple[float, float]
    mediastinum: float
    heart: Point
    heart_radii: Point
    spine: float
    ribs: tuple[float, float, float]
    carina: float
    arch: float
    blood: float
    lung: float
    gravity: float
    emphysema: float
    bone: float
    noise: float
    blur: float
    calibre: float


def draw_grid(draw: Draw) -> VoxelGrid:
    """The grid of a case."""
    shape = (draw.integer(80, 96), draw.integer(80, 96), draw.integer(36, 48))
    plane = draw.uniform(2.4, 2.6)
    spacing = (plane, plane, draw.uniform(4.8, 5.2))
    shift = (draw.uniform(-20, 20), draw.uniform(-20, 20), draw.uniform(-900, -700))
    return VoxelGrid(shape, spacing, shift)


def draw_anatomy(draw: Draw, grid: VoxelGrid) -> Anatomy:
    """The body of a case."""
    u = draw.uniform
    width = 0.5 * grid.shape[0] * grid.spacing[0] * u(0.86, 0.94)
    depth = min(width * u(0.70, 0.80), 0.5 * grid.shape[1] * grid.spacing[1] * 0.86)
    tall = grid.height(1.0) - grid.height(0.0)
    top, low = u(0.88, 0.97), u(0.17, 0.23)
    return Anatomy(
        body=(width, depth),
        fat=u(4.0, 11.0),
        wall=u(8.0, 11.0),
        apex=(top, top + u(-0.02, 0.02)),
        dome=(low + u(0.02, 0.07), low),
        mediastinum=width * u(0.13, 0.18),
        heart=(-width * u(0.10, 0.18), depth * u(0.14, 0.24), grid.height(u(0.26, 0.33))),
        heart_radii=(width * u(0.27, 0.34), depth * u(0.33, 0.40), tall * u(0.17, 0.21)),
        spine=u(11.0, 13.0),
        ribs=(u(20.0, 25.0), u(0.0, 1.0), u(28.0, 42.0)),
        carina=u(0.57, 0.64),
        arch=u(0.68, 0.73),
        blood=u(50.0, 170.0),
        lung=u(-890.0, -820.0),
        gravity=u(30.0, 110.0),
        emphysema=u(0.0, 60.0),
        bone=u(330.0, 520.0),
        noise=u(16.0, 32.0),
        blur=u(0.40, 0.60),
        calibre=u(0.85, 1.15),
    )


@dataclass(frozen=True)
class Regions:
    """Signed distances (mm, volume-shaped) that later steps share."""

    trunk: Array
    cavity: Array
    heart: Array
    dome: Array
    lungs: tuple[Array, Array]

    def lung(self) -> Array:
        """Distance to either lung."""
        distance: Array = np.minimum(self.lungs[0], self.lungs[1])
        return distance


def cavity_radii(anatomy: Anatomy, t: Array) -> tuple[Array, Array]:
    """Half width and depth (mm) of the rib cage, ``(1, 1, Z)``: it narrows towards the neck."""
    narrowing = 1.0 - 0.34 * np.maximum((t - 0.42) / 0.58, 0.0) ** 2
    shell = anatomy.fat + anatomy.wall
    return (anatomy.body[0] - shell) * narrowing, (anatomy.body[1] - shell) * narrowing


def find_regions(grid: VoxelGrid, anatomy: Anatomy, draw: Draw) -> Regions:
    """Where trunk, rib cage, heart, diaphragm and lungs lie.

    Args:
        grid: the voxels.
        anatomy: sizes and densities of the body.
        draw: random numbers.
    """
    x, y, z = grid.axes()
    t = grid.t()
    uneven = (1.6 * draw.texture(grid.shape, 4.0), 1.6 * draw.texture(grid.shape, 4.0))
    shoulders = 1.0 - 0.10 * np.maximum((t - 0.6) / 0.4, 0.0) ** 2
    trunk = ellipsoid((x, y), (0.0, 0.0), (anatomy.body[0] * (0.5 + 0.5 * shoulders), anatomy.body[1] * shoulders))
    cavity = ellipsoid((x, y), (0.0, 0.0), cavity_radii(anatomy, t))
    heart = ellipsoid((x, y, z), anatomy.heart, anatomy.heart_radii)
    dome = np.where(x > 0, _diaphragm(grid, anatomy, 0), _diaphragm(grid, anatomy, 1))
    lungs = (
        _lung(grid, anatomy, 0, (cavity, heart, dome)) + uneven[0],
        _lung(grid, anatomy, 1, (cavity, heart, dome)) + uneven[1],
    )
    return Regions(np.broadcast_to(trunk, grid.shape), cavity, heart, dome, lungs)


def _diaphragm(grid: VoxelGrid, anatomy: Anatomy, side: int) -> Array:
    """Distance above (negative) or below the dome of one side: it leaves a deep recess around it, deepest behind."""
    x, y, z = grid.axes()
    width, depth = anatomy.body
    outward = (1.0, -1.0)[side] * x - 0.36 * width
    # Towards the midline the dome stays high: there it carries the heart.
    across = np.maximum(outward / (0.50 * width), -0.45 * outward / (0.36 * width))
    along = (y - 0.20 * depth) / (0.80 * depth)
    base = grid.height(-0.06)
    rise = (grid.height(anatomy.dome[side]) - base) * (1.0 - across * across - along * along)
    return 0.7 * (base + rise - z)


def _lung(grid: VoxelGrid, anatomy: Anatomy, side: int, around: tuple[Array, Array, Array]) -> Array:
    """Distance to one lung: the rib cage less mediastinum, heart, spine and what lies below the diaphragm.

    Args:
        grid: the voxel grid.
        anatomy: the body.
        side: 0 right, 1 left.
        around: distances to the rib cage, the heart and the diaphragm.
    """
    x, y, z = grid.axes()
    t = grid.t()
    cavity, heart, dome = around
    outward = x if side == 0 else -x
    width, depth = anatomy.body
    # A cone with a rounded tip: almost no limit below, one small circle per lung at the apex.
    tip = np.maximum(1.0 - np.square(np.square(t / anatomy.apex[side])), 0.0004)
    centre = width * (0.36 + 0.06 * t)
    cone = ellipsoid((outward, y), (centre, -0.08 * depth), (0.62 * width * np.sqrt(tip), 1.1 * depth * np.sqrt(tip)))
    # The hilum is wide; in front of it and behind it the lungs come close to the midline.
    hilum = np.maximum(1.0 - ((t - anatomy.carina + 0.06) / 0.16) ** 2, 0.0)
    middle = np.maximum(1.0 - (y / (0.38 * depth)) ** 2, 0.0)
    medial = anatomy.mediastinum * (0.55 + (0.45 + 0.35 * hilum) * middle) - outward
    spine = vertebra(grid, anatomy)
    distance = np.maximum(np.maximum(cavity, cone), np.maximum(medial, dome))
    distance = np.maximum(distance, z - grid.height(anatomy.apex[side]) + 4.0)
    return np.asarray(np.maximum(distance, np.maximum(1.5 - heart, 2.5 - spine)), dtype=np.float64)


def vertebra(grid: VoxelGrid, anatomy: Anatomy) -> Array:
    """Distance to the column of vertebral bodies, ``(X, Y, 1)``."""
    x, y, _ = grid.axes()
    return ellipsoid((x, y), (0.0, spine_y(anatomy)), (1.15 * anatomy.spine, anatomy.spine))


def spine_y(anatomy: Anatomy) -> float:
    """Middle of the spine from front to back (mm)."""
    return -0.80 * (anatomy.body[1] - anatomy.fat - anatomy.wall)
