"""Seed variances of inits against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from initbench.stats.design import Refused
from initbench.stats.variances import SEEDS_TO_TEST, PooledRatio, log_sd, log_sd_variance, pooled_ratio

RNG = np.random.default_rng
Pairs = list[tuple[np.ndarray, np.ndarray]]


def blocks(rng: np.random.Generator, count: int, seeds: int, ratio: float) -> Pairs:
    """Run scores of two inits in every block; blocks have scales of their own."""
    scale = rng.uniform(0.5, 4, count)
    return [(70 + rng.normal(0, ratio * sd, seeds), 68 + rng.normal(0, sd, seeds)) for sd in scale]


def pooled(pairs: Pairs, family: int = 1) -> PooledRatio:
    got = pooled_ratio(pairs, family)
    assert isinstance(got, PooledRatio)
    return got


# --- pooled log ratio -------------------------------------------------------------------------------------------------


def test_the_pooled_ratio_is_a_paired_t_of_logs() -> None:
    pairs = blocks(RNG(0), 6, 5, 2.0)
    got = pooled(pairs)
    logs = [np.log(a.std(ddof=1) / b.std(ddof=1)) for a, b in pairs]
    expected = stats.ttest_1samp(logs, 0)
    interval = np.exp(expected.confidence_interval(0.95))
    assert got.p == pytest.approx(expected.pvalue)
    assert (got.ratio.value, got.ratio.low, got.ratio.high) == pytest.approx((np.exp(np.mean(logs)), *interval))
    assert got.blocks == 6


def test_ratios_that_are_printed_together_hold_together() -> None:
    pairs = blocks(RNG(0), 6, 5, 2.0)
    one, seven = pooled(pairs), pooled(pairs, 7)
    logs = [np.log(a.std(ddof=1) / b.std(ddof=1)) for a, b in pairs]
    interval = np.exp(stats.ttest_1samp(logs, 0).confidence_interval(1 - 0.05 / 7))
    assert (seven.ratio.low, seven.ratio.high) == pytest.approx(tuple(interval))
    assert seven.p == pytest.approx(min(1.0, 7 * one.p))
    assert seven.p_weighted == pytest.approx(min(1.0, 7 * one.p_weighted))
    assert seven.ratio.value == one.ratio.value
    # p below .05 exactly where the interval lacks 1, by either way.
    rng = RNG(12)
    for _ in range(60):
        found = pooled(blocks(rng, 4, 4, float(rng.uniform(1, 6))), int(rng.integers(1, 8)))
        for interval, p in ((found.ratio, found.p), (found.weighted, found.p_weighted)):
            assert (p < 0.05) == (not interval.low <= 1 <= interval.high)


def test_the_weighted_ratio_by_hand() -> None:
    """Blocks that agree: no between-block variance, equal weights, and the known sampling variance."""
    pairs = [(np.array([0.0, 2.0, 4.0]), np.array([0.0, 1.0, 2.0]))] * 4
    got = pooled(pairs)
    error = math.sqrt(2 * special.polygamma(1, 1.0) / 4 / 4)
    assert got.between == 0
    assert got.weighted.value == pytest.approx(2.0)
    assert got.weighted.high == pytest.approx(2 * math.exp(1.959964 * error))
    assert got.p_weighted == pytest.approx(2 * stats.norm.sf(math.log(2) / error))


def test_blocks_that_disagree_widen_the_weighted_interval() -> None:
    up, down = np.array([0.0, 20.0, 40.0]), np.array([0.0, 0.1, 0.2])
    middle = np.array([0.0, 2.0, 4.0])
    got = pooled([(up, middle), (down, middle), (up, middle), (down, middle)])
    assert got.between > 1
    assert got.weighted.low < 0.5 < 2 < got.weighted.high or got.weighted.high / got.weighted.low > 10


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_log_of_an_sd_is_unbiased_with_the_variance_of_the_formula(seeds: int) -> None:
    draws = np.array([log_sd(row) for row in RNG(1).normal(0, 3, (8000, seeds))])
    assert draws.mean() == pytest.approx(math.log(3), abs=4 * draws.std() / math.sqrt(draws.size))
    assert draws.var() == pytest.approx(log_sd_variance(seeds), rel=0.12)


@pytest.mark.parametrize(
    ("count", "seeds", "ratio", "t", "z"),
    [(8, 3, 2.0, 0.50, 0.58), (8, 5, 2.0, 0.84, 0.94), (12, 5, 2.0, 0.96, 0.98), (8, 5, 1.5, 0.44, 0.53)],
)
def test_power_of_the_pooled_ratio(count: int, seeds: int, ratio: float, t: float, z: float) -> None:
    rng = RNG(2)
    got = [pooled(blocks(rng, count, seeds, ratio)) for _ in range(800)]
    assert np.mean([one.p < 0.05 for one in got]) == pytest.approx(t, abs=0.06)
    # The specification's z is without random effects, which cost some power.
    assert z - 0.13 <= np.mean([one.p_weighted < 0.05 for one in got]) <= z + 0.04


@pytest.mark.parametrize("seeds", [3, 5])
def test_size_of_the_pooled_ratio(seeds: int) -> None:
    rng = RNG(3)
    got = [pooled(blocks(rng, 8, seeds, 1.0)) for _ in range(1500)]
    assert 0.03 <= np.mean([one.p < 0.05 for one in got]) <= 0.07
    assert 0.02 <= np.mean([one.p_weighted < 0.05 for one in got]) <= 0.07


def test_no_ratio_in_words() -> None:
    a, b = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.5, 9.0])
    for pairs, word in (
        ([], "one block"),
        ([(a, b)], "one block"),
        ([(a, b), (a[:1], b)], "one seed"),
        ([(a, b), (np.zeros(3), b)], "diverged"),
    ):
        got = pooled_ratio(pairs)
        assert isinstance(got, Refused)
        assert word in got.reason


# --- within a block ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "low", "high"), [(3, 0.0, 0.0), (5, 0.0, 0.015), (SEEDS_TO_TEST, 0.02, 0.06)])
def test_below_so_many_seeds_a_test_of_one_block_finds_nothing(seeds: int, low: float, high: float) -> None:
    groups = RNG(6).normal(0, 1, (1200, 4, seeds))
    assert low <= np.mean([stats.levene(*g, center="median").pvalue < 0.05 for g in groups]) <= high


def test_pooling_cases_and_seeds_hides_a_threefold_seed_sd() -> None:
    rng = RNG(7)
    hits = []
    for _ in range(200):
        case = rng.normal(0, 25, 63)
        a, b = (case + rng.normal(0, sd, (5, 1)) + rng.normal(0, 10, (5, 63)) for sd in (4.5, 1.5))
        hits.append(stats.levene(a.ravel(), b.ravel(), center="median").pvalue < 0.05)
    assert np.mean(hits) <= 0.02
