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
    """Reads the labelled cases of a table.

    Args:
        root: the data set's folder.
        table: its dataset.json.

    Raises:
        DataError: a list is none, an entry lacks image or label, a path leads out of the folder, or a case is there twice.
    """
    where = root / "dataset.json"
    files: dict[str, Files] = {}
    listed_in: dict[str, str] = {}
    found: dict[str, list[_Entry]] = {}
    remarks = []
    strange: set[str] = set()
    for name in LISTS:
        entries = table.get(name) or []
        if not isinstance(entries, list):
            example = "a list of entries with image and label"
            raise DataError(f"{where}: {name} must be {example}, got {entries!r:.200}")
        labelled = [entry for entry in entries if name == "training" or _is_labelled(entry)]
        found[name] = [_entry(root, name, entry) for entry in labelled]
        for item in found[name]:
            if item.case_id in files:
                twice = "twice"
                if listed_in[item.case_id] != name:
                    twice = f"that is in {listed_in[item.case_id]}, too"
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
        strange.update(_keys(entries))
    strange.difference_update(_ENTRY)
    if strange:
        remarks.append(f"entries of its lists have keys that are not read here: {some(sorted(strange))}")
    folds, doubt = _folds(found)
    said = [f"{where.name}: {remark}" for remark in [*remarks, *doubt]]
    return Listed(files, _own(found), folds, tuple(said))


def _is_labelled(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(entry.get("label"))


def _keys(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, dict):
            yield from map(str, entry)


def _entry(root: Path, name: str, entry: Any) -> _Entry:
    where = root / "dataset.json"
    if not isinstance(entry, dict) or not entry.get("image") or not entry.get("label"):
        raise DataError(f"{where}: a {name} entry needs image and label, got {entry!r:.200}")
    images = entry["image"]
    if not isinstance(images, list):
        images = [images]
    if not all(isinstance(path, str) for path in (*images, entry["label"])):
        raise DataError(
            f"{where}: a {name} entry names its image by a path, or by a list of paths, one a channel, and its label by a path; "
            f"got {entry!r:.200}"
        )
    paths = []
    stored = []
    for written in images:
        path = inside(root, Path(written))
        paths.append(path)
        stored.append(nifti.File(path))
    label = nifti.File(inside(root, Path(entry["label"])))
    return _Entry(_case_id(paths), Files(tuple(stored), label), entry.get("fold"))


def _case_id(images: Sequence[Path]) -> str:
    """Returns the name of an image; for an image in several files the beginning of their names, else the folder they share."""
    stems = [nifti.stem(path.name) for path in images]
    if len(set(stems)) == 1:
        return stems[0]
    beginning = _common_beginning(stems)
    end = max(beginning.rfind(sign) for sign in _BETWEEN)
    name = beginning[: max(end, 0)].rstrip(_BETWEEN)
    if name:
        return name
    folders = {path.parent for path in images}
    if len(folders) == 1:
        return images[0].parent.name
    return stems[0]


def _common_beginning(names: Sequence[str]) -> str:
    shortest = min(names, key=len)
    for place, sign in enumerate(shortest):
        for name in names:
            if name[place] != sign:
                return shortest[:place]
    return shortest


def _own(found: Mapping[str, Sequence[_Entry]]) -> tuple[Split, ...]:
    """Returns the split of the lists: it reports the cases under test, or those under validation where no case is under test."""
    train, validation = _ids(found["training"]), _ids(found["validation"])
    test = _ids([*found["test"], *found["testing"]])
    if not test and not validation:
        return ()
    if test:
        return (Split(OWN_SPLIT, train, test, validation),)
    return (Split(OWN_SPLIT, train, validation),)


def _folds(found: Mapping[str, Sequence[_Entry]]) -> tuple[tuple[Split, ...], list[str]]:
    """Returns a split for every fold, which reports the cases of the fold and trains on the others, and doubts about folds."""
    training = found["training"]
    of_fold: dict[int, list[_Entry]] = {}
    unstated, unusable = 0, 0
    for entry in training:
        if entry.fold is None:
            unstated += 1
        elif type(entry.fold) is not int or entry.fold < 0:
            unusable += 1
        else:
            of_fold.setdefault(entry.fold, []).append(entry)
    if unstated == len(training):
        return (), []
    if unstated or unusable:
        return (), ["fold is not a number from 0 in every entry of training, so that there are no splits of it"]
    if len(of_fold) < 2:
        return (), []
    others: list[_Entry] = []
    for name in LISTS[1:]:
        others += found[name]
    splits = []
    for number, reported in sorted(of_fold.items()):
        train = [entry for entry in training if entry.fold != number]
        splits.append(Split(f"{OWN_SPLIT}-fold-{number}", _ids(train), _ids(reported), _ids(others)))
    return tuple(splits), []


def _ids(entries: Sequence[_Entry]) -> tuple[str, ...]:
    return tuple(sorted(entry.case_id for entry in entries))
