"""Quantiles and tail probabilities of an estimate whose error comes from few seeds and from few cases.

With noise of the seeds alone, value / error would follow Student's t with S - 1 degrees of freedom; with noise of the cases
alone, t with C - 1. The quantile taken here lies between the quantiles of the two, by the share that each source has in the
squared error (Cochran 1964, Biometrics 20:191). Cochran's rule finds too much where one source is known badly, so two things are
added. `benchmarks/coverage.py` measures both:

* with two or three seeds the share of the seeds is itself an accident. The quantiles are averaged as powers, which gives the
  larger one more weight the fewer seeds there are;
* with few cases their share is often estimated as 0. For the law it counts as at least a quarter of their mean square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from initbench.stats.design import Array

_HALVINGS = 36  # of the interval in which ln p lies: p to eight digits and more
_LEAST = 1e-280
# The exponent of the mean of the two quantiles is 1 + _EXTRA / df ** _FALL: 1.65 with two seeds, 1.23 with three, 1.08 with five.
# They were tried until false verdicts among 28 pairs of eight equal inits stayed below 8 % in the hardest settings of
# benchmarks/coverage.py. Larger ones cost power.
_EXTRA, _FALL = 0.65, 1.5


@dataclass(frozen=True)
class Estimate:
    """Estimates with their uncertainty; every field is an array over the axes that came before seed and case in the scores.

    Attributes:
        value: the estimates, in the unit of the scores.
        error: their standard errors.
        share: share of the seeds in the squared error. The cases have the rest.
        tail_share: their share where the cases have at least a quarter of their mean square, which counts in the tails.
        df_seeds: degrees of freedom of the mean square of the seeds.
        df_cases: degrees of freedom of the mean square of the cases.
    """

    value: Array
    error: Array
    share: Array
    tail_share: Array
    df_seeds: Array
    df_cases: Array

    def spread(self, count: int) -> Estimate:
        """Returns the estimates with every field repeated to a length of `count`."""
        fields = []
        for field in (self.value, self.error, self.share, self.tail_share, self.df_seeds, self.df_cases):
            fields.append(np.broadcast_to(np.asarray(field, np.float64), (count,)))
        return Estimate(*fields)


def one_source(value: Array, error: Array, df: Array) -> Estimate:
    """Returns estimates whose noise is of one kind alone, so that their law is Student's t.

    Args:
        value: the estimates, in the unit of the scores.
        error: their standard errors.
        df: their degrees of freedom.
    """
    whole = np.ones(np.shape(value))
    return Estimate(np.asarray(value), np.asarray(error), whole, whole, np.asarray(df, float), np.asarray(df, float))


def quantile(estimate: Estimate, p: Array | float) -> Array:
    """Returns the |value - truth| / error that is exceeded with probability `p`, of the shape of the estimates."""
    of_seeds = -special.stdtrit(estimate.df_seeds, np.asarray(p) / 2)
    of_cases = -special.stdtrit(estimate.df_cases, np.asarray(p) / 2)
    exponent = 1 + _EXTRA / np.asarray(estimate.df_seeds, float) ** _FALL
    raised_seeds, raised_cases = of_seeds**exponent, of_cases**exponent
    share = estimate.share * raised_seeds + (1 - estimate.share) * raised_cases
    tail_share = estimate.tail_share * raised_seeds + (1 - estimate.tail_share) * raised_cases
    return np.asarray(np.maximum(share, tail_share) ** (1 / exponent), np.float64)


def probability(estimate: Estimate, distance: Array) -> Array:
    """Returns the probability of |value - truth| / error above `distance`: the p whose `quantile` is the distance.

    It lies between the p of the two sources alone, and is found by halving the interval in which ln p lies.
    """
    of_seeds = 2 * special.stdtr(estimate.df_seeds, -np.abs(distance))
    of_cases = 2 * special.stdtr(estimate.df_cases, -np.abs(distance))
    low = np.log(np.maximum(np.minimum(of_seeds, of_cases), _LEAST))
    high = np.log(np.maximum(np.maximum(of_seeds, of_cases), _LEAST))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        too_small = quantile(estimate, np.exp(middle)) > distance
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    return np.asarray(np.exp(high), np.float64)


def two_sided(estimate: Estimate) -> Array:
    """Returns the two-sided p of a true value of 0, for each estimate alone."""
    return probability(estimate, np.abs(estimate.value) / estimate.error)


def equivalence(estimate: Estimate, margin: float) -> Array:
    """Returns the smallest p at which the interval of an estimate lies within ±margin, for each alone; 1 where none does.

    These are Schuirmann's two one-sided tests (1987), each at half of p, so that "equivalent" is what the printed interval shows.

    Args:
        estimate: the estimates.
        margin: in the unit of the scores.
    """
    room = (margin - np.abs(estimate.value)) / estimate.error
    return np.asarray(np.where(room > 0, probability(estimate, np.maximum(room, 0.0)), 1.0), np.float64)


def combined(estimates: Sequence[Estimate]) -> Estimate:
    """Returns the mean of independent estimates.

    Squared errors add up. The parts of the seeds and of the cases each get the degrees of freedom of a sum (Satterthwaite).
    """
    values: list[Array] = []
    variances: list[float] = []
    of_seeds: list[float] = []
    of_cases: list[float] = []  # with their least share, as they count in the tails
    df_seeds: list[float] = []
    df_cases: list[float] = []
    for item in estimates:
        variance, tail_share = float(item.error) ** 2, float(item.tail_share)
        of_seed, of_case = variance * float(item.share), 0.0
        if tail_share > 0:
            of_case = of_seed * (1 - tail_share) / tail_share
        values.append(item.value)
        variances.append(variance)
        of_seeds.append(of_seed)
        of_cases.append(of_case)
        df_seeds.append(float(item.df_seeds))
        df_cases.append(float(item.df_cases))
    whole, seeds, cases = np.sum(variances), np.sum(of_seeds), np.sum(of_cases)
    share, tail_share = 1.0, 1.0
    if whole > 0:
        share = float(seeds / whole)
        tail_share = float(seeds / (seeds + cases))
    return Estimate(
        value=np.mean(values, axis=0),
        error=np.asarray(math.sqrt(whole) / len(estimates)),
        share=np.asarray(share),
        tail_share=np.asarray(tail_share),
        df_seeds=np.asarray(_summed_freedom(np.array(of_seeds), df_seeds)),
        df_cases=np.asarray(_summed_freedom(np.array(of_cases), df_cases)),
    )


def _summed_freedom(parts: Array, freedoms: Sequence[float]) -> float:
    """Returns the degrees of freedom of a sum of variances by Satterthwaite: (Σ v)² / Σ (v² / df); the fewest where all are 0.

    Args:
        parts: the variances v, [part].
        freedoms: the degrees of freedom of each.
    """
    if not parts.any():
        return min(freedoms)
    return float(parts.sum() ** 2 / (parts**2 / np.array(freedoms)).sum())
