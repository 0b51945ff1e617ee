"""What tables of data sets say: done where it is known, named where it is not. Nothing in them is dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from initbench.datasets.inspect.examine import examine
from initbench.datasets.inspect.fingerprint import fingerprint
from initbench.datasets.msd import MsdDataset
from initbench.datasets.open import open_dataset
from initbench.datasets.splits import resolve_split
from initbench.errors import DataError
from initbench.protocols import Dataset, remarks_of, splits_of, stated_of
from tests import layouts
from tests.msd_factory import make_msd, write_nifti

IDS = tuple("abcdef")


def edited(root: Path, edit: Callable[[dict[str, Any]], None], cases: int = 6, **options: Any) -> Dataset:
    """A Decathlon folder after a change of its table."""
    folder = make_msd(root / "Task90_Listed", cases, ids=IDS[:cases], **options)
    path = folder / "dataset.json"
    table = json.loads(path.read_text("utf-8"))
    edit(table)
    path.write_text(json.dumps(table), "utf-8")
    return open_dataset(str(folder))


def moved(**lists: slice) -> Callable[[dict[str, Any]], None]:
    """Entries of training in other lists."""

    def edit(table: dict[str, Any]) -> None:
        entries = table["training"]
        taken = []
        for name, which in lists.items():
            table[name] = entries[which]
            taken += entries[which]
        table["training"] = [entry for entry in entries if entry not in taken]
        table["numTraining"] = len(table["training"])

    return edit


# --- MONAI's lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "sides"),
    [
        ({"validation": slice(4, 6)}, ("abcd", "ef", "")),
        ({"test": slice(4, 6)}, ("abcd", "ef", "")),
        ({"testing": slice(5, 6)}, ("abcde", "f", "")),
        ({"validation": slice(3, 4), "test": slice(4, 6)}, ("abc", "ef", "d")),
        ({"validation": slice(3, 4), "testing": slice(4, 6)}, ("abc", "ef", "d")),
    ],
)
def test_labelled_cases_of_other_lists_are_a_split(tmp_path: Path, lists: dict[str, slice], sides: tuple[str, ...]) -> None:
    dataset = edited(tmp_path, moved(**lists))
    assert dataset.case_ids() == IDS
    (split,) = splits_of(dataset)
    train, test, unused = (tuple(side) for side in sides)
    assert (split.name, split.train, split.test, split.unused) == ("datalist", train, test, unused)
    assert resolve_split(dataset, None) == split, "whoever keeps cases apart means them to be reported"
    assert resolve_split(dataset, "auto").name == "auto"
    assert fingerprint(dataset).splits["datalist"] == (len(train), len(test), len(unused))
    assert not examine(dataset).problems


def test_entries_without_labels_are_named(tmp_path: Path) -> None:
    def edit(table: dict[str, Any]) -> None:
        moved(validation=slice(3, 6))(table)
        del table["validation"][0]["label"]
        table["validation"][1] = table["validation"][1]["image"]
        table["test"] = ["./imagesTs/x.nii.gz", {"image": "./imagesTs/y.nii.gz"}]  # as the Decathlon and MONAI have them

    dataset = edited(tmp_path, edit)
    assert dataset.case_ids() == ("a", "b", "c", "f")
    assert remarks_of(dataset) == ("dataset.json: 2 of 3 entries of validation have no label; they are not used",)


def test_a_case_of_two_lists_is_refused(tmp_path: Path) -> None:
    def edit(table: dict[str, Any]) -> None:
        table["validation"] = table["training"][:1]

    with pytest.raises(DataError, match="validation lists case a that is in training, too"):
        edited(tmp_path, edit)


def test_images_of_one_name_are_named(tmp_path: Path) -> None:
    """As in a folder a case."""

    def edit(table: dict[str, Any]) -> None:
        for entry, case in zip(table["training"], "pq", strict=True):
            entry["image"] = f"{case}/image.nii.gz"

    with pytest.raises(DataError, match=r"lists case image twice \(\S*p/image.nii.gz and \S*q/image.nii.gz\).*a name of its own"):
        edited(tmp_path, edit, 2)


@pytest.mark.parametrize("key", ["licence", "license"])
def test_both_spellings_of_licence_are_read(tmp_path: Path, key: str) -> None:
    def edit(table: dict[str, Any]) -> None:
        del table["licence"]
        table[key] = "CC0"

    assert edited(tmp_path, edit).licence == "CC0"


def test_folds_of_a_list_are_splits_by_name(tmp_path: Path) -> None:
    def edit(table: dict[str, Any]) -> None:
        moved(validation=slice(5, 6))(table)
        for number, entry in enumerate(table["training"]):
            entry["fold"] = number % 2

    dataset = edited(tmp_path, edit)
    found = {split.name: (split.train, split.test, split.unused) for split in stated_of(dataset)}
    assert found == {
        "datalist-fold-0": (("b", "d"), ("a", "c", "e"), ("f",)),
        "datalist-fold-1": (("a", "c", "e"), ("b", "d"), ("f",)),
    }
    assert resolve_split(dataset, "datalist-fold-1").test == ("b", "d")
    assert remarks_of(dataset) == ()


@pytest.mark.parametrize("folds", [[0, 1, None], [0, "1", 1], [0, True, 1], [0, -1, 1], [0, 1.5, 1]])
def test_folds_that_are_none_are_named(tmp_path: Path, folds: list[Any]) -> None:
    def edit(table: dict[str, Any]) -> None:
        for entry, fold in zip(table["training"], folds, strict=True):
            if fold is not None:
                entry["fold"] = fold

    dataset = edited(tmp_path, edit, 3)
    assert stated_of(dataset) == ()
    assert "fold is not a number from 0 in every entry" in remarks_of(dataset)[0]


@pytest.mark.parametrize("trailing", [0, 1, 2])
@pytest.mark.parametrize(
    ("names", "case"),
    [
        (("p01_flair", "p01_t1"), "p01"),
        (("p-01.t1", "p-01.t2"), "p-01"),
        (("p01_0000", "p01_0001"), "p01"),
        (("p01/flair", "p01/t1"), "p01"),
        (("p01", "p01"), "p01"),
    ],
)
def test_a_list_of_images_is_one_channel_each(tmp_path: Path, names: tuple[str, str], case: str, trailing: int) -> None:
    image, label, affine = layouts.volume(0, 2, 2)

    def edit(table: dict[str, Any]) -> None:
        table["modality"] = {"0": "FLAIR", "1": "T1"}
        table["training"] = [{"image": [f"x/{name}.nii.gz" for name in names], "label": "x/label.nii.gz"}]

    ones = (1,) * trailing
    for channel, name in enumerate(names):
        write_nifti(tmp_path / "Task90_Listed" / "x" / f"{name}.nii.gz", image[channel].reshape(*label.shape, *ones), affine)
    write_nifti(tmp_path / "Task90_Listed" / "x" / "label.nii.gz", label.reshape(*label.shape, *ones), affine)
    dataset = edited(tmp_path, edit, 1)
    assert dataset.case_ids() == (case,)
    found = dataset.load(case)
    for channel, name in enumerate(names):
        assert np.array_equal(found.image[channel], image[1 if names[0] == names[1] else channel]), name
    assert np.array_equal(found.label, label)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"image": ["imagesTr/a.nii.gz"] * 3}, "a list of 3 images, and modality names 2 channel"),
        ({"image": [["imagesTr/a.nii.gz"]]}, "a list of paths, one a channel"),
        ({"image": {"flair": "imagesTr/a.nii.gz"}}, "a list of paths, one a channel"),
        ({"image": 7}, "a list of paths, one a channel"),
        ({"image": []}, "needs image and label"),
        ({"label": ["labelsTr/a.nii.gz", "labelsTr/b.nii.gz"]}, "its label by a path"),
        ({"label": ""}, "needs image and label"),
    ],
)
def test_entries_that_are_none_are_refused(tmp_path: Path, entry: dict[str, Any], says: str) -> None:
    def edit(table: dict[str, Any]) -> None:
        table["training"][0] |= entry

    with pytest.raises(DataError, match=says):
        edited(tmp_path, edit, 2, modality=("FLAIR", "T1"))


# --- keys and names ---------------------------------------------------------------------------------------------------


def test_keys_that_nobody_reads_are_named_once(tmp_path: Path) -> None:
    def edit(table: dict[str, Any]) -> None:
        table |= {"weights": [1, 2], "spacing": "unknown", "tensorImageSize": "3D", "relase": "1.0", "reference": "x"}
        for entry in table["training"]:
            entry["mask"] = "masks/x.nii.gz"

    dataset = edited(tmp_path, edit)
    said = ("dataset.json: keys that are not read here: spacing, weights", "dataset.json: entries of its lists have keys")
    for notes in (remarks_of(dataset), examine(dataset).notes, fingerprint(dataset).notes):
        assert len(notes) == 2
        assert notes[0] == said[0]
        assert notes[1].startswith(said[1])
        assert notes[1].endswith("not read here: mask")


def test_nnunet_keys_that_nobody_reads_are_named(tmp_path: Path) -> None:
    folder = layouts.nnunet(tmp_path / "Dataset501_X", ("a", "b"), overwrite_image_reader_writer="SimpleITKIO", strange=1)
    for name in ("b_0001", "c_0000"):
        write_nifti(folder / "imagesTr" / f"{name}.nii.gz", *layouts.volume(0, 2)[1:])
    remarks = remarks_of(open_dataset(str(folder)))
    assert remarks == (
        "dataset.json: keys that are not read here: strange",
        "imagesTr holds 2 image(s) of no labelled case or channel: b_0001.nii.gz, c_0000.nii.gz; they are not used",
    )


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"0": "lesion", "1": "background"}, "the background is 0"),
        ({"0": "lesion", "1": " Background "}, "the background is 0"),
        ({"0": "background", "1": {"name": "organ"}}, "a name must be text"),
        ({"0": "background", "1": ["organ"]}, "a name must be text"),
        ({"0": "background", "1": None}, "a name must be text"),
        ({"0": "background", "1": " "}, "a name must be text"),
        ({"0": "background", "1": True}, "a name must be text"),
        ({"0": "background", "1": "organ", "01": "tumour"}, "number 1 is there twice"),
        ({"0": "background", "2": "organ"}, "without gaps"),
        ({"background": 0, "organ": 1}, "'background' is no number"),
        (["background", "organ"], "must map numbers to names"),
    ],
)
def test_labels_of_the_decathlon_that_mean_something_else_are_refused(tmp_path: Path, labels: Any, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        edited(tmp_path, lambda table: table.update(labels=labels), 2)
    assert "dataset.json" in str(caught.value)


@pytest.mark.parametrize("modality", [{"0": {"name": "CT"}}, {"0": "CT", "2": "PET"}, {"1": "CT"}, ["CT"], {"first": "CT"}])
def test_channels_that_mean_something_else_are_refused(tmp_path: Path, modality: Any) -> None:
    with pytest.raises(DataError, match="modality"):
        edited(tmp_path, lambda table: table.update(modality=modality), 2)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"labels": {"lesion": 0, "background": 1}}, "the background is 0"),
        ({"labels": {"background": 2, "organ": 0, "tumour": 1}}, "the background is 0"),
        ({"labels": {"background": "0", "organ": "1"}}, "must be a number"),
        ({"labels": {"background": 0, "organ": {"value": 1}}}, "must be a number"),
        ({"labels": {"background": 0, "organ": 2}}, "without gaps"),
        ({"labels": {"background": 0, "organ": 1, "tumour": 1}}, "two names have the same number"),
        ({"labels": {"background": 0, "one": [1, 2], "other": [2, 1]}}, "regions of the same numbers"),
        ({"labels": {"background": 0, "all": [0, 1, 2]}}, "part of no region"),
        ({"labels": {"background": 0, "all": [1, 2], "core": 2}, "regions_class_order": [1]}, "regions_class_order"),
        ({"labels": {"background": 0, "all": [1, 2], "core": 2}, "regions_class_order": [1, 7]}, "regions_class_order"),
        ({"labels": {"background": 0, "all": [1, 2], "core": 2}, "regions_class_order": "12"}, "regions_class_order"),
        ({"channel_names": {"0": {"name": "CT"}}}, "a name must be text"),
        ({"channel_names": {"0": "CT", "00": "PET"}}, "number 0 is there twice"),
        ({"file_ending": ".mha"}, "no library"),
    ],
)
def test_nnunet_tables_that_mean_something_else_are_refused(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    folder = layouts.nnunet(tmp_path / "Dataset501_X", ("a", "b"))
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")
    with pytest.raises(DataError, match=says):
        open_dataset(str(folder))


def test_what_nnunet_says_of_regions_is_known(tmp_path: Path) -> None:
    labels: dict[str, int | list[int]] = {"background": 0, "all": [1, 2], "core": 2}
    regions = layouts.nnunet(tmp_path / "Dataset501_R", ("a",), labels=labels, regions_class_order=[1, 2])
    plain = layouts.nnunet(tmp_path / "Dataset502_L", ("a",), regions_class_order=[1, 2])
    assert remarks_of(open_dataset(str(regions))) == ()
    (said,) = remarks_of(open_dataset(str(plain)))
    assert "no label is a region" in said


@pytest.mark.parametrize(
    ("name", "doubtful"), [("lesion", True), ("background", False), ("Background/air", False), ("bg", False)]
)
def test_a_label_0_with_the_name_of_something_is_remarked(tmp_path: Path, name: str, doubtful: bool) -> None:
    decathlon = edited(tmp_path, lambda table: table["labels"].update({"0": name}), 2)
    nnunet = open_dataset(str(layouts.nnunet(tmp_path / "Dataset501_X", ("a",), labels={name: 0, "organ": 1})))
    for dataset in (decathlon, nnunet):
        assert [f"label 0 is called {name!r}" in remark for remark in remarks_of(dataset)] == [True] * doubtful


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = make_msd(tmp_path / "Task90_Twice", 2)
    path = folder / "dataset.json"
    path.write_text(path.read_text("utf-8").replace('"0": "background"', '"0": "background", "0": "organ"'), "utf-8")
    with pytest.raises(DataError, match="the key '0' is there twice"):
        MsdDataset(folder)


# --- axes of length 1 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("of_image", [0, 1, 2])
@pytest.mark.parametrize("of_label", [0, 1, 2])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_axes_of_length_1_are_dropped_everywhere(
    tmp_path: Path, channels: int, of_image: int, of_label: int, ending: str
) -> None:
    names = tuple(f"T{number}" for number in range(channels))
    folder = layouts.nnunet(tmp_path / "Dataset501_X", ("a",), channels=names, labels={"background": 0, "x": 1}, ending=ending)
    image, label, affine = layouts.volume(0, 2, channels)
    for channel in range(channels):
        voxels = image[channel].reshape(*label.shape, *(1,) * of_image)
        write_nifti(folder / "imagesTr" / f"a_000{channel}{ending}", voxels, affine)
    write_nifti(folder / "labelsTr" / f"a{ending}", label.reshape(*label.shape, *(1,) * of_label), affine)
    case = open_dataset(str(folder)).load("a")
    assert np.array_equal(case.image, image)
    assert np.array_equal(case.label, label)


@pytest.mark.parametrize("kind", ["imagesTr/a_0000", "imagesTr/a_0001", "labelsTr/a"])
def test_a_fourth_axis_of_two_is_refused(tmp_path: Path, kind: str) -> None:
    folder = layouts.nnunet(tmp_path / "Dataset501_X", ("a",), channels=("T1", "T2"), labels={"background": 0, "x": 1})
    _, label, affine = layouts.volume(0, 2, 2)
    write_nifti(folder / f"{kind}.nii.gz", np.stack([label, label], axis=-1), affine)
    with pytest.raises(DataError, match=r"case a: .* shapes? "):
        open_dataset(str(folder)).load("a")
