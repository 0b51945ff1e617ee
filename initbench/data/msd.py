"""Reader of the Medical Segmentation Decathlon layout: dataset.json, imagesTr/, labelsTr/.

Source of the format: Antonelli et al., Nature Communications 13, 4128 (2022); http://medicaldecathlon.com.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from initbench.data import nifti
from initbench.data.folder import Files, FolderDataset, Layout, check_classes, check_files, folder_name, inside, read_json
from initbench.data.known import DECATHLON, SHORT_NAMES
from initbench.errors import DataError, MissingDataError
from initbench.paths import is_file

# Tables report these nested regions (Menze et al., IEEE TMI 34, 2015), numbered as the Decathlon's labels are: 1 oedema,
# 2 non-enhancing, 3 enhancing tumour.
BRATS_REGIONS = {"whole tumour": (1, 2, 3), "tumour core": (2, 3), "enhancing tumour": (3,)}
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
        layout = read(root)
        folder = folder_name(root)
        name = name or SHORT_NAMES.get(folder, folder)
        if name == "brats" and len(layout.classes) == 4:
            layout = replace(layout, regions=BRATS_REGIONS)
        super().__init__(root, name, layout)


def read(root: Path) -> Layout:
    """What a Decathlon folder holds.

    Raises:
        DataError: dataset.json is missing, broken or empty, or lists files that do not exist.
    """
    path = root / "dataset.json"
    table = _read_table(path)
    channels, classes = _channels(path, table["modality"]), _classes(path, table["labels"])
    return Layout(channels, classes, str(table.get("licence", "not stated")), _pairs(root, table["training"]))


def recognized(root: Path) -> Layout | None:
    """`read`, for folders whose table has the Decathlon's keys."""
    path = root / "dataset.json"
    table = read_json(path) if is_file(path) else None
    return read(root) if isinstance(table, dict) and {"modality", "training"} <= set(table) else None


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
    try:
        numbers = {int(number): str(name) for number, name in modality.items()}
    except (AttributeError, ValueError):
        raise DataError(f"{path}: modality must map numbers to names, as in {{'0': 'CT'}}") from None
    return tuple(numbers[i] for i in sorted(numbers))


def _classes(path: Path, labels: Any) -> tuple[str, ...]:
    try:
        numbers = {int(number): str(name) for number, name in labels.items()}
    except (AttributeError, ValueError):
        raise DataError(f"{path}: labels must map numbers to names, as in {{'0': 'background', '1': 'tumour'}}") from None
    return check_classes(str(path), numbers)


def _pairs(root: Path, training: Any) -> dict[str, Files]:
    table = root / "dataset.json"
    if not isinstance(training, list):
        raise DataError(f"{table}: training must be a list of entries with image and label, got {training!r}")
    files: dict[str, Files] = {}
    for entry in training:
        try:
            image, label = (inside(root, Path(entry[key])) for key in ("image", "label"))
        except (TypeError, KeyError):
            raise DataError(f"{table}: a training entry needs image and label, got {entry!r:.200}") from None
        case_id = nifti.stem(image.name)
        if case_id in files:
            raise DataError(f"{table}: training lists case {case_id} twice")
        files[case_id] = Files((nifti.File(image),), nifti.File(label))
    old = any((root / "imagesTr").glob("*_0000.nii.gz"))
    check_files(root, files, _V1 if old else "")
    return files


def find_folder(folder: str, data_root: Path | None, search: Sequence[Path]) -> Path:
    """The Decathlon folder of a task.

    Raises:
        MissingDataError: not found; says where it was looked for, how to get it, and what works without it.
    """
    places = [*([data_root] if data_root else []), *search]
    for place in places:
        for candidate in (place / folder, place):
            if folder_name(candidate) == folder and is_file(candidate / "dataset.json"):
                return candidate
    looked = ", ".join(str((place / folder).absolute()) for place in places) or "nowhere: no data root was given"
    known = DECATHLON.get(folder)
    source = f"{known.url} ({known.about_size})" if known else "http://medicaldecathlon.com"
    command = f"`initbench data download {SHORT_NAMES.get(folder, folder)}` gets it, or download" if known else "Download"
    raise MissingDataError(
        f"{folder} was not found. Looked at: {looked}. {command} {source}, unpack it, and point --data-root or INITBENCH_DATA "
        f"at the folder that holds {folder}. Without any download: --dataset phantom-lung"
    )


def lung(data_root: Path | None, search: Sequence[Path]) -> MsdDataset:
    """MSD Task06_Lung."""
    return MsdDataset(find_folder("Task06_Lung", data_root, search))


def hippocampus(data_root: Path | None, search: Sequence[Path]) -> MsdDataset:
    """MSD Task04_Hippocampus."""
    return MsdDataset(find_folder("Task04_Hippocampus", data_root, search))


def brats(data_root: Path | None, search: Sequence[Path]) -> MsdDataset:
    """MSD Task01_BrainTumour; its tables report the regions whole tumour, tumour core and enhancing tumour."""
    return MsdDataset(find_folder("Task01_BrainTumour", data_root, search))
