"""What a published table is there to show, asked of the runs: differences of rows, with verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from initbench.published.tables import Claim, Table
from initbench.stats.collapse import collapses
from initbench.stats.compare import Difference, difference, untestable_difference
from initbench.stats.design import Array
from initbench.stats.families import Family
from initbench.stats.table import ScoreTable
from initbench.stats.testable import untestable
from initbench.tables import words
from initbench.tables.reproduce.matching import PLACEBO_LABEL, control
from initbench.tables.reproduce.measured import Asked, MeasuredRow, name_of
from initbench.tables.sheet import Sheet

_COLUMNS = ("claim", "paper", "measured [95 %]", "verdict", "the claim here")
_NAN = math.nan


def sheet(asked: Asked, measured: Mapping[str, MeasuredRow]) -> Sheet:
    """The claims of a table with what becomes of them."""
    table = asked.table
    found = judged(table.claims, measured, asked.margin)
    rows = tuple(_claim_cells(table, claim, item, asked.margin) for claim, item in zip(table.claims, found, strict=True))
    reasons = dict.fromkeys(item.reason for item in found if item.reason)
    testable = sum(not item.reason for item in found)
    notes = [
        "Claims: differences in Dice points, for new seeds and new cases, for this training set; intervals and verdicts hold for "
        f"{words.count(testable, 'testable claim')} at once; equivalent: the interval lies within ±{asked.margin:g} points. "
        "Not of its size: the paper's difference is outside the interval.",
        *(f"Untestable: {reason}." for reason in reasons),
        *_placebo(asked, measured),
    ]
    return Sheet(
        title=f"{table.full_name} · what it claims",
        subtitle="each line a difference of two rows",
        columns=_COLUMNS,
        rows=rows,
        notes=tuple(notes),
        values=tuple(_claim_values(asked, claim, item) for claim, item in zip(table.claims, found, strict=True)),
    )


def judged(claims: Sequence[Claim], measured: Mapping[str, MeasuredRow], margin: float) -> list[Difference]:
    """Judges the differences that a table is there to show, as one family, under crossed seeds.

    Two claims are about the same runs where one data set stands in for two: they count as one member of the family.

    Args:
        claims: of the published table.
        measured: the measured rows by their label.
        margin: Dice points within which two rows are equivalent.
    """
    pairs = {}
    keys = []
    for claim in claims:
        rows = (measured.get(claim.first), measured.get(claim.second))
        key = tuple(row.cell if row else claim for row in rows)
        keys.append(key)
        pairs[key] = (*rows, claim)
    reasons = {key: _untestable(*pair) for key, pair in pairs.items()}
    family = Family("claims", max(1, sum(not reason for reason in reasons.values())))
    once = {key: _difference(*pair, reasons[key], margin, family) for key, pair in pairs.items()}
    return [replace(once[key], first=claim.first, second=claim.second) for key, claim in zip(keys, claims, strict=True)]


def _untestable(first: MeasuredRow | None, second: MeasuredRow | None, claim: Claim) -> str:
    """Why a claim cannot be tested; empty where it can."""
    if first is None or second is None:
        missing = [name for name, item in ((claim.first, first), (claim.second, second)) if item is None]
        return f"no run of {' and of '.join(missing)}"
    reason = first.reason or second.reason
    if reason:
        return reason
    if first.table is not second.table:
        return "the rows are of different data sets"
    return untestable(*_scores(first.table, claim), "A", first.table.design)


def _scores(table: ScoreTable, claim: Claim) -> tuple[Array, Array]:
    """Dice points [seed, patient] of the two rows of a claim."""
    a, b = (table.by_patient[table.inits.index(name_of(label))] for label in (claim.first, claim.second))
    return a, b


def _difference(
    first: MeasuredRow | None, second: MeasuredRow | None, claim: Claim, reason: str, margin: float, family: Family
) -> Difference:
    names = (claim.first, claim.second)
    if first is None or second is None:
        return untestable_difference(names, "A", _NAN, reason, family)
    if reason:
        return untestable_difference(names, "A", first.mean.value - second.mean.value, reason, family)
    a, b = _scores(first.table, claim)
    found = difference(a, b, names=names, scope="A", seeds=first.table.design, margin=margin, judged_with=family)
    table = first.table
    own, other = (collapses(table.collapsed[table.inits.index(name_of(label))]) for label in names)
    return replace(found, collapses=(own, other))


def _claim_cells(table: Table, claim: Claim, item: Difference, margin: float) -> tuple[str, ...]:
    published = table.published(claim)
    said = claim.says or "" if published is None else f"{published:+.2f}"
    return (
        f"{claim.first} − {claim.second}",
        said,
        words.difference(item.estimate),
        item.says,
        answer(table, claim, item, margin),
    )


def answer(table: Table, claim: Claim, item: Difference, margin: float) -> str:
    """What becomes of a claim here, in words: its direction, then its size where the paper states one."""
    published = table.published(claim)
    rises = claim.says == "better" if published is None else published > 0
    if item.verdict == "untestable":
        return "cannot be tested"
    if item.verdict.startswith("equivalent"):
        alike = published is not None and abs(published) <= margin
        return "a difference too small to matter, as in the paper" if alike else "not here: no difference that matters"
    found = "undecided"
    if item.verdict != "undecided":
        found = "holds" if (item.verdict == "better") == rises else "the other way round"
    if published is None or item.estimate.low <= published <= item.estimate.high:
        return found
    return f"{found}; not of its size"


def _placebo(asked: Asked, measured: Mapping[str, MeasuredRow]) -> list[str]:
    """What luck alone does between these runs: the default drawn again beside the default of the same setting."""
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
        "published": _NAN if published is None else published,
        "says": claim.says or "",
        **words.tested(item),
        "claim": answer(asked.table, claim, item, asked.margin),
        "instead": ", ".join(asked.overrides.words()),
    }
