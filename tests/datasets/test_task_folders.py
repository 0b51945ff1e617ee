"""Task folders as nnFormer and UNETR++ ask for them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from initbench.datasets.folder import FolderDataset
from initbench.datasets.inspect.examine import examine
from initbench.datasets.open import open_dataset
from initbench.datasets.splits import resolve_split
from initbench.datasets.synapse import ORGANS
from initbench.errors import DataError, MissingDataError
from initbench.protocols import regions_of
from initbench.recipes.files import default_name
from tests import layouts
from tests.datasets.readable import ACDC, MODALITIES, REGIONS, SYNAPSE, TUMOURS, change
from tests.msd_factory import make_msd

# No test finds data sets of the machine.
pytestmark = pytest.mark.usefixtures("root")

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
