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
from initbench.tables.study import Study, cells_of
from initbench.tables.titles import settings, title


@dataclass(frozen=True)
class Subsets:
    """Blocks on nested subsets of one split's training cases.

    Attributes:
        block: the keys that they share, and the name of the whole split.
        tables: by number of training cases, the fewest first.
    """

    block: Mapping[str, object]
    tables: Mapping[int, ScoreTable]


def groups(study: Study) -> list[Subsets]:
    """Returns the groups of two or more blocks that differ in the number of training cases alone."""
    numbers = dict(zip(study.runs["cell"], study.runs["training_cases"], strict=True))
    groups: dict[str, dict[int, ScoreTable]] = {}
    for table in study.tables:
        number = int(numbers[cells_of(table)[0]])
        groups.setdefault(repr(sorted(_shared(table).items())), {})[number] = table
    found = []
    for tables in groups.values():
        if len(tables) > 1:
            ordered = dict(sorted(tables.items()))
            found.append(Subsets(_shared(next(iter(ordered.values()))), ordered))
    return found


def _shared(table: ScoreTable) -> dict[str, object]:
    """Returns the block with the name of the split of which its training cases may be a part."""
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
    """Returns the sheet of a group of blocks: for each init a row for each number of training cases, the smallest first."""
    found = sorted(_rows(group, of_cell, against, margin), key=lambda item: (item[1].init, item[0]))
    rows = []
    for cases, row in found:
        rows.append((words.label(row.init), str(cases), words.dice(row.dice), *_compared(row)))
    return Sheet(
        title=f"{title(group.block)}: by the number of training cases",
        subtitle=settings(group.block),
        columns=("initializer", "training cases", "Dice [95 %]", f"vs {words.label(against)} [95 %]", "verdict"),
        rows=tuple(rows),
        notes=(
            "Subsets lie in each other, and all are reported on the same cases. Each number is a block of its own: its verdicts "
            "hold for the inits at that number, and say nothing of a trend over numbers.",
            *words.placebos_of_regimens({row.init for _, row in found}, against),
        ),
        values=(),
    )


def _rows(group: Subsets, of_cell: Mapping[str, Runs], against: str, margin: float) -> Iterator[tuple[int, Standing]]:
    """Yields the rows of all blocks of a group, each behind its number of training cases."""
    for cases, table in group.tables.items():
        for row in standings(table, of_cell, analyse(table, against=against, margin=margin)):
            yield cases, row


def _compared(row: Standing) -> tuple[str, str]:
    """Returns the difference of a row and its verdict; `withheld` in place of the verdict where it is."""
    if row.role == "withheld":
        return "–", "withheld"
    return words.compared(row.difference)
