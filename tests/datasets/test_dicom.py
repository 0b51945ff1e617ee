"""DICOM series: the voxels lie where SimpleITK finds them, and files that are damaged or foreign are named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from initbench.datasets.files import dicom
from initbench.datasets.files.dicom import Series, by_number
from initbench.errors import DataError
from tests import layouts
from tests.dicom_factory import INTERCEPT, SLOPE, change, dicom_series
from tests.msd_factory import affine_of

pydicom = pytest.importorskip("pydicom")
SHAPE = (9, 7, 6)


def voxels() -> NDArray[np.float64]:
    return np.rint(np.random.default_rng(0).normal(0, 300, SHAPE)) * SLOPE + INTERCEPT


def grid(codes: str) -> NDArray[np.float64]:
    spacing = (0.7, 1.1, 2.5)
    return layouts.oblique(spacing, SHAPE, 20 if codes == "oblique" else 50) if "o" in codes else affine_of(codes, spacing, SHAPE)


def stored(folder: Path, codes: str = "LPS", **more: Any) -> Series:
    paths = dicom_series(folder, [f"IMG-{k:04d}" for k in range(SHAPE[2])], voxels(), grid(codes), **more)
    return Series(tuple(paths))


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "oblique", "more oblique"])
@pytest.mark.parametrize("order", ["ascending", "descending", "mixed"])
def test_voxels_lie_where_they_were_and_where_simpleitk_finds_them(tmp_path: Path, codes: str, order: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    numbers = {"ascending": range(6), "descending": range(5, -1, -1), "mixed": (3, 0, 5, 1, 4, 2)}[order]
    paths = dicom_series(tmp_path, [f"i{number:04d},0000b" for number in numbers], voxels(), grid(codes))
    found, affine = Series(tuple(sorted(paths))).read("a")
    assert np.allclose(affine, grid(codes), atol=1e-6)
    assert np.array_equal(found, voxels())
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(theirs).T, found)
    for index in ((0, 0, 0), (8, 0, 0), (2, 6, 5)):
        point = np.array(theirs.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)  # ITK's world is LPS, ours RAS
        assert np.allclose((affine @ (*index, 1))[:3], point, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 32])
def test_other_depths_signs_and_scales(tmp_path: Path, bits: int) -> None:
    series = stored(tmp_path)
    kind = np.dtype(f"<u{bits // 8}")
    values = np.random.default_rng(1).integers(0, 200, (SHAPE[1], SHAPE[0])).astype(kind)
    for path in series.paths:
        more = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0}
        data = values.tobytes() + b"\0" * (values.nbytes % 2)
        change(path, **more, PixelData=data, RescaleSlope=None, RescaleIntercept=None)
    found, _ = series.read("a")
    assert np.array_equal(found[..., 3], values.T)


def test_runs_are_expanded_and_other_compression_is_refused(tmp_path: Path) -> None:
    series = stored(tmp_path)
    for path in series.paths:
        table = pydicom.dcmread(path)
        table.compress(pydicom.uid.RLELossless)
        table.save_as(path)
    assert np.array_equal(series.read("a")[0], voxels())
    for syntax, name in (("JPEG2000Lossless", "JPEG 2000"), ("DeflatedExplicitVRLittleEndian", "Deflated")):
        table = pydicom.dcmread(series.paths[2])
        table.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        table.save_as(series.paths[2])
        with pytest.raises(DataError, match=rf"case a: .*IMG-0002\.dcm: is stored compressed \({name}.*gdcmconv --raw"):
            series.read("a")


def test_a_series_a_slice_says_nothing_and_two_series_are_refused(tmp_path: Path) -> None:
    series = stored(tmp_path)
    for path in series.paths:
        change(path, SeriesInstanceUID=pydicom.uid.generate_uid())
    assert np.array_equal(series.read("a")[0], voxels())
    for path in series.paths:
        change(path, SeriesInstanceUID="1.2.3" if path in series.paths[:4] else "1.2.4")
    with pytest.raises(DataError, match=r"holds 2 series \(see IMG-0003.dcm, IMG-0005.dcm\)"):
        series.read("a")


def truncated(series: Series) -> Series:
    path = series.paths[1]
    path.write_bytes(path.read_bytes()[:-40])
    return series


def cut_in_the_header(series: Series) -> Series:
    path = series.paths[1]
    path.write_bytes(path.read_bytes()[:300])
    return series


def no_dicom(series: Series) -> Series:
    series.paths[1].write_bytes(b"\0" * 128 + b"PNG?" + b"\xff" * 5000)
    return series


def missing_slice(series: Series) -> Series:
    series.paths[2].unlink()
    return Series((*series.paths[:2], *series.paths[3:]))


def without(number: int) -> Callable[[Series], Series]:
    return lambda series: Series((*series.paths[:number], *series.paths[number + 1 :]))


def changed(number: int, **values: Any) -> Callable[[Series], Series]:
    def damage(series: Series) -> Series:
        change(series.paths[number], **values)
        return series

    return damage


def twice(series: Series) -> Series:
    copy = series.paths[2].with_name("IMG-0099.dcm")
    copy.write_bytes(series.paths[2].read_bytes())
    return Series((*series.paths, copy))


def tilted(series: Series) -> Series:
    for k, path in enumerate(series.paths):
        table = pydicom.dcmread(path)
        x, y, z = table.ImagePositionPatient
        change(path, ImagePositionPatient=[x, y + 0.4 * k, z])
    return series


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncated, r"IMG-0001\.dcm"),
        (cut_in_the_header, r"IMG-0001\.dcm"),
        (no_dicom, r"IMG-0001\.dcm cannot be read .*no DICOM file"),
        (missing_slice, r"from IMG-0001\.dcm to IMG-0003\.dcm are 5 mm, and 2\.5 mm from slice to slice.*missing"),
        (without(1), r"from IMG-0000\.dcm to IMG-0002\.dcm are 5 mm"),
        (without(4), r"from IMG-0003\.dcm to IMG-0005\.dcm are 5 mm"),
        (lambda series: Series(series.paths[:1]), "holds one slice, IMG-0000.dcm"),
        (twice, r"IMG-0002\.dcm and IMG-0099\.dcm lie at the same place"),
        (tilted, r"IMG-0005\.dcm lies 2 mm aside.*gantry tilt"),
        (changed(3, ImageOrientationPatient=[1, 0, 0, 0, 0, 1]), r"IMG-0003\.dcm has another orientation than IMG-0000\.dcm"),
        (changed(3, PixelSpacing=[0.5, 0.5]), r"IMG-0003\.dcm has another pixel spacing"),
        (changed(3, Rows=6), r"IMG-0003\.dcm has another size"),
        (changed(3, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), r"IMG-0003\.dcm: orientation .* do not place pixels"),
        (changed(3, PixelSpacing=[0, 1]), r"IMG-0003\.dcm: .* do not place pixels"),
        (changed(3, PixelSpacing=[1.0]), r"IMG-0003\.dcm: PixelSpacing has 1 numbers in place of 2"),
        (changed(3, ImagePositionPatient=None), r"IMG-0003\.dcm: ImagePositionPatient is missing"),
        (changed(3, ImagePositionPatient=["nan", "0", "0"]), r"IMG-0003\.dcm: the header has numbers that are not finite"),
        (changed(3, RescaleSlope="inf"), r"IMG-0003\.dcm: the header has numbers that are not finite"),
        (changed(3, Rows=None), r"IMG-0003\.dcm: Rows is missing"),
        (changed(3, Rows=60000, Columns=60000), r"IMG-0003\.dcm: the header asks for \(60000, 60000\) pixels"),
        (changed(3, Rows=600), r"IMG-0003\.dcm: the header asks for .* cannot hold them"),
        (changed(3, BitsAllocated=12), r"IMG-0003\.dcm: the header asks for .* of 12 bits"),
        (changed(3, NumberOfFrames=7), r"IMG-0003\.dcm: holds 7 frames"),
        (changed(3, SamplesPerPixel=3, PhotometricInterpretation="RGB"), r"IMG-0003\.dcm: is a picture in colours \(RGB\)"),
        (changed(3, PixelData=None), r"IMG-0003\.dcm"),
    ],
)
def test_what_is_no_series_is_said(tmp_path: Path, damage: Callable[[Series], Series], says: str) -> None:
    series = damage(stored(tmp_path))
    with pytest.raises(DataError, match=says) as caught:
        series.read("a")
    assert str(caught.value).startswith("case a: ")
    assert str(tmp_path) in str(caught.value)


def test_a_file_far_larger_than_its_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = stored(tmp_path)
    monkeypatch.setattr(dicom, "_HEADER_BYTES", 50)
    with pytest.raises(DataError, match="far more than its"):
        series.read("a")


def test_positions_may_be_rounded(tmp_path: Path) -> None:
    series = stored(tmp_path, "RAS")
    for path in series.paths:
        table = pydicom.dcmread(path)
        x, y, z = table.ImagePositionPatient
        change(path, ImagePositionPatient=[x, y, round(float(z) + 0.06, 1)])
    assert series.read("a")[1][2, 2] == pytest.approx(2.5, abs=0.03)


def test_flipped_bytes_end_in_words(tmp_path: Path) -> None:
    """Whatever a damaged header says: it is read, or refused by an error for people."""
    series = stored(tmp_path)
    whole, rng = series.paths[2].read_bytes(), np.random.default_rng(0)
    said = []
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(128, len(whole) - 2 * SHAPE[0] * SHAPE[1], 3):
            damaged[place] = rng.integers(256)
        series.paths[2].write_bytes(damaged)
        try:
            series.read("a")
        except DataError as error:
            said.append(str(error))
    assert len(said) > 50
    assert all(text.startswith("case a: ") for text in said)


def test_without_pydicom_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = stored(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'initbench\[dicom\]'"):
        series.read("a")


def test_files_are_sorted_by_their_numbers() -> None:
    names = ["IMG-2-10.dcm", "IMG-2-9.dcm", "IMG-1-11.dcm"]
    assert [path.name for path in sorted(map(Path, names), key=by_number)] == [names[2], names[1], names[0]]
