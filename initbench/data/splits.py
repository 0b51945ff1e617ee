"""Which cases train and which are reported."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from importlib import resources
from typing import Literal

from initbench.errors import DataError
from initbench.protocols import Dataset, Split

SplitName = Literal["published", "auto"]
REPORTED_SHARE = 0.2


def published(dataset: str) -> Split | None:
    """The split of the papers for a data set's name."""
    file = resources.files("initbench.data") / "published_splits" / f"{dataset}.json"
    if not file.is_file():
        return None
    table = json.loads(file.read_text("utf-8"))
    return Split(table["name"], tuple(sorted(table["train"])), tuple(sorted(table["test"])))


def automatic(case_ids: Sequence[str]) -> Split:
    """Cases in the order of the sha256 of their id; the first 20 % are reported.

    Raises:
        DataError: fewer than two cases.
    """
    if len(case_ids) < 2:
        raise DataError(f"{len(case_ids)} labelled case(s): a split needs at least two, one to train on and one to report")
    ordered = sorted(case_ids, key=lambda case_id: hashlib.sha256(case_id.encode()).hexdigest())
    reported = max(1, math.floor(REPORTED_SHARE * len(ordered)))
    return Split("auto", tuple(sorted(ordered[reported:])), tuple(sorted(ordered[:reported])))


def resolve(dataset: Dataset, name: SplitName | None) -> Split:
    """The split to use: the published one where there is one, else the automatic one.

    A data set that holds only a part of a published split keeps to it, and the split's name says how many cases there are.

    Raises:
        DataError: ids outside the published split, or one side of it empty.
    """
    ids = dataset.case_ids()
    split = dataset.published_split()
    if name == "published" and split is None:
        raise DataError(f"{dataset.name} has no published split; use --split auto")
    if split is None or name == "auto":
        return automatic(ids)
    strange = sorted(set(ids) - set(split.train) - set(split.test))
    if strange:
        shown = ", ".join(strange[:5]) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
        raise DataError(
            f"{dataset.name}: case(s) {shown} are not in the published split {split.name}. Remove them, or pass --split auto"
        )
    train = tuple(case_id for case_id in split.train if case_id in set(ids))
    test = tuple(case_id for case_id in split.test if case_id in set(ids))
    if not train or not test:
        raise DataError(
            f"{dataset.name}: of the published split {split.name}, {len(train)} training and {len(test)} reported cases are "
            "here; each side needs one. Complete the data, or pass --split auto"
        )
    total = len(split.train) + len(split.test)
    present = len(train) + len(test)
    suffix = "" if present == total else f" ({present} of {total} cases)"
    return Split(split.name + suffix, train, test)
