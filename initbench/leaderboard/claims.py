"""What a published table is there to show, asked of the runs: differences of rows, with verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from initbench.leaderboard import words
from initbench.leaderboard.matching import PLACEBO_LABEL, control
from initbench.leaderboard.measured import Asked, Measured, name_of
from initbench.leaderboard.sheet import Sheet
from initbench.published.tables import Claim, Table
from initbench.stats.compare import Difference, difference, judge, untestable_difference
from initbench.stats.testable import untestable

_COLUMNS = ("claim", "paper", "measured [95 %]", "verdict", "the claim here")
_NAN = math.nan


def sheet(asked: Asked, measured: Mapping[str, Measured]) -> Sheet:
    """The claims of a table with what becomes of them."""
    table = asked.table
    found = judged(table.claims, measured, asked.margin)
    rows = tuple(_claim_cells(table, claim, item, asked.margin) for claim, item in zip(table.claims, found, strict=True))
    reasons = dict.fromkeys(item.reason for item in found if item.reason)
    testable = sum(not item.reason for item in found)
    notes = [
        "Claims: differences in Dice points, for new seeds and new cases, for this training set; verdicts adjusted over "
        f"{words.count(testable, 'testable claim')} (Holm); equivalent: within ±{asked.margin:g} points. Not of its size: the "
        "paper's difference is outside the interval.",
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


def judged(claims: Sequence[Claim], measured: Mapping[str, Measured], margin: float) -> list[Difference]:
    """The differences that a table is there to show, judged as one family; under crossed seeds.

    Claims about the same runs, as those of two data sets that both are asked of another one, are one member of it.
    """
    pairs = [(measured.get(claim.first), measured.get(claim.second)) for claim in claims]
    keys = [tuple(item.cell if item else claim for item in pair) for pair, claim in zip(pairs, claims, strict=True)]
    once = {key: _difference(*pair, claim, margin) for key, pair, claim in zip(keys, pairs, claims, strict=True)}
    found = dict(zip(once, judge(list(once.values())), strict=True))
    return [replace(found[key], first=claim.first, second=claim.second) for key, claim in zip(keys, claims, strict=True)]


def _difference(first: Measured | None, second: Measured | None, claim: Claim, margin: float) -> Difference:
    names = (claim.first, claim.second)
    if first is None or second is None:
        missing = [name for name, item in zip(names, (first, second), strict=True) if item is None]
        return untestable_difference(names, "A", _NAN, f"no run of {' and of '.join(missing)}")
    value = first.mean.value - second.mean.value
    reason = first.reason or second.reason
    if reason:
        return untestable_difference(names, "A", value, reason)
    if first.table is not second.table:
        return untestable_difference(names, "A", value, "the rows are of different data sets")
    table = first.table
    a, b = (table.y[table.inits.index(name)] for name in map(name_of, names))
    reason = untestable(a, b, "A", table.design)
    if reason:
        return untestable_difference(names, "A", value, reason)
    return difference(a, b, names=names, scope="A", seeds=table.design, margin=margin)


def _claim_cells(table: Table, claim: Claim, item: Difference, margin: float) -> tuple[str, ...]:
    published = table.published(claim)
    said = claim.says or "" if published is None else f"{published:+.2f}"
    return (
        f"{claim.first} − {claim.second}",
        said,
        words.interval(item.estimate, signed=True),
        item.verdict,
        answer(table, claim, item, margin),
    )


def answer(table: Table, claim: Claim, item: Difference, margin: float) -> str:
    """What becomes of a claim here, in words: its direction, then its size where the paper states one."""
    published = table.published(claim)
    rises = claim.says == "better" if published is None else published > 0
    if item.verdict == "untestable":
        return "cannot be tested"
    if item.verdict == "equivalent":
        alike = published is not None and abs(published) <= margin
        return "a difference too small to matter, as in the paper" if alike else "not here: no difference that matters"
    found = "undecided"
    if item.verdict != "undecided":
        found = "holds" if (item.verdict == "better") == rises else "the other way round"
    if published is None or item.estimate.low <= published <= item.estimate.high:
        return found
    return f"{found}; not of its size"


def _placebo(asked: Asked, measured: Mapping[str, Measured]) -> list[str]:
    """What luck alone does between these runs: the default drawn again beside the default of the same setting."""
    own = control(asked.mapped.trials)
    if PLACEBO_LABEL not in measured or own is None:
        return []
    (found,) = judged([Claim(first=PLACEBO_LABEL, second=own.label, says="better")], measured, asked.margin)
    estimate = words.interval(found.estimate, signed=True)
    as_it_should = ", as it should" if found.verdict in ("undecided", "equivalent") else ""
    return [f"The placebo, default drawn again, is {estimate} beside {own.label}: {found.verdict}{as_it_should}."]


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
