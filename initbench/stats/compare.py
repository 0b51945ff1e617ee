"""Verdicts on inits, for what is claimed: new seeds and new cases (A), new seeds (B), or new cases alone (C).

A is the multi-reader multi-case analysis of `mrmc`. The two simpler ones answer smaller questions and say so. One procedure gives
the p value, the interval and the verdict of a difference: its quantile in `tails`, at 5 % divided by the number of differences
that are judged together (Bonferroni). Holm's procedure finds more and has no intervals that belong to it (arXiv:2402.13719).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from initbench.choices import MARGIN
from initbench.stats.collapse import Collapses, collapses
from initbench.stats.design import SCOPES, Array, Refused, Scope, SeedDesign, checked
from initbench.stats.families import Facts, Family, family
from initbench.stats.mrmc import mean_difference
from initbench.stats.omnibus import Omnibus, omnibus
from initbench.stats.scale import DIFFERENCE, cut
from initbench.stats.summary import LEVEL, Interval
from initbench.stats.tails import Estimate, equivalence, one_source, quantile, two_sided
from initbench.stats.testable import untestable
from initbench.stats.treatments import compared_with

Verdict = Literal[
    "better", "worse", "equivalent", "equivalent, but above 0", "equivalent, but below 0", "undecided", "untestable"
]
_TURNED: dict[Verdict, Verdict] = {
    "better": "worse",
    "worse": "better",
    "equivalent, but above 0": "equivalent, but below 0",
    "equivalent, but below 0": "equivalent, but above 0",
}


@dataclass(frozen=True)
class Difference:
    """The mean of `first` less the mean of `second`, in Dice points.

    Attributes:
        first: name of a row; `second` of the other one.
        scope: what the difference is claimed for.
        estimate: with the interval that holds for all differences of the family at once, in 95 % of studies.
        error: standard error of the estimate.
        p: two-sided p of no difference, as if this were the only one; NaN where untestable.
        p_adjusted: p for the whole family: times its size, at most 1. Below 0.05 where the interval excludes 0.
        p_equivalence: p of a difference beyond ±margin, for the whole family. Below 0.05 where the interval lies within ±margin.
        verdict: what the interval says.
        family: the differences that are judged together with this one.
        reason: why it is untestable, else empty.
        collapses: of the runs of the first row and of the second; None where they are not known.
    """

    first: str
    second: str
    scope: Scope
    estimate: Interval
    error: float
    p: float
    p_adjusted: float
    p_equivalence: float
    verdict: Verdict
    family: Family
    reason: str = ""
    collapses: tuple[Collapses, Collapses] | None = None

    @property
    def says(self) -> str:
        """The verdict in words. Where an init is ahead, it says how often this init may collapse, until that is ruled out."""
        if self.verdict not in ("better", "worse") or self.collapses is None:
            return self.verdict
        own, other = self.collapses
        ahead, name = own, "it"
        if self.verdict == "worse":
            ahead, name = other, "the other"
        if ahead.are_ruled_out:
            return self.verdict
        if ahead.count:
            return f"{self.verdict}, though {name} collapsed in {ahead}"
        return f"{self.verdict} where {name} does not collapse {ahead.told}"

    @property
    def told_from_0(self) -> bool:
        """Whether the verdict says that the difference is not 0."""
        return self.verdict in _TURNED

    def turned(self) -> Difference:
        """Returns `second` minus `first`: the same numbers with the other sign."""
        estimate = Interval(-self.estimate.value, -self.estimate.high, -self.estimate.low)
        verdict = _TURNED.get(self.verdict, self.verdict)
        swapped = self.collapses
        if swapped is not None:
            swapped = swapped[::-1]
        return replace(self, first=self.second, second=self.first, estimate=estimate, verdict=verdict, collapses=swapped)


@dataclass(frozen=True)
class Comparison:
    """Differences of a block under one scope.

    Attributes:
        scope: what the differences are claimed for; `claim` says it in words.
        design: whether the inits share their seeds.
        margin: Dice points within which two inits are equivalent.
        omnibus: the test of all inits together, or why there is none.
    """

    scope: Scope
    claim: str
    design: SeedDesign
    margin: float
    differences: tuple[Difference, ...]
    omnibus: Omnibus | Refused


def difference(
    a: Array,
    b: Array,
    *,
    names: tuple[str, str] = ("a", "b"),
    scope: Scope = "A",
    seeds: SeedDesign = "crossed",
    margin: float = MARGIN,
    judged_with: Family | None = None,
) -> Difference:
    """Returns the difference of two inits with its interval and its verdict.

    Args:
        a: Dice points of the first init, [seed, case].
        b: Dice points of the second one.
        names: of the two.
        scope: what the difference is claimed for.
        seeds: whether the two share their seeds.
        margin: Dice points within which two inits are equivalent.
        judged_with: the family of the difference; by default it is judged as the only one.

    Raises:
        ValueError: shapes differ, a score is not finite, or the margin is not above 0.
    """
    y = checked(np.stack([a, b]), "init, seed, case")
    _check_margin(margin)
    pair = _Pair(y[0], y[1], names, judged_with or Family("claims", 1))
    return _tested([pair], scope, seeds, margin)[0]


def compare(
    y: Array,
    inits: Sequence[str],
    *,
    scope: Scope = "A",
    seeds: SeedDesign = "crossed",
    against: str | None = None,
    margin: float = MARGIN,
    facts: Facts | None = None,
) -> Comparison:
    """Compares every pair of inits, or every init with one of them.

    Each difference is judged in its own family, whichever others are asked for.

    Args:
        y: Dice points [init, seed, case].
        inits: names along the first axis.
        scope: what the claim is about.
        seeds: crossed or nested in inits.
        against: the init that all others are compared with; all pairs by default. A placebo is compared with `default` under its
            own regimen, where the block has it.
        margin: Dice points of the equivalence tests.
        facts: which runs collapsed, where that is known.

    Raises:
        ValueError: a score is not finite, names do not match, or the margin is not above 0.
    """
    y = checked(y, "init, seed, case")
    if len(inits) != len(y) or (against is not None and against not in inits):
        raise ValueError(f"{len(y)} inits in the scores, names {list(inits)}, compared with {against}")
    _check_margin(margin)
    pairs = []
    for i, j in _pairs(inits, against):
        names = (inits[i], inits[j])
        pairs.append(_Pair(y[i], y[j], names, family(*names, inits, facts)))
    differences = []
    for item in _tested(pairs, scope, seeds, margin):
        differences.append(with_collapses(item, facts))
    return Comparison(
        scope=scope,
        claim=SCOPES[scope],
        design=seeds,
        margin=margin,
        differences=tuple(differences),
        omnibus=omnibus(y, scope, seeds),
    )


def with_collapses(found: Difference, facts: Facts | None) -> Difference:
    """Returns a difference with the collapses of its two rows, on which a claim about new seeds depends.

    Args:
        found: the difference.
        facts: which runs of the block collapsed; None where that is not known.
    """
    if facts is None or found.scope == "C":  # new cases for these weights: how other seeds would do is not asked
        return found
    return replace(found, collapses=(collapses(facts.of(found.first)), collapses(facts.of(found.second))))


def _check_margin(margin: float) -> None:
    """Checks that a margin of equivalence is above 0; a ValueError says so where it is not."""
    if not margin > 0:
        raise ValueError(f"margin {margin}: equivalence needs one above 0")


def _pairs(inits: Sequence[str], against: str | None) -> list[tuple[int, int]]:
    """Returns the places of the inits of each pair: of all pairs, or of each init and the one that it is compared with.

    Args:
        inits: names of the inits.
        against: the init that the others are compared with; None for all pairs.
    """
    if against is None:
        return list(combinations(range(len(inits)), 2))
    pairs = []
    for place, name in enumerate(inits):
        control = compared_with(name, against)
        if name != against and control in inits:
            pairs.append((place, inits.index(control)))
    return pairs


class _Pair(NamedTuple):
    """Two inits to be compared: their Dice points `a` and `b` [seed, case], their names, and the family of their difference."""

    a: Array
    b: Array
    names: tuple[str, str]
    of: Family


def _tested(pairs: Sequence[_Pair], scope: Scope, seeds: SeedDesign, margin: float) -> list[Difference]:
    """Returns the differences in the order of the pairs.

    All pairs that can be tested are computed at once, as numpy is quick at many.
    """
    reasons: list[str] = []
    first: list[Array] = []
    second: list[Array] = []
    names: list[tuple[str, str]] = []
    families: list[Family] = []
    for pair in pairs:
        reason = untestable(pair.a, pair.b, scope, seeds)
        reasons.append(reason)
        if not reason:
            first.append(pair.a)
            second.append(pair.b)
            names.append(pair.names)
            families.append(pair.of)
    judged: list[Difference] = []
    if names:
        judged = evaluated(names, families, scope, _estimates(np.stack(first), np.stack(second), scope, seeds), margin)
    left = iter(judged)
    found = []
    for pair, reason in zip(pairs, reasons, strict=True):
        if reason:
            value = float(pair.a.mean() - pair.b.mean())
            found.append(untestable_difference(pair.names, scope, value, reason, pair.of))
        else:
            found.append(next(left))
    return found


def untestable_difference(
    names: tuple[str, str], scope: Scope, value: float, reason: str, of: Family | None = None
) -> Difference:
    """Returns a difference that the runs at hand cannot decide, without interval and p values.

    Args:
        names: of the two rows.
        scope: what would be claimed.
        value: the difference in Dice points; NaN where there is none.
        reason: why it cannot be decided.
        of: its family; by default it is judged as the only one.
    """
    nan = math.nan
    nothing = Interval(value, nan, nan)
    return Difference(*names, scope, nothing, nan, nan, nan, nan, "untestable", of or Family("claims", 1), reason)


def evaluated(
    pairs: Sequence[tuple[str, str]], families: Sequence[Family], scope: Scope, whole: Estimate, margin: float
) -> list[Difference]:
    """Returns differences with interval, p values and verdict.

    Args:
        pairs: names of the two rows of each.
        families: the family of each.
        scope: what is claimed.
        whole: the estimates, in Dice points [pair].
        margin: Dice points within which two inits are equivalent.
    """
    sizes = np.array([of.divisor for of in families])
    reach = quantile(whole, (1 - LEVEL) / sizes) * whole.error
    alone = two_sided(whole)
    adjusted = np.minimum(alone * sizes, 1.0)
    equal = np.minimum(equivalence(whole, margin) * sizes, 1.0)
    columns = np.stack([whole.value, reach, whole.error, alone, adjusted, equal], axis=1).tolist()
    found = []
    for names, of, (value, half, error, p, p_adjusted, p_equivalence) in zip(pairs, families, columns, strict=True):
        estimate = cut(Interval(value, value - half, value + half), DIFFERENCE)
        says = verdict(estimate, margin)
        found.append(Difference(*names, scope, estimate, error, p, p_adjusted, p_equivalence, says, of))
    return found


def verdict(estimate: Interval, margin: float) -> Verdict:
    """Returns what the interval of a difference says of two inits.

    Args:
        estimate: the difference with its interval, in Dice points.
        margin: Dice points within which two inits are equivalent.
    """
    if -margin <= estimate.low and estimate.high <= margin:
        if estimate.low > 0:
            return "equivalent, but above 0"
        if estimate.high < 0:
            return "equivalent, but below 0"
        return "equivalent"
    if estimate.low > 0:
        return "better"
    if estimate.high < 0:
        return "worse"
    return "undecided"


def _estimates(a: Array, b: Array, scope: Scope, seeds: SeedDesign) -> Estimate:
    """Returns the differences [pair] of the means of all pairs, with their errors.

    Args:
        a: Dice points of the first init of each pair, [pair, seed, case].
        b: Dice points of the second one.
        scope: what is claimed.
        seeds: whether inits share their seeds.
    """
    if scope == "A":
        return mean_difference(a, b, seeds).spread(len(a))
    if scope == "B" and seeds == "nested":
        return _welch(a.mean(-1), b.mean(-1))
    # Scope B leaves one difference for each seed, and scope C one for each case: a paired t.
    averaged = -1
    if scope == "C":
        averaged = -2
    d = (a - b).mean(averaged)
    count = d.shape[-1]
    return one_source(d.mean(-1), d.std(-1, ddof=1) / math.sqrt(count), np.full(len(a), count - 1.0))


def _welch(a: Array, b: Array) -> Estimate:
    """Returns the differences [pair] of the means of run scores [pair, seed], for inits with seeds of their own (Welch 1947)."""
    count = a.shape[-1]
    va, vb = a.var(-1, ddof=1) / count, b.var(-1, ddof=1) / count
    df = (va + vb) ** 2 / ((va**2 + vb**2) / (count - 1))
    return one_source(a.mean(-1) - b.mean(-1), np.sqrt(va + vb), df)
