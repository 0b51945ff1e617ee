"""What a machine can hold, asked before anything is allocated: headers and recipes may claim any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import psutil

from initbench.errors import DataError

MAX_VOXELS = 2**31  # what asks for more is a damaged or hostile file, not an examination


def check_memory(shape: Sequence[int], bytes_per_voxel: int, what: str, remedy: str) -> None:
    """Refuses to make an array of `shape` that the memory does not hold.

    Args:
        shape: of the array.
        bytes_per_voxel: of everything that is held at once while it is made.
        what: begins the message, as in ``case 3: reading a.nii.gz``.
        remedy: ends it.

    Raises:
        DataError: names both numbers.
    """
    needed, free = math.prod(shape) * bytes_per_voxel, psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"{what}: {tuple(shape)} voxels take {needed / 2**30:,.1f} GiB of memory, {free / 2**30:,.1f} GiB are free; {remedy}"
        )
