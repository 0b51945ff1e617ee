"""The cells of the leaderboard, each with the text that people read and the value by which its column is sorted."""

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
    """A column of the leaderboard.

    Attributes:
        key: the key of its cells.
        title: as written.
        about: its meaning, shown at the pointer.
        text: whether it is sorted as text.
    """

    key: str
    title: str
    about: str
    text: bool = False


@dataclass(frozen=True)
class DrawnCell:
    """A cell.

    Attributes:
        key: of its column.
        said: the text that is written.
        value: by which it is sorted; None where there is none.
        class_: for CSS.
    """

    key: str
    said: str
    value: str | float | None
    class_: str = ""


def columns(block: Block) -> list[Column]:
    """Returns the columns of a block's leaderboard."""
    found = [
        Column("init", "initializer", "A click shows cell, recipe, runs, devices and weights", text=True),
        Column("dice", "Dice", "Points: mean over classes, cases and seeds"),
        Column("interval", "[95 %]", "For new seeds and new cases; the intervals of all inits hold at once"),
        Column("sd", "seed SD [95 %]", "Over the scores of runs: what retraining shows on these cases"),
    ]
    if block.against:
        heading = f"vs {words.label(block.against)} [95 %]"
        found += [
            Column("difference", heading, "Difference in Dice points, with its interval for new seeds and new cases"),
            Column("verdict", "verdict", "What the interval says, judged at 5 % over its family", text=True),
        ]
    found += [
        Column("best", "may be best", "No other init is surely ahead of it", text=True),
        Column("rank", "rank [95 %]", "The places that it may have, from its differences to all others"),
        Column("diverged", "div.", "Diverged runs of those with a score; they score 0"),
    ]
    if block.has_regimens:
        found += [
            Column("steps", "steps", "Of the init stage and of training, the mean over runs"),
            Column("units", "units", "Of the same steps: a forward pass is one unit, a backward pass two"),
        ]
    found.append(Column("cost", "cost", "A run's mean time; in brackets the init stage's share"))
    return found


def cells(block: Block, row: Row) -> dict[str, DrawnCell]:
    """Returns the cells of a row by column. A withheld row shows its runs alone."""
    found = row.standing
    rank, item = found.rank, found.difference
    best = DrawnCell("best", leaderboard.best(found), None)
    place = DrawnCell("rank", "–", None)
    if rank:
        best = DrawnCell("best", leaderboard.best(found), leaderboard.best(found))
        place = DrawnCell("rank", words.place(rank.rank, rank.low, rank.high), rank.rank)
    made = [
        DrawnCell("dice", words.number(found.dice.value, 1), number(found.dice.value), "strong"),
        DrawnCell("interval", bounds(found.dice), number(found.dice.low)),
        DrawnCell("sd", words.sd(found.sd), number(found.sd.value)),
        best,
        place,
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
    """Returns a value to sort by; None where it is not finite."""
    if math.isfinite(value):
        return value
    return None


def bounds(found: Interval) -> str:
    """Returns the interval of a mean Dice in words, without the mean."""
    if math.isnan(found.low):
        return "–"
    return words.dice(found).partition(" ")[2]


def kind(verdict: Verdict) -> str:
    """Returns the class of a verdict for colours and shapes: a difference that is equivalent but not 0 is drawn as equivalent."""
    return verdict.partition(",")[0]


def verdict_class(said: str) -> str:
    """Returns the class of a cell that holds a verdict; empty for any other cell."""
    word = said.partition(" ")[0].rstrip(",")
    if word in get_args(Verdict):
        return word
    return ""


def cost(row: Row) -> str:
    """Returns the mean time of a run in words, with the share of its init stage."""
    share = row.standing.runs.init_share
    said = words.measured_time(row.standing.runs.seconds)
    if math.isnan(share) or share < 0.005:
        return said
    return f"{said} ({100 * share:.0f} %)"


def badges(row: Row) -> Sequence[str]:
    """Returns the words that stand beside the name of a row, as `external weights`."""
    own = row.standing
    found = []
    if own.runs.protocol != "any":
        found.append(own.runs.protocol)
    if own.runs.external:
        found.append("external weights")
    if own.role == "withheld":
        found.append("withheld")
    return found
