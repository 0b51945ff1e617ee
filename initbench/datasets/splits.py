"""Which cases train and which are reported."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from initbench.datasets import split_tables
from initbench.datasets.tables import some
from initbench.errors import DataError, UsageError
from initbench.protocols import Dataset, Split, caveat_of, group_of, splits_of, stated_of

SplitName = str  # auto, published, or the name of a published split or of one beside the data
REPORTED_SHARE = 0.2  # of the patients, in the automatic split
_FOLD = re.compile(r"(\d{1,6})/(\d{1,6})")


def published(dataset: str) -> Split | None:
    """The usual split of the papers for a data set's name."""
    found = published_splits(dataset)
    return found[0] if found else None


def published_splits(dataset: str) -> tuple[Split, ...]:
    """Every split of the papers for a data set's name, the usual one first."""
    return tuple(
        Split(table["name"], _sorted(table["train"]), _sorted(table["test"]), _sorted(table.get("unused", ())))
        for table in split_tables.published(dataset)
    )


def _sorted(ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(ids))


def automatic(case_ids: Sequence[str], group: Callable[[str], str] = str) -> Split:
    """Cases in the order of the sha256 of their id; the first 20 % are reported. All cases of a patient are on one side.

    Raises:
        DataError: fewer than two cases.
    """
    groups = _groups(case_ids, group)
    if len(groups) < 2:
        raise DataError(f"{len(groups)} labelled case(s): a split needs at least two, one to train on and one to report")
    reported = max(1, math.floor(REPORTED_SHARE * len(groups)))
    return Split("auto", _flat(groups[reported:]), _flat(groups[:reported]))


def fold(case_ids: Sequence[str], number: int, of: int, group: Callable[[str], str] = str) -> Split:
    """One of several folds: its cases are reported, the others train.

    Every `of`-th patient (case, where each is one) in the order of the sha256 of their ids, so that the folds are disjoint, hold
    everybody, and differ by one at the most; another case in the data set moves some of the others.

    Raises:
        UsageError: there is no such fold. DataError: there are fewer patients than folds.
    """
    if not 1 <= number <= of or of < 2:
        raise UsageError(f"--fold {number}/{of}: a fold is k/K, k from 1 to K and K from 2, as 1/5")
    groups = _groups(case_ids, group)
    if len(groups) < of:
        raise DataError(f"--fold {number}/{of}: there are {len(groups)} labelled cases (or patients) for {of} folds")
    others = [item for place, item in enumerate(groups) if place % of != number - 1]
    return Split(f"fold {number}/{of}", _flat(others), _flat(groups[number - 1 :: of]))


def parse_fold(text: str) -> tuple[int, int]:
    """``k/K`` as two numbers.

    Raises:
        UsageError: it is not of that form, or there is no such fold.
    """
    match = _FOLD.fullmatch(text.strip())
    number, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not match or not 1 <= number <= of or of < 2:
        raise UsageError(f"--fold {text}: a fold is k/K, k from 1 to K and K from 2, as 1/5")
    return number, of


def subset(split: Split, cases: int) -> Split:
    """The split with `cases` of its training cases; its reported cases stay.

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
    said = f"trained on {cases} case{'' if cases == 1 else 's'}"
    unused = tuple(sorted((*split.unused, *ordered[cases:])))
    return replace(split, name=f"{split.name}, {said}", train=tuple(sorted(ordered[:cases])), unused=unused)


def resolve_split(dataset: Dataset, name: SplitName | None, fold_: str | None = None, train_cases: int | None = None) -> Split:
    """The split to use: a fold where one is asked for, else the usual published one where there is one, else the automatic one.

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
    return split if train_cases is None else subset(split, train_cases)


def _whole(dataset: Dataset, name: SplitName | None, fold_: str | None) -> Split:
    def group(case_id: str) -> str:
        return group_of(dataset, case_id)

    if fold_ is not None:
        if name is not None:
            raise UsageError(f"--split {name} and --fold {fold_} exclude each other: folds divide all cases anew")
        return _doubted(dataset, fold(dataset.case_ids(), *parse_fold(fold_), group))
    known = {split.name: split for split in splits_of(dataset)}
    if name == "auto" or (name is None and not known):
        return _doubted(dataset, automatic(dataset.case_ids(), group))
    if name in (None, "published"):
        if not known:
            raise DataError(f"{dataset.name} has no published split; use --split auto")
        return _present(dataset, next(iter(known.values())))
    if name in known:
        return _present(dataset, known[name])
    stated = {split.name: split for split in stated_of(dataset)}
    if name not in stated:
        raise UsageError(f"{dataset.name} has no split {name!r}; it has {', '.join([*known, *stated, 'auto'])}")
    return _present(dataset, stated[name], kind="split")


def _doubted(dataset: Dataset, split: Split) -> Split:
    """A split made here, with what is doubtful about whose the cases are: it rests on that."""
    return replace(split, caveat=caveat_of(dataset))


def _check_sides(dataset: Dataset, split: Split) -> None:
    """Refuses a split that reports what it trained on: a case in two of its lists, or a patient on both sides."""
    listed = Counter((*split.train, *split.test, *split.unused))
    twice = sorted(case for case, count in listed.items() if count > 1)
    if twice:
        raise DataError(f"{dataset.name}: split {split.name} lists case(s) {some(twice)} twice; remove it from one side")
    here = set(dataset.case_ids())
    train = {group_of(dataset, case) for case in here.intersection(split.train)}
    test = {group_of(dataset, case) for case in here.intersection(split.test)}
    both = sorted(train & test)
    if both:
        raise DataError(
            f"{dataset.name}: split {split.name} has patient(s) {some(both)} on both sides, so it would report what it trained "
            "on. Divide by patient, or pass --split auto or --fold k/K, which do"
        )


def _present(dataset: Dataset, split: Split, kind: str = "published split") -> Split:
    """The part of a split of known cases that is here."""
    _check_sides(dataset, split)
    ids = set(dataset.case_ids())
    strange = sorted(ids - set(split.train) - set(split.test) - set(split.unused))
    if strange:
        raise DataError(
            f"{dataset.name}: case(s) {some(strange)} are not in the {kind} {split.name}. Remove them, or pass --split auto"
        )
    train, test, unused = (tuple(case for case in side if case in ids) for side in (split.train, split.test, split.unused))
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


def parts_here(dataset: Dataset) -> list[str]:
    """What is to be said of the splits of which a part is here."""
    known = [(split, "published split") for split in splits_of(dataset)]
    with contextlib.suppress(DataError):  # a file of splits that is damaged is named where they are listed
        known += [(split, "split") for split in stated_of(dataset)]
    said = []
    for split, kind in known:
        with contextlib.suppress(DataError):  # it cannot be used at all, and is listed with its numbers
            said.append(_present(dataset, split, kind).caveat)
    return [text for text in said if text]


def _order(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _groups(case_ids: Sequence[str], group: Callable[[str], str]) -> list[list[str]]:
    """The cases of each patient, patients in the order of the sha256 of their ids."""
    found: dict[str, list[str]] = {}
    for case_id in case_ids:
        found.setdefault(group(case_id), []).append(case_id)
    return [found[name] for name in sorted(found, key=_order)]


def _flat(groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted(case_id for group in groups for case_id in group))
