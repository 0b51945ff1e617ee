"""One NIfTI file, read with care: headers may claim anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import io_orientation
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from initbench.errors import DataError
from initbench.limits import MAX_VOXELS, check_memory

ENDINGS = (".nii.gz", ".nii")
_FLOAT32 = 4  # bytes
# Bytes of voxels that a byte of the file can stand for: deflate's best is 1032 to 1.
_EXPANSION = {".nii": 1.0, ".gz": 1032.0}
_NUMBERS = "biuf"  # kinds of dtypes that are one real number a voxel
LEAST_MM, MOST_MM = 0.001, 1000.0  # of a voxel's edge; a recipe's spacing has the same bounds
_ROUNDING = 1e-6  # of headers, which hold float32


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
        return read_nifti(case_id, self.path)

    def __str__(self) -> str:
        return str(self.path)


def stem(name: str) -> str:
    """A file's name without ``.nii`` or ``.nii.gz``."""
    return name.removesuffix(".gz").removesuffix(".nii")


def read_nifti(case_id: str, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels in the file's own axis order, and its affine.

    Raises:
        DataError: unreadable or truncated, no volume of real numbers, a header that claims more than the file or the memory
            holds, an affine that places no voxels.
    """
    try:
        voxels, affine = _read(case_id, path)
    except DataError:
        raise
    except Exception as error:  # the header may be anything, and so is what nibabel, numpy and zlib raise on it
        raise DataError(
            f"case {case_id}: {path} cannot be read ({error}); it is truncated or no NIfTI file: copy or download it again"
        ) from None
    _check_affine(case_id, path, affine)
    return voxels, affine


def _read(case_id: str, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    file: Any = nibabel.load(path)
    if not isinstance(file, SpatialImage):
        raise DataError(f"case {case_id}: {path} holds no volume ({type(file).__name__}); save it as .nii.gz")
    dtype = file.get_data_dtype()
    if dtype.kind not in _NUMBERS:
        raise DataError(
            f"case {case_id}: {path} holds colours or complex numbers ({dtype}), and a voxel here is one real number; save "
            "each part as a channel of its own"
        )
    _check_claim(case_id, path, file.shape, dtype.itemsize)
    return np.asarray(file.get_fdata(dtype=np.float32, caching="unchanged")), np.asarray(file.affine, np.float64)


def _check_affine(case_id: str, path: Path, affine: NDArray[np.float64]) -> None:
    """Refuses an affine by which voxels have no place, no axis or no size: spacings, axes and millilitres are taken of it."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not _has_axes(affine):
        raise DataError(
            f"case {case_id}: {path}: the affine {affine[:3].tolist()} does not place voxels in space; repair the header"
        )
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if sizes.min() < LEAST_MM * (1 - _ROUNDING) or sizes.max() > MOST_MM * (1 + _ROUNDING):
        raise DataError(
            f"case {case_id}: {path}: voxels of {' × '.join(f'{size:.3g}' for size in sizes)} mm; edges are {LEAST_MM:g} to "
            f"{MOST_MM:g} mm: repair the header"
        )


def _has_axes(affine: NDArray[np.float64]) -> bool:
    """Whether every voxel axis has an axis of the world for itself; along a singular affine, or nearly so, one has none."""
    return bool(np.linalg.det(affine)) and bool(np.isfinite(io_orientation(affine)).all())


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
