"""Reader of nnU-Net v2's raw folders: dataset.json, imagesTr/CASE_0000.nii.gz and so on a channel, labelsTr/CASE.nii.gz.

Source of the format: MIC-DKFZ/nnUNet:documentation/dataset_format.md and region_based_training.md. Of the file endings that
nnU-Net takes, NIfTI's are read: nibabel reads no .mha and no .nrrd.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from initbench.datasets.files.nifti import ENDINGS, File
from initbench.datasets.folder import Files, FolderDataset, FolderLayout, check_classes, check_files, folder_name, inside
from initbench.datasets.tables import consecutive, numbered, read_description, read_json, some, text, unread_keys, with_keys
from initbench.errors import DataError

_NEEDED = ("channel_names", "labels", "file_ending")
# What nnU-Net's own tools write. Which of its classes reads files (overwrite_image_reader_writer) decides nothing here.
# fmt: off
_KEYS = frozenset((
    "channel_names", "labels", "file_ending", "numTraining", "dataset", "regions_class_order",
    "overwrite_image_reader_writer", "name", "description", "reference", "licence", "license", "release", "citation",
    "converted_by", "tensorImageSize",
))
# fmt: on


class NnunetDataset(FolderDataset):
    """An nnU-Net v2 raw folder.

    Args:
        root: folder with dataset.json.
        name: name in tables; the folder's own by default.

    Raises:
        DataError: dataset.json is missing or broken, files are missing, or they are in a format that is not read.
    """

    def __init__(self, root: Path, name: str | None = None) -> None:
        super().__init__(root, name or folder_name(root), read_nnunet(root))


def recognized(root: Path) -> FolderLayout | None:
    """Reads the layout of a folder whose table has nnU-Net v2's keys; None for others."""
    table = read_description(root)
    if table is None or "channel_names" not in table:
        return None
    return read_nnunet(root)


def read_nnunet(root: Path) -> FolderLayout:
    """Reads the layout of a raw folder.

    Raises:
        DataError: dataset.json is missing or broken, files are missing, or they are in a format that is not read.
    """
    path = root / "dataset.json"
    table = with_keys(path, read_json(path), _NEEDED, "nnU-Net v2")
    ending = str(table["file_ending"])
    if ending not in ENDINGS:
        raise DataError(
            f"{path}: files end in {ending!r}, which no library of this installation reads; convert them to .nii.gz, for example "
            "with SimpleITK, and change file_ending"
        )
    channels = consecutive(f"{path}: channel_names", numbered(path, "channel_names", table["channel_names"], "CT"))
    numbers, regions = _labels(path, table["labels"])
    remarks = [*unread_keys(path, table, _KEYS), *_about_order(path, table.get("regions_class_order"), numbers, regions)]
    files = _files(root, table, len(channels), ending)
    remarks += _unlabelled(root, files, ending)
    return FolderLayout(
        channels=channels,
        classes=check_classes(str(path), numbers, tuple(regions)),
        licence=str(table.get("licence") or table.get("license") or "not stated"),
        files=files,
        regions=regions,
        remarks=tuple(remarks),
    )


def _about_order(path: Path, order: Any, numbers: Mapping[int, str], regions: Mapping[str, Any]) -> list[str]:
    """Returns a remark where ``regions_class_order`` is not used. nnU-Net makes labels of regions by it; here they are counted.

    Args:
        path: of dataset.json, for messages.
        order: the entry; None where there is none.
        numbers: names by label number.
        regions: label numbers by region.

    Raises:
        DataError: it does not give each region a label.
    """
    if order is None:
        return []
    if not regions:
        return [f"{path.name}: regions_class_order is there, and no label is a region; it is not used"]
    if not isinstance(order, list) or len(order) != len(regions) or not all(type(n) is int and n in numbers for n in order):
        raise DataError(
            f"{path}: regions_class_order must name a label for each of the {len(regions)} regions, got {order!r:.100}"
        )
    return []


def _unlabelled(root: Path, files: Mapping[str, Files], ending: str) -> list[str]:
    """Returns a remark about images in imagesTr that belong to no case."""
    left = {path.name for path in (root / "imagesTr").glob(f"[!.]*{ending}")}
    for entry in files.values():
        for image in entry.images:
            for path in image.paths:
                left.discard(path.name)
    if not left:
        return []
    return [f"imagesTr holds {len(left)} image(s) of no labelled case or channel: {some(sorted(left))}; they are not used"]


def _labels(path: Path, labels: Any) -> tuple[dict[int, str], dict[str, tuple[int, ...]]]:
    """Returns the names by label number, and the regions where names stand for several numbers.

    Where a name stands for several numbers, every name but the background's is a region.
    """
    if not isinstance(labels, Mapping):
        raise DataError(f"{path}: labels must map names to numbers, as in {{'background': 0, 'tumour': 1}}")
    if "ignore" in labels:
        raise DataError(f"{path}: there is an ignore label ({labels['ignore']!r}), and training here has a label for every voxel")
    sets = {text(path, "labels", name): _numbers(path, name, value) for name, value in labels.items()}
    names: dict[int, str] = {}
    parts: dict[str, tuple[int, ...]] = {}
    nested = any(isinstance(value, list) for value in labels.values())
    for name, numbers in sets.items():
        for number in numbers:
            names.setdefault(number, f"label {number}")
        if len(numbers) == 1:
            names[numbers[0]] = name
        if numbers == (0,):
            continue
        if 0 in numbers:
            raise DataError(f"{path}: labels: 0 is the background and part of no region; leave it out")
        parts[name] = numbers
    _check_apart(path, parts, nested)
    if not nested:
        parts = {}
    return dict(sorted(names.items())), parts


def _check_apart(path: Path, parts: Mapping[str, tuple[int, ...]], nested: bool) -> None:
    """Refuses two classes, or two regions where there is some (`nested`), of the same numbers."""
    of_numbers: dict[tuple[int, ...], str] = {}
    for name, numbers in parts.items():
        other = of_numbers.setdefault(numbers, name)
        if other == name:
            continue
        if nested:
            raise DataError(f"{path}: labels: {other!r} and {name!r} are regions of the same numbers {list(numbers)}; remove one")
        raise DataError(f"{path}: labels: two names have the same number; give each its own")


def _numbers(path: Path, name: Any, value: Any) -> tuple[int, ...]:
    numbers = value
    if not isinstance(value, list):
        numbers = [value]
    refusal = DataError(f"{path}: labels: {name} must be a number from 0 or a list of them, got {value!r:.100}")
    if not numbers:
        raise refusal
    for number in numbers:
        if type(number) is not int or number < 0:  # JSON's true is no number
            raise refusal
    return tuple(sorted(set(numbers)))


def _files(root: Path, table: Mapping[str, Any], channels: int, ending: str) -> dict[str, Files]:
    if table.get("dataset"):
        files = _listed(root, table["dataset"])
    else:
        files = {}
        for label in sorted((root / "labelsTr").glob(f"[!.]*{ending}")):
            case = label.name.removesuffix(ending)
            images = [File(root / "imagesTr" / f"{case}_{channel:04d}{ending}") for channel in range(channels)]
            files[case] = Files(tuple(images), File(label))
    if not files:
        raise DataError(
            f"{root}: there is no case in labelsTr/ (CASE{ending}); nnU-Net's raw folder has a label map a case there"
        )
    for case, entry in files.items():
        if len(entry.images) != channels:
            raise DataError(
                f"{root / 'dataset.json'}: case {case} has {len(entry.images)} images for {channels} channels; complete them"
            )
    check_files(root, files, "An image is CASE_0000, CASE_0001 and so on a channel: complete the folder or remove the label")
    return files


def _listed(root: Path, entries: Any) -> dict[str, Files]:
    """Reads the optional table of cases, for folders whose images lie elsewhere below."""
    files = {}
    try:
        for case, entry in entries.items():
            images = []
            for image in entry["images"]:
                path = inside(root, Path(image))
                images.append(File(path))
            files[str(case)] = Files(tuple(images), File(inside(root, Path(entry["label"]))))
    except (AttributeError, TypeError, KeyError):
        raise DataError(f"{root / 'dataset.json'}: dataset must map cases to images and label, got {entries!r:.200}") from None
    return files
