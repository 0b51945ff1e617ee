"""Each init of a block by itself: its mean, and what its seeds do to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from initbench.stats.design import Array, SeedDesign, checked, generator
from initbench.stats.meansquares import mean_squares, two_way
from initbench.stats.scale import DICE, SD, cut
from initbench.stats.summary import LEVEL, Interval, sd_interval

# Scores of cases are skewed and have heavy tails, so they tell the variance over cases as badly as half as many normal scores
# would (Box 1953, Biometrika 40:318: excess kurtosis 2). Without it intervals over 5 skewed cases hold in 89 % of studies.
_CASES_COUNT = 0.5
_DRAWN = 20_000  # made-up studies behind one constant
_NODES = 41  # of the quadrature over what inits share; more change no digit that is printed


@dataclass(frozen=True)
class InitSummary:
    """An init's Dice points.

    Attributes:
        mean: over seeds and cases, with the interval for new seeds and new cases; the intervals of all inits of the block hold at
            once, in 95 % of studies. Bounds are NaN with one seed or one case.
        run_sd: SD of the run scores with its chi-square interval: what retraining shows on these cases. Its square estimates
            seed variance + residual variance / cases.
    """

    init: str
    mean: Interval
    run_sd: Interval


def summarize(y: Array, inits: Sequence[str], seeds: SeedDesign = "crossed") -> tuple[InitSummary, ...]:
    """Summarizes all inits of a block, in their order.

    Args:
        y: Dice points [init, seed, case].
        inits: names along the first axis.
        seeds: crossed or nested in inits.
    """
    y = checked(y, "init, seed, case")
    found = []
    for init, mean, runs in zip(inits, means(y, seeds), y.mean(-1), strict=True):
        found.append(InitSummary(init, mean, cut(sd_interval(runs), SD)))
    return tuple(found)


def means(y: Array, seeds: SeedDesign) -> list[Interval]:
    """Returns the mean of each init of y [init, seed, case], with intervals that hold for all of them at once (scope A).

    The squared error is V = (MS_S + max(MS_C − MS_E, 0)) / (S C), with degrees of freedom by Satterthwaite. An init's own MS_S
    from three seeds is often far too small, so the MS_S of the inits together is taken where it is larger.
    """
    values = y.mean((-2, -1))
    S, C = y.shape[1:]
    found = []
    if S < 2 or C < 2:
        for value in values.tolist():
            found.append(Interval(value, math.nan, math.nan))
        return found
    own, cases, rest = two_way(y)
    pooled, df_pooled = _pooled_seeds(y, seeds)
    of_seeds = np.maximum(own.value, pooled)
    beyond = of_seeds - pooled
    noise = of_seeds + np.maximum(cases.value - rest.value, 0.0)
    spread = pooled**2 / df_pooled + beyond**2 / own.df + cases.value**2 / (_CASES_COUNT * cases.df) + rest.value**2 / rest.df
    with np.errstate(invalid="ignore", divide="ignore"):
        df = np.where(spread > 0, noise**2 / spread, 1.0)
    p = (1 - LEVEL) / effective_number(len(y), _shared(y, seeds))
    half = -special.stdtrit(df, p / 2) * np.sqrt(noise / (S * C))
    for value, reach in zip(values.tolist(), half.tolist(), strict=True):
        found.append(cut(Interval(value, value - reach, value + reach), DICE))
    return found


def _pooled_seeds(y: Array, seeds: SeedDesign) -> tuple[float, float]:
    """Returns the mean square of seeds of all inits together, and its degrees of freedom.

    One init whose training collapsed must not widen the intervals of all others. So the init with the largest mean square is left
    out, and the mean of the others is divided by the mean that is expected without the largest of equal inits. The degrees of
    freedom are fewer where inits share the effect of a seed, and where their seed variances differ (Welch 1947).
    """
    inits, number = y.shape[:2]
    others = np.sort(two_way(y)[0].value)[: max(1, inits - 1)]
    if not others.any():
        return 0.0, 1.0
    pooled = float(others.mean()) / _without_largest(inits, number - 1)
    df = _satterthwaite(others) * (number - 1)
    if seeds == "nested" or inits == 1:
        return pooled, df
    squares = mean_squares(y)
    shared, apart = float(squares.seed.value), float(squares.init_seed.value) * (inits - 1)
    together = (shared + apart) ** 2 / (shared**2 / squares.seed.df + apart**2 / squares.init_seed.df)
    return pooled, min(df, together)


@lru_cache(maxsize=1024)
def _without_largest(inits: int, df: int) -> float:
    """Returns the expected mean of all but the largest of several mean squares, each with the expectation 1.

    Args:
        inits: number of mean squares.
        df: degrees of freedom of each.
    """
    if inits == 1:
        return 1.0
    drawn = generator("without largest").chisquare(df, (_DRAWN, inits)) / df
    return float((drawn.sum(-1) - drawn.max(-1)).mean()) / (inits - 1)


def effective_inits(y: Array) -> float:
    """Returns the number of inits that count for the mean seed variance of y [init, seed, case].

    It is 1 where one init has all of the seed variance, and the number of inits where all have the same: (Σ MS)² / Σ MS², by
    Satterthwaite.
    """
    return _satterthwaite(two_way(y)[0].value)


def _satterthwaite(squares: Array) -> float:
    """Returns (Σ MS)² / Σ MS² of mean squares [init], or their number where all are 0 (Satterthwaite 1946)."""
    squared = float((squares**2).sum())
    if not squared > 0:
        return float(squares.size)
    return float(squares.sum()) ** 2 / squared


def _shared(y: Array, seeds: SeedDesign) -> float:
    """Returns the share of the squared error of a mean that all inits have in common, 0 to 1.

    They have the difficulty of the cases in common and, where they share seeds, what a seed does to all of them.

    Args:
        y: Dice points [init, seed, case].
        seeds: crossed or nested in inits.
    """
    inits = len(y)
    if inits < 2:
        return 0.0
    squares = mean_squares(y)
    case, init_case = float(squares.case.value), float(squares.init_case.value)
    if seeds == "crossed":
        own = float(squares.init_seed.value) + max(init_case - float(squares.residual.value), 0.0)
        of_seeds = max(float(squares.seed.value) - float(squares.init_seed.value), 0.0)
    else:
        own = float(squares.seed_in_init.value) + max(init_case - float(squares.nested_residual.value), 0.0)
        of_seeds = 0.0
    common = (max(case - init_case, 0.0) + of_seeds) / inits
    if common + own == 0:
        return 0.0
    return common / (common + own)


def effective_number(inits: int, shared: float) -> float:
    """Returns how many independent intervals the intervals of several means are worth.

    Means whose errors are nearly the same are worth one interval, means with nothing in common are worth their number. The joint
    normal law gives what lies between: the chance that all means lie within q, averaged over the common part of their errors, is
    95 %.

    Args:
        inits: number of means.
        shared: share of their squared errors that they have in common, 0 to 1.
    """
    if inits == 1:
        return 1.0
    return _effective_number(inits, round(min(shared, 0.999), 3))


@lru_cache(maxsize=1024)  # the blocks of a study have the same few sizes
def _effective_number(inits: int, shared: float) -> float:
    """Returns `effective_number` for two means and more, whose share is below 1; the arguments are the same."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    common, own = math.sqrt(shared) * nodes, math.sqrt(1 - shared)
    low, high = 1.5, 6.0  # scipy.optimize finds q in fewer steps, and takes longer to import than all these steps
    while high - low > 1e-6:
        q = (low + high) / 2
        inside = special.ndtr((q - common) / own) - special.ndtr((-q - common) / own)
        if float(weights @ inside**inits) < LEVEL:
            low = q
        else:
            high = q
    return (1 - LEVEL) / (2 * float(special.ndtr(-high)))
