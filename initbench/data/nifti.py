"""One NIfTI file, read with care: headers may claim anything."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from initbench.data.limits import MAX_VOXELS, check_memory
from initbench.errors import DataError

ENDINGS = (".nii.gz", ".nii")
_FLOAT32 = 4  # bytes
# Bytes of voxels that a byte of the file can stand for: deflate's best is 1032 to 1.
_EXPANSION = {".nii": 1.0, ".gz": 1032.0}
_UNREADABLE = (EOFError, OSError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)


@dataclass(frozen=True)
class File:
    """An image or a label map in one NIfTI file."""

    path: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def read(self, case_id: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """As `read`."""
        return read(case_id, self.path)

    def __str__(self) -> str:
        return str(self.path)


def stem(name: str) -> str:
    """A file's name without ``.nii`` or ``.nii.gz``."""
    return name.removesuffix(".gz").removesuffix(".nii")


def read(case_id: str, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels in the file's own axis order, and its affine.

    Raises:
        DataError: unreadable or truncated, a header that claims more than the file or the memory holds, a singular affine.
    """
    try:
        file: Any = nibabel.load(path)
        _check_claim(case_id, path, file.shape, file.get_data_dtype().itemsize)
        voxels: NDArray[np.float32] = np.asarray(file.get_fdata(dtype=np.float32, caching="unchanged"))
        affine = np.asarray(file.affine, np.float64)
    except _UNREADABLE as error:
        raise DataError(
            f"case {case_id}: {path} cannot be read ({error}); it is truncated or no NIfTI file: copy or download it again"
        ) from None
    if not np.isfinite(affine).all() or not np.linalg.det(affine):
        raise DataError(
            f"case {case_id}: {path}: the affine {affine[:3].tolist()} does not place voxels in space; repair the header"
        )
    return voxels, affine


def _check_claim(case_id: str, path: Path, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuses a header that claims more than the file can hold or the machine can read, before anything is allocated."""
    voxels, size = math.prod(shape), path.stat().st_size
    if voxels > MAX_VOXELS:
        raise DataError(
            f"case {case_id}: {path}: the header asks for {shape} voxels, more than any examination has; the file is damaged"
        )
    most = size * _EXPANSION.get(path.suffix.lower(), math.inf)
    if voxels * itemsize > most:
        raise DataError(
            f"case {case_id}: {path}: the header asks for {shape} voxels, {voxels * itemsize:,} bytes, and a file of {size:,} "
            "bytes cannot hold them; it is truncated or damaged: copy or download it again"
        )
    remedy = "close other programs, resample the case, or leave it out"
    check_memory(shape, itemsize + _FLOAT32, f"case {case_id}: reading {path}", remedy)
