"""Multi-reader multi-case analysis with seeds as readers: differences of inits for new seeds and new cases (scope A).

Obuchowski & Rockette 1995; degrees of freedom of Hillis 2007. Leading axes of the scores are studies, computed at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from initbench.stats.design import Array
from initbench.stats.meansquares import mean_squares, two_way


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
