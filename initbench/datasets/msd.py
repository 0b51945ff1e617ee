"""Reader of the Medical Segmentation Decathlon layout: dataset.json, imagesTr/, labelsTr/.

Source of the format: Antonelli et al., Nature Communications 13, 4128 (2022); http://medicaldecathlon.com.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from initbench.datasets import nnunet
from initbench.datasets.datalist import read_lists
from initbench.datasets.files import nifti
from initbench.datasets.folder import (
    Files,
    FolderDataset,
    FolderLayout,
    check_classes,
    check_files,
    check_order,
    data_roots,
    folder_name,
    levels,
    nnunet_name,
    one_a_case,
    places,
)
from initbench.datasets.known import DECATHLON, PRESCRIBED, SHORT_NAMES, prescribed
from initbench.datasets.tables import consecutive, numbered, read_description, read_json, unread_keys, with_keys
from initbench.errors import DataError, MissingDataError
from initbench.paths import is_file

# Tables report these nested regions (Menze et al., IEEE TMI 34, 2015), numbered as the Decathlon's labels are: 1 oedema,
# 2 non-enhancing, 3 enhancing tumour.
BRATS_REGIONS = {"whole tumour": (1, 2, 3), "tumour core": (2, 3), "enhancing tumour": (3,)}
# What tables of the Decathlon and of MONAI's tutorials say; "relase" is the Decathlon's own spelling in some of them.
# fmt: off
_KEYS = frozenset((
    "name", "description", "reference", "licence", "license", "release", "relase", "tensorImageSize", "modality", "labels",
    "numTraining", "numValidation", "numTest", "training", "validation", "test", "testing",
    "copies_meant",
))
# fmt: on
_V1 = "This looks like nnU-Net v1: convert it (nnUNetv2_convert_old_nnUNet_dataset), and its folder is read as it is"


class MsdDataset(FolderDataset):
    """A Decathlon folder.

    Args:
        root: folder with dataset.json.
        name: name in tables; by default the registered one of the folder, or the folder's own.

    Raises:
        DataError: dataset.json is missing, broken or empty, or lists files that do not exist.
    """

    def __init__(self, root: Path, name: str | None = None) -> None:
        layout = read_msd(root)
        folder = folder_name(root)
        name = name or SHORT_NAMES.get(folder, folder)
        if name == "brats" and len(layout.classes) == 4:
            layout = replace(layout, regions=BRATS_REGIONS)
        super().__init__(root, name, layout)


def read_msd(root: Path) -> FolderLayout:
    """Reads the layout of a Decathlon folder.

    Raises:
        DataError: dataset.json is missing, broken or empty, or lists files that do not exist.
    """
    path = root / "dataset.json"
    table = _read_table(path)
    channels, classes = _channels(path, table["modality"]), _classes(path, table["labels"])
    listed = read_lists(root, table)
    hint = ""
    if any((root / "imagesTr").glob("*_0000.nii.gz")):
        hint = _V1
    check_files(root, listed.files, hint)
    _check_channels(path, listed.files, len(channels))
    return FolderLayout(
        channels=channels,
        classes=classes,
        licence=str(table.get("licence") or table.get("license") or "not stated"),
        files=listed.files,
        own_splits=listed.own,
        offered_splits=listed.folds,
        remarks=(*unread_keys(path, table, _KEYS), *listed.remarks),
        copies_meant=table.get("copies_meant") is True,
    )


def _check_channels(path: Path, files: Mapping[str, Files], channels: int) -> None:
    """Refuses a case whose image has several files, but not one for each channel; one file may hold all channels."""
    for case_id, entry in files.items():
        if len(entry.images) not in (1, channels):
            raise DataError(
                f"{path}: case {case_id} has a list of {len(entry.images)} images, and modality names {channels} channel(s); "
                "correct one"
            )


def recognized(root: Path) -> FolderLayout | None:
    """Reads the layout of a folder whose table has the Decathlon's keys; None for others."""
    table = read_description(root)
    if table is None or not {"modality", "training"} <= set(table):
        return None
    return read_msd(root)


def with_reported(root: Path) -> FolderLayout | None:
    """Reads the layout as `recognized` does, with the labelled cases of imagesTs, where nnFormer and UNETR++ keep reported cases.

    Their labels are in labelsTs, a folder that the Decathlon does not have, as NAME or NAME_gt. No table lists them.
    """
    layout = recognized(root)
    if layout is None:
        return None
    return replace(layout, files={**_reported(root), **layout.files})


def _reported(root: Path) -> dict[str, Files]:
    images = _nifti_files(root / "imagesTs")
    labels = _nifti_files(root / "labelsTs")
    found = {}
    for name, label in labels.items():
        case = name.removesuffix("_gt")
        if case in images:
            found[case] = Files((nifti.File(images[case]),), nifti.File(label))
    return found


def _nifti_files(folder: Path) -> dict[str, Path]:
    """Returns the files directly in a folder by their names without ending; none where there is no folder.

    Raises:
        DataError: two files have one name, as a.nii and a.nii.gz.
    """
    return one_a_case(nifti.named(folder, "[!.]*"), lambda path: nifti.stem(path.name))


def announced(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Returns channels and classes of a Decathlon's table, whatever files there are; None where it does not state both.

    Raises:
        DataError: they are no tables of names.
    """
    path = root / "dataset.json"
    table = read_description(root)
    if table is None or not table.get("modality") or not table.get("labels"):
        return None
    return _channels(path, table["modality"]), _classes(path, table["labels"])


def _read_table(path: Path) -> dict[str, Any]:
    if not is_file(path):
        raise DataError(f"{path.parent}: there is no dataset.json, so this is no Decathlon folder")
    return with_keys(path, read_json(path), ("modality", "labels", "training"), "the Decathlon format")


def _channels(path: Path, modality: Any) -> tuple[str, ...]:
    return consecutive(f"{path}: modality", numbered(path, "modality", modality, "CT"))


def _classes(path: Path, labels: Any) -> tuple[str, ...]:
    return check_classes(str(path), numbered(path, "labels", labels, "background"))


def find_folder(folder: str, data_root: Path | None, search: Sequence[Path]) -> Path:
    """Finds the Decathlon folder of a task.

    Args:
        folder: its name, as ``Task06_Lung``.
        data_root: looked at first, where one was given.
        search: data roots that are looked at after it.

    Raises:
        MissingDataError: not found; says where it was looked for, how to get it, and what works without it.
    """
    roots = data_roots(data_root, search)
    for place in roots:
        for candidate in (*(level / folder for level in levels(place)), place):
            if folder_name(candidate) == folder and is_file(candidate / "dataset.json"):
                return candidate
    looked = ", ".join(str((place / folder).absolute()) for place in roots) or "nowhere: no data root was given"
    if folder in SHORT_NAMES:
        others = [f"nnU-Net's Dataset0{folder[4:]}"]
        others += [f"nnFormer's {name}" for name in _prescribed_folders(folder)]
        looked += f", and for {' and '.join(others)} there"
    known = DECATHLON.get(folder)
    how = "Download http://medicaldecathlon.com"
    if known:
        how = f"`initbench data download {SHORT_NAMES.get(folder, folder)}` gets it, or download {known.url} ({known.about_size})"
    raise MissingDataError(
        f"{folder} was not found. Looked at: {looked}. {how}, unpack it, and point "
        f"--data-root or INITBENCH_DATA at the folder that holds {folder}. Without any download: --dataset phantom-lung"
    )


def _prescribed_folders(folder: str) -> list[str]:
    """Returns the names that nnFormer and UNETR++ give the folder of a task."""
    return [name for name, task in PRESCRIBED.items() if task.dataset == SHORT_NAMES.get(folder)]


# --- registered tasks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """A registered task as folders of others hold it: with its ids, channels and labels; nnU-Net has a file for each channel.

    Attributes:
        ids: pattern of its case ids.
        channels: names, lower case; empty for one channel, whatever it is called.
        numbers: labels by the names that tables give them; other names are not looked at.
    """

    folder: str
    ids: str
    classes: int
    channels: tuple[str, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return SHORT_NAMES[self.folder]

    @property
    def converted(self) -> str:
        """The folder's name without nnU-Net's number: ``Lung`` of ``Dataset006_Lung``."""
        return self.folder.partition("_")[2]


_TASKS = (
    _Task("Task06_Lung", r"lung_\d{3}", 2, channels=("ct",)),
    _Task(
        "Task04_Hippocampus",
        r"hippocampus_\d{3}",
        3,
        numbers={"anterior": 1, "anterior hippocampus": 1, "posterior": 2, "posterior hippocampus": 2},
    ),
    _Task(
        "Task01_BrainTumour",
        r"BRATS_\d{3}",
        4,
        channels=("flair", "t1w", "t1gd", "t2w"),
        numbers={
            "edema": 1,
            "oedema": 1,
            "non enhancing tumor": 2,
            "non enhancing tumour": 2,
            "enhancing tumor": 3,
            "enhancing tumour": 3,
            "ed": 1,
            "ncr": 2,
            "net": 2,
            "et": 3,
        },
        regions=BRATS_REGIONS,
    ),
)


def converted(root: Path) -> FolderDataset | None:
    """Opens a registered task that nnU-Net converted, or that lies in the folder that nnFormer and UNETR++ ask for.

    None where the folder holds none, by its name and the ids of its cases.

    Raises:
        DataError: it holds a task by both, and has other channels or classes than the task.
    """
    task = _task_of(folder_name(root))
    if task is None:
        return None
    read_as = with_reported
    if prescribed(folder_name(root)) is None:
        read_as = nnunet.recognized
    layout = read_as(root)
    if layout is None or not all(re.fullmatch(task.ids, case) for case in layout.files):
        return None
    _check_fits(root / "dataset.json", task, layout)
    return FolderDataset(root, task.name, replace(layout, regions=task.regions))


def _task_of(folder: str) -> _Task | None:
    """Returns the registered task that nnU-Net, nnFormer or UNETR++ keep in a folder of this name."""
    theirs = prescribed(folder)
    for task in _TASKS:
        if nnunet_name(folder) == task.converted.lower():
            return task
        if theirs is not None and theirs.dataset == task.name:
            return task
    return None


def _check_fits(table: Path, task: _Task, layout: FolderLayout) -> None:
    wanted = task.channels or layout.channels[:1]
    found = tuple(name.lower() for name in layout.channels)
    if len(found) != len(wanted) or (task.channels and found != task.channels):
        raise DataError(
            f"{table}: the channels of {task.folder} are {', '.join(wanted)} in this order, here are "
            f"{', '.join(layout.channels)}. Convert the task again (nnU-Net: nnUNetv2_convert_MSD_dataset), or rename the folder"
        )
    if len(layout.classes) != task.classes:
        raise DataError(
            f"{table}: {task.folder} has {task.classes - 1} classes, here are {len(layout.classes) - 1}. Give the folder "
            "another name"
        )
    check_order(table, layout.classes, task.numbers)
    if layout.regions and set(layout.regions.values()) != set(task.regions.values()):
        raise DataError(
            f"{table}: the regions of {task.folder} are {dict(task.regions)}, here are {dict(layout.regions)}. Labels may be "
            "numbered otherwise; give the folder another name"
        )


def open_task(folder: str, data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens a task by the name of its folder: the Decathlon's own, else, of a registered task, what others made of it.

    Args:
        folder: the Decathlon's name, as ``Task06_Lung``.
        data_root: looked at first, where one was given.
        search: data roots that are looked at after it.

    Raises:
        MissingDataError: neither is there. DataError: there is one that is damaged, or is not the task.
    """
    try:
        return MsdDataset(find_folder(folder, data_root, search))
    except MissingDataError:
        names = _prescribed_folders(folder)
        for task in _TASKS:
            if task.folder == folder:
                names.insert(0, task.converted)
        for place in places(names, data_root, search):
            found = converted(place)
            if found is not None:
                return found
        raise


def lung(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens MSD Task06_Lung."""
    return open_task("Task06_Lung", data_root, search)


def hippocampus(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens MSD Task04_Hippocampus."""
    return open_task("Task04_Hippocampus", data_root, search)


def brats(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens MSD Task01_BrainTumour; its tables report the regions whole tumour, tumour core and enhancing tumour."""
    return open_task("Task01_BrainTumour", data_root, search)
