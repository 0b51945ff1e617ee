"""Data sets that are folders of files, whatever the layout: cases read and checked, folders found, tables read."""

from __future__ import annotations

import hashlib
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
from initbench.datasets.splits import published_splits
from initbench.errors import DataError, MissingDataError
from initbench.paths import is_file
from initbench.protocols import Case, Split

MAX_CLASSES = 256  # label maps are kept in bytes
MAX_ID_BYTES = 200  # a file's name has 255, endings among them
AFFINE_TOLERANCE_MM = 0.01  # two affines that differ by no more in any entry count as one grid
AS_IT_IS = "To use the folder as it is, rename it and pass its path"  # by some names a path is the data set, too


class Stored(Protocol):
    """An array with its place in space, in one file or in many; as text, where it is."""

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
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    licence: str
    files: Mapping[str, Files]
    said_by: str = "dataset.json"
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    modality: str = ""


class FolderDataset:
    """A data set in a folder.

    Args:
        root: the folder.
        name: in tables; recipe and published splits go by it.
        layout: what a reader found there.
        splits: published splits, the usual one first; by default those that are published for `name`.
        group: the patient of a case, where the layout says it.

    The patient of a case is read from ``patients.json`` in the folder, else from the layout, else from the ids, where one of
    these says it.

    Attributes:
        caveat: the doubt that is left where none of them says it.

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
        self._splits = published_splits(name) if splits is None else tuple(splits)
        said = stated.patients(root, self.case_ids())
        own = stated.inferred(self.case_ids())
        self._patients = own if said is None else said
        self._group = group if said is None else None
        unsaid = said is None and group is None and len(set(own.values())) == len(own)
        self.caveat = stated.caveat(self.case_ids()) if unsaid else ""

    def case_ids(self) -> tuple[str, ...]:
        """All labelled cases, sorted."""
        return tuple(sorted(self._layout.files))

    def published_splits(self) -> tuple[Split, ...]:
        """The splits of the papers, the usual one first."""
        return self._splits

    def published_split(self) -> Split | None:
        """The usual split of the papers, where they state one."""
        return self._splits[0] if self._splits else None

    def stated_splits(self) -> tuple[Split, ...]:
        """The splits that lie in the folder, or where nnU-Net keeps them.

        Raises:
            DataError: one of their files is not as it has to be.
        """
        return stated.splits(self.root)

    def group(self, case_id: str) -> str:
        """The patient of a case."""
        return self._group(case_id) if self._group else self._patients.get(case_id, case_id)

    def files(self, case_id: str) -> tuple[Path, ...]:
        """The files of a case, images first."""
        found = self._layout.files[case_id]
        return tuple(path for stored in (*found.images, found.label) for path in stored.paths)

    def digest(self, case_id: str) -> str:
        """sha256 over the digests of the images' and the label's bytes."""
        return hashlib.sha256("".join(map(cache.file_digest, self.files(case_id))).encode()).hexdigest()

    def load(self, case_id: str) -> Case:
        """Reads and checks one case.

        Raises:
            DataError: unreadable or truncated file, shapes or affines that differ, NaN voxels, label values out of range.
        """
        files = self._layout.files[case_id]
        image, affine = self._image(case_id, files.images)
        label, label_affine = files.label.read(case_id)
        if label.ndim == 4 and label.shape[-1] == 1:
            label = label[..., 0]
        place = files.images[0]
        if image.shape[1:] != label.shape:
            raise DataError(
                f"case {case_id}: image {image.shape[1:]} and label {label.shape} have different shapes "
                f"({place}, {files.label}); export the label on the image's grid"
            )
        apart = float(np.abs(affine - label_affine).max())
        if apart > AFFINE_TOLERANCE_MM:
            raise DataError(
                f"case {case_id}: image and label lie in different places: affines differ by {apart:.3g} mm "
                f"({place}, {files.label}); resample the label to the image"
            )
        return Case(case_id, np.ascontiguousarray(image), self._check_label(case_id, files.label, label), affine)

    def _image(self, case_id: str, images: Sequence[Stored]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """``(C, X, Y, Z)`` of one image with all channels, or of one a channel."""
        first, affine = images[0].read(case_id)
        if len(images) == 1:
            image = np.moveaxis(first, -1, 0) if first.ndim == 4 else first[None]
            self._check_image(case_id, images[0], image, len(self.channels))
            return image, affine
        channels = []
        for stored in images:
            channel, own = (first, affine) if stored is images[0] else stored.read(case_id)
            self._check_image(case_id, stored, channel[None], 1)
            if channel.shape != first.shape or np.abs(own - affine).max() > AFFINE_TOLERANCE_MM:
                raise DataError(
                    f"case {case_id}: channels lie on different grids ({images[0]} {first.shape}, {stored} {channel.shape}); "
                    "register them and resample them to one"
                )
            channels.append(channel)
        return np.stack(channels), affine

    def _check_image(self, case_id: str, place: Stored, image: NDArray[np.float32], channels: int) -> None:
        if image.ndim != 4 or image.shape[0] != channels:
            raise DataError(
                f"case {case_id}: {place} has shape {image.shape} where {self._layout.said_by} announces {channels} channel(s) "
                f"of three dimensions"
            )
        bad = int(np.count_nonzero(~np.isfinite(image)))
        if bad:
            raise DataError(f"case {case_id}: {place} has {bad} NaN or infinite voxels; repair or remove the case")

    def _check_label(self, case_id: str, place: Stored, label: NDArray[Any]) -> NDArray[np.uint8]:
        values = np.unique(label)
        strange = [v for v in map(float, values) if not v.is_integer() or not 0 <= v < len(self.classes)]
        if strange:
            raise DataError(
                f"case {case_id}: {place} holds label value(s) {', '.join(f'{v:g}' for v in strange[:5])}; "
                f"{self._layout.said_by} names 0 to {len(self.classes) - 1} ({', '.join(self.classes)})"
            )
        return label.astype(np.uint8)


# --- tables -----------------------------------------------------------------------------------------------------------


def inside(root: Path, path: Path) -> Path:
    """`path` below `root`. A link may lead elsewhere, the table may not.

    Raises:
        DataError: it leads out.
    """
    outside = ".." in path.parts and "\0" not in str(path) and not (root / path).resolve().is_relative_to(root.resolve())
    if path.is_absolute() or outside:
        raise DataError(
            f"{root / 'dataset.json'}: the training entry {path} leads out of the data set's folder; entries are paths below it. "
            "To keep files elsewhere, put a link to them into the folder"
        )
    return root / path


def check_files(root: Path, files: Mapping[str, Files], hint: str = "") -> None:
    """Refuses a table of files that are not there.

    Args:
        root: the data set's folder, for messages.
        files: of each case.
        hint: what to do, where completing the download is not it.

    Raises:
        DataError: names the first ones.
    """
    missing = [
        f"{kind} {path}"
        for entry in files.values()
        for kind, stored in (*(("image", image) for image in entry.images), ("label", entry.label))
        for path in stored.paths
        if not is_file(path)
    ]
    if missing:
        shown = "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise DataError(
            f"{root}: dataset.json lists files that do not exist: {shown}. "
            f"{hint or 'Complete the download or remove the entries'}"
        )


def check_classes(where: str, numbers: Mapping[int, str], regions: Sequence[str] = ()) -> tuple[str, ...]:
    """Class names by label number.

    Args:
        where: for messages.
        numbers: name of each label.
        regions: names of what is reported in place of the classes.

    Raises:
        DataError: the numbers have gaps or do not fit a byte, or a name stands for two: results are kept by name.
    """
    if sorted(numbers) != list(range(len(numbers))) or len(numbers) < 2:
        raise DataError(f"{where}: label numbers must run from 0 (background) without gaps, got {sorted(numbers)}")
    if len(numbers) > MAX_CLASSES:
        raise DataError(f"{where}: {len(numbers)} labels; label maps are kept in bytes, which tell {MAX_CLASSES} apart")
    classes = tuple(numbers[i] for i in range(len(numbers)))
    for names in (classes, (classes[0], *regions)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(f"{where}: labels: {twice[0]!r} is the name of two; results are kept by name: give each its own")
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
    """Name of a folder; "." has one too, links keep theirs."""
    return os.path.basename(os.path.abspath(path))


_NNUNET = re.compile(r"Dataset\d{3}_(.+)")
# Where nnU-Net, nnFormer and UNETR++ keep their raw data, from each folder on the way.
_LEVELS = (
    "",
    "nnUNet_raw",
    *(f"{above}{name}_raw_data" for name in ("nnFormer", "unetr_pp") for above in ("", f"{name}_raw/")),
)


def levels(place: Path) -> list[Path]:
    """A data root, and the folders known to hold data sets below one."""
    return [place / level for level in _LEVELS]


def places(names: Sequence[str], data_root: Path | None, search: Sequence[Path]) -> Iterator[Path]:
    """Folders that may be a data set: below the data roots, a root itself, and nnU-Net's ``DatasetNNN_NAME`` there.

    Args:
        names: of the folder, in any case.
        data_root: looked at first, where one was given.
        search: data roots that are looked at after it.
    """
    wanted = {name.lower() for name in names}
    for place in [*([data_root] if data_root else []), *search]:
        if not place.is_dir():
            continue
        if _plain(folder_name(place)) in wanted:
            yield place
        for parent in levels(place):
            yield from (child for child in subfolders(parent) if _plain(child.name) in wanted)


def subfolders(place: Path) -> list[Path]:
    """Folders directly below one, sorted; none where it is none, or may not be looked into."""
    try:
        return sorted(child for child in place.iterdir() if child.is_dir())
    except OSError:
        return []


def nnunet_name(name: str) -> str | None:
    """NAME, lower case, of nnU-Net's ``DatasetNNN_NAME``; None where it is no such name."""
    match = _NNUNET.fullmatch(name)
    return match[1].lower() if match else None


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
    """The first folder of one of these names that one of the readers knows.

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
    roots = [*([data_root] if data_root else []), *search]
    looked = ", ".join(str(root.absolute()) for root in roots) or "nowhere: no data root was given"
    raise MissingDataError(
        f"{name} was not found. Looked for a folder {' or '.join(folders)} (or nnU-Net's DatasetNNN_{folders[0]}) in: {looked}. "
        f"{how}. Point --data-root or INITBENCH_DATA at the folder that holds it. Without any download: --dataset phantom-lung"
    )
