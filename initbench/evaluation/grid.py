"""Native voxels in the preprocessed volume: predictions and pictures find their way by the same positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench.preprocessing.preprocess import Placement

Positions = NDArray[np.float64]


def positions(placement: Placement, axis: int, native: Positions | None = None) -> Positions:
    """Returns where native voxels lie in the preprocessed volume along an axis (D, H, W), in its voxels.

    Args:
        placement: of the preprocessed volume.
        axis: 0 to 2.
        native: places in `placement.bounds`, in native voxels from the first one's centre; by default every voxel there.
    """
    whole = placement.cropped_shape[axis]
    if native is None:
        native = np.arange(whole, dtype=np.float64)
    if placement.corners is not None:
        return native / placement.corners.steps[axis] - placement.corners.first[axis]
    return (native + 0.5) * placement.shape[axis] / whole - 0.5


def reached(position: Positions, count: int) -> NDArray[np.bool_]:
    """Returns which positions lie within the `count` voxels of a preprocessed volume, which may have been cut."""
    return (position >= -0.5) & (position <= count - 0.5)


def plane(image: NDArray[Any], placement: Placement, depth: int, rows: Positions, columns: Positions) -> NDArray[np.float32]:
    """Returns the voxels of the first channel that are nearest to places in a native slice.

    Args:
        image: preprocessed, ``(C, D, H, W)``.
        placement: of it.
        depth: the slice, counted within `placement.bounds`.
        rows: places along H within those bounds, in native voxels from the first one's centre.
        columns: likewise along W.

    Returns:
        ``(rows, columns)``; 0 where the image was cut off after resampling, which is the lower end of the window that the cut
        looks at.
    """
    nearest = []
    inside = []
    for axis, native in enumerate((np.array([depth], np.float64), rows, columns)):
        count = image.shape[axis + 1]
        place = positions(placement, axis, native)
        nearest.append(np.floor(place + 0.5).astype(int).clip(0, count - 1))
        inside.append(reached(place, count))
    shown = np.array(image[0][np.ix_(*nearest)][0], np.float32)
    if placement.corners is not None:
        in_slice, in_row, in_column = inside
        shown[~(in_slice & in_row[:, None] & in_column)] = 0
    return shown
