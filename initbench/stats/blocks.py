"""Blocks: runs that share everything but the init and the regimen, and so may be compared with each other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from initbench.datasets.known import PATIENTS_OF, SHORT_NAMES
from initbench.stats.treatments import Treatment, treatment, treatments

if TYPE_CHECKING:
    import pandas as pd

PLACEBO = "default(construct='other')"  # the one that `run` adds to a study
POINTS = 100.0  # Dice points
BLOCK = ("dataset", "split", "backbone", "variant", "size", "budget", "steps", "precision", "recipe", "fixed_streams")
MARK = "mark"  # a column of runs, which tells blocks apart that look alike in all that people are shown of `BLOCK`


_PART = re.compile(r"(?P<fold>fold \d+/\d+|nnunet-fold-\d+)?.*?(?:, (?P<cases>trained on \d+ cases?))?")


def part(split: str) -> str:
    """Returns the fold and the number of training cases that the name of a split holds, in words; empty where it holds neither.

    Folds share training cases, and subsets lie in each other: their blocks are no further data sets to anybody who pools.
    """
    match = _PART.fullmatch(split)
    if match is None:
        return ""
    return ", ".join(filter(None, match.groups()))


def whole_split(split: str) -> str:
    """Returns the name of a split without the number of training cases, where it names a subset of them."""
    return split.partition(", trained on ")[0]


def patients(dataset: str) -> str:
    """Returns a name for the patients of a data set; data sets of the same patients share it, and are pooled as one."""
    name = SHORT_NAMES.get(dataset, dataset)
    return PATIENTS_OF.get(name, name)


def is_placebo(name: str) -> bool:
    """Returns whether an init or a row is a placebo: the default drawn again, which differs from `default` by luck alone."""
    return treatment(name).is_placebo


def without_placebos(names: Iterable[str]) -> list[str]:
    """Returns the inits or rows that are schemes of their own, in their order."""
    kept = []
    for name in names:
        if not is_placebo(name):
            kept.append(name)
    return kept


def by_treatment(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Returns the name of each row with its runs, in the order of the names.

    Two cells of one name (an older revision, another plug-in) are two rows: the one with most runs keeps the name, the others
    carry their cell id.

    Args:
        frame: the runs of a block.
    """
    places: dict[Treatment, list[int]] = {}
    for place, of_run in enumerate(treatments(frame)):
        places.setdefault(of_run, []).append(place)
    found: list[tuple[str, pd.DataFrame]] = []
    for own, rows in sorted(places.items(), key=lambda item: item[0].name):
        cells: list[tuple[str, pd.DataFrame]] = []
        for cell, runs in frame.iloc[rows].groupby("cell"):
            cells.append((str(cell), runs))
        cells.sort(key=lambda item: (-len(item[1]), item[0]))
        for number, (cell, runs) in enumerate(cells):
            named = own
            if number > 0:
                named = replace(own, init=f"{own.init} #{cell[:6]}")
            found.append((named.name, runs))
    return found
