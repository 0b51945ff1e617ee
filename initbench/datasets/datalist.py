"""The lists of cases in a dataset.json of the Decathlon's kind, and what MONAI's tools add to them.

MONAI's lists (Project-MONAI/MONAI:monai/data/decathlon_datalist.py) may hold labelled cases under ``validation`` and ``test`` or
``testing``, a ``fold`` with every entry, and an image as a list of files, one a channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initbench.datasets.files import nifti
from initbench.datasets.folder import Files, inside
from initbench.datasets.tables import some
from initbench.errors import DataError
from initbench.protocols import Split

OWN_SPLIT = "datalist"
LISTS = ("training", "validation", "test", "testing")
_ENTRY = ("image", "label", "fold")
_BETWEEN = "-_. "  # signs between the name of a case and the name of a channel


@dataclass(frozen=True)
class Listed:
    """What the lists of a table say.

    Attributes:
        own: the division into training and reported cases, where labelled cases stand in other lists than ``training``.
        folds: a split for every fold of the training cases.
        remarks: what is in the lists and not used.
    """

    files: dict[str, Files]
    own: tuple[Split, ...]
    folds: tuple[Split, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """A labelled case of a list."""

    case_id: str
    files: Files
    fold: Any


def read_lists(root: Path, table: Mapping[str, Any]) -> Listed:
    """The labelled cases of a table.

    Raises:
        DataError: a list is none, an entry lacks image or label, a path leads out of the folder, or a case is there twice.
    """
    where = root / "dataset.json"
    files: dict[str, Files] = {}
    listed_in: dict[str, str] = {}
    found: dict[str, list[_Entry]] = {}
    remarks = []
    for name in LISTS:
        entries = table.get(name) or []
        if not isinstance(entries, list):
            example = "a list of entries with image and label"
            raise DataError(f"{where}: {name} must be {example}, got {entries!r:.200}")
        labelled = [entry for entry in entries if name == "training" or _is_labelled(entry)]
        found[name] = [_entry(root, name, entry) for entry in labelled]
        for item in found[name]:
            if item.case_id in files:
                twice = "twice" if listed_in[item.case_id] == name else f"that is in {listed_in[item.case_id]}, too"
                both = f"{files[item.case_id].images[0]} and {item.files.images[0]}"
                raise DataError(
                    f"{where}: {name} lists case {item.case_id} {twice} ({both}). A case is in one list, once, and has the name "
                    "of its image's file: remove an entry, or give each file a name of its own"
                )
            files[item.case_id] = item.files
            listed_in[item.case_id] = name
        if name == "validation" and len(labelled) < len(entries):
            remarks.append(
                f"{len(entries) - len(labelled)} of {len(entries)} entries of validation have no label; they are not used"
            )
    strange = sorted({key for name in LISTS for key in _keys(table.get(name)) if key not in _ENTRY})
    if strange:
        remarks.append(f"entries of its lists have keys that are not read here: {some(strange)}")
    folds, doubt = _folds(found)
    said = tuple(f"{where.name}: {remark}" for remark in [*remarks, *doubt])
    return Listed(files, _own(found), folds, said)


def _is_labelled(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(entry.get("label"))


def _keys(entries: Any) -> Iterator[str]:
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            yield from map(str, entry)


def _entry(root: Path, name: str, entry: Any) -> _Entry:
    where = root / "dataset.json"
    if not isinstance(entry, dict) or not entry.get("image") or not entry.get("label"):
        raise DataError(f"{where}: a {name} entry needs image and label, got {entry!r:.200}")
    images = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
    if not all(isinstance(path, str) for path in (*images, entry["label"])):
        raise DataError(
            f"{where}: a {name} entry names its image by a path, or by a list of paths, one a channel, and its label by a path; "
            f"got {entry!r:.200}"
        )
    paths = [inside(root, Path(path)) for path in images]
    files = Files(tuple(nifti.File(path) for path in paths), nifti.File(inside(root, Path(entry["label"]))))
    return _Entry(_case_id(paths), files, entry.get("fold"))


def _case_id(images: Sequence[Path]) -> str:
    """The name of an image; of one in several files what their names begin with, else the folder that they share."""
    stems = [nifti.stem(path.name) for path in images]
    if len(set(stems)) == 1:
        return stems[0]
    shared = 0  # letters that all of them begin with
    while all(len(stem) > shared and stem[shared] == stems[0][shared] for stem in stems):
        shared += 1
    ends = [place for place, sign in enumerate(stems[0][:shared]) if sign in _BETWEEN]
    name = stems[0][: ends[-1]].rstrip(_BETWEEN) if ends else ""
    if name:
        return name
    return images[0].parent.name if len({path.parent for path in images}) == 1 else stems[0]


def _own(found: Mapping[str, Sequence[_Entry]]) -> tuple[Split, ...]:
    """The split of the lists: what is under test is reported; validation is, where nothing is under test."""
    train, validation = _ids(found["training"]), _ids(found["validation"])
    test = _ids([*found["test"], *found["testing"]])
    if not test and not validation:
        return ()
    return (Split(OWN_SPLIT, train, test, validation) if test else Split(OWN_SPLIT, train, validation),)


def _folds(found: Mapping[str, Sequence[_Entry]]) -> tuple[tuple[Split, ...], list[str]]:
    """A split for every fold: its cases are reported and the others train; and what is doubtful about them."""
    training = found["training"]
    stated = [entry for entry in training if entry.fold is not None]
    if not stated:
        return (), []
    if len(stated) < len(training) or not all(type(entry.fold) is int and entry.fold >= 0 for entry in stated):
        return (), ["fold is not a number from 0 in every entry of training, so that there are no splits of it"]
    numbers = sorted({entry.fold for entry in training})
    if len(numbers) < 2:
        return (), []
    others = _ids([entry for name in LISTS[1:] for entry in found[name]])
    splits = []
    for number in numbers:
        train = _ids([entry for entry in training if entry.fold != number])
        test = _ids([entry for entry in training if entry.fold == number])
        splits.append(Split(f"{OWN_SPLIT}-fold-{number}", train, test, others))
    return tuple(splits), []


def _ids(entries: Sequence[_Entry]) -> tuple[str, ...]:
    return tuple(sorted(entry.case_id for entry in entries))
