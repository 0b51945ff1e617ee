"""Asks runs what a published table is there to show: differences of rows, with verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from initbench.published.tables import Claim, Table
from initbench.stats.collapse import Collapses, collapses
from initbench.stats.compare import Difference, difference, untestable_difference
from initbench.stats.design import Array
from initbench.stats.families import Family
from initbench.stats.testable import untestable
from initbench.tables import words
from initbench.tables.reproduce.matching import PLACEBO_LABEL, control
from initbench.tables.reproduce.measured import Asked, MeasuredRow, name_of, number_or_nan
from initbench.tables.sheet import Sheet

_COLUMNS = ("claim", "paper", "measured [95 %]", "verdict", "the claim here")
_NAN = math.nan


def sheet(asked: Asked, measured: Mapping[str, MeasuredRow]) -> Sheet:
    """Returns the claims of a table with what becomes of them."""
    table = asked.table
    rows, values = [], []
    reasons: dict[str, None] = {}
    testable = 0
    for claim, item in zip(table.claims, judged(table.claims, measured, asked.margin), strict=True):
        rows.append(_claim_cells(table, claim, item, asked.margin))
        values.append(_claim_values(asked, claim, item))
        if item.reason:
            reasons[item.reason] = None
        else:
            testable += 1
    notes = [
        "Claims: differences in Dice points, for new seeds and new cases, for this training set; intervals and verdicts hold for "
        f"{words.count(testable, 'testable claim')} at once; equivalent: the interval lies within ±{asked.margin:g} points. "
        "Not of its size: the paper's difference is outside the interval."
    ]
    notes += [f"Untestable: {reason}." for reason in reasons]
    notes += _placebo(asked, measured)
    return Sheet(
        title=f"{table.full_name} · what it claims",
        subtitle="each line a difference of two rows",
        columns=_COLUMNS,
        rows=tuple(rows),
        notes=tuple(notes),
        values=tuple(values),
    )


def judged(claims: Sequence[Claim], measured: Mapping[str, MeasuredRow], margin: float) -> list[Difference]:
    """Judges the differences that a table is there to show, as one family, under crossed seeds.

    Two claims are about the same runs where one data set stands in for two: they count as one member of the family.

    Args:
        claims: of the published table.
        measured: the measured rows by their label.
        margin: Dice points within which two rows are equivalent.
    """
    questions = [_Question(claim, measured.get(claim.first), measured.get(claim.second)) for claim in claims]
    reasons: dict[object, str] = {}
    for question in questions:  # of two about the same runs the last is asked
        reasons[question.runs] = question.untestable()
    family = Family("claims", max(1, list(reasons.values()).count("")))
    found: dict[object, Difference] = {}
    for question in questions:
        found[question.runs] = question.judge(reasons[question.runs], margin, family)
    return [replace(found[question.runs], first=question.claim.first, second=question.claim.second) for question in questions]


@dataclass(frozen=True)
class _Question:
    """A claim of a published table, asked of the two rows that it compares; None of a row without runs."""

    claim: Claim
    first: MeasuredRow | None
    second: MeasuredRow | None

    @property
    def runs(self) -> tuple[object, object]:
        """What two claims share that are about the same runs."""
        first = self.first.cell if self.first else self.claim
        second = self.second.cell if self.second else self.claim
        return first, second

    def untestable(self) -> str:
        """Returns why the claim cannot be tested; empty where it can."""
        if self.first is None and self.second is None:
            return f"no run of {self.claim.first} and of {self.claim.second}"
        if self.first is None:
            return f"no run of {self.claim.first}"
        if self.second is None:
            return f"no run of {self.claim.second}"
        reason = self.first.reason or self.second.reason
        if reason:
            return reason
        if self.first.table is not self.second.table:
            return "the rows are of different data sets"
        return untestable(_scores(self.first), _scores(self.second), "A", self.first.table.design)

    def judge(self, reason: str, margin: float, family: Family) -> Difference:
        """Returns the difference of the two rows with its verdict.

        Args:
            reason: why it cannot be tested; empty where it can.
            margin: Dice points within which two rows are equivalent.
            family: with what it is judged.
        """
        names = (self.claim.first, self.claim.second)
        if self.first is None or self.second is None:
            return untestable_difference(names, "A", _NAN, reason, family)
        if reason:
            return untestable_difference(names, "A", self.first.mean.value - self.second.mean.value, reason, family)
        found = difference(
            _scores(self.first),
            _scores(self.second),
            names=names,
            scope="A",
            seeds=self.first.table.design,
            margin=margin,
            judged_with=family,
        )
        return replace(found, collapses=(_collapses(self.first), _collapses(self.second)))


def _scores(row: MeasuredRow) -> Array:
    """Returns the Dice points of a row, [seed, patient]."""
    return row.table.of(name_of(row.label))


def _collapses(row: MeasuredRow) -> Collapses:
    """Returns how many runs of a row collapsed."""
    return collapses(row.table.fallen(name_of(row.label)))


def _claim_cells(table: Table, claim: Claim, item: Difference, margin: float) -> tuple[str, ...]:
    published = table.published(claim)
    said: str = claim.says or ""
    if published is not None:
        said = f"{published:+.2f}"
    return (
        f"{claim.first} − {claim.second}",
        said,
        words.difference(item.estimate),
        item.says,
        answer(table, claim, item, margin),
    )


def answer(table: Table, claim: Claim, item: Difference, margin: float) -> str:
    """Returns what becomes of a claim here, in words: its direction, then its size where the paper states one.

    Args:
        table: the published table.
        claim: of the table.
        item: the difference as it was measured.
        margin: Dice points within which two rows are equivalent.
    """
    published = table.published(claim)
    if item.verdict == "untestable":
        return "cannot be tested"
    if item.verdict.startswith("equivalent"):
        if published is not None and abs(published) <= margin:
            return "a difference too small to matter, as in the paper"
        return "not here: no difference that matters"
    rises = claim.says == "better"
    if published is not None:
        rises = published > 0
    if item.verdict == "undecided":
        found = "undecided"
    elif (item.verdict == "better") == rises:
        found = "holds"
    else:
        found = "the other way round"
    if published is None or item.estimate.low <= published <= item.estimate.high:
        return found
    return f"{found}; not of its size"


def _placebo(asked: Asked, measured: Mapping[str, MeasuredRow]) -> list[str]:
    """Returns a note on what luck alone does between these runs: the default drawn again beside the default of its setting."""
    own = control(asked.mapped.trials)
    if PLACEBO_LABEL not in measured or own is None:
        return []
    (found,) = judged([Claim(first=PLACEBO_LABEL, second=own.label, says="better")], measured, asked.margin)
    estimate = words.difference(found.estimate)
    warning = ""
    if found.told_from_0:
        warning = " It differs by luck alone: 1 study in 20 shows this; if more do, something else than the init differs."
    return [f"The placebo, default drawn again, is {estimate} beside {own.label}: {found.says}.{warning}"]


def _claim_values(asked: Asked, claim: Claim, item: Difference) -> dict[str, object]:
    published = asked.table.published(claim)
    return {
        "of": "claim",
        "table": asked.table.full_name,
        "first": claim.first,
        "second": claim.second,
        "published": number_or_nan(published),
        "says": claim.says or "",
        **words.tested(item),
        "claim": answer(asked.table, claim, item, asked.margin),
        "instead": ", ".join(asked.overrides.words()),
    }
