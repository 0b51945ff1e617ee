"""Differences of inits, tested for what is claimed: new seeds and new cases (A), new seeds (B), or new cases alone (C).

A is the multi-reader multi-case analysis of radiology with seeds as readers (Obuchowski & Rockette 1995; degrees of freedom of
Hillis 2007). The two simpler ones answer smaller questions and say so.
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
from initbench.stats.exact import smallest_sign_flip
from initbench.stats.meansquares import mean_squares, two_way
from initbench.stats.multiplicity import holm
from initbench.stats.summary import LEVEL, Interval, t_quantile

MARGIN = 0.5  # Dice points within which two inits count as equivalent
Verdict = Literal["better", "worse", "equivalent", "undecided", "untestable"]


@dataclass(frozen=True)
class Estimate:
    """Estimated differences with their uncertainty; arrays over whatever came before the seed and case axes.

    Attributes:
        value: mean difference, in the unit of the scores.
        error: its standard error.
        df: degrees of freedom of its t distribution.
    """

    value: Array
    error: Array
    df: Array


@dataclass(frozen=True)
class Difference:
    """`first` minus `second`, in Dice points.

    Attributes:
        estimate: with its 95 % interval, not adjusted for other pairs.
        p: two-sided p of no difference; NaN where untestable.
        p_holm: the same, adjusted for all pairs of its family.
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
class Omnibus:
    """F test of no difference among all inits; shown, while verdicts come from pairs."""

    f: float
    df1: float
    df2: float
    p: float


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


# --- scope A ----------------------------------------------------------------------------------------------------------


def crossed_difference(d: Array) -> Estimate:
    """Mean of the differences `d` [..., seed, case] of two inits with the same seeds, for new seeds and new cases.

    V = (MS_S + max(MS_C − MS_E, 0)) / (S C), df = (MS_S + max(MS_C − MS_E, 0))² / (MS_S² / (S − 1)).
    """
    S, C = d.shape[-2:]
    seeds, cases, rest = two_way(d)
    noise = _hillis(seeds.value, cases.value, rest.value, S - 1)
    return Estimate(d.mean((-2, -1)), np.sqrt(noise[0] / (S * C)), noise[1])


def nested_difference(a: Array, b: Array) -> Estimate:
    """Difference of the means of `a` and `b` [..., seed, case] with independent seeds, for new seeds and new cases.

    V = 2 (MS_R(T) + max(MS_TC − MS_E, 0)) / (S C), df as above with 2 (S − 1).
    """
    S, C = a.shape[-2:]
    squares = mean_squares(np.stack([a, b], axis=-3))
    df = squares.seed_in_init.df
    noise = _hillis(squares.seed_in_init.value, squares.init_case.value, squares.nested_residual.value, df)
    return Estimate(a.mean((-2, -1)) - b.mean((-2, -1)), np.sqrt(2 * noise[0] / (S * C)), noise[1])


def _hillis(seeds: Array, cases: Array, rest: Array, df: int) -> tuple[Array, Array]:
    """The denominator of F and its degrees of freedom, which count the seeds alone: with the cases' share in them the test
    would reject 0.4 % instead of 5 % where cases are few.
    """
    noise = seeds + np.maximum(cases - rest, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(seeds > 0, df * (noise / seeds) ** 2, np.inf)
    return noise, np.minimum(found, 1e9)  # t at 1e9 is the normal distribution; scipy has none at infinity


def two_sided(estimate: Estimate) -> Array:
    """Two-sided p of no difference: 2 · P(T > |value| / error)."""
    return np.asarray(2 * special.stdtr(estimate.df, -np.abs(estimate.value) / estimate.error), np.float64)


def equivalence(estimate: Estimate, margin: float) -> Array:
    """The p of the two one-sided tests: the larger of those of value ≤ −margin and of value ≥ margin (Schuirmann 1987)."""
    above = special.stdtr(estimate.df, -(estimate.value + margin) / estimate.error)
    below = special.stdtr(estimate.df, (estimate.value - margin) / estimate.error)
    return np.asarray(np.maximum(above, below), np.float64)


def omnibus_crossed(y: Array) -> tuple[Array, int, Array]:
    """F = MS_T / [MS_TR + max(MS_TC − MS_E, 0)], its two degrees of freedom, for y [..., init, seed, case]."""
    ms = mean_squares(y)
    noise, df = _hillis(ms.init_seed.value, ms.init_case.value, ms.residual.value, ms.init_seed.df)
    return ms.init.value / noise, ms.init.df, df


def omnibus_nested(y: Array) -> tuple[Array, int, Array]:
    """F = MS_T / [MS_R(T) + max(MS_TC − MS_E, 0)] for independent seeds."""
    ms = mean_squares(y)
    noise, df = _hillis(ms.seed_in_init.value, ms.init_case.value, ms.nested_residual.value, ms.seed_in_init.df)
    return ms.init.value / noise, ms.init.df, df


# --- two inits --------------------------------------------------------------------------------------------------------


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
    found = [_tested(y[i], y[j], (inits[i], inits[j]), scope, seeds, margin, len(pairs)) for i, j in pairs]
    return Comparison(
        scope=scope,
        claim=SCOPES[scope],
        design=seeds,
        margin=margin,
        differences=tuple(_judged(found)),
        compared=sum(not item.reason for item in found),
        omnibus=_omnibus(y, scope, seeds),
    )


def _pairs(inits: Sequence[str], against: str | None) -> list[tuple[int, int]]:
    if against is None:
        return list(combinations(range(len(inits)), 2))
    control = list(inits).index(against)
    return [(i, control) for i in range(len(inits)) if i != control]


def _judged(found: Sequence[Difference]) -> list[Difference]:
    adjusted = zip(holm([item.p for item in found]), holm([item.p_equivalence for item in found]), found, strict=True)
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


def _tested(
    a: Array, b: Array, names: tuple[str, str], scope: Scope, seeds: SeedDesign, margin: float, family: int
) -> Difference:
    reason = untestable(a, b, scope, seeds, family)
    if reason:
        nan = math.nan
        unknown = Interval(float(a.mean() - b.mean()), nan, nan)
        return Difference(*names, scope, unknown, nan, nan, nan, nan, nan, "untestable", reason)
    estimate = _estimate(a, b, scope, seeds)
    p = _signed_rank(a, b) if scope == "C" else float(two_sided(estimate))
    half = t_quantile(0.5 + LEVEL / 2, float(estimate.df)) * float(estimate.error)
    value = float(estimate.value)
    return Difference(
        *names,
        scope,
        Interval(value, value - half, value + half),
        float(estimate.error),
        float(estimate.df),
        p,
        math.nan,
        float(equivalence(estimate, margin)),
        "undecided",
    )


def _estimate(a: Array, b: Array, scope: Scope, seeds: SeedDesign) -> Estimate:
    if scope == "A":
        return crossed_difference(a - b) if seeds == "crossed" else nested_difference(a, b)
    if scope == "B" and seeds == "nested":
        return _welch(a.mean(-1), b.mean(-1))
    # One mean per seed, or per case: a paired t.
    return _one_sample((a - b).mean(-1 if scope == "B" else -2))


def _one_sample(d: Array) -> Estimate:
    error = d.std(ddof=1) / math.sqrt(d.size)
    return Estimate(np.asarray(d.mean()), np.asarray(error), np.asarray(d.size - 1.0))


def _welch(a: Array, b: Array) -> Estimate:
    va, vb = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size
    df = (va + vb) ** 2 / (va**2 / (a.size - 1) + vb**2 / (b.size - 1))
    return Estimate(np.asarray(a.mean() - b.mean()), np.asarray(np.sqrt(va + vb)), np.asarray(df))


def _signed_rank(a: Array, b: Array) -> float:
    from scipy.stats import wilcoxon  # scipy.stats takes long to import

    return float(wilcoxon((a - b).mean(0), zero_method="pratt").pvalue)


def untestable(a: Array, b: Array, scope: Scope, seeds: SeedDesign, family: int = 1) -> str:
    """Why two inits [seed, case] cannot be compared under a scope; empty where they can.

    `family` is the number of pairs that Holm's adjustment goes over.
    """
    S, C = a.shape
    if scope != "C" and S < 2:
        return "one seed: a difference of inits cannot be told from one of seeds (S = 1)"
    if scope != "B" and C < 2:
        return "one case: nothing can be said of new cases (C = 1); new seeds on this case are scope B"
    if scope == "C":
        return _too_few_cases((a - b).mean(0), family)
    if _same_runs(a) or _same_runs(b):
        return "all runs of an init score the same on every case: its seed is not in effect, or all of them diverged"
    d = (a - b).mean(-1)
    spread = float(d.std()) if seeds == "crossed" else float(a.mean(-1).std() + b.mean(-1).std())
    if spread <= 1e-12 * max(1.0, float(np.abs([a, b]).max())):
        return "the difference is the same for every seed: no variance over seeds to test it against"
    return ""


def _same_runs(runs: Array) -> bool:
    return bool((runs == runs[0]).all())


def _too_few_cases(d: Array, family: int) -> str:
    if not d.any():
        return "no difference on any case"
    smallest = family * smallest_sign_flip(d.size)
    if smallest > 1 - LEVEL:
        return f"cannot reach significance with {d.size} cases: the smallest p is {smallest:.3g} over {family} comparison(s)"
    return ""


# --- all inits --------------------------------------------------------------------------------------------------------


def _omnibus(y: Array, scope: Scope, seeds: SeedDesign) -> Omnibus | Refused:
    I, S, C = y.shape  # noqa: E741 - the letters of the literature
    if I < 2:
        return Refused("one init: nothing to compare")
    if scope == "C":
        return Refused("no omnibus test for these trained weights: see the pairs")
    if S < 2:
        return Refused("one seed: the inits cannot be told from the seeds (S = 1)")
    if scope == "A" and C < 2:
        return Refused("one case: nothing can be said of new cases (C = 1)")
    scores = y if scope == "A" else y.mean(-1, keepdims=True)
    f, df1, df2 = _runs_f(scores, seeds) if scope == "B" else (omnibus_crossed if seeds == "crossed" else omnibus_nested)(scores)
    if not np.isfinite(f):
        return Refused("no variance over seeds to test against")
    return Omnibus(float(f), float(df1), float(df2), float(special.fdtrc(df1, df2, f)))


def _runs_f(m: Array, seeds: SeedDesign) -> tuple[Array, int, Array]:
    """F = MS_T / MS_TR of the run scores [init, seed, 1], or over MS_R(T)."""
    ms = mean_squares(m)
    noise = ms.init_seed if seeds == "crossed" else ms.seed_in_init
    with np.errstate(divide="ignore", invalid="ignore"):
        return ms.init.value / noise.value, ms.init.df, np.asarray(float(noise.df))
