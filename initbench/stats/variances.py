"""Whether the seed variance of one init is larger than that of another.

Groups are the run scores of an init, one per seed. Never cases × seeds: there the case variance hides a threefold seed SD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from initbench.stats.design import Array, Refused
from initbench.stats.summary import LEVEL, Interval, t_quantile

SEEDS_TO_TEST = 8


@dataclass(frozen=True)
class PooledRatio:
    """Ratio of seed SDs, pooled over blocks; 0.5 means that the first init's is half the second's.

    Attributes:
        ratio: exp of the mean log ratio, with the interval of the paired t over blocks.
        p: two-sided p of that t, for all ratios that are printed together: their number times it, at most 1.
        weighted: the inverse-variance weighted ratio, with the interval of z; between-block variance as of DerSimonian and Laird.
        p_weighted: two-sided p of that z, likewise.
        between: estimated SD of the true log ratio over blocks.
        blocks: number of blocks.
    """

    ratio: Interval
    p: float
    weighted: Interval
    p_weighted: float
    between: float
    blocks: int


def log_sd_variance(seeds: int) -> float:
    """Sampling variance of the log of an SD from `seeds` normal values: ψ′((S − 1)/2) / 4."""
    return float(special.polygamma(1, (seeds - 1) / 2)) / 4


def log_sd(scores: Array) -> float:
    """Unbiased estimate of ln σ from normal run scores: ln s − [ψ(ν/2) − ln(ν/2)] / 2 with ν = S − 1."""
    half = (scores.size - 1) / 2
    return math.log(float(scores.std(ddof=1))) - (float(special.digamma(half)) - math.log(half)) / 2


def pooled_ratio(pairs: Sequence[tuple[Array, Array]], family: int = 1) -> PooledRatio | Refused:
    """Ratio of the seed SDs of two inits over blocks, from the run scores (first [seed], second [seed]) of every block.

    Intervals and p values hold for `family` ratios at once (Bonferroni).

    Per block the log ratio has the sampling variance ψ′((S_i − 1)/2)/4 + ψ′((S_j − 1)/2)/4; seeds that are crossed make it
    smaller, so the weighted z is then on the safe side. Blocks that share a data set are not independent data sets: the claim is
    about these blocks.
    """
    if len(pairs) < 2:
        return Refused("one block: seed variances of two inits are compared over two or more")
    if any(scores.size < 2 for pair in pairs for scores in pair):
        return Refused("one seed: no seed variance to compare")
    if any(_constant(scores) for pair in pairs for scores in pair):
        return Refused("all runs of an init score the same in a block (all diverged, or the seed is not in effect): no ratio")
    logs = np.array([log_sd(a) - log_sd(b) for a, b in pairs])
    noise = np.array([log_sd_variance(a.size) + log_sd_variance(b.size) for a, b in pairs])
    ratio, p = _paired_t(logs, family)
    weighted, p_weighted, between = _random_effects(logs, noise, family)
    return PooledRatio(ratio, p, weighted, p_weighted, between, len(pairs))


def _paired_t(logs: Array, family: int) -> tuple[Interval, float]:
    mean, error, df = float(logs.mean()), float(logs.std(ddof=1)) / math.sqrt(logs.size), logs.size - 1
    half = t_quantile(1 - (1 - LEVEL) / (2 * family), df) * error
    p = min(1.0, 2 * family * float(special.stdtr(df, -abs(mean) / error))) if error > 0 else math.nan
    return _exponential(mean, half), p


def _random_effects(logs: Array, noise: Array, family: int) -> tuple[Interval, float, float]:
    """Weighted mean, p and between-block SD (DerSimonian & Laird 1986)."""
    weights = 1 / noise
    q = float(weights @ (logs - np.average(logs, weights=weights)) ** 2)
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    between = max(0.0, float((q - (logs.size - 1)) / scale))
    weights = 1 / (noise + between)
    mean, error = float(np.average(logs, weights=weights)), 1 / math.sqrt(weights.sum())
    half = float(special.ndtri(1 - (1 - LEVEL) / (2 * family))) * error
    p = min(1.0, 2 * family * float(special.ndtr(-abs(mean) / error)))
    return _exponential(mean, half), p, math.sqrt(between)


def _exponential(mean: float, half: float) -> Interval:
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def _constant(scores: Array) -> bool:
    return float(np.ptp(scores)) <= 1e-12 * max(1.0, float(np.abs(scores).max()))
