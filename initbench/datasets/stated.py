"""What is said of a folder's cases beside them: whose they are, and which of them train.

``patients.json``, ``splits.json`` and nnU-Net's ``splits_final.json`` lie in the folder; the last also in nnUNet_preprocessed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    """The patient of each case as ``patients.json`` (``{"case": "patient"}``) has it; None where there is none.

    Raises:
        DataError: it is no such table, or knows nothing of a case.
    """
    path = root / PATIENTS
    if not is_file(path):
        return None
    table = read_json(path)
    if not isinstance(table, dict) or not all(_is_name(value) for value in table.values()):
        raise DataError(f"{path} must map the id of every case to its patient, as in {{'scan_1': 'anna', 'scan_2': 'anna'}}")
    missing = [case for case in ids if case not in table]
    if missing:
        raise DataError(
            f"{path} says nothing of case(s) {some(missing)}; name the patient of every case. One that has a case alone may be "
            "called like it"
        )
    return {case: str(table[case]) for case in ids}


def inferred(ids: Sequence[str]) -> dict[str, str]:
    """The patient of each case, guessed from its id by known patterns.

    Where no two cases share a patient, the guess says nothing: each case is then a patient under its own name.
    """
    found = {case: _person(case) for case in ids}
    if len(set(found.values())) == len(found):
        return {case: case for case in ids}
    return found


def _person(case: str) -> str:
    match = _PERSON.fullmatch(case) or _FRAME.fullmatch(case)
    return match[1] if match else case


def caveat(ids: Sequence[str]) -> str:
    """What is to be said where ids look as if patients had several cases, and nothing says so; else empty.

    A doubt, and no finding: beginnings that hold a number, are several, and are shared by a few cases each.
    """
    found = Counter(match[1] for match in map(_SHARED.fullmatch, ids) if match)
    shared = [prefix for prefix, count in found.items() if count > 1]
    if len(found) < 2 or not shared or found.total() > _MOST * len(found):
        return ""
    example = ", ".join([case for case in ids if case.startswith(shared[0])][:2])
    return (
        f"ids such as {example} begin alike: if these are of one patient, it may be on both sides of a split. State it in "
        f"{PATIENTS} in the data set's folder ({{case: patient}}); where each case is a patient's only one, state that"
    )


def splits(root: Path) -> tuple[Split, ...]:
    """The splits that lie beside the cases: ``splits.json`` names its own, nnU-Net's are ``nnunet-fold-0`` and so on.

    Raises:
        DataError: a file is not as it has to be.
    """
    return (*_plain(root / SPLITS), *(split for path in _nnunet_places(root)[:1] for split in _folds(path)))


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
    """Files of nnU-Net's folds: beside the cases, then where nnU-Net itself keeps them."""
    root = Path(os.path.abspath(root))
    said = os.environ.get("nnUNet_preprocessed", "")  # noqa: SIM112 - nnU-Net's own spelling
    stores = [home(said)] if said else []
    if root.parent.name == "nnUNet_raw":
        stores.append(root.parent.with_name("nnUNet_preprocessed"))
    places = [root / NNUNET_SPLITS, *(store / root.name / NNUNET_SPLITS for store in stores)]
    return [place for place in places if is_file(place)]


def _folds(path: Path) -> list[Split]:
    table = read_json(path)
    if not isinstance(table, list):
        raise DataError(f"{path} must be a list of folds with train and val, as nnU-Net writes it")
    return [_split(path, f"nnunet-fold-{number}", entry, "val") for number, entry in enumerate(table)]


def _split(path: Path, name: str, entry: Any, reported: str) -> Split:
    lists: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    sides = [lists.get(side, []) for side in ("train", reported, "unused")]
    if not all(isinstance(side, list) and all(isinstance(case, str) for case in side) for side in sides):
        raise DataError(f"{path}: {name}: train and {reported} must be lists of case ids")
    train, test, unused = (tuple(sorted(side)) for side in sides)
    if not train or not test:
        raise DataError(f"{path}: {name}: train and {reported} must hold a case each")
    return Split(name, train, test, unused)


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and bool(str(value).strip())
