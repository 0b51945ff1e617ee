"""What an init is worth with few training cases: blocks that differ in their number alone, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from initbench.choices import BASELINE, MARGIN
from initbench.stats.analysis import analyse
from initbench.stats.blocks import whole_split
from initbench.stats.table import ScoreTable
from initbench.tables import words
from initbench.tables.sheet import Sheet
from initbench.tables.standings import Runs, Standing, standings
from initbench.tables.study import Study
from initbench.tables.titles import settings, title


@dataclass(frozen=True)
class Subsets:
    """Blocks on nested subsets of one split's training cases.

    Attributes:
        block: what they share; its split is the whole one.
        tables: by number of training cases, the fewest first.
    """

    block: Mapping[str, object]
    tables: Mapping[int, ScoreTable]


def groups(study: Study) -> list[Subsets]:
    """The blocks of a study that differ in the number of training cases alone, where there are two or more."""
    numbers = {str(cell): int(count) for cell, count in zip(study.runs["cell"], study.runs["training_cases"], strict=True)}
    found: dict[str, dict[int, ScoreTable]] = {}
    for table in study.tables:
        cells = (*table.cells, *(item.cell for item in table.withheld))
        found.setdefault(repr(sorted(_shared(table).items())), {})[numbers[cells[0]]] = table
    ordered = [dict(sorted(tables.items())) for tables in found.values() if len(tables) > 1]
    return [Subsets(_shared(next(iter(tables.values()))), tables) for tables in ordered]


def _shared(table: ScoreTable) -> dict[str, object]:
    return {**table.block, "split": whole_split(str(table.block["split"]))}


def subset_sheets(study: Study, against: str = BASELINE, margin: float = MARGIN) -> list[Sheet]:
    """Returns a sheet for every group of blocks that differ in the number of training cases alone.

    Args:
        study: the runs and their scores.
        against: the init that the others are compared with.
        margin: Dice points within which two inits are equivalent.
    """
    of_cell = study.of_cell
    return [_sheet(group, of_cell, against, margin) for group in groups(study)]


def _sheet(group: Subsets, of_cell: Mapping[str, Runs], against: str, margin: float) -> Sheet:
    rows = sorted(_rows(group, of_cell, against, margin), key=lambda item: (item[1].init, item[0]))
    return Sheet(
        title=f"{title(group.block)}: by the number of training cases",
        subtitle=settings(group.block),
        columns=("initializer", "training cases", "Dice [95 %]", f"vs {words.label(against)} [95 %]", "verdict"),
        rows=tuple((words.label(row.init), str(cases), words.dice(row.dice), *_compared(row)) for cases, row in rows),
        notes=(
            "Subsets lie in each other, and all are reported on the same cases. Each number is a block of its own: its verdicts "
            "hold for the inits at that number, and say nothing of a trend over numbers.",
            *words.placebos_of_regimens({row.init for _, row in rows}, against),
        ),
        values=(),
    )


def _rows(group: Subsets, of_cell: Mapping[str, Runs], against: str, margin: float) -> Iterator[tuple[int, Standing]]:
    for cases, table in group.tables.items():
        for row in standings(table, of_cell, analyse(table, against=against, margin=margin)):
            yield cases, row


def _compared(row: Standing) -> tuple[str, str]:
    if row.role == "withheld":
        return "–", "withheld"
    item = row.difference
    return (words.difference(item.estimate), item.says) if item else ("–", "–")
