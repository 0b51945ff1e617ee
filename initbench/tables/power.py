"""The power of a study with a given number of seeds and cases, from pilot runs or from stated variance components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from initbench.stats.design import Refused
from initbench.stats.families import baseline_family
from initbench.stats.power import Pilot, detectable, floor, pilot, power_of
from initbench.stats.scale import DIFFERENCE
from initbench.stats.summary import Interval
from initbench.stats.table import ScoreTable
from initbench.tables import words
from initbench.tables.sheet import Sheet
from initbench.tables.titles import settings, titles

SEEDS = (2, 3, 5, 10, 20)
INTERACTIONS = (
    "Interactions of inits and regimens are judged with them. An interaction is made of four rows and a difference of two, so "
    "the smallest interaction that is found is 1.41 times as large."
)


def from_runs(table: ScoreTable) -> Pilot | Refused:
    """The components of a difference in the runs of a block, with what they may be as well."""
    own = table.schemes()
    return Refused(table.refused) if table.refused else pilot(own.by_patient, own.design)


def sheet(name: str, subtitle: str, found: Pilot, cases: Sequence[int], comparisons: int, unit: str = "case") -> Sheet:
    """Smallest differences that S seeds × C cases find, and the floor that more seeds never get below.

    Args:
        name: title of the sheet.
        subtitle: what the pilot is.
        found: the noise of a difference.
        cases: numbers of reported cases, a row each.
        comparisons: differences that are judged together.
        unit: `patient` where several cases are of one patient: then the numbers are of patients.
    """
    rows, values, nothing = [], [], False
    for number in cases:
        points = [_points(detectable(found, seeds, number, comparisons)) for seeds in SEEDS]
        nothing = nothing or any(math.isnan(value.value) for value in points)
        least = floor(found, number, comparisons)
        rows.append((words.count(number, unit), *map(_cell, points), words.number(least, 2)))
        for seeds, value in zip(SEEDS, points, strict=True):
            sure = power_of(found, seeds, number, value.value, comparisons)
            values.append(
                {
                    "name": name,
                    f"{unit}s": number,
                    "seeds": seeds,
                    "detectable": value.value,
                    "detectable_low": value.low,
                    "detectable_high": value.high,
                    "power": sure.value,
                    "power_low": sure.low,
                    "power_high": sure.high,
                    "floor": least,
                    "comparisons": comparisons,
                }
            )
    notes = [
        "Smallest true difference in Dice points that is told from 0 in 80 % of studies, for new seeds and new cases, where "
        f"{words.count(comparisons, 'difference')} {'is' if comparisons == 1 else 'are'} judged at once, as in the tables.",
        "floor: no number of seeds finds a smaller difference, because of the noise of the cases; more cases do.",
    ]
    if nothing:
        notes.append("none: not even a difference of 100 points is found in 80 % of such studies.")
    if found.may_be is not None:
        notes.insert(1, "In brackets: what it may be, as the pilot's few runs tell their own noise only roughly (95 %).")
    notes += words.marked(cell for row in rows for cell in row)
    return Sheet(
        title=name,
        subtitle=subtitle,
        columns=("", *(f"{seeds} seeds" for seeds in SEEDS), "floor"),
        rows=tuple(rows),
        notes=tuple(notes),
        values=tuple(values),
    )


def _points(found: Interval | Refused) -> Interval:
    return Interval(math.nan, math.nan, math.nan) if isinstance(found, Refused) else found


def _cell(found: Interval) -> str:
    """A detectable difference."""
    if math.isnan(found.value):
        return "none"
    return words.interval(found, digits=1 if found.value >= 1 else 2, scale=DIFFERENCE)


def power_sheets(tables: Sequence[ScoreTable], cases: Sequence[int]) -> list[Sheet]:
    """A sheet for every block whose runs can serve as pilot; the others say why not."""
    made = []
    names = titles([table.block for table in tables])
    for name, table in zip(names, tables, strict=True):
        found, text = from_runs(table), settings(table.block)
        if isinstance(found, Refused):
            made.append(Sheet(name, text, ("",), (), (f"No pilot: {found.reason}.",), ()))
        else:
            several = table.patient_count < len(table.cases)
            numbers = cases or (table.patient_count,)
            family = baseline_family(table.inits)
            made.append(sheet(name, text, found, numbers, max(1, family.size), "patient" if several else "case"))
            if family.interactions:
                made[-1] = replace(made[-1], notes=(*made[-1].notes, INTERACTIONS))
    return made
