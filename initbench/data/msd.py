"""Reader of the Medical Segmentation Decathlon layout: dataset.json, imagesTr/, labelsTr/.

Source of the format: Antonelli et al., Nature Communications 13, 4128 (2022); http://medicaldecathlon.com.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from initbench.data import cache
from initbench.data.limits import MAX_VOXELS, check_memory
from initbench.data.splits import published
from initbench.errors import DataError, MissingDataError
from initbench.protocols import Case, Split

SHORT_NAMES = {"Task04_Hippocampus": "hippocampus", "Task06_Lung": "lung"}
MAX_CLASSES = 256
AFFINE_TOLERANCE_MM = 0.01
_FLOAT32 = 4  # bytes
# Bytes of voxels that a byte of the file can stand for: deflate's best is 1032 to 1.
_EXPANSION = {".nii": 1.0, ".gz": 1032.0}
_UNREADABLE = (EOFError, OSError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)

_WHERE = {
    "Task04_Hippocampus": "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar (27 MB)",
    "Task06_Lung": "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task06_Lung.tar (8.5 GB)",
}


class MsdDataset:
    """A Decathlon folder.

    Args:
        root: folder with dataset.json.
        name: name in tables; by default the registered one of the folder, or the folder's own.

    Raises:
        DataError: dataset.json is missing, broken or empty, or lists files that do not exist.
    """

    def __init__(self, root: Path, name: str | None = None) -> None:
        self.root = root
        table = _read_table(root / "dataset.json")
        folder = _folder_name(root)
        self.name = name or SHORT_NAMES.get(folder, folder)
        self.channels = _channels(root / "dataset.json", table["modality"])
        self.modality = "CT" if self.channels[0].upper() == "CT" else "MR"
        self.classes = _classes(root / "dataset.json", table["labels"])
        self.licence = str(table.get("licence", "not stated"))
        self._files = _pairs(root, table["training"])

    def case_ids(self) -> tuple[str, ...]:
        """All labelled cases, sorted."""
        return tuple(sorted(self._files))

    def published_split(self) -> Split | None:
        """The split of the papers, where they state one for this task."""
        return published(self.name)

    def digest(self, case_id: str) -> str:
        """sha256 over the digests of the image's and the label's bytes."""
        image, label = self._files[case_id]
        return hashlib.sha256((cache.file_digest(image) + cache.file_digest(label)).encode()).hexdigest()

    def load(self, case_id: str) -> Case:
        """Reads and checks one case.

        Raises:
            DataError: unreadable or truncated file, shapes or affines that differ, NaN voxels, label values out of range.
        """
        image_path, label_path = self._files[case_id]
        image, affine = _read_nifti(case_id, image_path)
        label, label_affine = _read_nifti(case_id, label_path)
        image = np.moveaxis(image, -1, 0) if image.ndim == 4 else image[None]
        if label.ndim == 4 and label.shape[-1] == 1:
            label = label[..., 0]
        self._check_image(case_id, image_path, image)
        if image.shape[1:] != label.shape:
            raise DataError(
                f"case {case_id}: image {image.shape[1:]} and label {label.shape} have different shapes "
                f"({image_path}, {label_path}); export the label on the image's grid"
            )
        apart = float(np.abs(affine - label_affine).max())
        if apart > AFFINE_TOLERANCE_MM:
            raise DataError(
                f"case {case_id}: image and label lie in different places: affines differ by {apart:.3g} mm "
                f"({image_path}, {label_path}); resample the label to the image"
            )
        return Case(case_id, np.ascontiguousarray(image), self._check_label(case_id, label_path, label), affine)

    def _check_image(self, case_id: str, path: Path, image: NDArray[np.float32]) -> None:
        if image.ndim != 4 or image.shape[0] != len(self.channels):
            raise DataError(
                f"case {case_id}: {path} has shape {image.shape} where dataset.json announces {len(self.channels)} channel(s) "
                f"of three dimensions"
            )
        bad = int(np.count_nonzero(~np.isfinite(image)))
        if bad:
            raise DataError(f"case {case_id}: {path} has {bad} NaN or infinite voxels; repair or remove the case")

    def _check_label(self, case_id: str, path: Path, label: NDArray[np.float32]) -> NDArray[np.uint8]:
        values = np.unique(label)
        strange = [v for v in map(float, values) if not v.is_integer() or not 0 <= v < len(self.classes)]
        if strange:
            raise DataError(
                f"case {case_id}: {path} holds label value(s) {', '.join(f'{v:g}' for v in strange[:5])}; dataset.json "
                f"names 0 to {len(self.classes) - 1} ({', '.join(self.classes)})"
            )
        return label.astype(np.uint8)


def _read_table(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path.parent}: there is no dataset.json, so this is no Decathlon folder")
    try:
        table = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, brackets in thousands
        raise DataError(f"{path} is not valid JSON: {error}") from None
    needed = ("modality", "labels", "training")
    missing = [key for key in needed if not isinstance(table, dict) or not table.get(key)]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} is missing or empty; the Decathlon format needs {', '.join(needed)}")
    return dict(table)


def _folder_name(path: Path) -> str:
    return os.path.basename(os.path.abspath(path))  # "." has a name too; links keep theirs


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
    if sorted(numbers) != list(range(len(numbers))) or len(numbers) < 2:
        raise DataError(f"{path}: label numbers must run from 0 (background) without gaps, got {sorted(numbers)}")
    if len(numbers) > MAX_CLASSES:
        raise DataError(f"{path}: {len(numbers)} labels; label maps are kept in bytes, which tell {MAX_CLASSES} apart")
    return tuple(numbers[i] for i in range(len(numbers)))


def _pairs(root: Path, training: Any) -> dict[str, tuple[Path, Path]]:
    table = root / "dataset.json"
    if not isinstance(training, list):
        raise DataError(f"{table}: training must be a list of entries with image and label, got {training!r}")
    files: dict[str, tuple[Path, Path]] = {}
    missing: list[str] = []
    for entry in training:
        try:
            image, label = (_inside(root, Path(entry[key])) for key in ("image", "label"))
        except (TypeError, KeyError):
            raise DataError(f"{table}: a training entry needs image and label, got {entry!r:.200}") from None
        case_id = image.name.removesuffix(".gz").removesuffix(".nii")
        if case_id in files:
            raise DataError(f"{table}: training lists case {case_id} twice")
        files[case_id] = (image, label)
        missing += [f"{kind} {path}" for kind, path in (("image", image), ("label", label)) if not _is_file(path)]
    if missing:
        shown = "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise DataError(
            f"{root}: dataset.json lists files that do not exist: {shown}. Complete the download or remove the entries"
        )
    return files


def _inside(root: Path, path: Path) -> Path:
    """`path` below `root`. A link may lead elsewhere, the table may not."""
    outside = ".." in path.parts and "\0" not in str(path) and not (root / path).resolve().is_relative_to(root.resolve())
    if path.is_absolute() or outside:
        raise DataError(
            f"{root / 'dataset.json'}: the training entry {path} leads out of the data set's folder; entries are paths below it. "
            "To keep files elsewhere, put a link to them into the folder"
        )
    return root / path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name of thousands of letters
        return False


def _read_nifti(case_id: str, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    try:
        file: Any = nibabel.load(path)
        _check_claim(case_id, path, file.shape, file.get_data_dtype().itemsize)
        voxels: NDArray[np.float32] = np.asarray(file.get_fdata(dtype=np.float32, caching="unchanged"))
        affine = np.asarray(file.affine, np.float64)
    except _UNREADABLE as error:
        raise DataError(
            f"case {case_id}: {path} cannot be read ({error}); it is truncated or no NIfTI file: copy or download it again"
        ) from None
    if not np.isfinite(affine).all() or not np.linalg.det(affine):
        raise DataError(
            f"case {case_id}: {path}: the affine {affine[:3].tolist()} does not place voxels in space; repair the header"
        )
    return voxels, affine


def _check_claim(case_id: str, path: Path, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuses a header that claims more than the file can hold or the machine can read, before anything is allocated."""
    voxels, size = math.prod(shape), path.stat().st_size
    if voxels > MAX_VOXELS:
        raise DataError(
            f"case {case_id}: {path}: the header asks for {shape} voxels, more than any examination has; the file is damaged"
        )
    most = size * _EXPANSION.get(path.suffix.lower(), math.inf)
    if voxels * itemsize > most:
        raise DataError(
            f"case {case_id}: {path}: the header asks for {shape} voxels, {voxels * itemsize:,} bytes, and a file of {size:,} "
            "bytes cannot hold them; it is truncated or damaged: copy or download it again"
        )
    remedy = "close other programs, resample the case, or leave it out"
    check_memory(shape, itemsize + _FLOAT32, f"case {case_id}: reading {path}", remedy)


def find_folder(folder: str, data_root: Path | None, search: Sequence[Path]) -> Path:
    """The Decathlon folder of a task.

    Raises:
        MissingDataError: not found; says where it was looked for, how to get it, and what works without it.
    """
    places = [*([data_root] if data_root else []), *search]
    for place in places:
        for candidate in (place / folder, place):
            if _folder_name(candidate) == folder and (candidate / "dataset.json").is_file():
                return candidate
    looked = ", ".join(str((place / folder).absolute()) for place in places) or "nowhere: no data root was given"
    download = _WHERE.get(folder, "http://medicaldecathlon.com")
    raise MissingDataError(
        f"{folder} was not found. Looked at: {looked}. Download {download}, unpack it, and point --data-root or INITBENCH_DATA "
        f"at the folder that holds {folder}. Without any download: --dataset phantom-lung"
    )


def lung(data_root: Path | None, search: Sequence[Path]) -> MsdDataset:
    """MSD Task06_Lung."""
    return MsdDataset(find_folder("Task06_Lung", data_root, search))


def hippocampus(data_root: Path | None, search: Sequence[Path]) -> MsdDataset:
    """MSD Task04_Hippocampus."""
    return MsdDataset(find_folder("Task04_Hippocampus", data_root, search))
