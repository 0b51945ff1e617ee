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
from typing import Literal

import numpy as np

from initbench.choices import MARGIN
from initbench.stats.collapse import Collapses, collapses
from initbench.stats.design import SCOPES, Array, Refused, Scope, SeedDesign, checked
from initbench.stats.families import Facts, Family, family
from initbench.stats.mrmc import crossed_difference, nested_difference
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
    """`first` minus `second`, in Dice points.

    Attributes:
        estimate: with the interval that holds for all differences of the family at once, in 95 % of studies.
        error: standard error of the estimate.
        p: two-sided p of no difference, as if this were the only one; NaN where untestable.
        p_adjusted: the same for the whole family: p times its size, at most 1. Below 0.05 where the interval excludes 0.
        p_equivalence: of a difference beyond ±margin, for the whole family. Below 0.05 where the interval lies within ±margin.
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
        """The verdict in words. One that an init is ahead says how often this init may collapse, until that is ruled out."""
        if self.verdict not in ("better", "worse") or self.collapses is None:
            return self.verdict
        own, other = self.collapses
        ahead, name = (own, "it") if self.verdict == "better" else (other, "the other")
        if ahead.are_ruled_out:
            return self.verdict
        if ahead.count:
            return f"{self.verdict}, though {name} collapsed in {ahead}"
        return f"{self.verdict} where {name} does not collapse {ahead.told}"

    @property
    def told_from_0(self) -> bool:
        """Whether the difference is not 0."""
        return self.verdict in _TURNED

    def turned(self) -> Difference:
        """`second` minus `first`: the same numbers with the other sign."""
        estimate = Interval(-self.estimate.value, -self.estimate.high, -self.estimate.low)
        verdict = _TURNED.get(self.verdict, self.verdict)
        swapped = self.collapses[::-1] if self.collapses else None
        return replace(self, first=self.second, second=self.first, estimate=estimate, verdict=verdict, collapses=swapped)


@dataclass(frozen=True)
class Comparison:
    """Differences of a block under one scope.

    Attributes:
        claim: the scope in words.
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
    """`a` minus `b`, both [seed, case] in Dice points, in the family `judged_with` or as the only one.

    Raises:
        ValueError: shapes differ, a score is not finite, or the margin is not above 0.
    """
    y = checked(np.stack([a, b]), "init, seed, case")
    _check_margin(margin)
    return _tested([(y[0], y[1], names, judged_with or Family("claims", 1))], scope, seeds, margin)[0]


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
    """Every pair of inits, or every init minus one of them; each is judged in its own family, whichever others are asked for.

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
        pairs.append((y[i], y[j], names, family(*names, inits, facts)))
    differences = [with_collapses(item, facts) for item in _tested(pairs, scope, seeds, margin)]
    return Comparison(
        scope=scope,
        claim=SCOPES[scope],
        design=seeds,
        margin=margin,
        differences=tuple(differences),
        omnibus=omnibus(y, scope, seeds),
    )


def with_collapses(found: Difference, facts: Facts | None) -> Difference:
    """The difference with the collapses of its two rows, which a claim about new seeds depends on."""
    if facts is None or found.scope == "C":  # new cases for these weights: how other seeds would do is not asked
        return found
    return replace(found, collapses=(collapses(facts.of(found.first)), collapses(facts.of(found.second))))


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"margin {margin}: equivalence needs one above 0")


def _pairs(inits: Sequence[str], against: str | None) -> list[tuple[int, int]]:
    if against is None:
        return list(combinations(range(len(inits)), 2))
    place = {name: i for i, name in enumerate(inits)}
    controls = {name: compared_with(name, against) for name in inits if name != against}
    return [(place[name], place[control]) for name, control in controls.items() if control in place]


_Pair = tuple[Array, Array, tuple[str, str], Family]


def _tested(pairs: Sequence[_Pair], scope: Scope, seeds: SeedDesign, margin: float) -> list[Difference]:
    """Differences in the order of the pairs; those that can be tested are computed at once, as numpy is quick at many."""
    reasons = [untestable(a, b, scope, seeds) for a, b, *_ in pairs]
    testable = [pair for pair, reason in zip(pairs, reasons, strict=True) if not reason]
    whole = _estimates(testable, scope, seeds) if testable else None
    names, families = [pair[2] for pair in testable], [pair[3] for pair in testable]
    found = iter(evaluated(names, families, scope, whole, margin) if whole else ())
    result = []
    for (a, b, pair_names, of), reason in zip(pairs, reasons, strict=True):
        if reason:
            result.append(untestable_difference(pair_names, scope, float(a.mean() - b.mean()), reason, of))
        else:
            result.append(next(found))
    return result


def untestable_difference(
    names: tuple[str, str], scope: Scope, value: float, reason: str, of: Family | None = None
) -> Difference:
    """A difference that the runs at hand cannot decide."""
    nan = math.nan
    nothing = Interval(value, nan, nan)
    return Difference(*names, scope, nothing, nan, nan, nan, nan, "untestable", of or Family("claims", 1), reason)


def evaluated(
    pairs: Sequence[tuple[str, str]], families: Sequence[Family], scope: Scope, whole: Estimate, margin: float
) -> list[Difference]:
    """Differences with interval, p values and verdict, from their estimates `whole` [pair]."""
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
    """What the interval of a difference says of two inits."""
    if -margin <= estimate.low and estimate.high <= margin:
        if estimate.low > 0:
            return "equivalent, but above 0"
        return "equivalent, but below 0" if estimate.high < 0 else "equivalent"
    if estimate.low > 0:
        return "better"
    return "worse" if estimate.high < 0 else "undecided"


def _estimates(pairs: Sequence[_Pair], scope: Scope, seeds: SeedDesign) -> Estimate:
    """Of all pairs at once."""
    a, b = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
    if scope == "A":
        found = crossed_difference(a - b) if seeds == "crossed" else nested_difference(a, b)
        return found.spread(len(pairs))
    if scope == "B" and seeds == "nested":
        return _welch(a.mean(-1), b.mean(-1))
    # One mean per seed, or per case: a paired t.
    d = (a - b).mean(-1 if scope == "B" else -2)
    count = d.shape[-1]
    return one_source(d.mean(-1), d.std(-1, ddof=1) / math.sqrt(count), np.full(len(pairs), count - 1.0))


def _welch(a: Array, b: Array) -> Estimate:
    """Means of run scores [pair, seed] of inits with seeds of their own (Welch 1947)."""
    count = a.shape[-1]
    va, vb = a.var(-1, ddof=1) / count, b.var(-1, ddof=1) / count
    df = (va + vb) ** 2 / ((va**2 + vb**2) / (count - 1))
    return one_source(a.mean(-1) - b.mean(-1), np.sqrt(va + vb), df)
