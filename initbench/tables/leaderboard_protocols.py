"""Both budget protocols side by side, where a learned init was run under both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from initbench.choices import BASELINE, MARGIN
from initbench.stats.analysis import analyse
from initbench.stats.blocks import BLOCK
from initbench.stats.design import Refused
from initbench.stats.table import ScoreTable
from initbench.tables import words
from initbench.tables.sheet import Sheet
from initbench.tables.standings import Runs, Standing, standings
from initbench.tables.study import Study
from initbench.tables.titles import settings, title

PROTOCOLS = ("equal-total", "equal-finetune")


def pairs(tables: Sequence[ScoreTable]) -> list[tuple[ScoreTable, ScoreTable]]:
    """Returns the pairs of blocks that differ in the protocol alone, in the order of `PROTOCOLS`."""
    groups: dict[tuple[str, ...], dict[str, ScoreTable]] = {}
    for table in tables:
        shared = tuple(str(table.block[key]) for key in BLOCK)
        groups.setdefault(shared, {})[str(table.block["protocol"])] = table
    first, second = PROTOCOLS
    found = []
    for group in groups.values():
        if first in group and second in group:
            found.append((group[first], group[second]))
    return found


def protocol_sheets(study: Study, against: str = BASELINE, margin: float = MARGIN) -> list[Sheet]:
    """Returns a sheet for every block that was run under both protocols.

    Args:
        study: the runs and their scores.
        against: the init that the others are compared with.
        margin: Dice points within which two inits are equivalent.
    """
    of_cell = study.of_cell
    return [_sheet(pair, of_cell, against, margin) for pair in pairs(study.tables)]


def _sheet(pair: tuple[ScoreTable, ScoreTable], of_cell: Mapping[str, Runs], against: str, margin: float) -> Sheet:
    """Returns the sheet of a pair of blocks: for each learned init a row for each protocol."""
    sides, compared = [], True
    for table in pair:
        found = analyse(table, against=against, margin=margin)
        if isinstance(found, Refused) or found.against is None:
            compared = False
        sides.append({row.init: row for row in standings(table, of_cell, found)})
    rows = []
    for init, row in sides[0].items():
        if row.runs.protocol == "any" or init not in sides[1]:
            continue
        for protocol, side in zip(PROTOCOLS, sides, strict=True):
            rows.append((words.label(init), protocol, *_cells(side[init], compared=compared)))
    columns = ["initializer", "protocol", "Dice"]
    if compared:
        columns += [f"vs {words.label(against)} [95 %]", "verdict"]
    block = {**pair[0].block, "protocol": "any"}
    return Sheet(
        title=f"{title(block)}: both protocols",
        subtitle=settings(block),
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(
            "equal-total: the steps of a pretext come off the training, so that all inits cost the same; equal-finetune: they "
            "come on top of it, as in most papers. An init that gains under the second alone gains by more training.",
        ),
        values=(),
        names=2,
    )


def _cells(row: Standing, *, compared: bool) -> tuple[str, ...]:
    """Returns the Dice of a row; where rows are compared, also its difference and its verdict, or why it has none."""
    dice = words.number(row.dice.value, 1)
    if not compared:
        return (dice,)
    if row.difference is None and row.role != "init":
        return dice, "–", row.role
    return (dice, *words.compared(row.difference))  # the control is compared with nothing
