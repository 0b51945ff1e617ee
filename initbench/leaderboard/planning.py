"""What a study of so many seeds and cases can find, from pilot runs or stated components."""

from __future__ import annotations

import math
from collections.abc import Sequence

from initbench.leaderboard.sheet import Sheet
from initbench.leaderboard.titles import settings, title
from initbench.stats.components import components
from initbench.stats.design import Refused
from initbench.stats.power import Pilot, detectable, floor, pilot
from initbench.stats.table import ScoreTable

SEEDS = (2, 3, 5, 10, 20)


def from_runs(table: ScoreTable) -> Pilot | Refused:
    """The components of a difference in the runs of a block."""
    table = table.schemes()
    found = Refused(table.refused) if table.refused else components(table.y, table.design)
    return found if isinstance(found, Refused) else pilot(found)


def sheet(name: str, subtitle: str, found: Pilot, cases: Sequence[int], comparisons: int) -> Sheet:
    """Smallest differences that S seeds x C cases find, and what is left with ever more seeds."""
    rows, values = [], []
    for number in cases:
        points = [_points(detectable(found, seeds, number, comparisons)) for seeds in SEEDS]
        least = floor(found, number, comparisons)
        rows.append((f"{number} cases", *(f"{value:.2f}" for value in points), f"{least:.2f}"))
        values += [
            {"name": name, "cases": number, "seeds": seeds, "detectable": value, "floor": least, "comparisons": comparisons}
            for seeds, value in zip(SEEDS, points, strict=True)
        ]
    family = "one pair" if comparisons == 1 else f"the first of {comparisons} pairs"
    return Sheet(
        title=name,
        subtitle=subtitle,
        columns=("", *(f"{seeds} seeds" for seeds in SEEDS), "ever more"),
        rows=tuple(rows),
        notes=(
            f"Smallest true difference in Dice points found with 80 % power at 5 %, for new seeds and new cases, {family}.",
            "The last column is what the noise of the cases hides from any number of seeds: only more cases get below it.",
        ),
        values=tuple(values),
    )


def _points(found: float | Refused) -> float:
    return math.nan if isinstance(found, Refused) else found


def sheets(tables: Sequence[ScoreTable], cases: Sequence[int]) -> list[Sheet]:
    """A sheet for every block whose runs can serve as pilot; the others say why not."""
    made = []
    for table in tables:
        found = from_runs(table)
        name, text = title(table.block), settings(table.block)
        if isinstance(found, Refused):
            made.append(Sheet(name, text, ("",), (), (f"No pilot: {found.reason}.",), ()))
        else:
            made.append(sheet(name, text, found, cases or (len(table.cases),), max(1, len(table.schemes().inits) - 1)))
    return made
