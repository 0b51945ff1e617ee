"""Reads the files beside the cases of a folder that state their patients and their splits.

``patients.json``, ``splits.json`` and nnU-Net's ``splits_final.json`` lie in the folder; the last also in nnUNet_preprocessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from initbench.datasets.tables import read_json, some
from initbench.errors import DataError
from initbench.paths import home, is_file
from initbench.protocols import Split

PATIENTS, SPLITS, NNUNET_SPLITS = "patients.json", "splits.json", "splits_final.json"
_MOST = 10  # cases under a prefix, on average: above that it is a site's or a year's, and no patient's

# Ids that say whose they are, by words that stand for no site and no study: patient001_frame12, subject-7_left, BIDS' sub-A1_T1w;
# and frames, which are of one sequence.
_PERSON = re.compile(r"((?:patient|subject)[-_]?[0-9]+|sub-[a-z0-9]+)(?:[-_.].*)?", re.IGNORECASE)
_FRAME = re.compile(r"(.+)[-_]frame[-_]?[0-9]+", re.IGNORECASE)
_SHARED = re.compile(r"(.*[0-9].*)[-_.][^-_.]+")
_RESERVED = re.compile(r"auto|published|fold .*|nnunet-fold-.*|datalist.*")


def patients(root: Path, ids: Iterable[str]) -> dict[str, str] | None:
    """Reads the patient of each case from ``patients.json`` (``{"case": "patient"}``); None where there is no such file.

    Args:
        root: the data set's folder.
        ids: ids of all its cases.

    Raises:
        DataError: it is no such table, or knows nothing of a case.
    """
    path = root / PATIENTS
    if not is_file(path):
        return None
    table = read_json(path)
    if not isinstance(table, dict) or not all(_is_name(value) for value in table.values()):
        raise DataError(f"{path} must map the id of every case to its patient, as in {{'scan_1': 'anna', 'scan_2': 'anna'}}")
    found = {}
    missing = []
    for case in ids:
        if case in table:
            found[case] = str(table[case])
        else:
            missing.append(case)
    if missing:
        raise DataError(
            f"{path} says nothing of case(s) {some(missing)}; name the patient of every case. One that has a case alone may be "
            "called like it"
        )
    return found


def inferred(ids: Sequence[str]) -> dict[str, str]:
    """Guesses the patient of each case from its id, by known patterns.

    Where no two cases share a patient, the guess says nothing: each case is then a patient under its own name.
    """
    found = {}
    for case in ids:
        match = _PERSON.fullmatch(case) or _FRAME.fullmatch(case)
        found[case] = case
        if match:
            found[case] = match[1]
    if len(set(found.values())) == len(found):
        return dict(zip(ids, ids, strict=True))
    return found


def caveat(ids: Sequence[str]) -> str:
    """Warns where ids look as if patients had several cases, while no file states the patients; "" where they do not look so.

    It is a doubt and no finding: several beginnings of ids hold a number, and a few cases share each of them.
    """
    of_beginning: dict[str, list[str]] = {}
    for case in ids:
        match = _SHARED.fullmatch(case)
        if match:
            of_beginning.setdefault(match[1], []).append(case)
    shared = [beginning for beginning, cases in of_beginning.items() if len(cases) > 1]
    several = sum(map(len, of_beginning.values()))
    if len(of_beginning) < 2 or not shared or several > _MOST * len(of_beginning):
        return ""
    alike = [case for case in ids if case.startswith(shared[0])]
    return (
        f"ids such as {', '.join(alike[:2])} begin alike: if these are of one patient, it may be on both sides of a split. State "
        f"it in {PATIENTS} in the data set's folder ({{case: patient}}); where each case is a patient's only one, state that"
    )


def splits(root: Path) -> tuple[Split, ...]:
    """Reads the splits that lie beside the cases: ``splits.json`` names its own, nnU-Net's are ``nnunet-fold-0`` and so on.

    Raises:
        DataError: a file is not as it has to be.
    """
    found = _plain(root / SPLITS)
    for path in _nnunet_places(root):
        return (*found, *_folds(path))
    return tuple(found)


def _plain(path: Path) -> list[Split]:
    if not is_file(path):
        return []
    table = read_json(path)
    if not isinstance(table, dict):
        raise DataError(f"{path} must map names of splits to lists, as in {{'mine': {{'train': ['a', 'b'], 'test': ['c']}}}}")
    for name in table:
        if not name.strip() or not name.isprintable() or _RESERVED.fullmatch(name):
            raise DataError(
                f"{path}: {name!r:.60} cannot be the name of a split; auto, published and folds mean something else: "
                "choose another name"
            )
    return [_split(path, name, entry, "test") for name, entry in table.items()]


def _nnunet_places(root: Path) -> list[Path]:
    """Returns the files of nnU-Net's folds: beside the cases, then where nnU-Net itself keeps them."""
    root = Path(os.path.abspath(root))
    places = [root]
    said = os.environ.get("nnUNet_preprocessed", "")  # noqa: SIM112 - nnU-Net's own spelling
    if said:
        places.append(home(said) / root.name)
    if root.parent.name == "nnUNet_raw":
        places.append(root.parent.with_name("nnUNet_preprocessed") / root.name)
    return [place / NNUNET_SPLITS for place in places if is_file(place / NNUNET_SPLITS)]


def _folds(path: Path) -> list[Split]:
    table = read_json(path)
    if not isinstance(table, list):
        raise DataError(f"{path} must be a list of folds with train and val, as nnU-Net writes it")
    return [_split(path, f"nnunet-fold-{number}", entry, "val") for number, entry in enumerate(table)]


def _split(path: Path, name: str, entry: Any, reported: str) -> Split:
    if not isinstance(entry, dict):
        entry = {}
    sides = []
    for key in ("train", reported, "unused"):
        side = entry.get(key, [])
        if not isinstance(side, list) or not all(isinstance(case, str) for case in side):
            raise DataError(f"{path}: {name}: train and {reported} must be lists of case ids")
        sides.append(tuple(sorted(side)))
    train, test, unused = sides
    if not train or not test:
        raise DataError(f"{path}: {name}: train and {reported} must hold a case each")
    return Split(name, train, test, unused)


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and bool(str(value).strip())
