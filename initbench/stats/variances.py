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
SEEDS_TO_BELIEVE_A_NULL = 20


@dataclass(frozen=True)
class PooledRatio:
    """Ratio of seed SDs, pooled over blocks; 0.5 means that the first init's is half the second's.

    Attributes:
        ratio: exp of the mean log ratio, with the interval of the paired t over blocks.
        p: two-sided p of that t.
        weighted: the inverse-variance weighted ratio, with the interval of z; between-block variance as of DerSimonian and Laird.
        p_weighted: two-sided p of that z.
        between: estimated SD of the true log ratio over blocks.
        blocks: number of blocks.
    """

    ratio: Interval
    p: float
    weighted: Interval
    p_weighted: float
    between: float
    blocks: int


@dataclass(frozen=True)
class VarianceTest:
    """Test of equal seed variances in one block.

    Attributes:
        statistic: F of Brown-Forsythe, r of Pitman-Morgan.
        ratio: of the two SDs with interval (Pitman-Morgan); None for more inits.
        note: what a reader has to know of it.
    """

    statistic: float
    p: float
    ratio: Interval | None = None
    note: str = ""


def log_sd_variance(seeds: int) -> float:
    """Sampling variance of the log of an SD from `seeds` normal values: ψ′((S − 1)/2) / 4."""
    return float(special.polygamma(1, (seeds - 1) / 2)) / 4


def log_sd(scores: Array) -> float:
    """Unbiased estimate of ln σ from normal run scores: ln s − [ψ(ν/2) − ln(ν/2)] / 2 with ν = S − 1."""
    half = (scores.size - 1) / 2
    return math.log(float(scores.std(ddof=1))) - (float(special.digamma(half)) - math.log(half)) / 2


def pooled_ratio(pairs: Sequence[tuple[Array, Array]]) -> PooledRatio | Refused:
    """Ratio of the seed SDs of two inits over blocks, from the run scores (first [seed], second [seed]) of every block.

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
    ratio, p = _paired_t(logs)
    weighted, p_weighted, between = _random_effects(logs, noise)
    return PooledRatio(ratio, p, weighted, p_weighted, between, len(pairs))


def _paired_t(logs: Array) -> tuple[Interval, float]:
    mean, error, df = float(logs.mean()), float(logs.std(ddof=1)) / math.sqrt(logs.size), logs.size - 1
    half = t_quantile(0.5 + LEVEL / 2, df) * error
    p = 2 * float(special.stdtr(df, -abs(mean) / error)) if error > 0 else math.nan
    return _exponential(mean, half), p


def _random_effects(logs: Array, noise: Array) -> tuple[Interval, float, float]:
    """Weighted mean, p and between-block SD (DerSimonian & Laird 1986)."""
    weights = 1 / noise
    q = float(weights @ (logs - np.average(logs, weights=weights)) ** 2)
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    between = max(0.0, float((q - (logs.size - 1)) / scale))
    weights = 1 / (noise + between)
    mean, error = float(np.average(logs, weights=weights)), 1 / math.sqrt(weights.sum())
    half = float(special.ndtri(0.5 + LEVEL / 2)) * error
    return _exponential(mean, half), 2 * float(special.ndtr(-abs(mean) / error)), math.sqrt(between)


def _exponential(mean: float, half: float) -> Interval:
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def brown_forsythe(groups: Sequence[Array]) -> VarianceTest | Refused:
    """Levene's test about medians of the run scores of every init (Brown & Forsythe 1974).

    Refused below 8 seeds: with an odd few one deviation from the median is always 0, and the test never rejects (3 seeds) or
    rejects 0.5 % (5 seeds) of equal variances.
    """
    smallest = min((group.size for group in groups), default=0)
    if len(groups) < 2:
        return Refused("one init: no seed variances to compare")
    if smallest < SEEDS_TO_TEST:
        return Refused(
            f"not testable with {smallest} seeds in one block (needs {SEEDS_TO_TEST}); the ratio pooled over blocks is"
        )
    if all(_constant(group) for group in groups):
        return Refused("all runs of every init score the same: no seed variance")
    from scipy.stats import levene  # scipy.stats takes long to import

    found = levene(*groups, center="median")
    weak = smallest < SEEDS_TO_BELIEVE_A_NULL
    note = f"no difference found says little below {SEEDS_TO_BELIEVE_A_NULL} seeds" if weak else ""
    return VarianceTest(float(found.statistic), float(found.pvalue), note=note)


def pitman_morgan(a: Array, b: Array) -> VarianceTest | Refused:
    """Equal variances of two inits with crossed seeds: the correlation of a + b with a − b (Pitman 1939; Morgan 1939).

    The ratio of SDs has the interval that inverts it: F · (K ± √(K² − 1)) for the ratio of variances, with
    K = 1 + 2 (1 − r_ab²) t² / (S − 2). Exact for normal scores, and as sensitive to others as every F test of variances.
    """
    if a.size != b.size:
        return Refused("the two inits have different seeds: pairs are needed")
    if a.size < 3:
        return Refused(f"not testable with {a.size} seeds (needs 3)")
    if _constant(a) or _constant(b):
        return Refused("all runs of an init score the same (all diverged, or the seed is not in effect): no ratio")
    if _constant(a - b) or _constant(a + b):
        return Refused("the two inits differ by the same amount at every seed: their seed variances are one")
    from scipy.stats import pearsonr  # scipy.stats takes long to import

    found = pearsonr(a + b, a - b)
    variances = float(a.var(ddof=1) / b.var(ddof=1))
    t = t_quantile(0.5 + LEVEL / 2, a.size - 2)
    own = min(1.0, float(np.corrcoef(a, b)[0, 1]) ** 2)
    k = 1 + 2 * (1 - own) * t**2 / (a.size - 2)
    low, high = variances * (k - math.sqrt(k**2 - 1)), variances * (k + math.sqrt(k**2 - 1))
    ratio = Interval(math.sqrt(variances), math.sqrt(max(low, 0.0)), math.sqrt(high))
    return VarianceTest(float(found.statistic), float(found.pvalue), ratio)


def _constant(scores: Array) -> bool:
    return float(np.ptp(scores)) <= 1e-12 * max(1.0, float(np.abs(scores).max()))
