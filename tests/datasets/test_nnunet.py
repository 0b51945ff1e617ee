"""Folders of nnU-Net: channels, regions, tables of cases, and what is said of damaged ones."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from initbench.datasets import nnunet
from initbench.datasets.folder import FolderDataset, check_classes
from initbench.datasets.nnunet import NnunetDataset
from initbench.datasets.open import open_dataset
from initbench.errors import DataError, UsageError
from initbench.protocols import Dataset, group_of, regions_of, splits_of
from tests import layouts
from tests.datasets.readable import change
from tests.msd_factory import make_msd, write_nifti

# No test finds data sets of the machine.
pytestmark = pytest.mark.usefixtures("root")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_an_nnunet_folder_of_several_channels(root: Path, ending: str) -> None:
    folder = layouts.nnunet(root / "Dataset501_Two", ("a", "b.c"), channels=("T1", "T2"), ending=ending, licence="CC0")
    dataset = open_dataset(str(folder))
    assert isinstance(dataset, NnunetDataset)
    assert isinstance(dataset, Dataset)
    assert (dataset.name, dataset.modality, dataset.channels) == ("Dataset501_Two", "MR", ("T1", "T2"))
    assert (dataset.classes, dataset.licence) == (("background", "organ", "tumour"), "CC0")
    assert dataset.case_ids() == ("a", "b.c")
    assert (regions_of(dataset), group_of(dataset, "a"), splits_of(dataset)) == ({}, "a", ())
    for index, case_id in enumerate(dataset.case_ids()):
        case, (image, label, affine) = dataset.load(case_id), layouts.volume(index, 3, 2)
        assert np.array_equal(case.image, image)
        assert np.array_equal(case.label, label)
        assert np.allclose(case.affine, affine, atol=1e-5)
    assert open_dataset("Dataset501_Two").case_ids() == dataset.case_ids()


def test_every_channel_is_in_the_digest(root: Path) -> None:
    folder = layouts.nnunet(root / "Dataset501_Two", ("a",), channels=("T1", "T2"))
    before = NnunetDataset(folder).digest("a")
    image, _, affine = layouts.volume(0, 3, 2)
    write_nifti(folder / "imagesTr" / "a_0001.nii.gz", image[1] + 1, affine)
    assert NnunetDataset(folder).digest("a") != before


def test_lists_of_labels_are_regions(root: Path) -> None:
    labels: dict[str, int | list[int]] = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    dataset = NnunetDataset(layouts.nnunet(root / "Dataset001_B", ("a",), labels=labels, regions_class_order=[1, 2, 3]))
    assert regions_of(dataset) == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert dataset.classes == ("background", "label 1", "label 2", "enhancing")
    assert dataset.load("a").label.max() == 3


def test_a_table_of_cases_is_followed(root: Path) -> None:
    folder = layouts.nnunet(root / "Dataset001_B", ("a",))
    (folder / "elsewhere").mkdir()
    shutil.move(folder / "imagesTr" / "a_0000.nii.gz", folder / "elsewhere" / "scan.nii.gz")
    entry = {"images": ["elsewhere/scan.nii.gz"], "label": "labelsTr/a.nii.gz"}
    change(folder, dataset={"mine": entry})
    assert NnunetDataset(folder).load("mine").image.shape[0] == 1
    change(folder, dataset={"mine": {**entry, "label": "../a.nii.gz"}})
    with pytest.raises(DataError, match="out of the data set's folder"):
        NnunetDataset(folder)
    change(folder, dataset={"../mine": entry})
    with pytest.raises(DataError, match="cannot be the name of a case"):
        NnunetDataset(folder)


@pytest.mark.parametrize("case", ["", ".", "..", ".a", " a", "a ", "c\0", "c\n1", "c\u2028", "a/b", "a\\b", "x" * 201, "\ud800"])
def test_ids_that_are_no_file_names_are_refused_by_every_reader(root: Path, case: str) -> None:
    folder = layouts.nnunet(root / "Dataset001_B", ("a",))
    change(folder, dataset={case: {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"}})
    with pytest.raises(DataError, match="cannot be the name of a case") as caught:
        open_dataset(str(folder))
    assert str(folder) in str(caught.value)
    layout = nnunet.read_nnunet(layouts.nnunet(root / "Dataset002_C", ("a", "ä-1 (2).b")))
    with pytest.raises(DataError, match="cannot be the name of a case"):
        FolderDataset(root, "any", replace(layout, files={case: layout.files["a"]}))


def test_a_name_that_a_label_without_one_gets_is_refused(root: Path) -> None:
    folder = layouts.nnunet(root / "Dataset001_B", ("a",))
    change(folder, labels={"background": 0, "label 2": 1, "all": [1, 2]})
    with pytest.raises(DataError, match="'label 2' is the name of two") as caught:
        open_dataset(str(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("labels", [{"0": "background", "1": "kidney", "2": "kidney"}, {"0": "kidney", "1": "kidney"}])
def test_decathlon_names_that_stand_for_two_are_refused(root: Path, labels: dict[str, str]) -> None:
    folder = make_msd(root / "Task90_B", cases=1, classes=2)
    change(folder, labels=labels)
    with pytest.raises(DataError, match="'kidney' is the name of two") as caught:
        open_dataset(str(folder))
    assert str(folder) in str(caught.value)


def test_a_region_is_not_called_as_the_background_is() -> None:
    assert check_classes("x", {0: "rest", 1: "a"}, ("a", "b")) == ("rest", "a"), "a region may have the name of a label"
    with pytest.raises(DataError, match="'rest' is the name of two"):
        check_classes("x", {0: "rest", 1: "a"}, ("rest",))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"file_ending": ".mha"}, "no library of this installation reads; convert"),
        ({"file_ending": ".nrrd"}, "convert"),
        ({"file_ending": ""}, "file_ending is missing or empty"),
        ({"labels": {}}, "labels is missing or empty"),
        ({"labels": [1]}, "labels must map names to numbers"),
        ({"labels": {"background": 0, "a": 2}}, "without gaps"),
        ({"labels": {"background": 0, "a": "1"}}, "must be a number"),
        ({"labels": {"background": 0, "a": True}}, "must be a number"),
        ({"labels": {"background": 0, "a": [[1]]}}, "must be a number"),
        ({"labels": {"background": 0, "a": [0, 1]}}, "part of no region"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "two names"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "ignore label"),
        ({"channel_names": {"1": "CT"}}, "numbered from 0"),
        ({"channel_names": ["CT"]}, "channel_names must map"),
        ({"channel_names": {"0": "CT", "1": "PET"}}, r"do not exist: image .*a_0001\.nii\.gz"),
        ({"dataset": {"a": {"images": [], "label": "labelsTr/a.nii.gz"}}}, "has 0 images for 1 channels"),
        ({"dataset": 5}, "dataset must map cases"),
    ],
)
def test_damaged_nnunet_tables_are_named(root: Path, values: dict[str, Any], says: str) -> None:
    folder = layouts.nnunet(root / "Dataset001_B", ("a",))
    change(folder, **values)
    with pytest.raises(DataError, match=says) as caught:
        open_dataset(str(folder))
    assert str(folder) in str(caught.value)


def one_shape_more(folder: Path) -> None:
    image, _, affine = layouts.volume(0, 3, 2)
    write_nifti(folder / "imagesTr" / "a_0001.nii.gz", image[1, :-1], affine)


def moved(folder: Path) -> None:
    image, _, affine = layouts.volume(0, 3, 2)
    write_nifti(folder / "imagesTr" / "a_0001.nii.gz", image[1], affine + np.eye(4)[3] * 0.5)


def strange_label(folder: Path) -> None:
    _, label, affine = layouts.volume(0, 3, 2)
    write_nifti(folder / "labelsTr" / "a.nii.gz", label + np.uint8(1), affine)


def cut_short(folder: Path) -> None:
    path = folder / "imagesTr" / "a_0001.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:500]))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (one_shape_more, "channels lie on different grids"),
        (moved, "channels lie on different grids"),
        (strange_label, r"label value\(s\) 3; dataset.json names 0 to 2"),
        (cut_short, "a_0001.nii.gz"),
    ],
)
def test_damaged_cases_are_named(root: Path, damage: Callable[[Path], None], says: str) -> None:
    folder = layouts.nnunet(root / "Dataset001_B", ("a",), channels=("T1", "T2"))
    damage(folder)
    with pytest.raises(DataError, match=says) as caught:
        NnunetDataset(folder).load("a")
    assert str(caught.value).startswith("case a: ")


def test_what_a_folder_is_not_is_said(root: Path) -> None:
    (root / "empty").mkdir()
    for text, says in ((None, "there is no dataset.json there"), ({"name": "x"}, "has the keys name")):
        if text is not None:
            (root / "empty" / "dataset.json").write_text(json.dumps(text), "utf-8")
        with pytest.raises((DataError, UsageError), match=says) as caught:
            open_dataset(str(root / "empty"))
        assert "Decathlon folder" in str(caught.value)
        assert "nnU-Net v2 raw folder" in str(caught.value)


def test_nnunet_v1_is_told_how_to_become_v2(root: Path) -> None:
    folder = make_msd(root / "Task501_Old", cases=1)
    (folder / "imagesTr" / "case_00.nii.gz").rename(folder / "imagesTr" / "case_00_0000.nii.gz")
    with pytest.raises(DataError, match="nnUNetv2_convert_old_nnUNet_dataset"):
        open_dataset(str(folder))
