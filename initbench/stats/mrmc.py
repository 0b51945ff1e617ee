"""Multi-reader multi-case analysis with seeds as readers: differences of inits for new seeds and new cases (scope A).

Obuchowski & Rockette 1995; the F test over all inits has the degrees of freedom of Hillis 2007. Leading axes of the scores are
studies, computed at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from initbench.stats.design import Array, SeedDesign
from initbench.stats.meansquares import mean_squares, two_way
from initbench.stats.tails import Estimate

_FLOOR = 0.25  # of the cases' mean square: their least share in the tails (see tails.py)


def crossed_difference(d: Array) -> Estimate:
    """Returns the mean difference of two inits with the same seeds, for new seeds and new cases.

    Its squared error is V = (MS_S + max(MS_C − MS_E, 0)) / (S C) (Obuchowski & Rockette 1995).

    Args:
        d: differences of the two, Dice points [..., seed, case].
    """
    S, C = d.shape[-2:]
    seeds, cases, rest = two_way(d)
    noise, share, tail_share = shares(seeds.value, cases.value, rest.value)
    return Estimate(d.mean((-2, -1)), np.sqrt(noise / (S * C)), share, tail_share, np.asarray(S - 1.0), np.asarray(C - 1.0))


def nested_difference(a: Array, b: Array) -> Estimate:
    """Returns the mean of `a` less the mean of `b` with independent seeds, for new seeds and new cases.

    Its squared error is V = 2 (MS_R(T) + max(MS_TC − MS_E, 0)) / (S C), with 2 (S − 1) degrees of freedom of the seeds.

    Args:
        a: Dice points of one init, [..., seed, case].
        b: Dice points of the other one.
    """
    return nested_contrast([a], [b])


def mean_difference(a: Array, b: Array, seeds: SeedDesign) -> Estimate:
    """Returns the mean of `a` less the mean of `b`, for new seeds and new cases.

    Args:
        a: Dice points of one init, [..., seed, case].
        b: Dice points of the other one.
        seeds: whether the two share their seeds.
    """
    if seeds == "crossed":
        return crossed_difference(a - b)
    return nested_difference(a, b)


def nested_contrast(plus: Sequence[Array], minus: Sequence[Array]) -> Estimate:
    """Returns the means of some rows less the means of as many others, where every row has seeds of its own.

    Its squared error is V = (Σ MS_S + max(MS_C − Σ MS_E, 0)) / (S C). MS_C is the mean square of the cases in the contrast; the
    sums are over all rows.

    Args:
        plus: Dice points [..., seed, case] of each row whose mean is added.
        minus: Dice points of each row whose mean is subtracted.
    """
    S, C = plus[0].shape[-2:]
    of_seeds, rest, value = np.zeros(()), np.zeros(()), np.zeros(())
    contrast = np.zeros_like(plus[0])
    for sign, rows in ((1.0, plus), (-1.0, minus)):
        for y in rows:
            # Sums of two numbers do not depend on their order: `b` minus `a` is the same to the last bit.
            seeds, _, left = two_way(y)
            of_seeds, rest = of_seeds + seeds.value, rest + left.value
            contrast, value = contrast + sign * y, value + sign * y.mean((-2, -1))
    noise, share, tail_share = shares(of_seeds, two_way(contrast)[1].value, rest)
    df_seeds = np.asarray(float((len(plus) + len(minus)) * (S - 1)))
    return Estimate(value, np.sqrt(noise / (S * C)), share, tail_share, df_seeds, np.asarray(C - 1.0))


def shares(seeds: Array, cases: Array, rest: Array) -> tuple[Array, Array, Array]:
    """Returns the noise MS_S + max(MS_C − MS_E, 0), and the share of the seeds in it, estimated and as it counts in the tails.

    In the tails the cases have at least a quarter of their mean square.

    Args:
        seeds: mean squares of the seeds, in squared points.
        cases: mean squares of the cases.
        rest: mean squares of the residual.
    """
    own = np.maximum(cases - rest, 0.0)
    noise = seeds + own
    with np.errstate(divide="ignore", invalid="ignore"):
        return noise, seeds / noise, seeds / (seeds + np.maximum(own, _FLOOR * cases))


def omnibus_crossed(y: Array) -> tuple[Array, int, Array]:
    """Returns F = MS_T / [MS_TR + max(MS_TC − MS_E, 0)] with its two degrees of freedom, for crossed seeds (Hillis 2007).

    Args:
        y: Dice points [..., init, seed, case].
    """
    ms = mean_squares(y)
    noise, df = _hillis(ms.init_seed.value, ms.init_case.value, ms.residual.value, ms.init_seed.df)
    return ms.init.value / noise, ms.init.df, df


def omnibus_nested(y: Array) -> tuple[Array, int, Array]:
    """Returns F = MS_T / [MS_R(T) + max(MS_TC − MS_E, 0)] with its two degrees of freedom, for independent seeds (Hillis 2007).

    Args:
        y: Dice points [..., init, seed, case].
    """
    ms = mean_squares(y)
    noise, df = _hillis(ms.seed_in_init.value, ms.init_case.value, ms.nested_residual.value, ms.seed_in_init.df)
    return ms.init.value / noise, ms.init.df, df


def _hillis(seeds: Array, cases: Array, rest: Array, df: int) -> tuple[Array, Array]:
    """Returns the denominator of F and its degrees of freedom, which count the seeds alone (Hillis 2007).

    Did they count the cases, too, the test would reject 0.4 % instead of 5 % where cases are few. Hillis' rule is right at 5 %
    and not far out in the tail, so it serves the one F test of a block and no pair of inits.

    Args:
        seeds: mean square of the seeds.
        cases: mean square of the cases.
        rest: mean square of the residual.
        df: degrees of freedom of the mean square of the seeds.
    """
    noise, share, _ = shares(seeds, cases, rest)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(seeds > 0, df / share**2, np.inf)
    return noise, np.minimum(found, 1e9)  # F at 1e9 is its limit; scipy has none at infinity
