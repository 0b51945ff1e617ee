"""A learned init under both ways to pay for its steps, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from initbench.report.content import Family, Row


@dataclass(frozen=True)
class Pair:
    """An init, and its row under every protocol of the family; None where it was not run under it."""

    init: str
    rows: tuple[Row | None, ...]


def names(family: Family) -> tuple[str, ...]:
    """Returns the protocols of a family."""
    return tuple(block.protocol for block in family.blocks)


def pairs(family: Family) -> list[Pair]:
    """Returns the learned inits that were run under two or more protocols, by name."""
    found: dict[str, list[Row | None]] = {}
    for number, block in enumerate(family.blocks):
        for row in block.rows:
            if row.protocol != "any":
                found.setdefault(row.init, [None] * len(family.blocks))[number] = row
    several = []
    for init, rows in sorted(found.items()):
        if len(rows) - rows.count(None) > 1:
            several.append(Pair(init, tuple(rows)))
    return several
