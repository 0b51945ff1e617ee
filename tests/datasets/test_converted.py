"""Data sets that nnU-Net converted: CHAOS, BraTS, and tasks that are found by name and by folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from initbench.datasets.open import open_dataset
from initbench.datasets.splits import resolve_split
from initbench.errors import DataError, MissingDataError
from initbench.protocols import group_of, regions_of
from tests import layouts
from tests.datasets.readable import MODALITIES, REGIONS, brats, change
from tests.msd_factory import make_msd

# No test finds data sets of the machine.
pytestmark = pytest.mark.usefixtures("root")


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
