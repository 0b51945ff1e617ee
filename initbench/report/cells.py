"""The cells of the leaderboard: what people read, and what a column is sorted by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from initbench.report.content import Block, Row
from initbench.stats.compare import Verdict
from initbench.stats.summary import Interval
from initbench.tables import leaderboard, words


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: of its cells.
        title: as written.
        about: what it means.
        text: whether it is sorted as text.
    """

    key: str
    title: str
    about: str
    text: bool = False


@dataclass(frozen=True)
class DrawnCell:
    """What is written, and what it is sorted by; None where there is no value."""

    key: str
    said: str
    value: str | float | None
    class_: str = ""


def columns(block: Block) -> list[Column]:
    """The columns of a block's leaderboard."""
    against = words.label(block.against) if block.against else None
    compared = [
        Column("difference", f"vs {against} [95 %]", "Difference in Dice points, with its interval for new seeds and new cases"),
        Column("verdict", "verdict", "What the interval says, judged at 5 % over its family", text=True),
    ]
    counted = [
        Column("steps", "steps", "Of the init stage and of training, the mean over runs"),
        Column("units", "units", "Of the same steps: a forward pass is one unit, a backward pass two"),
    ]
    return [
        Column("init", "initializer", "A click shows cell, recipe, runs, devices and weights", text=True),
        Column("dice", "Dice", "Points: mean over classes, cases and seeds"),
        Column("interval", "[95 %]", "For new seeds and new cases; the intervals of all inits hold at once"),
        Column("sd", "seed SD [95 %]", "Over the scores of runs: what retraining shows on these cases"),
        *(compared if against is not None else ()),
        Column("best", "may be best", "No other init is surely ahead of it", text=True),
        Column("rank", "rank [95 %]", "The places that it may have, from its differences to all others"),
        Column("diverged", "div.", "Diverged runs of those with a score; they score 0"),
        *(counted if block.has_regimens else ()),
        Column("cost", "cost", "A run's mean time; in brackets the init stage's share"),
    ]


def cells(block: Block, row: Row) -> dict[str, DrawnCell]:
    """The cells of a row by column; a withheld one has no more than its runs."""
    found = row.standing
    rank, item = found.rank, found.difference
    made = [
        DrawnCell("dice", words.number(found.dice.value, 1), number(found.dice.value), "strong"),
        DrawnCell("interval", bounds(found.dice), number(found.dice.low)),
        DrawnCell("sd", words.sd(found.sd), number(found.sd.value)),
        DrawnCell("best", leaderboard.best(found), leaderboard.best(found) if rank else None),
        DrawnCell("rank", words.place(rank.rank, rank.low, rank.high) if rank else "–", rank.rank if rank else None),
        DrawnCell("diverged", f"{found.diverged}/{found.seeds}", found.diverged),
        DrawnCell("steps", words.number(found.runs.steps, 0), number(found.runs.steps)),
        DrawnCell("units", words.number(found.runs.units, 0), number(found.runs.units)),
        DrawnCell("cost", cost(row), number(found.runs.seconds)),
    ]
    if item is not None:
        made.append(DrawnCell("difference", words.difference(item.estimate), number(item.estimate.value)))
        made.append(DrawnCell("verdict", item.says, item.verdict, kind(item.verdict)))
    elif block.against is not None:
        made += [DrawnCell("difference", "–", None), DrawnCell("verdict", "–", None)]
    return {cell.key: cell for cell in made}


def number(value: float) -> float | None:
    """A value to sort by, None for none."""
    return value if math.isfinite(value) else None


def bounds(found: Interval) -> str:
    """The interval of a mean Dice alone."""
    return "–" if math.isnan(found.low) else words.dice(found).partition(" ")[2]


def kind(verdict: Verdict) -> str:
    """The class of a verdict for colours and shapes: a difference that is equivalent but not 0 is drawn as equivalent."""
    return verdict.partition(",")[0]


def verdict_class(said: str) -> str:
    """The class of a cell that holds a verdict, of any other cell none."""
    word = said.partition(" ")[0].rstrip(",")
    return word if word in get_args(Verdict) else ""


def cost(row: Row) -> str:
    """The mean time of a run."""
    share = row.standing.runs.init_share
    said = words.duration(row.standing.runs.seconds)
    return said if math.isnan(share) or share < 0.005 else f"{said} ({100 * share:.0f} %)"


def badges(row: Row) -> Sequence[str]:
    """What a row is, beside its name."""
    own = row.standing
    return [
        name
        for name, holds in (
            ("placebo", own.role == "placebo"),
            (own.runs.protocol, own.runs.protocol != "any"),
            ("external weights", own.runs.external),
            ("withheld", own.role == "withheld"),
        )
        if holds
    ]
