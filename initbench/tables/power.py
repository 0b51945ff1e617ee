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
from initbench.tables.standings import UNKNOWN
from initbench.tables.titles import settings, titles

SEEDS = (2, 3, 5, 10, 20)
INTERACTIONS = (
    "Interactions of inits and regimens are judged with them. An interaction is made of four rows and a difference of two, so "
    "the smallest interaction that is found is 1.41 times as large."
)


def from_runs(table: ScoreTable) -> Pilot | Refused:
    """Returns the noise of a difference in the runs of a block, with what it may be as well; or why they tell none."""
    if table.refused:
        return Refused(table.refused)
    own = table.schemes()
    return pilot(own.by_patient, own.design)


def sheet(name: str, subtitle: str, found: Pilot, cases: Sequence[int], comparisons: int, unit: str = "case") -> Sheet:
    """Returns the smallest differences that numbers of seeds and cases find, and the floor below which seeds find nothing.

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
        least = floor(found, number, comparisons)
        cells = [words.count(number, unit)]
        for seeds in SEEDS:
            value = detectable(found, seeds, number, comparisons)
            if isinstance(value, Refused):
                value = UNKNOWN
            nothing = nothing or math.isnan(value.value)
            cells.append(_cell(value))
            sure = power_of(found, seeds, number, value.value, comparisons)
            values.append(
                {
                    "name": name,
                    f"{unit}s": number,
                    "seeds": seeds,
                    **words.interval_values("detectable", value),
                    **words.interval_values("power", sure),
                    "floor": least,
                    "comparisons": comparisons,
                }
            )
        rows.append((*cells, words.number(least, 2)))
    notes = [
        "Smallest true difference in Dice points that is told from 0 in 80 % of studies, for new seeds and new cases, where "
        f"{words.count(comparisons, 'difference')} {words.form(comparisons, 'is', 'are')} judged at once, as in the tables.",
        "floor: no number of seeds finds a smaller difference, because of the noise of the cases; more cases do.",
    ]
    if nothing:
        notes.append("none: not even a difference of 100 points is found in 80 % of such studies.")
    if found.may_be is not None:
        notes.insert(1, "In brackets: what it may be, as the pilot's few runs tell their own noise only roughly (95 %).")
    notes += words.marked(rows)
    return Sheet(
        title=name,
        subtitle=subtitle,
        columns=("", *(f"{seeds} seeds" for seeds in SEEDS), "floor"),
        rows=tuple(rows),
        notes=tuple(notes),
        values=tuple(values),
    )


def _cell(found: Interval) -> str:
    """Returns a detectable difference as people read it."""
    if math.isnan(found.value):
        return "none"
    digits = 2
    if found.value >= 1:
        digits = 1
    return words.interval(found, digits=digits, scale=DIFFERENCE)


def power_sheets(tables: Sequence[ScoreTable], cases: Sequence[int]) -> list[Sheet]:
    """Returns a sheet for every block, with its runs as the pilot; where they cannot be one, it says why.

    Args:
        tables: the scores of the blocks.
        cases: numbers of reported patients, a row each; by default the number of the block.
    """
    made = []
    names = titles([table.block for table in tables])
    for name, table in zip(names, tables, strict=True):
        found, text = from_runs(table), settings(table.block)
        if isinstance(found, Refused):
            made.append(Sheet(name, text, ("",), (), (f"No pilot: {found.reason}.",), ()))
        else:
            unit = "case"
            if table.patient_count < len(table.cases):
                unit = "patient"
            numbers = cases or (table.patient_count,)
            family = baseline_family(table.inits)
            made.append(sheet(name, text, found, numbers, max(1, family.size), unit))
            if family.interactions:
                made[-1] = replace(made[-1], notes=(*made[-1].notes, INTERACTIONS))
    return made
