"""The Decathlon reader: what it reads, and what it says of every damaged input."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from initbench.datasets.msd import MsdDataset, find_folder
from initbench.datasets.open import open_dataset
from initbench.errors import DataError, UsageError
from initbench.protocols import Dataset
from tests.msd_factory import make_msd, write_nifti, write_table

IMAGE, LABEL = Path("imagesTr/case_01.nii.gz"), Path("labelsTr/case_01.nii.gz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_msd(tmp_path / "Task99_Test", classes=3)


def array_of(path: Path) -> Any:
    return np.asarray(nibabel.load(path).dataobj)


def affine_of(path: Path) -> Any:
    return nibabel.load(path).affine


def table_of(folder: Path) -> Any:
    return json.loads((folder / "dataset.json").read_text("utf-8"))


def test_reads_good_data(folder: Path) -> None:
    dataset = MsdDataset(folder)
    assert isinstance(dataset, Dataset)
    assert (dataset.name, dataset.modality, dataset.channels) == ("Task99_Test", "CT", ("CT",))
    assert dataset.classes == ("background", "part 1", "part 2")
    assert dataset.licence == "CC-BY-SA 4.0"
    assert dataset.case_ids() == ("case_00", "case_01", "case_02")
    assert dataset.published_split() is None
    case = dataset.load("case_01")
    assert (case.image.dtype, case.label.dtype, case.affine.dtype) == (np.float32, np.uint8, np.float64)
    assert np.array_equal(case.image[0], array_of(folder / IMAGE))
    assert np.array_equal(case.label, array_of(folder / LABEL))
    assert np.array_equal(case.affine, affine_of(folder / IMAGE))


def test_channels_come_first(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "Task98_Two", modality=["T1", "T2"])
    dataset = MsdDataset(folder)
    assert (dataset.modality, dataset.channels) == ("MR", ("T1", "T2"))
    case = dataset.load("case_01")
    assert np.array_equal(case.image, np.moveaxis(array_of(folder / IMAGE), -1, 0))


def test_the_eleventh_channel_comes_after_the_second(folder: Path) -> None:
    table = table_of(folder)
    write_table(folder, **table | {"modality": {str(i): f"m{i}" for i in sorted(range(11), key=str)}})
    assert MsdDataset(folder).channels == tuple(f"m{i}" for i in range(11))


def test_digest_follows_the_bytes_of_both_files(folder: Path) -> None:
    before = {case_id: MsdDataset(folder).digest(case_id) for case_id in MsdDataset(folder).case_ids()}
    label = array_of(folder / LABEL)
    write_nifti(folder / LABEL, (label + 1) % 3, affine_of(folder / LABEL))
    after = {case_id: MsdDataset(folder).digest(case_id) for case_id in MsdDataset(folder).case_ids()}
    assert len(set(before.values())) == 3
    assert {case_id for case_id in before if before[case_id] != after[case_id]} == {"case_01"}


def remove_voxels(folder: Path) -> None:
    write_nifti(folder / LABEL, array_of(folder / LABEL)[:-1], affine_of(folder / LABEL))


def move_label(folder: Path) -> None:
    affine = affine_of(folder / LABEL)
    affine[0, 3] += 2.0
    write_nifti(folder / LABEL, array_of(folder / LABEL), affine)


def plant(path: Path, value: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        array = array_of(folder / path).astype(np.float32)
        array[1, 2, 3] = value
        write_nifti(folder / path, array, affine_of(folder / path))

    return change


def truncate(folder: Path) -> None:
    content = (folder / IMAGE).read_bytes()
    (folder / IMAGE).write_bytes(content[: len(content) // 2])


def no_nifti(folder: Path) -> None:
    (folder / LABEL).write_bytes(gzip.compress(b"<html>404 not found</html>" * 100))


def empty(folder: Path) -> None:
    (folder / IMAGE).write_bytes(b"")


def two_dimensions(folder: Path) -> None:
    write_nifti(folder / IMAGE, array_of(folder / IMAGE)[0])


def one_channel_more(folder: Path) -> None:
    image = array_of(folder / IMAGE)
    write_nifti(folder / IMAGE, np.stack([image, image], axis=-1), affine_of(folder / IMAGE))


def huge(folder: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((30000, 30000, 30000))
    (folder / IMAGE).write_bytes(gzip.compress(header.binaryblock + b"\0" * 100))


def flat_affine(folder: Path) -> None:
    affine = np.diag([1.0, 1.0, 0.0, 1.0])
    for path in (IMAGE, LABEL):
        image = nibabel.Nifti1Image(array_of(folder / path), np.eye(4))
        image.header["sform_code"] = 1
        for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
            image.header[name] = affine[row]
        image.header["qform_code"] = 0
        (folder / path).write_bytes(gzip.compress(image.header.binaryblock + b"\0" * 4 + image.dataobj.tobytes()))


@pytest.mark.parametrize(
    ("damage", "file", "says"),
    [
        (remove_voxels, LABEL, "different shapes"),
        (move_label, LABEL, "voxels apart at a corner"),
        (plant(LABEL, 3), LABEL, r"label value\(s\) 3; .*0 to 2"),
        (plant(LABEL, -1), LABEL, r"label value\(s\) -1;"),
        (plant(LABEL, 0.5), LABEL, r"label value\(s\) 0.5;"),
        (plant(LABEL, np.nan), LABEL, r"label value\(s\) nan;"),
        (plant(LABEL, np.inf), LABEL, r"label value\(s\) inf;"),
        (plant(IMAGE, np.nan), IMAGE, "1 NaN or infinite voxels"),
        (plant(IMAGE, -np.inf), IMAGE, "1 NaN or infinite voxels"),
        (truncate, IMAGE, "truncated"),
        (empty, IMAGE, "cannot be read"),
        (no_nifti, LABEL, "cannot be read"),
        (two_dimensions, IMAGE, "three dimensions"),
        (one_channel_more, IMAGE, r"announces 1 channel\(s\)"),
        (huge, IMAGE, "more than any examination"),
        (flat_affine, IMAGE, "affine"),
    ],
)
def test_damaged_case_is_named(folder: Path, damage: Callable[[Path], None], file: Path, says: str) -> None:
    damage(folder)
    dataset = MsdDataset(folder)
    with pytest.raises(DataError, match=says) as caught:
        dataset.load("case_01")
    assert str(folder / file) in str(caught.value)
    dataset.load("case_00")


@pytest.mark.filterwarnings("ignore")  # numpy on nonsense numbers
def test_no_damaged_header_gives_a_traceback(folder: Path) -> None:
    dataset = MsdDataset(folder)
    good = gzip.decompress((folder / IMAGE).read_bytes())
    rng = np.random.default_rng(0)
    refusals = []
    for _ in range(300):
        bad = bytearray(good)
        for position in rng.integers(0, 352, 4):
            bad[position] = rng.integers(256)
        (folder / IMAGE).write_bytes(gzip.compress(bad, compresslevel=1))
        try:
            dataset.load("case_01")
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert all(str(folder / IMAGE) in refusal for refusal in refusals)


@pytest.mark.parametrize(("path", "kind"), [(IMAGE, "image"), (LABEL, "label")])
def test_missing_file_is_named(folder: Path, path: Path, kind: str) -> None:
    (folder / path).unlink()
    with pytest.raises(DataError, match=re.escape(f"{kind} {folder / path}")):
        MsdDataset(folder)


GOOD: dict[str, Any] = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a"}, "training": []}
ENTRY = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no dataset.json"),
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        ("[]", "modality, labels, training is missing or empty"),
        ("{}", "modality, labels, training is missing or empty"),
        (json.dumps(GOOD), "training is missing or empty"),
        (json.dumps(GOOD | {"training": ["a.nii.gz"]}), "needs image and label"),
        (json.dumps(GOOD | {"training": 5}), "training must be a list"),
        (json.dumps(GOOD | {"training": [{"image": "a"}]}), "needs image and label"),
        (json.dumps(GOOD | {"training": [ENTRY], "labels": ["a"]}), "labels must map"),
        (json.dumps(GOOD | {"training": [ENTRY], "labels": {"0": "a", "2": "b"}}), "without gaps"),
        (json.dumps(GOOD | {"training": [ENTRY], "labels": {"0": "a"}}), "without gaps"),
        (json.dumps(GOOD | {"training": [ENTRY], "modality": "CT"}), "modality must map"),
        (json.dumps(GOOD | {"training": [ENTRY], "modality": {"first": "CT"}}), "modality must map"),
        (json.dumps(GOOD | {"training": [{**ENTRY, "image": "../a.nii.gz"}]}), "out of the data set's folder"),
        (json.dumps(GOOD | {"training": [{**ENTRY, "label": "/etc/passwd"}]}), "out of the data set's folder"),
        (json.dumps(GOOD | {"training": [ENTRY, {**ENTRY, "image": "more/a.nii.gz"}]}), "case a twice"),
        (json.dumps(GOOD | {"training": [{"image": f"{i}", "label": "b"} for i in range(9)]}), "and 15 more"),
    ],
)
def test_damaged_table_is_named(tmp_path: Path, text: str | bytes | None, says: str) -> None:
    if text is not None:
        (tmp_path / "dataset.json").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError, match=says) as caught:
        MsdDataset(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_links_out_of_the_folder_are_fine(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data managers keep the bytes elsewhere and link to them."""
    (folder / IMAGE).rename(tmp_path / "store.nii.gz")
    (folder / IMAGE).symlink_to(tmp_path / "store.nii.gz")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    MsdDataset(Path("..") / folder.name).load("case_01")


def test_not_found_says_where_it_looked_and_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITBENCH_DATA", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    (tmp_path / "root").mkdir()
    with pytest.raises(DataError) as caught:
        open_dataset("lung", tmp_path / "root")
    text = str(caught.value)
    for place in ("root", "one", "two"):
        assert str(tmp_path / place / "Task06_Lung") in text
    assert "Task06_Lung.tar" in text
    assert "--data-root or INITBENCH_DATA" in text
    assert "--dataset phantom-lung" in text


def test_found_below_or_at_a_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path))
    folder = make_msd(tmp_path / "Task04_Hippocampus", modality="MRI")
    assert open_dataset("hippocampus").name == "hippocampus"
    assert open_dataset("hippocampus", folder).name == "hippocampus"
    assert open_dataset("Task04_Hippocampus").name == "hippocampus"
    assert open_dataset(str(folder)).name == "hippocampus"
    monkeypatch.chdir(folder)
    assert find_folder("Task04_Hippocampus", Path(), []).absolute() == folder
    assert open_dataset("./").name == "hippocampus"


def test_own_folder_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path))
    make_msd(tmp_path / "mine")
    assert open_dataset("mine").name == "mine"
    with pytest.raises(UsageError, match="no folder"):
        open_dataset("mine", tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no dataset"):
        open_dataset(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="phantom-lung"):
        open_dataset("phantom-lun")
