"""One DICOM series of single slices, read with care: headers may claim anything, and only their positions order the slices.

Source: DICOM PS3.3 C.7.6.2 (Image Plane Module: position, orientation, pixel spacing) and C.11.1 (Modality LUT: rescale slope and
intercept). DICOM's world is LPS, ours RAS. pydicom reads the files; it is an extra (``initbench[dicom]``).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from initbench.errors import DataError
from initbench.limits import MAX_VOXELS, check_memory

T = TypeVar("T")

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FLOAT32 = 4  # bytes
# Transfer syntaxes that pydicom reads by itself, and bytes of voxels that a byte of the file can stand for in them: a run of RLE
# makes 128 of two. What a plug-in would decode is refused, so that no voxel depends on what else is installed; a deflated file,
# because it would be inflated whole before its size is known.
_SYNTAXES: Final[Mapping[str, float]] = {
    "1.2.840.10008.1.2": 1.0,  # implicit VR, little endian
    "1.2.840.10008.1.2.1": 1.0,  # explicit VR, little endian
    "1.2.840.10008.1.2.2": 1.0,  # explicit VR, big endian
    "1.2.840.10008.1.2.5": 64.0,  # RLE
}
_HEADER_BYTES = 2**26  # more than any header and overlay beside the pixels
_DAMAGED = "the file is damaged: copy or export it again"

# What has to be there and how many numbers it is, and what the standard has where nothing is said.
_NEEDED: Final[Mapping[str, int]] = {
    "Rows": 1,
    "Columns": 1,
    "BitsAllocated": 1,
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
}
_DEFAULTS: Final[Mapping[str, float]] = {"SamplesPerPixel": 1, "NumberOfFrames": 1, "RescaleSlope": 1, "RescaleIntercept": 0}

_AXES_TOLERANCE = 1e-3  # of cosines: files give them to a few digits
_SAME = 1e-4  # of cosines, and relative of pixel edges, between slices of one series
_UNEVEN = 0.1  # of a step: positions are rounded, some to 0.1 mm
_SAME_PLACE_MM = 1e-3  # slices that are closer lie at one place: the series is there twice, or several are


@dataclass(frozen=True)
class Placed:
    """Where the slices of a series lie.

    Attributes:
        order: numbers of the files, ascending along the normal (columns' direction × rows').
        affine: of voxels ``(column, row, slice)``, RAS.
    """

    columns: int
    rows: int
    order: tuple[int, ...]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """The files of one series, one slice each, in the order of their names."""

    paths: tuple[Path, ...]

    def placed(self, case_id: str) -> Placed:
        """Finds the order and the place of the slices from the headers alone.

        Raises:
            DataError: as `read`, but for the voxels.
        """
        return _place(case_id, self._slices(case_id))

    def read(self, case_id: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Reads the voxels ``(X, Y, Z)``, rescaled, and their affine.

        Raises:
            DataError: pydicom is missing; a file is unreadable, truncated, compressed or no single slice; slices differ in size,
                orientation or spacing, share a place, leave a gap or are of several series.
        """
        slices = self._slices(case_id)
        found = _place(case_id, slices)
        shape = (found.columns, found.rows, len(slices))
        check_memory(shape, 2 * _FLOAT32, f"case {case_id}: reading {self}", "close other programs, or leave the case out")
        voxels = np.empty(shape, np.float32)
        for place, number in enumerate(found.order):
            voxels[..., place] = _pixels(case_id, slices[number]).T
        return voxels, found.affine

    def _slices(self, case_id: str) -> list[_Slice]:
        return [_header(case_id, path) for path in self.paths]

    def __str__(self) -> str:
        return str(self.paths[0].parent)


def by_number(path: Path) -> tuple[list[int], str]:
    """Returns a key that sorts files by the numbers in their names: 2 before 10."""
    return [int(digits) for digits in re.findall(r"[0-9]+", path.name)], path.name


# --- a header ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Slice:
    """What a header says.

    Attributes:
        position: LPS, of the centre of the first pixel, in mm.
        axes: LPS unit vectors ``[columns' and rows' direction, 3]``: along a row, and down a column.
        edges: mm from column to column and from row to row.
    """

    path: Path
    columns: int
    rows: int
    series: str
    position: NDArray[np.float64]
    axes: NDArray[np.float64]
    edges: NDArray[np.float64]
    slope: float
    intercept: float


def _header(case_id: str, path: Path) -> _Slice:
    """Reads a header, and refuses what is no slice or claims more than the file holds, before a voxel is read.

    Raises:
        DataError: names the file.
    """
    where = f"case {case_id}: {path}"
    most = _expansion(where, path)
    values, texts = _asked(where, lambda: _values(path))
    _check_numbers(where, values)
    single = dict(_DEFAULTS)
    for key in _DEFAULTS:
        if key in values:
            single[key] = values[key][0]
    _check_single(where, single, texts)
    rows, columns = int(values["Rows"][0]), int(values["Columns"][0])
    _check_claim(where, path.stat().st_size, (columns, rows), int(values["BitsAllocated"][0]), most)
    axes = np.reshape(values["ImageOrientationPatient"], (2, 3))
    edges = np.array(values["PixelSpacing"][::-1])  # the standard gives the step from row to row first
    if np.abs(axes @ axes.T - np.eye(2)).max() > _AXES_TOLERANCE or edges.min() <= 0:
        raise DataError(
            f"{where}: orientation {axes.ravel().tolist()} and pixel spacing {edges[::-1].tolist()} do not place pixels in "
            f"space; {_DAMAGED}"
        )
    position = np.array(values["ImagePositionPatient"])
    return _Slice(path, columns, rows, texts["series"], position, axes, edges, single["RescaleSlope"], single["RescaleIntercept"])


def _check_numbers(where: str, values: Mapping[str, tuple[float, ...]]) -> None:
    """Refuses a header that lacks a number that it needs, or holds one that is not finite."""
    for key, count in _NEEDED.items():
        found = values.get(key, ())
        if len(found) == count:
            continue
        said = "is missing"
        if found:
            said = f"has {len(found)} numbers in place of {count}"
        raise DataError(f"{where}: {key} {said}, so the slice has no place or size; remove what is no image of CT or MR")
    for numbers in values.values():
        if not all(map(math.isfinite, numbers)):
            raise DataError(f"{where}: the header has numbers that are not finite; {_DAMAGED}")


def _check_single(where: str, single: Mapping[str, float], texts: Mapping[str, str]) -> None:
    if single["NumberOfFrames"] != 1:
        raise DataError(f"{where}: holds {single['NumberOfFrames']:g} frames; files of one slice are read: split it")
    if single["SamplesPerPixel"] != 1 or not texts["colours"].startswith("MONOCHROME"):
        raise DataError(f"{where}: is a picture in colours ({texts['colours'] or 'not stated'}), no image of CT or MR; remove it")


def _check_claim(where: str, size: int, shape: tuple[int, int], bits: int, most: float) -> None:
    """Refuses pixels that the file cannot hold, and files that are far larger than their pixels."""
    pixels = math.prod(shape)
    if min(shape) < 1 or bits not in (8, 16, 32) or pixels > MAX_VOXELS:
        raise DataError(f"{where}: the header asks for {shape} pixels of {bits} bits; {_DAMAGED}")
    needed = pixels * bits // 8
    if needed > size * most:
        raise DataError(
            f"{where}: the header asks for {shape} pixels, {needed:,} bytes, and a file of {size:,} bytes cannot hold them; it "
            "is truncated or damaged: copy or download it again"
        )
    if size > needed + _HEADER_BYTES:
        raise DataError(f"{where}: {size:,} bytes are far more than its {shape} pixels take; {_DAMAGED}")


def _expansion(where: str, path: Path) -> float:
    """Returns how many bytes of pixels a byte of the file can stand for.

    Raises:
        DataError: no DICOM file, or compressed in a way that is not read.
    """
    pydicom = _library(where)
    syntax = _asked(where, lambda: str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") or ""))
    if syntax not in _SYNTAXES:
        known = "nothing stated"
        if syntax:
            known = _asked(where, lambda: str(pydicom.uid.UID(syntax).name))
        raise DataError(
            f"{where}: is stored compressed ({known}), which is not read here; expand the files, for example with gdcmconv --raw"
        )
    return _SYNTAXES[syntax]


def _values(path: Path) -> tuple[dict[str, tuple[float, ...]], dict[str, str]]:
    """Reads the numbers and texts of a header that are needed here, and passes over the rest unread."""
    import pydicom

    keys = [*_NEEDED, *_DEFAULTS]
    tags: list[Any] = [*keys, "PhotometricInterpretation", "SeriesInstanceUID"]
    table = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
    numbers = {}
    for key in keys:
        value = table.get(key)
        if value not in (None, ""):
            numbers[key] = _numbers(value)
    texts = {"colours": str(table.get("PhotometricInterpretation") or ""), "series": str(table.get("SeriesInstanceUID") or "")}
    return numbers, texts


def _numbers(value: Any) -> tuple[float, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(float, value))
    return (float(value),)


def _pixels(case_id: str, one: _Slice) -> NDArray[np.float64]:
    """Reads the pixels ``(rows, columns)``, rescaled."""
    where = f"case {case_id}: {one.path}"
    stored = _asked(where, lambda: _decoded(one.path))
    if stored.shape != (one.rows, one.columns):
        raise DataError(f"{where}: its pixels are {stored.shape} where the header has {(one.rows, one.columns)}; {_DAMAGED}")
    return np.asarray(stored, np.float64) * one.slope + one.intercept


def _decoded(path: Path) -> NDArray[Any]:
    import pydicom

    return np.asarray(pydicom.dcmread(path).pixel_array)


def _asked(where: str, ask: Callable[[], T]) -> T:
    """Asks pydicom about a file, and turns whatever it raises into an error for people: its parsers raise anything.

    Raises:
        DataError: the file is damaged or no DICOM file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not as the standard has them; what counts is checked here
            return ask()
    except Exception as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{where} cannot be read ({text}); it is truncated or no DICOM file: copy or download it again") from None


def _library(where: str) -> Any:
    try:
        import pydicom
    except ImportError:
        raise DataError(
            f"{where}: DICOM files are read with pydicom, which is not installed: pip install 'initbench[dicom]'"
        ) from None
    return pydicom


# --- a series ---------------------------------------------------------------------------------------------------------


def _place(case_id: str, slices: Sequence[_Slice]) -> Placed:
    """Puts the slices in order along their normal, as one regular grid.

    Raises:
        DataError: they form no regular grid; names the files.
    """
    first = slices[0]
    where = f"case {case_id}: {first.path.parent}"
    if len(slices) < 2:
        raise DataError(f"{where} holds one slice, {first.path.name}, and a volume has two at least; complete the download")
    if len(slices) * first.rows * first.columns > MAX_VOXELS:
        raise DataError(
            f"{where} holds {len(slices)} slices of {first.columns} × {first.rows}: more than any examination has; "
            "split the folder"
        )
    for other in slices[1:]:
        _check_alike(where, first, other)
    _check_series(where, slices)
    normal = np.cross(*first.axes)
    positions = np.array([one.position for one in slices])
    order = np.argsort(positions @ normal, kind="stable")
    step = _check_regular(where, [slices[number] for number in order], normal)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([*(first.axes * first.edges[:, None]), normal * step])
    affine[:3, 3] = positions[order[0]]
    return Placed(first.columns, first.rows, tuple(map(int, order)), _LPS_TO_RAS @ affine)


def _check_alike(where: str, first: _Slice, other: _Slice) -> None:
    differs = {
        "size": (first.columns, first.rows) != (other.columns, other.rows),
        "orientation": np.abs(first.axes - other.axes).max() > _SAME,
        "pixel spacing": np.abs(other.edges / first.edges - 1).max() > _SAME,
    }
    for what, apart in differs.items():
        if apart:
            raise DataError(
                f"{where}: {other.path.name} has another {what} than {first.path.name}; a folder holds the slices of one series: "
                "move the others out"
            )


def _check_series(where: str, slices: Sequence[_Slice]) -> None:
    """Refuses the files of two series. Anonymizers that give every slice a series of its own are known: that says nothing."""
    series = {one.series: one.path.name for one in slices}
    if 1 < len(series) < len(slices):
        shown = ", ".join(sorted(series.values())[:2])
        raise DataError(
            f"{where} holds {len(series)} series (see {shown}); leave the slices of one in it and move the others out"
        )


def _check_regular(where: str, ordered: Sequence[_Slice], normal: NDArray[np.float64]) -> float:
    """Returns the step from slice to slice in mm; refuses a stack with a gap, with a slice twice, or that slides sideways."""
    positions = np.array([one.position for one in ordered])
    depth = (positions - positions[0]) @ normal
    gaps = np.diff(depth)
    close, wide = int(gaps.argmin()), int(gaps.argmax())
    if gaps[close] < _SAME_PLACE_MM:
        one, other = ordered[close].path.name, ordered[close + 1].path.name
        raise DataError(f"{where}: {one} and {other} lie at the same place: several series, or a slice twice; remove the surplus")
    step = float(depth[-1]) / len(gaps)
    if np.abs(depth - step * np.arange(len(depth))).max() > _UNEVEN * step:
        one, other = ordered[wide].path.name, ordered[wide + 1].path.name
        raise DataError(
            f"{where}: from {one} to {other} are {gaps[wide]:.4g} mm, and {np.median(gaps):.4g} mm from slice to slice (median): "
            "slices are missing or unevenly spaced. Complete the download, or leave the case out"
        )
    aside = positions - positions[0] - np.outer(depth, normal)
    far = np.linalg.norm(aside, axis=1)
    if far.max() > ordered[0].edges.min() / 2:
        name = ordered[int(far.argmax())].path.name
        raise DataError(
            f"{where}: {name} lies {far.max():.3g} mm aside of {ordered[0].path.name}: the stack is tilted (gantry tilt), and no "
            "grid with right angles fits it; resample it first"
        )
    return step
