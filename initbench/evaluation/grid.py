"""Native slices of preprocessed volumes, for pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench.preprocessing.grids import HalfPixelGrid, Positions


def plane(image: NDArray[Any], grid: HalfPixelGrid, depth: int, rows: Positions, columns: Positions) -> NDArray[np.float32]:
    """Returns the voxels of the first channel that are nearest to places in a native slice.

    Args:
        image: preprocessed, ``(C, D, H, W)``.
        grid: of the image.
        depth: the slice, counted within the native volume's crop.
        rows: places along H within the crop, in native voxels from the first one's centre.
        columns: likewise along W.

    Returns:
        ``(rows, columns)``; 0 where the image was cut off after resampling, which is the lower end of the window that the cut
        looks at.
    """
    nearest = []
    inside = []
    for axis, native in enumerate((np.array([depth], np.float64), rows, columns)):
        count = image.shape[axis + 1]
        place = grid.positions(axis, native)
        nearest.append(np.floor(place + 0.5).astype(int).clip(0, count - 1))
        inside.append(grid.reaches(axis, place))
    shown = np.array(image[0][np.ix_(*nearest)][0], np.float32)
    in_slice, in_row, in_column = inside
    shown[~(in_slice & in_row[:, None] & in_column)] = 0
    return shown
