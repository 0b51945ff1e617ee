"""One NIfTI file, read with care: headers may claim anything."""

from __future__ import annotations

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
from nibabel.filebasedimages import SerializableImage
from nibabel.orientations import io_orientation
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from initbench.datasets.grids import NOTED_APART, corner_displacement
from initbench.errors import DataError
from initbench.limits import MAX_VOXELS, check_memory
from initbench.protocols import Remark

ENDINGS = (".nii.gz", ".nii")
_FLOAT32 = 4  # bytes
# Bytes of voxels that a byte of the file can stand for: deflate's best is 1032 to 1.
_EXPANSION = {".nii": 1.0, ".gz": 1032.0}
_NUMBERS = "biuf"  # kinds of dtypes that are one real number a voxel
LEAST_MM, MOST_MM = 0.001, 1000.0  # of a voxel's edge; a recipe's spacing has the same bounds
_ROUNDING = 1e-6  # of headers, which hold float32
_GZIPPED = (".gz", ".mgz")
_CHUNK = 2**20  # bytes that are read at a time behind the voxels
# Millimetres in a unit of length by its code in `xyzt_units`. Files that state none are in mm, as every tool takes them.
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}
_UNIT_BITS = 0x07  # of `xyzt_units`; the others are of time
_HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
# Where the lowest byte of `xyzt_units` lies, by the size of the header and the order of bytes (NIfTI-2 has 32 bits for it).
_UNITS_AT = {348: {"little": 123, "big": 123}, 540: {"little": 500, "big": 503}}
_BYTE_ORDERS: tuple[Literal["little"], Literal["big"]] = ("little", "big")


def named(folder: Path, pattern: str) -> list[Path]:
    """Returns the NIfTI files below `folder` that fit a pattern of ``glob``, which leaves out the ending; .nii.gz comes first."""
    found: list[Path] = []
    for ending in ENDINGS:
        found += sorted(folder.glob(f"{pattern}{ending}"))
    return found


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says beside shape and affine.

    Attributes:
        unit_mm: millimetres in the unit of its lengths.
        step: difference of neighbouring values where they are stored as whole numbers with a slope, else 0.
        remarks: units that are not mm, and places that disagree.
    """

    unit_mm: float = 1.0
    step: float = 0.0
    remarks: tuple[Remark, ...] = ()


# Voxels in the file's own axis order, its affine in mm, and what else its header says.
Read = tuple[NDArray[np.float32], NDArray[np.float64], Header]


@dataclass(frozen=True)
class File:
    """An image or a label map in one NIfTI file."""

    path: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def read(self, case_id: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Reads voxels and affine, as `read_nifti` does."""
        return read_nifti(case_id, self.path)

    def read_with_header(self, case_id: str) -> Read:
        """Reads voxels, affine and header, as the function of this name does."""
        return read_with_header(case_id, self.path)

    def unit_mm(self) -> float:
        """Returns the millimetres in the unit of the file's lengths."""
        return unit_of(self.path)

    def stated_shape(self) -> tuple[int, ...] | None:
        """Reads the shape in the header alone; None where it cannot be read, for which `read` states the reason."""
        try:
            image: Any = nibabel.load(self.path)
            _check_claim("", self.path, image.shape, image.get_data_dtype().itemsize)
            return tuple(image.shape)
        except Exception:  # the header may be anything, and so is what nibabel raises on it
            return None

    def __str__(self) -> str:
        return str(self.path)


def stem(name: str) -> str:
    """Returns a file's name without ``.nii`` or ``.nii.gz``."""
    return name.removesuffix(".gz").removesuffix(".nii")


def read_nifti(case_id: str, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Reads the voxels in the file's own axis order, and its affine in mm.

    Raises:
        DataError: as `read_with_header`.
    """
    voxels, affine, _ = read_with_header(case_id, path)
    return voxels, affine


def read_with_header(case_id: str, path: Path) -> Read:
    """Reads voxels, affine and header of a file.

    Raises:
        DataError: unreadable or truncated, no volume of real numbers, a header that claims more than the file or the memory
            holds, an affine that places no voxels.
    """
    try:
        found = _read(case_id, path)
    except DataError:
        raise
    except Exception as error:  # the header may be anything, and so is what nibabel, numpy and zlib raise on it
        raise DataError(
            f"case {case_id}: {path} cannot be read ({error}); it is truncated or no NIfTI file: copy or download it again"
        ) from None
    _check_affine(case_id, path, found[1])
    return found


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a file with nibabel. When the block ends, it reads a compressed file to its end, where the checksum is.

    nibabel stops behind the last voxel and gives damaged bytes back as voxels. An uncompressed file is read at once instead of
    being mapped into memory: bytes that are fetched later may be others than those that were checked.

    Raises:
        gzip.BadGzipFile, zlib.error, EOFError: the compressed file is damaged.
        Exception: whatever nibabel raises on other files.
    """
    image: Any = nibabel.load(path)
    if not isinstance(image, SerializableImage):
        yield image
    elif path.suffix.lower() not in _GZIPPED:
        yield type(image).from_filename(path, mmap=False)
    else:
        with gzip.open(path) as stream:
            yield type(image).from_stream(stream)
            _read_to_the_end(stream, _claimed(image))


def _read_to_the_end(stream: gzip.GzipFile, most: int) -> None:
    """Reads what is left of a stream, so that gzip compares length and checksum of every member of the file.

    Raises:
        ValueError: more than `most` bytes are left, so that header and content do not belong together.
    """
    left = 0
    while chunk := stream.read(_CHUNK):
        left += len(chunk)
        if left > most:
            raise ValueError(f"more than {most:,} bytes follow the voxels that the header announces")


def _claimed(image: SpatialImage) -> int:
    """Returns how many bytes may follow the voxels: as many again as the header announces, and never fewer than a chunk."""
    shape: tuple[int, ...] = image.shape
    size: int = image.get_data_dtype().itemsize
    return max(_CHUNK, math.prod(shape) * size)


def _read(case_id: str, path: Path) -> Read:
    with opened(path) as file:
        return _voxels(case_id, path, file)


def _voxels(case_id: str, path: Path, file: Any) -> Read:
    if not isinstance(file, SpatialImage):
        raise DataError(f"case {case_id}: {path} holds no volume ({type(file).__name__}); save it as .nii.gz")
    if not isinstance(file, SerializableImage):  # as a pair of .hdr and .img: a change of the other file would go unnoticed
        raise DataError(
            f"case {case_id}: {path} is one of several files of a volume ({type(file).__name__}), and its digest would be of "
            "this file alone; save it as .nii.gz"
        )
    dtype = file.get_data_dtype()
    if dtype.kind not in _NUMBERS:
        raise DataError(
            f"case {case_id}: {path} holds colours or complex numbers ({dtype}), and a voxel here is one real number; save "
            "each part as a channel of its own"
        )
    _check_claim(case_id, path, file.shape, dtype.itemsize)
    affine = np.array(file.affine, np.float64)
    affine[:3] *= _unit_mm(file.header)
    return np.asarray(file.get_fdata(dtype=np.float32, caching="unchanged")), affine, _said(file)


def _said(file: Any) -> Header:
    """Returns what a header says beside shape and affine; nothing for a format other than NIfTI."""
    header = file.header
    if not isinstance(header, nibabel.Nifti1Header):
        return Header()
    slope = abs(float(file.dataobj.slope))
    step = 0.0
    if slope != 1 and header.get_data_dtype().kind in "iu":
        step = slope
    return Header(_unit_mm(header), step, (*_about_units(header), *_about_places(header)))


def unit_of(path: Path) -> float:
    """Returns the millimetres in the unit of a file's lengths; 1 where the file cannot be read, which its reader reports.

    It reads the first bytes alone, because every command asks for the digest of every file.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            first = file.read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error):
        return 1.0
    # The size of the header comes first, and by its bytes says the order in which numbers are written.
    for order in _BYTE_ORDERS:
        size = int.from_bytes(first[:4], order)
        if size in _UNITS_AT:
            place = _UNITS_AT[size][order]
            if place >= len(first):
                return 1.0
            return _UNIT_MM.get(first[place] & _UNIT_BITS, 1.0)
    return 1.0


def _unit_code(header: Any) -> int:
    if not isinstance(header, nibabel.Nifti1Header):
        return 0
    return int(header["xyzt_units"]) & _UNIT_BITS


def _unit_mm(header: Any) -> float:
    """Returns the millimetres in the unit of a header's lengths; 1 where its code means nothing, which `_about_units` reports."""
    return _UNIT_MM.get(_unit_code(header), 1.0)


def _about_units(header: Any) -> list[Remark]:
    code = _unit_code(header)
    if code in _UNIT_NAMES:
        return [Remark(f"the header states lengths in {_UNIT_NAMES[code]}; they were converted to mm")]
    if code not in _UNIT_MM:
        return [Remark("the header states no known unit of length (xyzt_units); lengths were taken as mm", f"code {code}")]
    return []


def _about_places(header: Any) -> list[Remark]:
    """Returns a remark where sform, qform and pixdim disagree; without an sform they cannot, as a qform has pixdim's sizes."""
    sform, shape = np.asarray(header.get_sform(), np.float64), header.get_data_shape()[:3]
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    places = np.isfinite(sform).all() and sizes.min() > 0  # else it is refused
    if not int(header["sform_code"]) > 0 or len(shape) < 3 or not places:
        return []
    unit = _unit_mm(header)
    differing = []
    stated = np.abs(np.asarray(header["pixdim"][1:4], np.float64))
    growth = np.abs(stated / sizes - 1) * (np.array(shape) - 1)
    if growth.max() > NOTED_APART:
        differing.append(f"voxels of {_sizes(sizes * unit)} mm by sform, {_sizes(stated * unit)} mm by pixdim")
    if int(header["qform_code"]) > 0:
        apart = corner_displacement(sform, _qform(header), shape)
        if not apart <= NOTED_APART:  # also where the qform is no number
            differing.append(f"sform and qform up to {apart:.3g} voxels apart")
    if not differing:
        return []
    what = "sform, qform and pixdim of the header disagree; the sform was taken"
    return [Remark(what, ", ".join(differing))]


def _qform(header: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(header.get_qform(), np.float64)
    except ValueError:  # no rotation has these numbers
        return np.full((4, 4), np.nan)


def _sizes(values: NDArray[np.float64]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)


def _check_affine(case_id: str, path: Path, affine: NDArray[np.float64]) -> None:
    """Refuses an affine by which voxels have no place, no axis or no size: spacings, axes and millilitres are taken of it."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not _has_axes(affine):
        raise DataError(
            f"case {case_id}: {path}: the affine {affine[:3].tolist()} does not place voxels in space; repair the header"
        )
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if sizes.min() < LEAST_MM * (1 - _ROUNDING) or sizes.max() > MOST_MM * (1 + _ROUNDING):
        raise DataError(
            f"case {case_id}: {path}: voxels of {_sizes(sizes)} mm; edges are {LEAST_MM:g} to {MOST_MM:g} mm: repair the header "
            "(affine, pixdim, or the unit in xyzt_units)"
        )


def _has_axes(affine: NDArray[np.float64]) -> bool:
    """Returns whether every voxel axis has an axis of the world for itself; by a singular affine, or nearly so, one has none."""
    return bool(np.linalg.det(affine)) and bool(np.isfinite(io_orientation(affine)).all())


def _check_claim(case_id: str, path: Path, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuses a header that claims more than the file can hold or the machine can read, before anything is allocated."""
    voxels, size = math.prod(shape), path.stat().st_size
    if voxels > MAX_VOXELS:
        raise DataError(
            f"case {case_id}: {path}: the header asks for {shape} voxels, more than any examination has; the file is damaged: "
            "copy or download it again"
        )
    most = size * _EXPANSION.get(path.suffix.lower(), math.inf)
    if voxels * itemsize > most:
        raise DataError(
            f"case {case_id}: {path}: the header asks for {shape} voxels, {voxels * itemsize:,} bytes, and a file of {size:,} "
            "bytes cannot hold them; it is truncated or damaged: copy or download it again"
        )
    remedy = "close other programs, resample the case, or leave it out"
    check_memory(shape, itemsize + _FLOAT32, f"case {case_id}: reading {path}", remedy)
