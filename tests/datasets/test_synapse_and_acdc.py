"""Synapse, BTCV and ACDC in every layout, and real volumes that are linked into foreign layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from initbench.datasets.open import open_dataset
from initbench.datasets.splits import resolve_split
from initbench.datasets.synapse import EIGHT, ORGANS
from initbench.errors import DataError, MissingDataError, UsageError
from initbench.protocols import group_of, splits_of
from initbench.stats.classes import choose
from tests import layouts
from tests.datasets.readable import ACDC, SYNAPSE, change
from tests.msd_factory import write_nifti
from tests.shared_data import shared

# No test finds data sets of the machine.
pytestmark = pytest.mark.usefixtures("root")

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


def test_eight_organs_of_synapse_have_numbers_of_their_own(root: Path) -> None:
    layouts.synapse(root / "Synapse", ("img0001", "img0005"), "img", "label")
    synapse, eight = open_dataset("synapse"), open_dataset("synapse-8")
    assert eight.classes == ("background", *EIGHT)
    assert resolve_split(eight, None).name == "transunet-18/12 (2 of 30 cases)"
    assert eight.digest("img0001") != synapse.digest("img0001")
    whole, some = synapse.load("img0001").label, eight.load("img0001").label
    left_out = 0
    for number, organ in enumerate(ORGANS):
        expected = eight.classes.index(organ) if organ in eight.classes else 0
        assert (some[whole == number] == expected).all(), organ
        left_out += int((whole == number).any() and organ not in eight.classes)
    assert left_out, "an organ of the others is there"


def test_synapse_problems_are_named(root: Path) -> None:
    with pytest.raises(MissingDataError, match=r"Synapse or BTCV.*syn3193805.*averaged-training-images.*phantom-lung"):
        open_dataset("synapse")
    layouts.synapse(root / "Synapse", SYNAPSE, "img", "label")
    for folder, name in (("img", "img0001"), ("label", "label0001")):
        second = root / "Synapse" / folder / f"{name}.nii"  # unpacked beside its archive: which of them is meant?
        second.write_bytes(b"x")
        with pytest.raises(DataError, match=rf"case img0001 is there twice \(.*{name}\.nii"):
            open_dataset("synapse")
        second.unlink()
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
