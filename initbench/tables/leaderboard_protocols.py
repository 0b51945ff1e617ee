"""Both budget protocols side by side, where a learned init was run under both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from initbench.choices import BASELINE, MARGIN
from initbench.stats.analysis import Analysis, analyse
from initbench.stats.blocks import BLOCK
from initbench.stats.table import ScoreTable
from initbench.tables import words
from initbench.tables.sheet import Sheet
from initbench.tables.standings import Runs, Standing, standings
from initbench.tables.study import Study
from initbench.tables.titles import settings, title

PROTOCOLS = ("equal-total", "equal-finetune")


def pairs(tables: Sequence[ScoreTable]) -> list[tuple[ScoreTable, ScoreTable]]:
    """The blocks that differ in the protocol alone: equal-total, then equal-finetune."""
    found: dict[tuple[str, ...], dict[str, ScoreTable]] = {}
    for table in tables:
        found.setdefault(tuple(str(table.block[key]) for key in BLOCK), {})[str(table.block["protocol"])] = table
    return [(group[PROTOCOLS[0]], group[PROTOCOLS[1]]) for group in found.values() if set(PROTOCOLS) <= set(group)]


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
    analyses = [analyse(table, against=against, margin=margin) for table in pair]
    sides = [{row.init: row for row in standings(table, of_cell, found)} for table, found in zip(pair, analyses, strict=True)]
    learned = [init for init, row in sides[0].items() if row.runs.protocol != "any" and init in sides[1]]
    compared = all(isinstance(found, Analysis) and found.against for found in analyses)
    block = {**pair[0].block, "protocol": "any"}
    return Sheet(
        title=f"{title(block)}: both protocols",
        subtitle=settings(block),
        columns=("initializer", "protocol", "Dice", *((f"vs {words.label(against)} [95 %]", "verdict") if compared else ())),
        rows=tuple(
            (words.label(init), protocol, *_cells(side[init], compared=compared))
            for init in learned
            for protocol, side in zip(PROTOCOLS, sides, strict=True)
        ),
        notes=(
            "equal-total: the steps of a pretext come off the training, so that all inits cost the same; equal-finetune: they "
            "come on top of it, as in most papers. An init that gains under the second alone gains by more training.",
        ),
        values=(),
        names=2,
    )


def _cells(row: Standing, *, compared: bool) -> tuple[str, ...]:
    dice = words.number(row.dice.value, 1)
    if not compared:
        return (dice,)
    item = row.difference
    if item:
        return (dice, words.difference(item.estimate), item.says)
    return (dice, "–", "–" if row.role == "init" else row.role)  # the control is compared with nothing
