"""Divides cases into those that train and those that are reported."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from itertools import chain

from initbench.datasets import split_tables
from initbench.datasets.tables import some
from initbench.errors import DataError, UsageError
from initbench.protocols import Dataset, Split, caveat_of, group_of, splits_of, stated_of

SplitName = str  # auto, published, or the name of a published split or of one beside the data
REPORTED_SHARE = 0.2  # of the patients, in the automatic split
_FOLD = re.compile(r"(\d{1,6})/(\d{1,6})")


def published(dataset: str) -> Split | None:
    """Returns the usual split of the papers for a data set's name; None where they state none."""
    for split in published_splits(dataset):
        return split
    return None


def published_splits(dataset: str) -> tuple[Split, ...]:
    """Returns every split of the papers for a data set's name, the usual one first."""
    found = []
    for table in split_tables.published(dataset):
        unused = table.get("unused", ())
        found.append(Split(table["name"], _sorted(table["train"]), _sorted(table["test"]), _sorted(unused)))
    return tuple(found)


def _sorted(ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(ids))


def automatic(case_ids: Sequence[str], group: Callable[[str], str] = str) -> Split:
    """Divides cases by the sha256 of their patients' ids: the first 20 % of the patients are reported, with all of their cases.

    Args:
        case_ids: ids of the cases.
        group: gives the patient of a case; by default each case is a patient.

    Raises:
        DataError: fewer than two cases.
    """
    groups = _groups(case_ids, group)
    if len(groups) < 2:
        raise DataError(f"{len(groups)} labelled case(s): a split needs at least two, one to train on and one to report")
    reported = max(1, math.floor(REPORTED_SHARE * len(groups)))
    return Split("auto", _flat(groups[reported:]), _flat(groups[:reported]))


def fold(case_ids: Sequence[str], number: int, of: int, group: Callable[[str], str] = str) -> Split:
    """Returns the split of one of several folds: the cases of the fold are reported, the others train.

    A fold holds every `of`-th patient in the order of the sha256 of their ids. So the folds are disjoint, hold every patient, and
    differ by one patient at the most; another patient in the data set moves some of the others.

    Args:
        case_ids: ids of the cases.
        number: of the fold, from 1.
        of: how many folds there are.
        group: gives the patient of a case; by default each case is a patient.

    Raises:
        UsageError: there is no such fold. DataError: there are fewer patients than folds.
    """
    if not 1 <= number <= of or of < 2:
        raise UsageError(f"--fold {number}/{of}: a fold is k/K, k from 1 to K and K from 2, as 1/5")
    groups = _groups(case_ids, group)
    if len(groups) < of:
        raise DataError(f"--fold {number}/{of}: there are {len(groups)} labelled cases (or patients) for {of} folds")
    train, reported = [], []
    for place, cases in enumerate(groups):
        if place % of == number - 1:
            reported.append(cases)
        else:
            train.append(cases)
    return Split(f"fold {number}/{of}", _flat(train), _flat(reported))


def parse_fold(text: str) -> tuple[int, int]:
    """Reads ``k/K`` as two numbers.

    Raises:
        UsageError: it is not of that form, or there is no such fold.
    """
    number, of = 0, 0
    match = _FOLD.fullmatch(text.strip())
    if match:
        number, of = int(match[1]), int(match[2])
    if not 1 <= number <= of or of < 2:
        raise UsageError(f"--fold {text}: a fold is k/K, k from 1 to K and K from 2, as 1/5")
    return number, of


def subset(split: Split, cases: int) -> Split:
    """Returns the split with `cases` of its training cases; its reported cases stay.

    Training cases are ordered by the sha256 of their ids and the first ones taken, so smaller subsets lie within larger ones.
    With all of them it is the split itself, under its own name.

    Raises:
        UsageError: the split has fewer training cases, or `cases` is below 1.
    """
    if not 1 <= cases <= len(split.train):
        raise UsageError(
            f"--train-cases {cases}: split {split.name} has {len(split.train)} training cases; ask for 1 to that many"
        )
    if cases == len(split.train):
        return split
    ordered = sorted(split.train, key=_order)
    name = f"{split.name}, trained on {cases} cases"
    if cases == 1:
        name = f"{split.name}, trained on 1 case"
    unused = tuple(sorted((*split.unused, *ordered[cases:])))
    return replace(split, name=name, train=tuple(sorted(ordered[:cases])), unused=unused)


def resolve_split(dataset: Dataset, name: SplitName | None, fold_: str | None = None, train_cases: int | None = None) -> Split:
    """Finds the split to use: a fold where one is asked for, else the usual published one, or `automatic` where there is none.

    A data set that holds only a part of a published split keeps to it, and the split's name says how many cases there are.

    Args:
        dataset: whose cases are divided.
        name: ``auto``, ``published`` (the usual one), or the name of a published split or of one that lies beside the data.
        fold_: ``k/K``.
        train_cases: how many of the training cases are used; all by default.

    Raises:
        UsageError: no such split or fold, or more training cases than it has. DataError: ids outside the split, one side of it
            empty, or a patient on both.
    """
    split = _whole(dataset, name, fold_)
    if train_cases is None:
        return split
    return subset(split, train_cases)


def _whole(dataset: Dataset, name: SplitName | None, fold_: str | None) -> Split:
    def group(case_id: str) -> str:
        return group_of(dataset, case_id)

    if fold_ is not None:
        if name is not None:
            raise UsageError(f"--split {name} and --fold {fold_} exclude each other: folds divide all cases anew")
        return _doubted(dataset, fold(dataset.case_ids(), *parse_fold(fold_), group))
    known = _by_name(splits_of(dataset))
    if name == "auto" or (name is None and not known):
        return _doubted(dataset, automatic(dataset.case_ids(), group))
    if name in (None, "published"):
        if not known:
            raise DataError(f"{dataset.name} has no published split; use --split auto")
        return _present(dataset, next(iter(known.values())))
    if name in known:
        return _present(dataset, known[name])
    stated = _by_name(stated_of(dataset))
    if name not in stated:
        raise UsageError(f"{dataset.name} has no split {name!r}; it has {', '.join([*known, *stated, 'auto'])}")
    return _present(dataset, stated[name], kind="split")


def _by_name(splits: Iterable[Split]) -> dict[str, Split]:
    return {split.name: split for split in splits}


def _doubted(dataset: Dataset, split: Split) -> Split:
    """Adds the data set's doubt about the patients of its cases to a split that rests on them."""
    return replace(split, caveat=caveat_of(dataset))


def _check_sides(dataset: Dataset, split: Split) -> None:
    """Refuses a split that reports what it trained on: a case in two of its lists, or a patient on both sides."""
    listed = Counter((*split.train, *split.test, *split.unused))
    twice = sorted(case for case, count in listed.items() if count > 1)
    if twice:
        raise DataError(f"{dataset.name}: split {split.name} lists case(s) {some(twice)} twice; remove it from one side")
    here = set(dataset.case_ids())
    train = patients_of(dataset, here.intersection(split.train))
    test = patients_of(dataset, here.intersection(split.test))
    both = sorted(train & test)
    if both:
        raise DataError(
            f"{dataset.name}: split {split.name} has patient(s) {some(both)} on both sides, so it would report what it trained "
            "on. Divide by patient, or pass --split auto or --fold k/K, which do"
        )


def patients_of(dataset: Dataset, case_ids: Iterable[str]) -> set[str]:
    """Returns the patients of some cases, from their names alone."""
    return {group_of(dataset, case_id) for case_id in case_ids}


def _present(dataset: Dataset, split: Split, kind: str = "published split") -> Split:
    """Returns the part of a known split whose cases are here, and says in its name and caveat how many they are."""
    _check_sides(dataset, split)
    ids = set(dataset.case_ids())
    strange = sorted(ids - set(split.train) - set(split.test) - set(split.unused))
    if strange:
        raise DataError(
            f"{dataset.name}: case(s) {some(strange)} are not in the {kind} {split.name}. Remove them, or pass --split auto"
        )
    train = _kept(split.train, ids)
    test = _kept(split.test, ids)
    unused = _kept(split.unused, ids)
    if not train or not test:
        raise DataError(
            f"{dataset.name}: of the {kind} {split.name}, {len(train)} training and {len(test)} reported cases are "
            "here; each side needs one. Complete the data, or pass --split auto"
        )
    total = len(split.train) + len(split.test)
    present = len(train) + len(test)
    if present == total:
        return Split(split.name, train, test, unused)
    caveat = (
        f"of the {kind} {split.name} only {present} of {total} cases are here ({len(train)} of {len(split.train)} to train on, "
        f"{len(test)} of {len(split.test)} reported): scores do not compare with those on all of them. Complete the data for that"
    )
    return Split(f"{split.name} ({present} of {total} cases)", train, test, unused, caveat)


def _kept(side: Sequence[str], ids: Container[str]) -> tuple[str, ...]:
    return tuple(case for case in side if case in ids)


def parts_here(dataset: Dataset) -> list[str]:
    """Returns a sentence for each split of which only a part is here: how many of its cases are."""
    published = splits_of(dataset)
    known = list(published)
    with contextlib.suppress(DataError):  # a file of splits that is damaged is named where they are listed
        known += stated_of(dataset)
    said = []
    for number, split in enumerate(known):
        kind = "split"
        if number < len(published):
            kind = "published split"
        with contextlib.suppress(DataError):  # it cannot be used at all, and is listed with its numbers
            caveat = _present(dataset, split, kind).caveat
            if caveat:
                said.append(caveat)
    return said


def _order(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _groups(case_ids: Sequence[str], group: Callable[[str], str]) -> list[list[str]]:
    """Returns the cases of each patient, patients in the order of the sha256 of their ids."""
    found: dict[str, list[str]] = {}
    for case_id in case_ids:
        found.setdefault(group(case_id), []).append(case_id)
    return [found[name] for name in sorted(found, key=_order)]


def _flat(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted(chain.from_iterable(groups)))
