"""Multi-reader multi-case analysis with seeds as readers: differences of inits for new seeds and new cases (scope A).

Obuchowski & Rockette 1995; degrees of freedom of Hillis 2007. Leading axes of the scores are studies, computed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from initbench.stats.design import Array
from initbench.stats.meansquares import mean_squares, two_way

_HALVINGS = 36  # of the interval in which ln p lies: p to eight digits and more
_LEAST = 1e-280


@dataclass(frozen=True)
class Estimate:
    """Estimated differences with their uncertainty; arrays over whatever came before the seed and case axes.

    Attributes:
        value: mean difference, in the unit of the scores.
        error: its standard error.
        df: degrees of freedom of its t distribution.
        share: share of the seeds in the squared error; the rest is that of the cases.
        df_seeds: degrees of freedom of the seeds' share.
        df_cases: those of the cases' share.
    """

    value: Array
    error: Array
    df: Array
    share: Array
    df_seeds: Array
    df_cases: Array

    def spread(self, count: int) -> Estimate:
        """The same with every field of this length."""
        fields = (self.value, self.error, self.df, self.share, self.df_seeds, self.df_cases)
        return Estimate(*(np.broadcast_to(np.asarray(field, np.float64), (count,)) for field in fields))


def stacked(estimates: Sequence[Estimate]) -> Estimate:
    """Single estimates as one with an axis, so that their p values are computed at once."""
    fields = ("value", "error", "df", "share", "df_seeds", "df_cases")
    return Estimate(*(np.array([float(getattr(item, name)) for item in estimates]) for name in fields))


def crossed_difference(d: Array) -> Estimate:
    """Mean of the differences `d` [..., seed, case] of two inits with the same seeds, for new seeds and new cases.

    V = (MS_S + max(MS_C − MS_E, 0)) / (S C), df = (MS_S + max(MS_C − MS_E, 0))² / (MS_S² / (S − 1)).
    """
    S, C = d.shape[-2:]
    seeds, cases, rest = two_way(d)
    noise, df, share = _hillis(seeds.value, cases.value, rest.value, S - 1)
    return Estimate(d.mean((-2, -1)), np.sqrt(noise / (S * C)), df, share, np.asarray(S - 1.0), np.asarray(C - 1.0))


def nested_difference(a: Array, b: Array) -> Estimate:
    """Difference of the means of `a` and `b` [..., seed, case] with independent seeds, for new seeds and new cases.

    V = 2 (MS_R(T) + max(MS_TC − MS_E, 0)) / (S C), df as above with 2 (S − 1).
    """
    S, C = a.shape[-2:]
    squares = mean_squares(np.stack([a, b], axis=-3))
    own = squares.seed_in_init.df
    noise, df, share = _hillis(squares.seed_in_init.value, squares.init_case.value, squares.nested_residual.value, own)
    error = np.sqrt(2 * noise / (S * C))
    return Estimate(a.mean((-2, -1)) - b.mean((-2, -1)), error, df, share, np.asarray(float(own)), np.asarray(C - 1.0))


def _hillis(seeds: Array, cases: Array, rest: Array, df: int) -> tuple[Array, Array, Array]:
    """The denominator of F, its degrees of freedom, and the share of the seeds in it.

    The degrees of freedom count the seeds alone: with the cases' share in them the test would reject 0.4 % instead of 5 % where
    cases are few.
    """
    noise = seeds + np.maximum(cases - rest, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = seeds / noise
        found = np.where(seeds > 0, df / share**2, np.inf)
    return noise, np.minimum(found, 1e9), share  # t at 1e9 is the normal distribution; scipy has none at infinity


def two_sided(estimate: Estimate) -> Array:
    """Two-sided p of no difference: 2 · P(T > |value| / error)."""
    return np.asarray(2 * special.stdtr(estimate.df, -np.abs(estimate.value) / estimate.error), np.float64)


def two_sided_among_many(estimate: Estimate) -> Array:
    """Two-sided p of no difference that holds far out in the tail, where Holm's adjustment looks.

    Hillis' degrees of freedom grow where the few seeds happen to agree. At 5 % that does little harm; among 15 pairs of 6 equal
    inits with 3 seeds it makes 21 % false verdicts. Here the quantiles of the two sources of noise are weighted by their shares
    (Cochran 1964, Biometrics 20:191): |value| / error = share · t(df_seeds) + (1 − share) · t(df_cases) at p. That makes
    5 %, and 9 % with 2 seeds.
    """
    return np.minimum(2 * _upper_tail(np.abs(estimate.value) / estimate.error, estimate), 1.0)


def equivalence(estimate: Estimate, margin: float) -> Array:
    """The p of the two one-sided tests: the larger of those of value ≤ −margin and of value ≥ margin (Schuirmann 1987).

    Tails as in `two_sided_among_many`.
    """
    return _upper_tail((margin - np.abs(estimate.value)) / estimate.error, estimate)  # of the nearer margin, the larger one


def _upper_tail(t: Array, estimate: Estimate) -> Array:
    """P(T > t) with the quantiles of T weighted: found by halving the interval of ln p, as the quantile falls with p."""
    distance = np.abs(t)
    ends = [special.stdtr(df, -distance) for df in (estimate.df_seeds, estimate.df_cases)]  # p lies between those of the two
    low, high = (np.log(np.maximum(end, _LEAST)) for end in (np.minimum(*ends), np.maximum(*ends)))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        p = np.exp(middle)
        quantile = -estimate.share * special.stdtrit(estimate.df_seeds, p)
        quantile -= (1 - estimate.share) * special.stdtrit(estimate.df_cases, p)
        beyond = quantile > distance
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    p = np.exp(high)
    return np.asarray(np.where(np.asarray(t) >= 0, p, 1 - p), np.float64)


def omnibus_crossed(y: Array) -> tuple[Array, int, Array]:
    """F = MS_T / [MS_TR + max(MS_TC − MS_E, 0)], its two degrees of freedom, for y [..., init, seed, case]."""
    ms = mean_squares(y)
    noise, df, _ = _hillis(ms.init_seed.value, ms.init_case.value, ms.residual.value, ms.init_seed.df)
    return ms.init.value / noise, ms.init.df, df


def omnibus_nested(y: Array) -> tuple[Array, int, Array]:
    """F = MS_T / [MS_R(T) + max(MS_TC − MS_E, 0)] for independent seeds."""
    ms = mean_squares(y)
    noise, df, _ = _hillis(ms.seed_in_init.value, ms.init_case.value, ms.nested_residual.value, ms.seed_in_init.df)
    return ms.init.value / noise, ms.init.df, df
