"""Data sets that are folders of files, whatever the layout: reads and checks cases, finds folders, checks tables."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from initbench import cache
from initbench.datasets import stated
from initbench.datasets.files import nifti
from initbench.datasets.grids import MOST_APART, NOTED_APART, corner_displacement
from initbench.datasets.splits import published_splits
from initbench.datasets.tables import consecutive
from initbench.errors import DataError, MissingDataError
from initbench.paths import is_file
from initbench.protocols import Case, Remark, Split

MAX_CLASSES = 256  # label maps are kept in bytes
MAX_ID_BYTES = 200  # a file's name has 255, endings among them
# A label may differ from a whole number by this, and by half a step where its file stores numbers in steps (and a little, as the
# product is rounded). A step near 1 could stand for anything between.
LABEL_ROUNDING, STEP_ROUNDING, MOST_STEP = 1e-3, 0.501, 0.2
_BACKGROUND = frozenset(("bg", "unlabelled", "unlabeled", "clear label", "none", "nothing", "other", "rest", "0"))
AS_IT_IS = "To use the folder as it is, rename it and pass its path"  # by some names a path is the data set, too
LARGE = 2**27  # voxels, half a gigabyte


class Stored(Protocol):
    """An array with its place in space, in one file or in many; as text, where it is.

    It may have ``read_with_header(case_id) -> nifti.Read`` beside, which is taken in place of `read`, and ``unit_mm() -> float``,
    the millimetres in the unit of its lengths, and ``stated_shape()``, the shape by the header alone or None.
    """

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that its voxels depend on, in an order that they depend on."""

    def read(self, case_id: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Voxels in the file's own axis order, channels last where there are any, and the RAS affine.

        Raises:
            DataError: what is wrong with which file, and what to do; begins with the case.
        """


@dataclass(frozen=True)
class Files:
    """What a case is stored in: one image of all channels, or one a channel, and the label map."""

    images: tuple[Stored, ...]
    label: Stored


@dataclass(frozen=True)
class FolderLayout:
    """What a reader of a layout found in a folder.

    Attributes:
        said_by: where channels and classes are stated, for messages.
        regions: label numbers by region, where unions of labels are reported.
        modality: empty where the channels say it: CT where one is of that name, else MR.
        own_splits: divisions that the layout itself states; used by default where no paper has one for this data set.
        offered_splits: others that it states, used where they are asked for by name.
        remarks: what the reader found and does not use.
        copies_meant: whether cases may be copies of one another, as in volumes that are made up to time a run.
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    licence: str
    files: Mapping[str, Files]
    said_by: str = "dataset.json"
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    modality: str = ""
    own_splits: tuple[Split, ...] = ()
    offered_splits: tuple[Split, ...] = ()
    remarks: tuple[str, ...] = ()
    copies_meant: bool = False


class FolderDataset:
    """A data set in a folder.

    Args:
        root: the folder.
        name: in tables; recipe and published splits go by it.
        layout: what a reader found there.
        splits: published splits, the usual one first; by default those that are published for `name`, else the layout's own.
        group: the patient of a case, where the layout says it.

    The patient of a case is read from ``patients.json`` in the folder, else from the layout, else from the ids, where one of
    these says it.

    Attributes:
        caveat: the doubt that is left where none of them says it.
        remarks: what in its tables is not used, or may not be meant.

    Raises:
        DataError: a case's id is no plain file name, or ``patients.json`` is no table of all cases.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        layout: FolderLayout,
        splits: Sequence[Split] | None = None,
        group: Callable[[str], str] | None = None,
    ) -> None:
        check_ids(root, layout.files)
        self.root = root
        self.name = name
        self.channels = layout.channels
        self.modality = layout.modality or ("CT" if "ct" in map(str.casefold, self.channels) else "MR")
        self.classes = layout.classes
        self.licence = layout.licence
        self.regions = dict(layout.regions)
        self._layout = layout
        if splits is None:
            splits = published_splits(name)
        self._splits = tuple(splits)
        self._offered = layout.offered_splits
        if self._splits:
            self._offered = (*layout.own_splits, *layout.offered_splits)
        else:
            self._splits = layout.own_splits
        self.copies_meant = layout.copies_meant
        self.remarks = (*layout.remarks, *_about_background(layout.said_by, self.classes[0]))
        said = stated.patients(root, self.case_ids())
        own = stated.inferred(self.case_ids())
        self._patients = own
        self._group = group
        self.caveat = ""
        if said is not None:
            self._patients = said
            self._group = None
        elif group is None and len(set(own.values())) == len(own):
            self.caveat = stated.caveat(self.case_ids())

    def case_ids(self) -> tuple[str, ...]:
        """Returns the ids of all labelled cases, sorted."""
        return tuple(sorted(self._layout.files))

    def published_splits(self) -> tuple[Split, ...]:
        """Returns the splits of the papers, the usual one first; where no paper has one, the splits of the data set's table."""
        return self._splits

    def own_cases(self) -> frozenset[str]:
        """Returns the cases that the table lists apart from the cases to train on."""
        apart: set[str] = set()
        for split in self._layout.own_splits:
            apart.update(split.test, split.unused)
        return frozenset(apart)

    def published_split(self) -> Split | None:
        """Returns the usual split of the papers; None where they state none."""
        if not self._splits:
            return None
        return self._splits[0]

    def stated_splits(self) -> tuple[Split, ...]:
        """Reads the splits that its table offers, that lie in the folder, or where nnU-Net keeps them.

        Raises:
            DataError: one of their files is not as it has to be.
        """
        return (*self._offered, *stated.splits(self.root))

    def group(self, case_id: str) -> str:
        """Returns the patient of a case."""
        if self._group:
            return self._group(case_id)
        return self._patients.get(case_id, case_id)

    def files(self, case_id: str) -> tuple[Path, ...]:
        """Returns the files of a case, images first."""
        paths: list[Path] = []
        for stored in self._stored(case_id):
            paths += stored.paths
        return tuple(paths)

    def digest(self, case_id: str) -> str:
        """Returns the sha256 over the digests of the images' and the label's bytes.

        A unit other than mm is in it, too: earlier versions took all lengths as mm, so their runs saw other voxels.
        """
        parts = list(map(cache.file_digest, self.files(case_id)))
        for stored in self._stored(case_id):
            unit = _unit_mm(stored)
            if unit != 1:
                parts.append(f"lengths in {unit:g} mm")
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def _stored(self, case_id: str) -> tuple[Stored, ...]:
        found = self._layout.files[case_id]
        return (*found.images, found.label)

    def load(self, case_id: str) -> Case:
        """Reads and checks one case.

        Raises:
            DataError: unreadable or truncated file, shapes that differ, grids whose corners lie more than half a voxel apart, NaN
                voxels, label values that are no class.
        """
        files = self._layout.files[case_id]
        _check_stated_shapes(case_id, files)
        image, affine, remarks = self._image(case_id, files.images)
        label, label_affine, header = _read(files.label, case_id)
        label = without_singletons(label)
        place = files.images[0]
        if image.shape[1:] != label.shape:
            raise _different_shapes(case_id, files, image.shape[1:], label.shape)
        apart = corner_displacement(affine, label_affine, label.shape)
        if not apart <= MOST_APART:
            raise DataError(
                f"case {case_id}: image and label lie in different places, up to {apart:.3g} voxels apart at a corner "
                f"({place}, {files.label}); resample the label to the image, or repair the header that is wrong"
            )
        if apart > NOTED_APART:
            remarks.append(Remark("the grids of image and label differ a little", f"{apart:.2g} voxels at a corner"))
        remarks += header.remarks
        checked = self._check_label(case_id, files.label, label, header.step)
        return Case(case_id, np.ascontiguousarray(image), checked, affine, tuple(dict.fromkeys(remarks)))

    def _image(self, case_id: str, images: Sequence[Stored]) -> tuple[NDArray[np.float32], NDArray[np.float64], list[Remark]]:
        """Reads ``(C, X, Y, Z)`` from one image with all channels, or from one image a channel.

        Returns:
            The voxels, their affine, and remarks about the channels.
        """
        first, affine, header = _read(images[0], case_id)
        first = without_singletons(first)
        if len(images) == 1:
            image = first[None]
            if first.ndim == 4:
                image = np.moveaxis(first, -1, 0)
            self._check_image(case_id, images[0], image, len(self.channels))
            return image, affine, list(header.remarks)
        channels, farthest, remarks = [], 0.0, list(header.remarks)
        for number, stored in enumerate(images):
            channel, own = first, affine
            if number > 0:
                channel, own, header = _read(stored, case_id)
                remarks += header.remarks
            channel = without_singletons(channel)
            self._check_image(case_id, stored, channel[None], 1)
            apart = math.inf
            if channel.shape == first.shape:
                apart = corner_displacement(affine, own, first.shape)
            if not apart <= MOST_APART:
                grids = f"{images[0]} {first.shape}, {stored} {channel.shape}"
                if math.isfinite(apart):
                    grids += f", up to {apart:.3g} voxels apart at a corner"
                raise DataError(
                    f"case {case_id}: channels lie on different grids ({grids}); register them and resample them to one"
                )
            farthest = max(farthest, apart)
            channels.append(channel)
        if farthest > NOTED_APART:
            remarks.append(Remark("the grids of channels differ a little", f"{farthest:.2g} voxels at a corner"))
        return np.stack(channels), affine, remarks

    def _check_image(self, case_id: str, place: Stored, image: NDArray[np.float32], channels: int) -> None:
        if image.ndim != 4 or image.shape[0] != channels:
            raise DataError(
                f"case {case_id}: {place} has shape {image.shape} where {self._layout.said_by} announces {channels} channel(s) "
                "of three dimensions; correct it there, or export the image again"
            )
        bad = int(np.count_nonzero(~np.isfinite(image)))
        if bad:
            raise DataError(f"case {case_id}: {place} has {bad} NaN or infinite voxels; repair or remove the case")

    def _check_label(self, case_id: str, place: Stored, label: NDArray[Any], step: float) -> NDArray[np.uint8]:
        """Returns the labels as whole numbers; where a file stores values in steps of a slope, they may be off by half a step."""
        tolerance = LABEL_ROUNDING
        if step < MOST_STEP:
            tolerance = max(LABEL_ROUNDING, STEP_ROUNDING * step)
        with np.errstate(invalid="ignore"):  # infinities less themselves
            whole = np.rint(label)
            fractional = ~(np.abs(label - whole) <= tolerance)  # also where it is no number
        strange = np.unique(
            np.concatenate([label[fractional], whole[~fractional & ((whole < 0) | (whole >= len(self.classes)))]])
        )
        if strange.size:
            why = "; correct the label, or add the class there"
            if fractional.any():
                why = ". A label is a whole number: resample label maps with nearest neighbours, and save them as integers"
            raise DataError(
                f"case {case_id}: {place} holds label value(s) {', '.join(f'{v:g}' for v in strange[:5])}; "
                f"{self._layout.said_by} names 0 to {len(self.classes) - 1} ({', '.join(self.classes)}){why}"
            )
        checked: NDArray[np.uint8] = whole.astype(np.uint8)
        return checked


def _check_stated_shapes(case_id: str, files: Files) -> None:
    """Refuses a large image with a label of another shape before its voxels are unpacked.

    Of smaller ones both are read first: what is wrong with one of the files says more than that they differ.
    """
    shapes = []
    for stored in (files.images[0], files.label):
        stated = getattr(stored, "stated_shape", None)
        if stated is None:
            return
        shape = stated()
        if shape is None or len(shape) < 3:
            return  # what is wrong with it is said where it is read
        shapes.append(shape[:3])
    image, label = shapes
    if image != label and math.prod(image) >= LARGE:
        raise _different_shapes(case_id, files, image, label)


def _different_shapes(case_id: str, files: Files, image: tuple[int, ...], label: tuple[int, ...]) -> DataError:
    return DataError(
        f"case {case_id}: image {image} and label {label} have different shapes ({files.images[0]}, {files.label}); export the "
        "label on the image's grid"
    )


def _read(stored: Stored, case_id: str) -> nifti.Read:
    """Reads voxels, affine and header; the header is empty where there is none, as for DICOM slices and readers of plug-ins."""
    whole = getattr(stored, "read_with_header", None)
    if whole is None:
        voxels, affine = stored.read(case_id)
        return voxels, affine, nifti.Header()
    found: nifti.Read = whole(case_id)
    return found


def _unit_mm(stored: Stored) -> float:
    unit = getattr(stored, "unit_mm", None)
    if unit is None:
        return 1.0
    return float(unit())


def without_singletons(voxels: NDArray[Any]) -> NDArray[Any]:
    """Removes the axes of length 1 behind the first three: many tools save a volume as (X, Y, Z, 1)."""
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    return voxels


# --- tables -----------------------------------------------------------------------------------------------------------


def inside(root: Path, path: Path) -> Path:
    """Returns `path` below `root`. A link may lead elsewhere, an entry of a table may not.

    Raises:
        DataError: it leads out.
    """
    outside = ".." in path.parts and "\0" not in str(path) and not (root / path).resolve().is_relative_to(root.resolve())
    if path.is_absolute() or outside:
        raise DataError(
            f"{root / 'dataset.json'}: the entry {path} leads out of the data set's folder; entries are paths below it. "
            "To keep files elsewhere, put a link to them into the folder"
        )
    return root / path


def one_a_case(paths: Iterable[Path], name: Callable[[Path], str]) -> dict[str, Path]:
    """Returns files by the case that each belongs to.

    Args:
        paths: of one kind of file, images or label maps.
        name: the case of a file.

    Raises:
        DataError: two files are of one case, as a.nii and a.nii.gz, and nothing says which one to use.
    """
    files: dict[str, Path] = {}
    for path in paths:
        case_id = name(path)
        if case_id in files:
            raise DataError(f"case {case_id} is there twice ({files[case_id]}, {path}); remove one")
        files[case_id] = path
    return files


def check_files(root: Path, files: Mapping[str, Files], hint: str = "") -> None:
    """Refuses a table of files that are not there.

    Args:
        root: the data set's folder, for messages.
        files: of each case.
        hint: what to do, where completing the download is not it.

    Raises:
        DataError: names the first ones.
    """
    missing = []
    for entry in files.values():
        for image in entry.images:
            missing += [f"image {path}" for path in image.paths if not is_file(path)]
        missing += [f"label {path}" for path in entry.label.paths if not is_file(path)]
    if missing:
        shown = "; ".join(missing[:3])
        if len(missing) > 3:
            shown += f"; and {len(missing) - 3} more"
        raise DataError(
            f"{root}: dataset.json lists files that do not exist: {shown}. "
            f"{hint or 'Complete the download or remove the entries'}"
        )


def _about_background(said_by: str, name: str) -> list[str]:
    """Returns a remark where label 0 has the name of something, because it is not reported."""
    if name.strip().casefold() in _BACKGROUND or "background" in name.casefold():
        return []
    return [f"{said_by}: label 0 is called {name!r}; it is taken as the background, which is not reported"]


def check_classes(where: str, numbers: Mapping[int, str], regions: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the class names in the order of their label numbers.

    Args:
        where: for messages.
        numbers: name of each label.
        regions: names of what is reported in place of the classes.

    Raises:
        DataError: the numbers have gaps or do not fit a byte, the background is not 0, or a name stands for two: results are kept
            by name.
    """
    for number, name in numbers.items():
        if number != 0 and name.strip().casefold() == "background":
            raise DataError(f"{where}: labels: {name!r} has number {number}, and the background is 0: number labels and files so")
    if sorted(numbers) != list(range(len(numbers))) or len(numbers) < 2:
        raise DataError(f"{where}: label numbers must run from 0 (background) without gaps, got {sorted(numbers)}")
    if len(numbers) > MAX_CLASSES:
        raise DataError(
            f"{where}: {len(numbers)} labels; label maps are kept in bytes, which tell {MAX_CLASSES} apart; merge some"
        )
    classes = consecutive(f"{where}: labels", numbers)
    for names in (classes, (classes[0], *regions)):
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise DataError(f"{where}: labels: {name!r} is the name of two; results are kept by name: give each its own")
    return classes


def check_ids(root: Path, ids: Iterable[str]) -> None:
    """Refuses ids of cases that are no plain file names: predictions and tables are written under them.

    Raises:
        DataError: names the first one.
    """
    for case_id in ids:
        # What is not printable is a control character, half of a letter, or a blank that looks like another.
        plain = case_id.isprintable() and case_id.strip() == case_id and not set("/\\") & set(case_id)
        if not case_id or case_id.startswith(".") or not plain or len(case_id.encode()) > MAX_ID_BYTES:
            raise DataError(
                f"{root}: {case_id!r:.80} cannot be the name of a case: files are named after it. Letters, digits and most signs "
                f"do, but no / and \\, no dot in front, no blank at an end, and no more than {MAX_ID_BYTES} bytes"
            )


def check_order(where: Path, classes: Sequence[str], known: Mapping[str, int]) -> None:
    """Refuses a table that numbers classes of a known name otherwise than the data set does.

    Args:
        where: the table, for messages.
        classes: names by label.
        known: the data set's label of each name, in lower case.

    Raises:
        DataError: names the first one.
    """
    for number, name in enumerate(classes):
        plain = " ".join(name.lower().replace("_", " ").replace("-", " ").split())
        if known.get(plain, number) != number:
            raise DataError(f"{where}: {name!r} has number {number}, and {known[plain]} in the data set of this name. {AS_IT_IS}")


# --- places -----------------------------------------------------------------------------------------------------------


def folder_name(path: Path) -> str:
    """Returns the name of a folder, also of "."; a link has its own name."""
    return os.path.basename(os.path.abspath(path))


_NNUNET = re.compile(r"Dataset\d{3}_(.+)")
# Where nnU-Net, nnFormer and UNETR++ keep their raw data, from each folder on the way.
_LEVELS = (
    "",
    "nnUNet_raw",
    "nnFormer_raw_data",
    "nnFormer_raw/nnFormer_raw_data",
    "unetr_pp_raw_data",
    "unetr_pp_raw/unetr_pp_raw_data",
)


def data_roots(data_root: Path | None, search: Sequence[Path]) -> list[Path]:
    """Returns the folders that may hold data sets, in the order in which they are searched: `data_root`, then `search`."""
    if data_root is None:
        return list(search)
    return [data_root, *search]


def levels(place: Path) -> list[Path]:
    """Returns a data root, and the folders known to hold data sets below one."""
    return [place / level for level in _LEVELS]


def places(names: Sequence[str], data_root: Path | None, search: Sequence[Path]) -> Iterator[Path]:
    """Gives the folders that may be a data set: below the data roots, a root itself, and nnU-Net's ``DatasetNNN_NAME`` there.

    Args:
        names: of the folder, in any case.
        data_root: looked at first, where one was given.
        search: data roots that are looked at after it.
    """
    wanted = {name.lower() for name in names}
    for place in data_roots(data_root, search):
        if not place.is_dir():
            continue
        if _plain(folder_name(place)) in wanted:
            yield place
        for parent in levels(place):
            for child in subfolders(parent):
                if _plain(child.name) in wanted:
                    yield child


def subfolders(place: Path) -> list[Path]:
    """Returns the folders directly below one, sorted; none where `place` is no folder, or may not be read."""
    try:
        return sorted(child for child in place.iterdir() if child.is_dir())
    except OSError:
        return []


def nnunet_name(name: str) -> str | None:
    """Returns NAME, lower case, of nnU-Net's ``DatasetNNN_NAME``; None where it is no such name."""
    match = _NNUNET.fullmatch(name)
    if match is None:
        return None
    return match[1].lower()


def _plain(name: str) -> str:
    return nnunet_name(name) or name.lower()


Reader = Callable[[Path], FolderLayout | None]


def find(
    name: str,
    folders: Sequence[str],
    readers: Sequence[Reader],
    how: str,
    data_root: Path | None,
    search: Sequence[Path],
    another: Callable[[Path], bool] = lambda _: False,
) -> tuple[Path, FolderLayout]:
    """Finds the first folder of one of these names whose layout one of the readers knows.

    Args:
        name: of the data set.
        folders: names of folders, in any case; nnU-Net's with ``DatasetNNN_`` before them count.
        readers: each gives the layout of a folder, or None where it is not in that layout.
        how: where to get the data, and how the folder must look.
        data_root: as `search`, looked at first.
        search: folders that hold data sets.
        another: whether a folder that no reader knows is a whole data set of another name, and so no mistake.

    Raises:
        MissingDataError: there is no such folder. DataError: there is one that no reader knows, or that is damaged.
    """
    strange = []
    for folder in places(folders, data_root, search):
        for reader in readers:
            layout = reader(folder)
            if layout is not None:
                return folder, layout
        if not another(folder):
            strange.append(str(folder.absolute()))
    if strange:
        raise DataError(f"{', '.join(strange)}: this is not how {name} looks. {how}")
    roots = data_roots(data_root, search)
    looked = ", ".join(str(root.absolute()) for root in roots) or "nowhere: no data root was given"
    raise MissingDataError(
        f"{name} was not found. Looked for a folder {' or '.join(folders)} (or nnU-Net's DatasetNNN_{folders[0]}) in: {looked}. "
        f"{how}. Point --data-root or INITBENCH_DATA at the folder that holds it. Without any download: --dataset phantom-lung"
    )
