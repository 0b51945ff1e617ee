"""Native voxels in the preprocessed volume: predictions and pictures find their way by the same positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench.preprocessing.preprocess import Placement

Positions = NDArray[np.float64]


def positions(placement: Placement, axis: int, native: Positions | None = None) -> Positions:
    """Where native voxels lie in the preprocessed volume along an axis (D, H, W), in its voxels.

    Args:
        placement: of the preprocessed volume.
        axis: 0 to 2.
        native: places in `placement.bounds`, in native voxels from the first one's centre; by default every voxel there.
    """
    whole = placement.cropped_shape[axis]
    native = np.arange(whole, dtype=np.float64) if native is None else native
    if placement.corners is not None:
        return native / placement.corners.steps[axis] - placement.corners.first[axis]
    return (native + 0.5) * placement.shape[axis] / whole - 0.5


def reached(position: Positions, count: int) -> NDArray[np.bool_]:
    """Which positions lie within the `count` voxels of a preprocessed volume: what was cut off after resampling does not."""
    return (position >= -0.5) & (position <= count - 0.5)


def plane(image: NDArray[Any], placement: Placement, depth: int, rows: Positions, columns: Positions) -> NDArray[np.float32]:
    """The nearest voxels of the first channel around a native slice.

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
    at = (np.array([depth], np.float64), rows, columns)
    places = [positions(placement, axis, native) for axis, native in enumerate(at)]
    nearest = [np.floor(place + 0.5).astype(int).clip(0, count - 1) for place, count in zip(places, image.shape[1:], strict=True)]
    shown = np.array(image[0, nearest[0][0]][np.ix_(*nearest[1:])], np.float32)
    if placement.corners is not None:
        shown[~_all_reached(places, image.shape[1:])] = 0
    return shown


def _all_reached(places: Sequence[Positions], shape: Sequence[int]) -> NDArray[np.bool_]:
    """``(rows, columns)``."""
    depth, rows, columns = (reached(place, count) for place, count in zip(places, shape, strict=True))
    return np.asarray(depth[0] & rows[:, None] & columns[None, :])
