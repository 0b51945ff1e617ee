"""Verdicts on inits, tested for what is claimed: new seeds and new cases (A), new seeds (B), or new cases alone (C).

A is the multi-reader multi-case analysis of `mrmc`. The two simpler ones answer smaller questions and say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import special

from initbench.stats.design import SCOPES, Array, Refused, Scope, SeedDesign, checked
from initbench.stats.mrmc import (
    Estimate,
    crossed_difference,
    equivalence,
    nested_difference,
    stacked,
    two_sided,
    two_sided_among_many,
)
from initbench.stats.multiplicity import holm
from initbench.stats.omnibus import Omnibus, omnibus
from initbench.stats.summary import LEVEL, Interval
from initbench.stats.testable import untestable

MARGIN = 0.5  # Dice points within which two inits count as equivalent
Verdict = Literal["better", "worse", "equivalent", "undecided", "untestable"]


@dataclass(frozen=True)
class Difference:
    """`first` minus `second`, in Dice points.

    Attributes:
        estimate: with its 95 % interval, not adjusted for other pairs.
        p: two-sided p of no difference, of this pair alone; NaN where untestable.
        p_holm: adjusted for all pairs of its family; at scope A from p values that hold in the tail (`two_sided_among_many`),
            so that it may be above `p` with one pair, too.
        p_equivalence: p of the two one-sided tests against ±margin, adjusted likewise.
        verdict: `better` and `worse` by `p_holm`; `equivalent` by `p_equivalence`, also where the small difference is not 0.
        reason: why it is untestable, else empty.
    """

    first: str
    second: str
    scope: Scope
    estimate: Interval
    error: float
    df: float
    p: float
    p_holm: float
    p_equivalence: float
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """All differences of a family under one scope.

    Attributes:
        claim: the scope in words.
        compared: number of testable pairs, over which Holm's adjustment went.
    """

    scope: Scope
    claim: str
    design: SeedDesign
    margin: float
    differences: tuple[Difference, ...]
    compared: int
    omnibus: Omnibus | Refused


def difference(
    a: Array,
    b: Array,
    *,
    names: tuple[str, str] = ("a", "b"),
    scope: Scope = "A",
    seeds: SeedDesign = "crossed",
    margin: float = MARGIN,
) -> Difference:
    """`a` minus `b`, both [seed, case] in Dice points, as a family of its own.

    Raises:
        ValueError: shapes differ, a score is not finite, or the margin is not above 0.
    """
    return compare(np.stack([a, b]), names, scope=scope, seeds=seeds, margin=margin).differences[0]


def compare(
    y: Array,
    inits: Sequence[str],
    *,
    scope: Scope = "A",
    seeds: SeedDesign = "crossed",
    against: str | None = None,
    margin: float = MARGIN,
) -> Comparison:
    """Every pair of inits, or every init minus one of them, with verdicts at 5 % over the whole family.

    Of the two kinds of claims, a difference and equivalence, each is wrong somewhere in the family with at most 5 %.

    Args:
        y: Dice points [init, seed, case].
        inits: names along the first axis.
        scope: what the claim is about.
        seeds: crossed or nested in inits.
        against: the init that all others are compared with; all pairs by default.
        margin: Dice points of the equivalence tests.

    Raises:
        ValueError: a score is not finite, names do not match, or the margin is not above 0.
    """
    y = checked(y, "init, seed, case")
    if len(inits) != len(y) or (against is not None and against not in inits):
        raise ValueError(f"{len(y)} inits in the scores, names {list(inits)}, compared with {against}")
    if not margin > 0:
        raise ValueError(f"margin {margin}: equivalence needs one above 0")
    pairs = _pairs(inits, against)
    found = _tested([(y[i], y[j], (inits[i], inits[j])) for i, j in pairs], scope, seeds, margin)
    return Comparison(
        scope=scope,
        claim=SCOPES[scope],
        design=seeds,
        margin=margin,
        differences=tuple(judge(found)),
        compared=sum(not item.reason for item in found),
        omnibus=omnibus(y, scope, seeds),
    )


def _pairs(inits: Sequence[str], against: str | None) -> list[tuple[int, int]]:
    if against is None:
        return list(combinations(range(len(inits)), 2))
    control = list(inits).index(against)
    return [(i, control) for i in range(len(inits)) if i != control]


def judge(found: Sequence[Difference]) -> list[Difference]:
    """Verdicts over a family of differences, from p values that are of each alone (Holm)."""
    adjusted = zip(holm([item.p_holm for item in found]), holm([item.p_equivalence for item in found]), found, strict=True)
    return [
        item if item.reason else replace(item, p_holm=float(p), p_equivalence=float(q), verdict=_verdict(item, p, q))
        for p, q, item in adjusted
    ]


def _verdict(item: Difference, p: float, q: float) -> Verdict:
    if q <= 1 - LEVEL:
        return "equivalent"
    if p <= 1 - LEVEL:
        return "better" if item.estimate.value > 0 else "worse"
    return "undecided"


_Pair = tuple[Array, Array, tuple[str, str]]


def _tested(pairs: Sequence[_Pair], scope: Scope, seeds: SeedDesign, margin: float) -> list[Difference]:
    reasons = [untestable(a, b, scope, seeds, len(pairs)) for a, b, _ in pairs]
    testable = [pair for pair, reason in zip(pairs, reasons, strict=True) if not reason]
    whole = _estimates(testable, scope, seeds) if testable else None
    p = np.array([_signed_rank(a, b) for a, b, _ in testable]) if scope == "C" else None
    found = iter(evaluated([names for *_, names in testable], scope, whole, margin, p) if whole else ())
    return [
        untestable_difference(names, scope, float(a.mean() - b.mean()), reason) if reason else next(found)
        for (a, b, names), reason in zip(pairs, reasons, strict=True)
    ]


def untestable_difference(names: tuple[str, str], scope: Scope, value: float, reason: str) -> Difference:
    """A difference that the runs at hand cannot decide."""
    nan = math.nan
    return Difference(*names, scope, Interval(value, nan, nan), nan, nan, nan, nan, nan, "untestable", reason)


def evaluated(
    pairs: Sequence[tuple[str, str]], scope: Scope, whole: Estimate, margin: float, p: Array | None
) -> list[Difference]:
    """Differences with the p values of each alone, not judged yet; `whole` [pair], and `p` where another test than t gives it."""
    alone = two_sided(whole) if p is None else p
    among_many = two_sided_among_many(whole) if p is None else alone
    half = special.stdtrit(whole.df, 0.5 + LEVEL / 2) * whole.error
    columns = (whole.value, half, whole.error, whole.df, alone, among_many, equivalence(whole, margin))
    return [
        Difference(*names, scope, Interval(value, value - reach, value + reach), error, df, own, many, equal, "undecided")
        for names, (value, reach, error, df, own, many, equal) in zip(pairs, np.stack(columns, axis=1).tolist(), strict=True)
    ]


def _estimates(pairs: Sequence[_Pair], scope: Scope, seeds: SeedDesign) -> Estimate:
    """Of all pairs at once."""
    if scope == "A":
        a, b = np.stack([a for a, *_ in pairs]), np.stack([b for _, b, _ in pairs])
        found = crossed_difference(a - b) if seeds == "crossed" else nested_difference(a, b)
        return found.spread(len(pairs))
    return stacked([_estimate(a, b, scope, seeds) for a, b, _ in pairs])


def _estimate(a: Array, b: Array, scope: Scope, seeds: SeedDesign) -> Estimate:
    """At scope B or C, from one mean per run or per case."""
    if scope == "B" and seeds == "nested":
        return _welch(a.mean(-1), b.mean(-1))
    # One mean per seed, or per case: a paired t.
    return _one_sample((a - b).mean(-1 if scope == "B" else -2))


def _one_sample(d: Array) -> Estimate:
    error = d.std(ddof=1) / math.sqrt(d.size)
    return _one_source(d.mean(), error, d.size - 1)


def _welch(a: Array, b: Array) -> Estimate:
    va, vb = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size
    df = (va + vb) ** 2 / (va**2 / (a.size - 1) + vb**2 / (b.size - 1))
    return _one_source(a.mean() - b.mean(), np.sqrt(va + vb), df)


def _one_source(value: float, error: float, df: float) -> Estimate:
    """An estimate with noise of one kind alone."""
    freedom = np.asarray(df, float)
    return Estimate(np.asarray(value), np.asarray(error), freedom, np.asarray(1.0), freedom, freedom)


def _signed_rank(a: Array, b: Array) -> float:
    from scipy.stats import wilcoxon  # scipy.stats takes long to import

    return float(wilcoxon((a - b).mean(0), zero_method="pratt").pvalue)
