"""What single runs of each init do: the median one, those that collapse, and how often one run beats one of another init."""

from __future__ import annotations

from collections.abc import Mapping

from initbench.choices import BASELINE, MARGIN
from initbench.stats.analysis import Analysis, analyse
from initbench.stats.design import Refused
from initbench.stats.table import ScoreTable
from initbench.tables import collapses, words
from initbench.tables.sheet import Sheet
from initbench.tables.standings import Runs, Standing, standings
from initbench.tables.study import Study
from initbench.tables.titles import settings, title

_LEAST = 2  # seeds: one run is its own median


def run_sheets(study: Study, against: str = BASELINE, margin: float = MARGIN) -> list[Sheet]:
    """Returns a sheet for every block of two seeds and more in which inits are compared.

    Args:
        study: the runs and their scores.
        against: the init that the others are compared with.
        margin: Dice points within which two inits are equivalent.
    """
    made = []
    for table in study.tables:
        sheet = run_sheet(table, study.of_cell, analyse(table, against=against, margin=margin))
        if sheet is not None:
            made.append(sheet)
    return made


def run_sheet(table: ScoreTable, of_cell: Mapping[str, Runs], found: Analysis | Refused) -> Sheet | None:
    """Returns the sheet of a block; None with one seed, and where inits are not compared with one of them.

    Args:
        table: the scores of the block.
        of_cell: the runs of each cell, summed up.
        found: the analysis of the scores, or why there is none.
    """
    if isinstance(found, Refused) or found.against is None or table.y.shape[1] < _LEAST:
        return None
    against = found.against
    rows = []
    for row in standings(table, of_cell, found):
        if row.role != "withheld":
            rows.append(_cells(row))
    control = words.label(against)
    seeds = ""
    if table.design == "crossed":
        seeds = ", of the same seed"
    return Sheet(
        title=f"{title(table.block)}: single runs",
        subtitle=f"{settings(table.block)} · {words.shape(table)}",
        columns=("initializer", "collapsed", "median run", "runs that stand", f"beats {control}", "where both stand [95 %]"),
        rows=tuple(rows),
        notes=tuple(words.placebos_of_regimens(table.inits, against)),
        values=(),
        legend=(
            f"{collapses.LEGEND} runs that stand: the mean of the others.",
            f"beats {control}: how often a run of the init scores higher than one of {control}{seeds}, ties counted half, on "
            "these cases.",
            f"where both stand: the difference to {control} over the seeds at which neither collapsed. It is no answer to which "
            "init is better: verdicts are over all runs.",
            *words.marked(rows),
        ),
    )


def _cells(row: Standing) -> tuple[str, ...]:
    """Returns what single runs of an init do, as people read it."""
    both = "–"
    if row.standing is not None:
        both = words.difference(row.standing.estimate)
    elif row.difference is not None:
        both = words.difference(row.difference.estimate)
    return (
        words.label(row.init),
        str(row.collapses),
        words.number(row.median_run, 1),
        words.number(row.standing_mean, 1),
        words.share(row.beats.value),
        both,
    )
