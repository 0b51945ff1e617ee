"""Compares the places of two grids in space: images, labels, channels and forms of a header."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

# Two grids of one shape, by the largest displacement of a corner: voxels that belong together still overlap up to the first,
# and nobody can see a difference below the second.
MOST_APART, NOTED_APART = 0.5, 0.01


def corner_displacement(first: NDArray[np.float64], second: NDArray[np.float64], shape: Sequence[int]) -> float:
    """Returns how far two grids lie apart, in voxels of the first: the largest distance between corners that belong together.

    A corner is the centre of a voxel at a corner of the array. Between the corners the distance is never larger, as both
    affines are linear.

    Args:
        first: voxel to world of the one grid, 4 x 4.
        second: of the other.
        shape: voxels along the three axes of both.

    Returns:
        NaN where `second` holds a NaN; infinite where `first` places no voxels.
    """
    ends = [(0.0, count - 1.0) for count in shape]
    corners = np.array([(*corner, 1.0) for corner in product(*ends)]).T
    try:
        moved = np.linalg.solve(first, second @ corners)
    except np.linalg.LinAlgError:
        return math.inf
    return float(np.linalg.norm(moved[:3] - corners[:3], axis=0).max())
