"""One body to a scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from initbench.datasets.phantom.anatomy import Anatomy, find_regions
from initbench.datasets.phantom.nodules import paint_nodules
from initbench.datasets.phantom.randomness import Draw
from initbench.datasets.phantom.shapes import VoxelGrid, blur, paint, soft
from initbench.datasets.phantom.tissue import paint_bones, parenchyma, soft_tissue
from initbench.datasets.phantom.vessels import paint_great_vessels, vessel_tree

HU_RANGE = (-1024, 1500)  # the volume is clipped to it


def render(grid: VoxelGrid, anatomy: Anatomy, draw: Draw) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Image ``(X, Y, Z)`` in whole HU and label of one body.

    Args:
        grid: the voxels.
        anatomy: sizes and densities of the body.
        draw: random numbers.
    """
    regions = find_regions(grid, anatomy, draw)
    hu = soft_tissue(grid, anatomy, regions, draw)
    paint_bones(hu, grid, anatomy, regions)
    air = soft(regions.lung(), grid.spacing[0])
    paint(hu, air, parenchyma(grid, anatomy, draw))
    central = paint_great_vessels(hu, grid, anatomy)
    vessels = vessel_tree(grid, anatomy, regions, draw) * soft(regions.lung() - 3.0, grid.spacing[0])
    paint(hu, vessels, anatomy.blood - 10.0)
    # Nodules keep out of the aorta and the main bronchi where these bulge into a lung.
    free = np.where(central > 0.2, 1.0, regions.lung())
    label = paint_nodules(hu, grid, free, vessels, draw)
    hu += 9.0 * draw.texture(grid.shape, 1.2)
    hu = blur(hu, (anatomy.blur, anatomy.blur, 0.7 * anatomy.blur))
    hu += anatomy.noise * draw.texture(grid.shape, 0.5)
    return np.clip(np.rint(hu), *HU_RANGE).astype(np.float32), label
