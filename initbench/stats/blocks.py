"""What may be compared with what: runs that share everything but the init and the regimen are a block."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from initbench.datasets.known import PATIENTS_OF, SHORT_NAMES
from initbench.stats.treatments import Treatment, treatment, treatments

if TYPE_CHECKING:
    import pandas as pd

PLACEBO = "default(construct='other')"  # the one that `run` adds to a study
POINTS = 100.0  # Dice points
BLOCK = ("dataset", "split", "backbone", "variant", "size", "budget", "steps", "precision", "recipe", "fixed_streams")
MARK = "mark"  # a column of runs: what tells a block from others that look alike in all of `BLOCK` that people are shown


_PART = re.compile(r"(?P<fold>fold \d+/\d+|nnunet-fold-\d+)?.*?(?:, (?P<cases>trained on \d+ cases?))?")


def part(split: str) -> str:
    """The fold and the number of training cases that a split's name tells of; empty where it is of neither.

    Folds share training cases, and subsets lie in each other: their blocks are no further data sets to anybody who pools.
    """
    match = _PART.fullmatch(split)
    return ", ".join(filter(None, match.groups())) if match else ""


def whole_split(split: str) -> str:
    """The split that a subset of training cases is one of."""
    return split.partition(", trained on ")[0]


def patients(dataset: str) -> str:
    """A name for the patients of a data set, which several data sets may share: to anybody who pools these are one."""
    name = SHORT_NAMES.get(dataset, dataset)
    return PATIENTS_OF.get(name, name)


def is_placebo(name: str) -> bool:
    """Whether an init or a row is a placebo, the default drawn again: it differs from `default` by luck alone."""
    return treatment(name).is_placebo


def by_treatment(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The runs of each treatment, by the name of its row.

    Two cells of one name (an older revision, another plug-in) are two rows: the one with most runs keeps the name, the others
    carry their cell id.
    """
    places: dict[Treatment, list[int]] = {}
    for place, of_run in enumerate(treatments(frame)):
        places.setdefault(of_run, []).append(place)
    found: list[tuple[str, pd.DataFrame]] = []
    for own, rows in sorted(places.items(), key=lambda item: item[0].name):
        groups = [(str(cell), runs) for cell, runs in frame.iloc[rows].groupby("cell")]
        cells = sorted(groups, key=lambda item: (-len(item[1]), item[0]))
        for number, (cell, runs) in enumerate(cells):
            named = replace(own, init=f"{own.init} #{cell[:6]}") if number else own
            found.append((named.name, runs))
    return found
