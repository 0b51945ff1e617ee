"""Readers of the layouts that users have: what they read, and what they say of everything else."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from initbench.datasets import nnunet
from initbench.datasets.folder import FolderDataset, check_classes
from initbench.datasets.inspect.examine import examine
from initbench.datasets.nnunet import NnunetDataset
from initbench.datasets.open import open_dataset
from initbench.datasets.splits import published_splits, resolve_split
from initbench.datasets.synapse import ORGANS
from initbench.errors import DataError, MissingDataError, UsageError
from initbench.protocols import Dataset, group_of, regions_of, splits_of
from initbench.recipes.files import default_name
from initbench.stats.classes import choose
from tests import layouts
from tests.folders import ROOT
from tests.msd_factory import make_msd, write_nifti
from tests.shared_data import shared

SYNAPSE = ("img0005", "img0006", "img0001")
ACDC = ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame12")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path))
    return tmp_path


# --- nnU-Net ----------------------------------------------------------------------------------------------------------


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


def change(folder: Path, **values: Any) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


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
        with pytest.raises(DataError, match=says) as caught:
            open_dataset(str(root / "empty"))
        assert "Decathlon folder" in str(caught.value)
        assert "nnU-Net v2 raw folder" in str(caught.value)


def test_nnunet_v1_is_told_how_to_become_v2(root: Path) -> None:
    folder = make_msd(root / "Task501_Old", cases=1)
    (folder / "imagesTr" / "case_00.nii.gz").rename(folder / "imagesTr" / "case_00_0000.nii.gz")
    with pytest.raises(DataError, match="nnUNetv2_convert_old_nnUNet_dataset"):
        open_dataset(str(folder))


# --- Synapse and BTCV -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "images", "labels", "prefix"),
    [
        ("Synapse", "averaged-training-images", "averaged-training-labels", "label"),
        ("BTCV", "RawData/Training/img", "RawData/Training/label", "label"),
        ("Abdomen", "RawData/Training/img", "RawData/Training/label", "label"),
        ("RawData", "Training/img", "Training/label", "label"),
        ("btcv", "imagesTr", "labelsTr", "label"),
        ("synapse", "imagesTr", "labelsTr", "img"),
    ],
)
def test_synapse_in_every_layout(root: Path, folder: str, images: str, labels: str, prefix: str) -> None:
    layouts.synapse(root / folder, SYNAPSE, images, labels, prefix)
    dataset = open_dataset("synapse")
    assert (dataset.name, dataset.modality, dataset.classes) == ("synapse", "CT", ORGANS)
    assert dataset.case_ids() == tuple(sorted(SYNAPSE))
    assert np.array_equal(dataset.load("img0006").label, layouts.volume(1, 14)[1])
    split = resolve_split(dataset, None)
    assert (split.name, split.train, split.test) == ("transunet-18/12 (3 of 30 cases)", SYNAPSE[:2], SYNAPSE[2:])


def test_synapse_as_an_nnunet_folder(root: Path) -> None:
    organs: dict[str, int | list[int]] = {name.upper(): number for number, name in enumerate(ORGANS)}
    layouts.nnunet(root / "nnUNet_raw" / "Dataset007_Synapse", SYNAPSE, labels=organs)
    assert open_dataset("synapse").classes == ORGANS
    swapped = {**organs, "SPLEEN": 6, "LIVER": 1}
    change(root / "nnUNet_raw" / "Dataset007_Synapse", labels=swapped)
    with pytest.raises(DataError, match="'LIVER' has number 1, and 6"):
        open_dataset("synapse")
    change(root / "nnUNet_raw" / "Dataset007_Synapse", labels={"background": 0, "liver": 1})
    with pytest.raises(DataError, match="13 organs"):
        open_dataset("synapse")


def test_btcv_is_the_same_set_divided_otherwise(root: Path) -> None:
    layouts.synapse(root / "BTCV", ("img0005", "img0035"), "img", "label")
    btcv, synapse = open_dataset("btcv"), open_dataset("synapse")
    assert btcv.digest("img0005") == synapse.digest("img0005")
    assert resolve_split(btcv, None).name == "monai-24/6 (2 of 30 cases)"
    assert resolve_split(btcv, "transunet-18/12").train == ("img0005",)
    assert [split.name for split in splits_of(synapse)][:2] == ["transunet-18/12", "monai-24/6"]
    with pytest.raises(UsageError, match="has no split 'mine'; it has monai-24/6, transunet-18/12"):
        resolve_split(btcv, "mine")


def test_synapse_problems_are_named(root: Path) -> None:
    with pytest.raises(MissingDataError, match=r"Synapse or BTCV.*syn3193805.*averaged-training-images.*phantom-lung"):
        open_dataset("synapse")
    layouts.synapse(root / "Synapse", SYNAPSE, "img", "label")
    (root / "Synapse" / "label" / "label0001.nii.gz").unlink()
    with pytest.raises(DataError, match="img0001 without image or without label"):
        open_dataset("synapse")
    shutil.rmtree(root / "Synapse")
    (root / "Synapse" / "case0001").mkdir(parents=True)
    with pytest.raises(DataError, match="this is not how synapse looks") as caught:
        open_dataset("synapse")
    assert str(root / "Synapse") in str(caught.value)


def test_ids_outside_the_published_split_are_named(root: Path) -> None:
    layouts.synapse(root / "Synapse", (*SYNAPSE, "img0011"), "img", "label")
    with pytest.raises(DataError, match=r"case\(s\) img0011 are not in the published split transunet-18/12"):
        resolve_split(open_dataset("synapse"), None)


def test_the_set_of_eight_organs_is_among_the_classes() -> None:
    assert len(choose(["synapse-8"], ORGANS, "synapse")) == 8


# --- ACDC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [("", ""), ("training", "testing"), ("database/training", "database/testing")])
def test_acdc_in_every_layout(root: Path, below: tuple[str, str]) -> None:
    layouts.acdc(root / "ACDC", ACDC[:2], below[0])
    layouts.acdc(root / "ACDC", (*ACDC[2:], "patient101_frame01"), below[1])
    first = root / "ACDC" / below[0] / "patient001"
    write_nifti(first / "patient001_4d.nii.gz", np.zeros((4, 4, 4, 2), np.float32))
    (first / "Info.cfg").write_text("ED: 1\nES: 12\n", "utf-8")
    dataset = open_dataset("acdc")
    assert (dataset.modality, dataset.case_ids()) == ("MR", ACDC)
    assert dataset.load(ACDC[1]).label.max() == 3
    assert [group_of(dataset, case) for case in ACDC] == ["patient001", "patient001", "patient002", "patient002"]
    split = resolve_split(dataset, None)
    assert (split.name, split.train, split.test) == ("nnformer-70/10/20 (4 of 180 cases)", ACDC[:2], ACDC[2:])
    auto = resolve_split(dataset, "auto")
    assert {group_of(dataset, case) for case in auto.train} & {group_of(dataset, case) for case in auto.test} == set()


def test_acdc_as_an_nnunet_folder(root: Path) -> None:
    folder = root / "Dataset027_ACDC"
    layouts.nnunet(
        folder, (*ACDC, "patient101_frame01"), channels=("cineMRI",), labels={"background": 0, "RV": 1, "MLV": 2, "LVC": 3}
    )
    dataset = open_dataset("acdc")
    assert (dataset.case_ids(), dataset.classes[1]) == (ACDC, "right ventricle")
    change(folder, labels={"background": 0, "LV": 1, "MYO": 2, "RV": 3})
    with pytest.raises(DataError, match="'LV' has number 1, and 3"):
        open_dataset("acdc")


def test_acdc_problems_are_named(root: Path) -> None:
    layouts.acdc(root / "ACDC", ACDC)
    (root / "ACDC" / "patient001" / "patient001_frame12_gt.nii.gz").unlink()
    with pytest.raises(DataError, match=r"label .*patient001_frame12_gt\.nii\.gz.*NAME_gt"):
        open_dataset("acdc")
    layouts.acdc(root / "ACDC", ACDC)
    layouts.acdc(root / "ACDC", ACDC[:1], "training")
    with pytest.raises(DataError, match="patient001_frame01 is there twice"):
        open_dataset("acdc")


# --- others -----------------------------------------------------------------------------------------------------------


def test_chaos_is_read_converted(root: Path) -> None:
    """As it is downloaded: test_chaos.py."""
    organs: dict[str, int | list[int]] = {"background": 0, "liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}
    ids = ("T1_in_1", "T1_out_1", "T2_1", "T2_2", "mine")
    layouts.nnunet(root / "Dataset050_CHAOS", ids, channels=("T2SPIR",), labels=organs)
    dataset = open_dataset("chaos")
    assert (dataset.name, dataset.modality, len(dataset.classes)) == ("chaos", "MR", 5)
    assert resolve_split(dataset, None).name == "auto"
    assert [group_of(dataset, case) for case in ids] == ["MR_1", "MR_1", "MR_1", "MR_2", "mine"]
    for name in ("chaos-t1", "chaos-ct"):
        with pytest.raises(MissingDataError, match=f"{name} was not found"):
            open_dataset(name)
    change(root / "Dataset050_CHAOS", channel_names={})
    with pytest.raises(DataError, match="channel_names is missing or empty"):
        open_dataset("chaos")


def test_brats_has_regions_and_its_split(root: Path) -> None:
    ids = ("BRATS_001", "BRATS_058", "BRATS_011")
    make_msd(root / "Task01_BrainTumour", modality=["FLAIR", "T1w", "t1gd", "T2w"], classes=4, ids=ids)
    dataset = open_dataset("brats")
    assert (dataset.name, dataset.modality, len(dataset.channels)) == ("brats", "MR", 4)
    assert regions_of(dataset) == {"whole tumour": (1, 2, 3), "tumour core": (2, 3), "enhancing tumour": (3,)}
    split = resolve_split(dataset, None)
    assert (split.train, split.test, split.unused) == (ids[:1], ids[1:2], ids[2:])


MODALITIES = ("FLAIR", "T1w", "t1gd", "T2w")
TUMOURS: dict[str, int | list[int]] = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
REGIONS = {"whole tumour": (1, 2, 3), "tumour core": (2, 3), "enhancing tumour": (3,)}


def brats(root: Path, ids: tuple[str, ...] = ("BRATS_001", "BRATS_058")) -> Path:
    return layouts.nnunet(root / "Dataset001_BrainTumour", ids, channels=MODALITIES, labels=TUMOURS)


@pytest.mark.parametrize("below", ["", "nnUNet_raw"])
def test_tasks_that_nnunet_converted_are_found_by_name_and_by_folder(root: Path, below: str) -> None:
    layouts.nnunet(root / below / "Dataset006_Lung", ("lung_001", "lung_004"), labels={"background": 0, "cancer": 1})
    parts: dict[str, int | list[int]] = {"background": 0, "Anterior": 1, "Posterior": 2}
    layouts.nnunet(root / below / "Dataset004_Hippocampus", ("hippocampus_001",), channels=("MRI",), labels=parts)
    folder = brats(root / below)
    for name, dataset_name in (("lung", "Dataset006_Lung"), ("hippocampus", "Dataset004_Hippocampus"), ("brats", folder.name)):
        for said in (name, str(root / below / dataset_name)):
            dataset = open_dataset(said)
            assert (dataset.name, dataset.root.name) == (name, dataset_name)  # type: ignore[attr-defined]
    assert open_dataset("Task06_Lung").name == "lung"
    split = resolve_split(open_dataset("lung"), None)
    assert (split.name, split.train, split.test) == ("unetrpp-50/13 (2 of 63 cases)", ("lung_004",), ("lung_001",))
    dataset = open_dataset("brats")
    assert (dataset.channels, regions_of(dataset)) == (MODALITIES, REGIONS)
    assert np.array_equal(dataset.load("BRATS_058").image, layouts.volume(1, 4, 4)[0])
    make_msd(root / below / "Task06_Lung", cases=1, ids=("lung_001",))
    if not below:
        assert open_dataset("lung").root.name == "Task06_Lung", "the Decathlon's own first"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"channel_names": dict(enumerate(("T1w", "t1gd", "T2w", "FLAIR")))}, "flair, t1w, t1gd, t2w in this order"),
        ({"labels": {"background": 0, "NCR": 1, "edema": 2, "enhancing tumour": 3}}, "'NCR' has number 1, and 2"),
        ({"labels": {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "active": [3]}}, "the regions of Task01_BrainTumour"),
        ({"labels": {"background": 0, "a": 1, "b": 2}}, "has 3 classes, here are 2"),
    ],
)
def test_a_conversion_that_is_not_the_task_is_refused(root: Path, values: dict[str, Any], says: str) -> None:
    folder = brats(root)
    change(folder, **values)
    for said in ("brats", folder.name):
        with pytest.raises(DataError, match=says) as caught:
            open_dataset(said)
        assert str(folder) in str(caught.value)


def test_regions_of_a_conversion_may_have_other_names(root: Path) -> None:
    folder = brats(root)
    change(folder, labels={"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": [3]}, regions_class_order=[1, 2, 3])
    assert regions_of(open_dataset("brats")) == REGIONS


def test_others_of_the_same_name_are_no_task(root: Path) -> None:
    """Neither a mistake nor in the way: ids say that they are something else."""
    layouts.nnunet(root / "Dataset501_Lung", ("mine",), labels={"background": 0, "nodule": 1})
    make_msd(root / "lung_", cases=1)
    (root / "lung").mkdir()
    with pytest.raises(MissingDataError, match=r"Task06_Lung was not found.*nnU-Net's Dataset006_Lung there"):
        open_dataset("lung")
    assert open_dataset("Dataset501_Lung").name == "Dataset501_Lung"


# --- what nnFormer and UNETR++ ask for --------------------------------------------------------------------------------

HEART = ("background", "the right ventricular cavity", "myocardium", "the left ventricular cavity")
LEVELS = ("", "nnFormer_raw_data", "nnFormer_raw/nnFormer_raw_data", "unetr_pp_raw_data", "unetr_pp_raw/unetr_pp_raw_data")


def task_synapse(root: Path) -> Path:
    return layouts.prescribed(root / "Task02_Synapse", SYNAPSE, labels=ORGANS, masks=lambda case: case.replace("img", "label"))


def task_acdc(root: Path) -> Path:
    return layouts.prescribed(
        root / "Task01_ACDC", ACDC[:2], ACDC[2:], channels=("MRI",), labels=HEART, masks=lambda case: f"{case}_gt"
    )


def task_tumor(root: Path) -> Path:
    return layouts.prescribed(
        root / "Task03_tumor", ("BRATS_001", "BRATS_011"), ("BRATS_058",), channels=MODALITIES, labels=tuple(TUMOURS)
    )


TASKS = {"synapse": task_synapse, "acdc": task_acdc, "brats": task_tumor}
SPLITS = {
    "synapse": ("transunet-18/12 (3 of 30 cases)", SYNAPSE[:2], SYNAPSE[2:], ()),
    "acdc": ("nnformer-70/10/20 (4 of 180 cases)", ACDC[:2], ACDC[2:], ()),
    "brats": ("nnformer-387/73/24 (2 of 411 cases)", ("BRATS_001",), ("BRATS_058",), ("BRATS_011",)),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_folder_of_nnformer_is_the_registered_data_set(root: Path, name: str) -> None:
    folder = TASKS[name](root)
    ways = ((name, None), (name, folder), (folder.name, None), (folder.name, folder), (str(folder), None))
    for dataset in (open_dataset(said, data_root) for said, data_root in ways):
        assert isinstance(dataset, FolderDataset)
        assert (dataset.name, dataset.root.name) == (name, folder.name)
        split = resolve_split(dataset, None)
        assert (split.name, split.train, split.test, split.unused) == SPLITS[name]
        for case in dataset.case_ids():
            dataset.load(case)
    assert (regions_of(dataset) == REGIONS) == (name == "brats")
    assert default_name(dataset.name, dataset.modality) == name
    assert examine(dataset).problems == (), "numTraining is no count of all cases"


@pytest.mark.parametrize("level", LEVELS)
def test_their_folders_are_found_from_the_levels_above(root: Path, level: str) -> None:
    for name, make in TASKS.items():
        folder = make(root / level)
        for said in (name, folder.name):
            assert open_dataset(said).root == folder  # type: ignore[attr-defined]
    make_msd(root / level / "Task06_Lung", cases=1, ids=("lung_001",))
    assert open_dataset("lung").root == root / level / "Task06_Lung"  # type: ignore[attr-defined]


def test_the_same_folder_is_btcv_by_name_alone(root: Path) -> None:
    folder = task_synapse(root)
    assert resolve_split(open_dataset("btcv"), "transunet-18/12").train == SYNAPSE[:2]
    assert open_dataset(str(folder)).name == "synapse"


def test_cases_of_imagests_without_labels_are_left_out(root: Path) -> None:
    for mask in (task_acdc(root) / "labelsTs").iterdir():
        mask.unlink()
    assert open_dataset("acdc").case_ids() == ACDC[:2]
    shutil.rmtree(root / "Task01_ACDC" / "imagesTs")
    assert open_dataset("acdc").case_ids() == ACDC[:2]


def test_a_case_of_both_folders_is_that_of_the_table(root: Path) -> None:
    folder = task_acdc(root)
    for kind, name in (("images", ACDC[0]), ("labels", f"{ACDC[0]}_gt")):
        shutil.copy(folder / f"{kind}Tr" / f"{name}.nii.gz", folder / f"{kind}Ts" / f"{name}.nii.gz")
    dataset = open_dataset("acdc")
    assert isinstance(dataset, FolderDataset)
    assert {path.parent.name for path in dataset.files(ACDC[0])} == {"imagesTr", "labelsTr"}


SWAPPED = {"1": "LV", "2": "MYO", "3": "RV"}
EIGHT = ("background", "aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach")


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("synapse", {"labels": dict(enumerate(EIGHT))}, "13 organs, here are 1 and 8"),
        ("synapse", {"labels": dict(enumerate((*ORGANS[:2], ORGANS[3], ORGANS[2], *ORGANS[4:])))}, "'left kidney' has number 2"),
        ("acdc", {"labels": {"0": "background", **SWAPPED}}, "'LV' has number 1, and 3"),
        (
            "acdc",
            {"labels": dict(enumerate((HEART[0], HEART[3], HEART[2], HEART[1])))},
            "left ventricular cavity' has number 1, and 3",
        ),
        ("acdc", {"labels": {"0": "background", "1": "heart"}}, "one channel and 3 classes"),
        ("brats", {"labels": {"0": "background", "1": "NCR", "2": "ED", "3": "ET"}}, "'NCR' has number 1, and 2"),
        ("brats", {"labels": {"0": "background", "1": "tumour"}}, "has 3 classes, here are 1"),
        ("brats", {"modality": dict(enumerate(("T1w", "t1gd", "T2w", "FLAIR")))}, "flair, t1w, t1gd, t2w in this order"),
    ],
)
def test_a_task_folder_that_is_numbered_otherwise_is_refused(root: Path, name: str, values: dict[str, Any], says: str) -> None:
    folder = TASKS[name](root)
    change(folder, **values)
    for said in (name, folder.name, str(folder)):
        with pytest.raises(DataError, match=says) as caught:
            open_dataset(said)
        assert str(folder / "dataset.json") in str(caught.value)
        assert "ename" in str(caught.value) or "another name" in str(caught.value), "a path alone would be refused, too"


def test_a_folder_of_their_name_with_other_ids_is_itself(root: Path) -> None:
    for name in ("Task01_ACDC", "Task02_Synapse", "Task03_tumor"):
        folder = make_msd(root / name, cases=2)
        assert open_dataset(str(folder)).name == open_dataset(name).name == name
    shutil.rmtree(root / "Task03_tumor")
    folder = task_tumor(root)
    for kind in ("images", "labels"):
        (folder / f"{kind}Ts" / "BRATS_058.nii.gz").rename(folder / f"{kind}Ts" / "mine.nii.gz")
    assert open_dataset(str(folder)).name == "Task03_tumor"
    with pytest.raises(MissingDataError, match=r"nnU-Net's Dataset001_BrainTumour and nnFormer's Task03_tumor there"):
        open_dataset("brats")


def test_what_nnunet_v1_makes_of_a_task_is_not_in_the_way(root: Path) -> None:
    folder = task_synapse(root)
    shutil.copytree(folder, root / "Task002_Synapse")
    for image in (root / "Task002_Synapse" / "imagesTr").iterdir():
        image.rename(image.with_name(image.name.replace(".nii", "_0000.nii")))
    assert open_dataset("synapse").root == folder  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="nnUNetv2_convert_old_nnUNet_dataset"):
        open_dataset("Task002_Synapse")


def test_their_names_say_how_to_get_the_data(root: Path) -> None:
    for name, says in (("Task02_Synapse", "syn3193805"), ("Task01_ACDC", "creatis"), ("Task03_tumor", "data download brats")):
        with pytest.raises(MissingDataError, match=says):
            open_dataset(name)


# --- published lists --------------------------------------------------------------------------------------------------

SIZES = {
    "lung": {"unetrpp-50/13": (50, 13, 0)},
    "synapse": {
        "transunet-18/12": (18, 12, 0),
        "monai-24/6": (24, 6, 0),
        "medcontext-18/12": (18, 12, 0),
        "medcontext-5-shot": (5, 12, 13),
        "medcontext-1-shot": (1, 12, 17),
    },
    "acdc": {"nnformer-70/10/20": (140, 40, 20), "unetrpp-80/20": (160, 40, 0), "medcontext-5-frame": (5, 40, 155)},
    "brats": {"nnformer-387/73/24": (387, 24, 73)},
}


@pytest.mark.parametrize("name", SIZES)
def test_published_lists_are_complete_and_disjoint(name: str) -> None:
    splits = published_splits(name)
    assert {split.name: (len(split.train), len(split.test), len(split.unused)) for split in splits} == SIZES[name]
    everybody = {case for side in (splits[0].train, splits[0].test, splits[0].unused) for case in side}
    for split in splits:
        sides = [set(side) for side in (split.train, split.test, split.unused)]
        assert sum(map(len, sides)) == len(split.train) + len(split.test) + len(split.unused) == len(everybody)
        assert set().union(*sides) == everybody
        patients = [{case.partition("_frame")[0] for case in side} for side in sides]
        assert not patients[0] & patients[1]
        assert not patients[1] & patients[2]
    text = (ROOT / "initbench" / "datasets" / "published_splits" / f"{name}.json").read_text("utf-8")
    assert all(re.search(r"@[0-9a-f]{7}|:|dataset_0", table["source"]) for table in json.loads(text)["splits"])


# Of the sorted case ids, one a line, as they stand in the published code: those it trains on and those it reports.
PUBLISHED_LISTS = {
    "transunet-18/12": ("974434cc9479afc5", "66019f9a0459edaf"),
    "medcontext-18/12": ("96e18e8c864ab160", "42d97778631c50c8"),
    "nnformer-70/10/20": ("546234f2a337df00", "b65f3c29132f7658"),
    "unetrpp-80/20": ("f83ee37dfcf3a646", "b65f3c29132f7658"),
    "nnformer-387/73/24": ("bbd8336672e67aee", "51499a9f0aba1376"),
    "unetrpp-50/13": ("520a93e1403af3a6", "73f7d35cc377977c"),
}


def test_the_lists_are_those_of_the_published_code() -> None:
    """An id that somebody changes in a list would make its scores incomparable with the published ones."""

    def digest_of(cases: Sequence[str]) -> str:
        return hashlib.sha256("\n".join(sorted(cases)).encode()).hexdigest()[:16]

    splits = {split.name: split for name in SIZES for split in published_splits(name)}
    assert {name: (digest_of(splits[name].train), digest_of(splits[name].test)) for name in PUBLISHED_LISTS} == PUBLISHED_LISTS


# --- real volumes in these layouts ------------------------------------------------------------------------------------


def test_real_volumes_in_foreign_layouts(root: Path) -> None:
    """Head-and-neck CT as an nnU-Net folder, an abdomen as Synapse, hippocampus as ACDC's files: linked, never copied."""
    head, abdomen, brain = (shared("data", name) for name in ("OpenKBP_HN5", "TotalSegmentator_examples", "Task04_Hippocampus"))
    labels = {name: int(number) for number, name in json.loads((head / "dataset.json").read_text("utf-8"))["labels"].items()}
    link(head / "imagesTr" / "okbp_002.nii.gz", root / "Dataset900_Head" / "imagesTr" / "okbp_002_0000.nii.gz")
    link(head / "labelsTr" / "okbp_002.nii.gz", root / "Dataset900_Head" / "labelsTr" / "okbp_002.nii.gz")
    table = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", "numTraining": 1}
    (root / "Dataset900_Head" / "dataset.json").write_text(json.dumps(table), "utf-8")
    ours, theirs = open_dataset("Dataset900_Head").load("okbp_002"), open_dataset(str(head)).load("okbp_002")
    assert np.array_equal(ours.image, theirs.image)
    assert np.array_equal(ours.label, theirs.label)

    link(abdomen / "imagesTr" / "ts_abdomen.nii.gz", root / "Synapse" / "img" / "img0001.nii.gz")
    link(abdomen / "labelsTr" / "ts_abdomen.nii.gz", root / "Synapse" / "label" / "label0001.nii.gz")
    case = open_dataset("synapse").load("img0001")
    assert set(np.unique(case.label)) == set(range(14)) - {5}  # its oesophagus is absent

    entry = json.loads((brain / "dataset.json").read_text("utf-8"))["training"][0]
    link(brain / entry["image"], root / "ACDC" / "patient001" / "patient001_frame01.nii.gz")
    link(brain / entry["label"], root / "ACDC" / "patient001" / "patient001_frame01_gt.nii.gz")
    assert open_dataset("acdc").load("patient001_frame01").label.max() == 2


def link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(source)
