"""CHAOS as it is downloaded: DICOM slices, label maps in PNG."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from initbench.datasets.open import open_dataset
from initbench.datasets.splits import resolve_split
from initbench.errors import DataError, MissingDataError
from initbench.protocols import group_of
from tests import layouts
from tests.dicom_factory import INTERCEPT, SLOPE, change, dicom_series, ground
from tests.shared_data import shared

# No test finds data sets of the machine.
pytestmark = pytest.mark.usefixtures("root")

pytest.importorskip("pydicom")

CHANNELS = {"T2SPIR": 1, "T1DUAL": 2, "CT": 1}
NAMES = {"T2SPIR": "chaos", "T1DUAL": "chaos-t1", "CT": "chaos-ct"}


@pytest.mark.parametrize(
    "place", ["CHAOS", "CHAOS/Train_Sets", "chaos/CHAOS_Train_Sets/Train_Sets", "CHAOS_Train_Sets/Train_Sets"]
)
@pytest.mark.parametrize("part", CHANNELS)
def test_every_part_is_read_in_every_place(root: Path, part: str, place: str) -> None:
    layouts.chaos(root / place, (1, 13, 3), part=part)
    dataset = open_dataset(NAMES[part])
    prefix = part[:2]
    assert dataset.case_ids() == (f"{prefix}_1", f"{prefix}_13", f"{prefix}_3")
    assert (dataset.modality, len(dataset.channels)) == ("CT" if part == "CT" else "MR", CHANNELS[part])
    for number in (1, 13, 3):  # one of them oblique
        case = dataset.load(f"{prefix}_{number}")
        image, label, affine = layouts.volume(number, len(dataset.classes), 2)
        assert np.allclose(case.affine, affine, atol=1e-6)
        assert np.array_equal(case.label, label)
        assert np.allclose(case.image, np.rint((image[: CHANNELS[part]] - INTERCEPT) / SLOPE) * SLOPE + INTERCEPT)


def test_both_mr_sequences_report_the_same_people(root: Path) -> None:
    for part in ("T2SPIR", "T1DUAL"):
        layouts.chaos(root / "CHAOS", range(1, 9), part=part)
    spir, dual = open_dataset("chaos"), open_dataset("chaos-t1")
    assert group_of(spir, "T2_3") == group_of(dual, "T1_3")
    assert [case[3:] for case in resolve_split(spir, None).test] == [case[3:] for case in resolve_split(dual, None).test]


def test_the_digest_is_of_every_slice_and_label_map(root: Path) -> None:
    folder = layouts.chaos(root / "CHAOS", (1,), part="T1DUAL") / "MR" / "1" / "T1DUAL"
    digests = {open_dataset("chaos-t1").digest("T1_1")}
    files = (*sorted(folder.rglob("*.dcm"))[::9], *sorted(folder.rglob("*.png"))[::9])
    for path in files:
        path.write_bytes(path.read_bytes() + b"\0\0")
        digests.add(open_dataset("chaos-t1").digest("T1_1"))
    assert len(digests) == len(files) + 1


def test_what_archives_leave_behind_is_no_slice(root: Path) -> None:
    folder = layouts.chaos(root / "CHAOS", (1,)) / "MR" / "1" / "T2SPIR"
    for name in ("DICOM_anon/._IMG-0004-00001.dcm", "DICOM_anon/DICOMDIR", "Ground/.x.png", "Ground/Thumbs.db"):
        (folder / name).write_bytes(b"x")
    (root / "CHAOS" / "MR" / "notes").mkdir()
    assert open_dataset("chaos").load("T2_1").label.max() == 4


def test_the_test_sets_and_other_parts_are_no_cases(root: Path) -> None:
    layouts.chaos(root / "CHAOS" / "Test_Sets", (4,))
    layouts.chaos(root / "CHAOS" / "Train_Sets", (1, 2), part="CT")
    for name in ("chaos", "chaos-t1"):
        with pytest.raises(MissingDataError, match=rf"{name} was not found.*zenodo"):
            open_dataset(name)
    assert open_dataset("chaos-ct").case_ids() == ("CT_1", "CT_2")


def label_map_of_another_size(folder: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "Ground" / "IMG-0004-00003.png")


def strange_grey(folder: Path) -> None:
    path = folder / "Ground" / "IMG-0004-00003.png"
    values = np.array(Image.open(path))
    values[:2, 0] = (30, 254)
    Image.fromarray(values).save(path)


def colours(folder: Path) -> None:
    path = folder / "Ground" / "IMG-0004-00003.png"
    Image.open(path).convert("RGB").save(path)


def another_format(folder: Path) -> None:
    path = folder / "Ground" / "IMG-0004-00003.png"
    Image.open(path).save(path, format="BMP")


def cut_label_map(folder: Path) -> None:
    path = folder / "Ground" / "IMG-0004-00003.png"
    path.write_bytes(path.read_bytes()[:45])


def bomb(folder: Path) -> None:
    """A header that asks for 60000 × 60000 pixels."""
    path = folder / "Ground" / "IMG-0004-00003.png"
    data = bytearray(path.read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    path.write_bytes(bytes(data))


def label_map_gone(folder: Path) -> None:
    (folder / "Ground" / "IMG-0004-00003.png").unlink()


def both_gone_elsewhere(folder: Path) -> None:
    """As many of both, and one is of another slice than its place says."""
    (folder / "Ground" / "IMG-0004-00003.png").unlink()
    sorted((folder / "DICOM_anon").iterdir())[-1].unlink()


def cut_slice(folder: Path) -> None:
    path = folder / "DICOM_anon" / "IMG-0004-00003.dcm"
    path.write_bytes(path.read_bytes()[:700])


def slice_gone(folder: Path) -> None:
    for name in ("DICOM_anon/IMG-0004-00003.dcm", "Ground/IMG-0004-00003.png"):
        (folder / name).unlink()


def turned_slice(folder: Path) -> None:
    change(folder / "DICOM_anon" / "IMG-0004-00003.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (label_map_of_another_size, r"IMG-0004-00003\.png is 9 × 9 pixels where the image has"),
        (strange_grey, r"IMG-0004-00003\.png has the grey value\(s\) 30, which are no class; those are 0, 55 to 70"),
        (colours, r"IMG-0004-00003\.png is in colours or more than 8 bits deep \(RGB\)"),
        (another_format, r"IMG-0004-00003\.png cannot be read .*no PNG"),
        (cut_label_map, r"IMG-0004-00003\.png cannot be read .*truncated"),
        (bomb, r"IMG-0004-00003\.png"),
        (label_map_gone, r"label maps \(\.png\) for \d+ slices"),
        (both_gone_elsewhere, r"IMG-0004-00004\.png is named as a slice that is not the one of its place, IMG-0004-00003\.dcm"),
        (cut_slice, r"IMG-0004-00003\.dcm"),
        (slice_gone, r"from IMG-0004-00002\.dcm to IMG-0004-00004\.dcm are"),
        (turned_slice, r"IMG-0004-00003\.dcm has another orientation"),
    ],
)
def test_damaged_cases_are_named(root: Path, damage: Callable[[Path], None], says: str) -> None:
    folder = layouts.chaos(root / "CHAOS", (1, 2)) / "MR" / "1" / "T2SPIR"
    damage(folder)
    dataset = open_dataset("chaos")
    with pytest.raises(DataError, match=says) as caught:
        dataset.load("T2_1")
    assert str(caught.value).startswith("case T2_1: ")
    assert str(folder) in str(caught.value)
    assert dataset.load("T2_2").label.any()


def test_phases_on_other_grids_are_named(root: Path) -> None:
    folder = layouts.chaos(root / "CHAOS", (1,), part="T1DUAL") / "MR" / "1" / "T1DUAL" / "DICOM_anon"
    for path in (folder / "OutPhase").iterdir():
        change(path, PixelSpacing=[0.5, 0.5])
    with pytest.raises(DataError, match=r"channels lie on different grids .*InPhase.*OutPhase"):
        open_dataset("chaos-t1").load("T1_1")


def test_patients_without_files_are_named(root: Path) -> None:
    folder = layouts.chaos(root / "CHAOS", (1, 2)) / "MR" / "2" / "T2SPIR"
    shutil.rmtree(folder / "Ground")
    with pytest.raises(DataError, match=r"2/T2SPIR/Ground: there are no files \.png"):
        open_dataset("chaos")
    layouts.chaos(root / "CHAOS", (2,))
    layouts.chaos(root / "CHAOS" / "Train_Sets", (2,))
    with pytest.raises(DataError, match="T2_2 is there twice"):
        open_dataset("chaos")


# --- real volumes -----------------------------------------------------------------------------------------------------


def test_a_real_abdomen_as_ct(root: Path) -> None:
    """Liver and all of a CT, written as the challenge has them, are where they were."""
    source = shared("data", "TotalSegmentator_examples")
    image, label = (nibabel.load(source / kind / "ts_abdomen.nii.gz") for kind in ("imagesTr", "labelsTr"))
    upright = nibabel.as_closest_canonical(image)  # the axes of a scanner: to the left, to the back, up
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt("LPS"))
    image, label = (file.as_reoriented(turn) for file in (image, label))
    hu, liver = np.asarray(image.dataobj), np.asarray(label.dataobj) == 6
    folder = root / "CHAOS" / "CT" / "3"
    slices = range(hu.shape[2])
    dicom_series(folder / "DICOM_anon", [f"i{k:04d},0000b" for k in reversed(slices)], hu, image.affine)
    ground(folder / "Ground", [f"liver_GT_{k:03d}" for k in reversed(slices)], 255 * liver, bits=True)
    case = open_dataset("chaos-ct").load("CT_3")
    assert np.array_equal(case.label == 1, liver)
    assert np.abs(case.image[0] - hu).max() <= SLOPE
    assert np.allclose(case.affine, image.affine, atol=1e-4)
    assert upright.shape == nibabel.as_closest_canonical(nibabel.Nifti1Image(case.image[0], case.affine)).shape
    assert 20 < case.image[0][case.label == 1].mean() < 200  # HU of a liver


def test_real_mr_as_spir(root: Path) -> None:
    source = shared("data", "Task04_Hippocampus")
    name = sorted((source / "labelsTr").glob("hippo*.nii.gz"))[0].name
    image, label = (nibabel.load(source / kind / name) for kind in ("imagesTr", "labelsTr"))
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt("LPS"))
    image, label = (file.as_reoriented(turn) for file in (image, label))
    values, classes = np.asarray(image.dataobj), np.asarray(label.dataobj).astype(int)
    folder = root / "CHAOS" / "MR" / "1" / "T2SPIR"
    names = [f"IMG-0002-{k + 1:05d}" for k in range(values.shape[2])]
    scale = 10_000 / values.max()
    dicom_series(folder / "DICOM_anon", names, values * scale, image.affine)
    ground(folder / "Ground", names, np.array(layouts.CHAOS_GREYS)[classes])
    case = open_dataset("chaos").load("T2_1")
    assert np.array_equal(case.label, classes)
    assert np.abs(case.image[0] - values * scale).max() <= SLOPE
    assert np.allclose(case.affine, image.affine, atol=1e-4)
