"""Where an image and its label lie: grids compared by their corners, units of headers, and forms of a header that disagree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from initbench.datasets.files import nifti
from initbench.datasets.grids import corner_displacement
from initbench.datasets.inspect.examine import examine
from initbench.datasets.inspect.fingerprint import fingerprint
from initbench.datasets.open import open_dataset
from initbench.errors import DataError
from initbench.protocols import Case
from tests import layouts
from tests.msd_factory import make_msd, write_forms, write_nifti, write_table

SHAPE = (12, 9, 7)
SPACING = (0.7, 0.9, 5.0)
MOST_APART, NOTED_APART = 0.5, 0.01  # voxels; written out, so that a change of the rule is noticed
APART = (0.005, 0.009, 0.011, 0.1, 0.49, 0.51, 1.0, 3.0)  # voxels at the far corner, on both sides of both thresholds


def shifted(affine: NDArray[np.float64], axis: int, voxels: float) -> NDArray[np.float64]:
    """The same distance everywhere."""
    moved = affine.copy()
    moved[:3, 3] += voxels * affine[:3, axis]
    return moved


def stretched(affine: NDArray[np.float64], axis: int, voxels: float) -> NDArray[np.float64]:
    """Nothing at the first voxel, all of it at the last: spacings that differ a little."""
    grown = affine.copy()
    grown[:3, axis] *= 1 + voxels / (SHAPE[axis] - 1)
    return grown


def turned(affine: NDArray[np.float64], axis: int, voxels: float) -> NDArray[np.float64]:
    """A shear along an axis: every element of the affine differs by little, the corner by much."""
    other = (axis + 1) % 3
    sheared = affine.copy()
    sheared[:3, other] += voxels / (SHAPE[other] - 1) * affine[:3, axis]
    return sheared


Change = Callable[[NDArray[np.float64], int, float], NDArray[np.float64]]
CHANGES: list[Change] = [shifted, stretched, turned]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("axis", [0, 1, 2])
@settings(max_examples=30, deadline=None)
@given(
    voxels=st.floats(-3, 3),
    degrees=st.floats(-40, 40),
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_the_displacement_is_that_of_the_farthest_corner(
    change: Change, axis: int, voxels: float, degrees: float, spacing: tuple[float, ...], origin: tuple[float, ...]
) -> None:
    affine = layouts.oblique(spacing, SHAPE, degrees)
    affine[:3, 3] = origin
    assert corner_displacement(affine, change(affine, axis, voxels), SHAPE) == pytest.approx(abs(voxels), abs=1e-6)


def test_no_voxel_lies_farther_apart_than_a_corner() -> None:
    rng = np.random.default_rng(0)
    first = layouts.oblique(SPACING, SHAPE)
    second = first + np.vstack([rng.normal(0, 0.05, (3, 4)), np.zeros(4)])
    voxels = np.stack([*np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), np.ones(SHAPE)]).reshape(4, -1)
    apart = np.linalg.norm((np.linalg.inv(first) @ second @ voxels - voxels)[:3], axis=0)
    assert corner_displacement(first, second, SHAPE) == pytest.approx(apart.max())


def one_case(root: Path, label_affine: NDArray[np.float64], affine: NDArray[np.float64]) -> Path:
    rng = np.random.default_rng(0)
    write_nifti(root / "imagesTr" / "a.nii.gz", rng.normal(0, 1, SHAPE).astype(np.float32), affine)
    write_nifti(root / "labelsTr" / "a.nii.gz", rng.integers(0, 2, SHAPE).astype(np.uint8), label_affine)
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    write_table(root, modality={"0": "CT"}, labels={"0": "background", "1": "x"}, training=[entry])
    return root


def two_channels(root: Path, second: NDArray[np.float64], affine: NDArray[np.float64]) -> Path:
    folder = layouts.nnunet(root, ("a",), channels=("T1", "T2"), labels={"background": 0, "x": 1})
    rng = np.random.default_rng(0)
    for channel, place in enumerate((affine, second)):
        write_nifti(folder / "imagesTr" / f"a_000{channel}.nii.gz", rng.normal(0, 1, SHAPE).astype(np.float32), place)
    write_nifti(folder / "labelsTr" / "a.nii.gz", rng.integers(0, 2, SHAPE).astype(np.uint8), affine)
    return folder


@pytest.mark.parametrize("make", [one_case, two_channels], ids=["image and label", "channels"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxels", APART)
def test_grids_are_refused_above_half_a_voxel_and_noted_above_a_hundredth(
    tmp_path: Path, make: Callable[..., Path], change: Change, axis: int, voxels: float
) -> None:
    affine = layouts.oblique(SPACING, SHAPE)
    dataset = open_dataset(str(make(tmp_path / "Dataset001_X", change(affine, axis, voxels), affine)))
    if voxels > MOST_APART:
        with pytest.raises(DataError, match="apart at a corner") as caught:
            dataset.load("a")
        assert "case a: " in str(caught.value)
        assert ".nii.gz" in str(caught.value)
        return
    remarks = dataset.load("a").remarks
    assert len(remarks) == (voxels > NOTED_APART)
    if remarks:
        assert "differ a little" in remarks[0].what
        assert f"{voxels:.2g} voxels" in remarks[0].detail


# --- headers ----------------------------------------------------------------------------------------------------------


def with_units(folder: Path, code: int, factor: float) -> Path:
    """Every file of a folder with its lengths in another unit."""
    for path in folder.rglob("*.nii.gz"):
        image = nibabel.load(path)
        affine = image.affine.copy()
        affine[:3] /= factor
        again = nibabel.Nifti1Image(np.asarray(image.dataobj), affine)
        again.header["xyzt_units"] = code
        nibabel.save(again, path)
    return folder


@pytest.mark.parametrize(
    ("code", "millimetres", "says"),
    [
        (0, 1.0, None),
        (2, 1.0, None),
        (10, 1.0, None),  # mm and seconds
        (1, 1000.0, "in metres"),
        (3, 0.001, "in micrometres"),
        (11, 0.001, "in micrometres"),  # and seconds
        (7, 1.0, "no known unit"),
    ],
)
def test_units_of_length_are_read(tmp_path: Path, code: int, millimetres: float, says: str | None) -> None:
    plain = open_dataset(str(make_msd(tmp_path / "Task90_Plain")))
    other = open_dataset(str(with_units(make_msd(tmp_path / "Task91_Units"), code, millimetres)))
    for case_id in plain.case_ids():
        case = other.load(case_id)
        assert np.allclose(case.affine, plain.load(case_id).affine, rtol=1e-5, atol=1e-4)
        assert [says in remark.what for remark in case.remarks] == [True] if says else not case.remarks


def test_the_digest_changes_only_where_lengths_are_read_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_msd(tmp_path / "Task90_Plain")
    for code, factor, another in ((2, 1.0, False), (0, 1.0, False), (7, 1.0, False), (3, 0.001, True), (1, 1000.0, True)):
        dataset = open_dataset(str(with_units(folder, code, factor)))
        now = dataset.digest("case_00")
        with monkeypatch.context() as patch:
            patch.setattr(nifti, "unit_of", lambda _: 1.0)
            assert (dataset.digest("case_00") != now) == another
        with_units(folder, 2, 1 / factor)


def said_of_forms(folder: Path) -> str:
    case = open_dataset(str(folder)).load("a")
    return "; ".join(f"{remark.what}: {remark.detail}" for remark in case.remarks)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxels", APART)
def test_an_sform_is_compared_with_the_qform(tmp_path: Path, axis: int, voxels: float) -> None:
    affine = layouts.oblique(SPACING, SHAPE)
    folder = one_case(tmp_path / "Task90_Forms", affine, affine)
    for path in folder.rglob("*.nii.gz"):
        write_forms(path, affine, shifted(affine, axis, voxels))
    said = said_of_forms(folder)
    assert ("the sform was taken" in said) == (voxels > NOTED_APART)
    assert (f"sform and qform up to {voxels:.3g} voxels apart" in said) == (voxels > NOTED_APART)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxels", APART)
def test_an_sform_is_compared_with_pixdim(tmp_path: Path, axis: int, voxels: float) -> None:
    affine = np.diag([*SPACING, 1.0])
    folder = one_case(tmp_path / "Task90_Forms", affine, affine)
    zooms = list(SPACING)
    zooms[axis] *= 1 + voxels / (SHAPE[axis] - 1)
    for path in folder.rglob("*.nii.gz"):
        write_forms(path, affine, None, tuple(zooms))
    said = said_of_forms(folder)
    assert ("mm by pixdim" in said) == (voxels > NOTED_APART)


def test_what_disagrees_is_said_once_with_what_was_taken(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "Task90_Forms", cases=4)
    for path in folder.rglob("case_0[12].nii.gz"):
        write_forms(path, np.eye(4), np.diag([0.7, 0.7, 5.0, 1.0]))
    dataset = open_dataset(str(folder))
    for notes in (examine(dataset).notes, fingerprint(dataset).notes):
        (note,) = [note for note in notes if "sform" in note]
        assert note.startswith("2 of 4 cases, case_01, case_02: ")
        assert "the sform was taken" in note
        assert "1 × 1 × 1 mm by sform, 0.7 × 0.7 × 5 mm by pixdim" in note


def test_headers_that_agree_are_not_remarked(tmp_path: Path) -> None:
    dataset = open_dataset(str(make_msd(tmp_path / "Task90_Plain")))
    assert not any(dataset.load(case_id).remarks for case_id in dataset.case_ids())


def test_a_qform_that_is_no_rotation_is_remarked(tmp_path: Path) -> None:
    affine = np.diag([*SPACING, 1.0])
    folder = one_case(tmp_path / "Task90_Forms", affine, affine)
    for path in folder.rglob("*.nii.gz"):
        write_forms(path, affine, affine)
        image = nibabel.load(path)
        again = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
        again.header["quatern_b"] = 1.5
        nibabel.save(again, path)
    assert "the sform was taken" in said_of_forms(folder)


# --- labels -----------------------------------------------------------------------------------------------------------


def labelled(root: Path, write: Callable[[Path, NDArray[np.float64]], None], values: list[float], classes: int) -> Case:
    folder = one_case(root / "Task90_Labels", np.eye(4), np.eye(4))
    label = np.zeros(SHAPE)
    label.ravel()[: len(values)] = values
    write(folder / "labelsTr" / "a.nii.gz", label)
    names = {str(number): "background" if number == 0 else f"part {number}" for number in range(classes)}
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    write_table(folder, modality={"0": "CT"}, labels=names, training=[entry])
    return open_dataset(str(folder)).load("a")


def stored_as(kind: type) -> Callable[[Path, NDArray[np.float64]], None]:
    """Writes floats under a header for whole numbers: nibabel finds a slope."""

    def write(path: Path, array: NDArray[np.float64]) -> None:
        header = nibabel.Nifti1Header()
        header.set_data_dtype(kind)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4), header), path)

    return write


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32])
@pytest.mark.parametrize("classes", [2, 3, 5, 14])
def test_labels_stored_with_a_slope_are_whole(tmp_path: Path, kind: type, classes: int) -> None:
    values = [float(number) for number in range(classes)]
    case = labelled(tmp_path, stored_as(kind), values, classes)
    assert case.label.ravel()[:classes].tolist() == values


def as_floats(path: Path, array: NDArray[np.float64]) -> None:
    write_nifti(path, array.astype(np.float32), np.eye(4))


@pytest.mark.parametrize("off", [1e-6, -2e-5, 5e-4])
def test_a_label_that_was_rounded_is_whole(tmp_path: Path, off: float) -> None:
    case = labelled(tmp_path, as_floats, [1 + off, 2 - off, off], 3)
    assert case.label.ravel()[:3].tolist() == [1, 2, 0]


@pytest.mark.parametrize("write", [as_floats, stored_as(np.int16), stored_as(np.uint8)])
@pytest.mark.parametrize("value", [0.02, 0.25, 0.5, 0.9, 1.1, 1.5])
def test_fractions_of_a_label_are_refused(
    tmp_path: Path, write: Callable[[Path, NDArray[np.float64]], None], value: float
) -> None:
    with pytest.raises(DataError, match=r"case a: .*label value\(s\) [0-9., ]+; .*nearest neighbours"):
        labelled(tmp_path, write, [value, 1.0, 2.0], 3)
