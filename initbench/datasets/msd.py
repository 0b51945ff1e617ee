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
    folder_name,
    levels,
    nnunet_name,
    one_a_case,
    places,
)
from initbench.datasets.known import DECATHLON, PRESCRIBED, SHORT_NAMES, prescribed
from initbench.datasets.tables import consecutive, numbered, read_json, unread_keys
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
    """What a Decathlon folder holds.

    Raises:
        DataError: dataset.json is missing, broken or empty, or lists files that do not exist.
    """
    path = root / "dataset.json"
    table = _read_table(path)
    channels, classes = _channels(path, table["modality"]), _classes(path, table["labels"])
    listed = read_lists(root, table)
    old = any((root / "imagesTr").glob("*_0000.nii.gz"))
    check_files(root, listed.files, _V1 if old else "")
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
    """Refuses images in several files that are not as many as there are channels; one file may hold them all."""
    for case_id, entry in files.items():
        if len(entry.images) not in (1, channels):
            raise DataError(
                f"{path}: case {case_id} has a list of {len(entry.images)} images, and modality names {channels} channel(s); "
                "correct one"
            )


def recognized(root: Path) -> FolderLayout | None:
    """`read_msd` for folders whose table has the Decathlon's keys; None for others."""
    path = root / "dataset.json"
    table = read_json(path) if is_file(path) else None
    return read_msd(root) if isinstance(table, dict) and {"modality", "training"} <= set(table) else None


def with_reported(root: Path) -> FolderLayout | None:
    """`recognized`, with the labelled cases of imagesTs: nnFormer and UNETR++ keep those there that they report.

    Their labels are in labelsTs, which the Decathlon has not, as NAME or NAME_gt. No table lists them.
    """
    layout = recognized(root)
    return layout and replace(layout, files={**_reported(root), **layout.files})


def _reported(root: Path) -> dict[str, Files]:
    images, labels = (_nifti_files(root / folder) for folder in ("imagesTs", "labelsTs"))
    masks = {case.removesuffix("_gt"): path for case, path in labels.items()}
    return {case: Files((nifti.File(path),), nifti.File(masks[case])) for case, path in images.items() if case in masks}


def _nifti_files(folder: Path) -> dict[str, Path]:
    """Files directly in a folder by their names without ending; none where there is no folder.

    Raises:
        DataError: two files have one name, as a.nii and a.nii.gz.
    """
    found = (path for ending in nifti.ENDINGS for path in sorted(folder.glob(f"[!.]*{ending}")))
    return one_a_case(found, lambda path: nifti.stem(path.name))


def announced(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Channels and classes of a Decathlon's table, whatever files there are; None where it is none, or does not say.

    Raises:
        DataError: they are no tables of names.
    """
    path = root / "dataset.json"
    table = read_json(path) if is_file(path) else None
    if not isinstance(table, dict) or not table.get("modality") or not table.get("labels"):
        return None
    return _channels(path, table["modality"]), _classes(path, table["labels"])


def _read_table(path: Path) -> dict[str, Any]:
    if not is_file(path):
        raise DataError(f"{path.parent}: there is no dataset.json, so this is no Decathlon folder")
    table = read_json(path)
    needed = ("modality", "labels", "training")
    missing = [key for key in needed if not isinstance(table, dict) or not table.get(key)]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} is missing or empty; the Decathlon format needs {', '.join(needed)}")
    return dict(table)


def _channels(path: Path, modality: Any) -> tuple[str, ...]:
    return consecutive(f"{path}: modality", numbered(path, "modality", modality, "CT"))


def _classes(path: Path, labels: Any) -> tuple[str, ...]:
    return check_classes(str(path), numbered(path, "labels", labels, "background"))


def find_folder(folder: str, data_root: Path | None, search: Sequence[Path]) -> Path:
    """The Decathlon folder of a task.

    Args:
        folder: its name, as ``Task06_Lung``.
        data_root: looked at first, where one was given.
        search: data roots that are looked at after it.

    Raises:
        MissingDataError: not found; says where it was looked for, how to get it, and what works without it.
    """
    places = [*([data_root] if data_root else []), *search]
    for place in places:
        for candidate in (*(level / folder for level in levels(place)), place):
            if folder_name(candidate) == folder and is_file(candidate / "dataset.json"):
                return candidate
    looked = ", ".join(str((place / folder).absolute()) for place in places) or "nowhere: no data root was given"
    known = DECATHLON.get(folder)
    source = f"{known.url} ({known.about_size})" if known else "http://medicaldecathlon.com"
    other_names = [f"nnU-Net's Dataset0{folder[4:]}", *(f"nnFormer's {name}" for name in _prescribed_folders(folder))]
    others = f", and for {' and '.join(other_names)} there" if folder in SHORT_NAMES else ""
    command = f"`initbench data download {SHORT_NAMES.get(folder, folder)}` gets it, or download" if known else "Download"
    raise MissingDataError(
        f"{folder} was not found. Looked at: {looked}{others}. {command} {source}, unpack it, and point "
        f"--data-root or INITBENCH_DATA at the folder that holds {folder}. Without any download: --dataset phantom-lung"
    )


def _prescribed_folders(folder: str) -> list[str]:
    """What others ask to call the folder of a task."""
    return [name for name, task in PRESCRIBED.items() if task.dataset == SHORT_NAMES.get(folder)]


# --- registered tasks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """What a registered task looks like in folders of others: all keep ids, channels and labels; nnU-Net splits channels.

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
    """A registered task that nnU-Net converted, or in the folder that nnFormer and UNETR++ ask for.

    None where the folder is none, by its name and the ids of its cases.

    Raises:
        DataError: it is one by both, and has other channels or classes than the task.
    """
    plain, theirs = nnunet_name(folder_name(root)), prescribed(folder_name(root))
    task = next((t for t in _TASKS if plain == t.converted.lower() or (theirs and theirs.dataset == t.name)), None)
    read_as = with_reported if theirs else nnunet.recognized
    layout = read_as(root) if task else None
    if task is None or layout is None or not all(re.fullmatch(task.ids, case) for case in layout.files):
        return None
    _check_fits(root / "dataset.json", task, layout)
    return FolderDataset(root, task.name, replace(layout, regions=task.regions))


def _check_fits(table: Path, task: _Task, layout: FolderLayout) -> None:
    wanted, found = task.channels or layout.channels[:1], tuple(name.lower() for name in layout.channels)
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
    """A task by the name of its folder: the Decathlon's own, else of a registered one what others made of it.

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
        names = [*(task.converted for task in _TASKS if task.folder == folder), *_prescribed_folders(folder)]
        for place in places(names, data_root, search):
            found = converted(place)
            if found is not None:
                return found
        raise


def lung(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """MSD Task06_Lung."""
    return open_task("Task06_Lung", data_root, search)


def hippocampus(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """MSD Task04_Hippocampus."""
    return open_task("Task04_Hippocampus", data_root, search)


def brats(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """MSD Task01_BrainTumour; its tables report the regions whole tumour, tumour core and enhancing tumour."""
    return open_task("Task01_BrainTumour", data_root, search)
