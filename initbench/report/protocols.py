"""A learned init under both ways to pay for its steps, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from initbench.report.content import Block, Family, Row


@dataclass(frozen=True)
class Pair:
    """An init, and its row under every protocol of the family; None where it was not run under it."""

    init: str
    rows: tuple[Row | None, ...]


def names(family: Family) -> tuple[str, ...]:
    """The protocols of a family."""
    return tuple(block.protocol for block in family.blocks)


def pairs(family: Family) -> list[Pair]:
    """The inits whose steps a protocol counts, that were run under two or more."""
    found: dict[str, list[Row | None]] = {}
    for number, block in enumerate(family.blocks):
        for row in _learned(block):
            found.setdefault(row.init, [None] * len(family.blocks))[number] = row
    return [Pair(init, tuple(rows)) for init, rows in sorted(found.items()) if _count(rows) > 1]


def _learned(block: Block) -> list[Row]:
    return [row for row in block.rows if row.protocol != "any"]


def _count(rows: Sequence[Row | None]) -> int:
    return sum(row is not None for row in rows)
