"""Compares the seed variances of two inits.

They are variances of run scores, one score per seed. Scores of cases × seeds are never taken: in them the case variance hides a
threefold seed SD.
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
    """Ratio of seed SDs, pooled over blocks; 0.5 means that the first init has half the SD of the second.

    Attributes:
        ratio: exp of the mean log ratio, with the interval of the paired t over blocks.
        p: two-sided p of this t, times the number of ratios that are printed together, at most 1.
        weighted: the ratio weighted by inverse variances (DerSimonian and Laird), with the interval of z.
        p_weighted: two-sided p of this z, times the number of ratios that are printed together, at most 1.
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
    """Returns the sampling variance of the log of an SD from S = `seeds` normal values: ψ′((S − 1)/2) / 4."""
    return float(special.polygamma(1, (seeds - 1) / 2)) / 4


def log_sd(scores: Array) -> float:
    """Returns the unbiased estimate of ln σ from normal run scores [seed]: ln s − [ψ(ν/2) − ln(ν/2)] / 2 with ν = S − 1."""
    half = (scores.size - 1) / 2
    return math.log(float(scores.std(ddof=1))) - (float(special.digamma(half)) - math.log(half)) / 2


def pooled_ratio(pairs: Sequence[tuple[Array, Array]], family: int = 1) -> PooledRatio | Refused:
    """Returns the ratio of the seed SDs of two inits over blocks, or why there is none.

    Per block the log ratio has the sampling variance ψ′((S_i − 1)/2)/4 + ψ′((S_j − 1)/2)/4; seeds that are crossed make it
    smaller, so the weighted z is then on the safe side. Blocks that share a data set are not independent data sets: the claim is
    about these blocks.

    Args:
        pairs: the run scores of the first and of the second init in every block, each [seed].
        family: number of ratios for which intervals and p values hold at once (Bonferroni).
    """
    if len(pairs) < 2:
        return Refused("one block: seed variances of two inits are compared over two or more")
    groups: list[Array] = []
    for first, second in pairs:
        groups += [first, second]
    if min(scores.size for scores in groups) < 2:
        return Refused("one seed: no seed variance to compare")
    if any(map(_constant, groups)):
        return Refused("all runs of an init score the same in a block (all diverged, or the seed is not in effect): no ratio")
    ratios, variances = [], []
    for first, second in pairs:
        ratios.append(log_sd(first) - log_sd(second))
        variances.append(log_sd_variance(first.size) + log_sd_variance(second.size))
    logs, noise = np.array(ratios), np.array(variances)
    ratio, p = _paired_t(logs, family)
    weighted, p_weighted, between = _random_effects(logs, noise, family)
    return PooledRatio(ratio, p, weighted, p_weighted, between, len(pairs))


def _paired_t(logs: Array, family: int) -> tuple[Interval, float]:
    """Returns the ratio with the interval of the paired t, and the p of a ratio of 1; NaN where all blocks have one ratio.

    Args:
        logs: log ratios [block].
        family: number of ratios that are judged at once.
    """
    mean, error, df = float(logs.mean()), float(logs.std(ddof=1)) / math.sqrt(logs.size), logs.size - 1
    half = t_quantile(1 - (1 - LEVEL) / (2 * family), df) * error
    p = math.nan
    if error > 0:
        p = min(1.0, 2 * family * float(special.stdtr(df, -abs(mean) / error)))
    return _exponential(mean, half), p


def _random_effects(logs: Array, noise: Array, family: int) -> tuple[Interval, float, float]:
    """Returns the weighted ratio with its interval, the p of a ratio of 1, and the SD between blocks (DerSimonian & Laird 1986).

    Args:
        logs: log ratios [block].
        noise: their sampling variances [block].
        family: number of ratios that are judged at once.
    """
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
    """Returns a ratio with its interval, from the mean of its log and half the width of the interval of this mean."""
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def _constant(scores: Array) -> bool:
    """Returns whether run scores [seed] are equal but for rounding."""
    return float(np.ptp(scores)) <= 1e-12 * max(1.0, float(np.abs(scores).max()))
