"""Intervals and spreads, against scipy.stats and by simulation."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from initbench.stats.summary import chi2_quantile, mean_interval, sd_interval, spread, t_quantile


@pytest.mark.parametrize("df", [1, 2, 4, 9, 30])
@pytest.mark.parametrize("probability", [0.005, 0.025, 0.5, 0.9, 0.975])
def test_quantiles_are_scipys(probability: float, df: int) -> None:
    assert t_quantile(probability, df) == pytest.approx(stats.t.ppf(probability, df), rel=1e-9, abs=1e-12)
    assert chi2_quantile(probability, df) == pytest.approx(stats.chi2.ppf(probability, df), rel=1e-9)


@pytest.mark.parametrize(("seeds", "low", "high"), [(3, 0.52, 6.28), (5, 0.60, 2.87), (10, 0.69, 1.83)])
def test_the_interval_of_an_sd_is_as_wide_as_the_tables_say(seeds: int, low: float, high: float) -> None:
    values = np.random.default_rng(0).normal(70, 2, seeds)
    found = sd_interval(values)
    assert found.value == pytest.approx(values.std(ddof=1))
    assert found.low / found.value == pytest.approx(low, abs=0.005)
    assert found.high / found.value == pytest.approx(high, abs=0.005)


def test_a_mean_interval_by_hand() -> None:
    found = mean_interval(np.array([4.0, 5.0, 6.0]))  # SD 1, t(0.975, 2) = 4.3027
    half = 4.3027 / math.sqrt(3)
    assert (found.value, found.low, found.high) == pytest.approx((5, 5 - half, 5 + half), rel=1e-4)
    expected = stats.ttest_1samp([4.0, 5.0, 6.0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_one_value_has_no_interval() -> None:
    mean, sd = mean_interval(np.array([71.5])), sd_interval(np.array([71.5]))
    assert mean.value == 71.5
    assert all(math.isnan(value) for value in (mean.low, mean.high, sd.value, sd.low, sd.high))
    assert math.isnan(sd_interval(np.array([])).value)


def test_equal_values_give_an_interval_of_no_width() -> None:
    values = np.full(4, 60.0)
    assert mean_interval(values) == mean_interval(values[::-1])
    assert (mean_interval(values).low, mean_interval(values).high) == (60.0, 60.0)
    assert (sd_interval(values).value, sd_interval(values).low, sd_interval(values).high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_intervals_cover_what_they_say(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    trials = 4000
    draws = rng.normal(50, 3, (trials, seeds))
    means, sds = [mean_interval(row) for row in draws], [sd_interval(row) for row in draws]
    tolerance = 4 * math.sqrt(0.95 * 0.05 / trials)
    assert np.mean([item.low <= 50 <= item.high for item in means]) == pytest.approx(0.95, abs=tolerance)
    assert np.mean([item.low <= 3 <= item.high for item in sds]) == pytest.approx(0.95, abs=tolerance)


# --- spread -----------------------------------------------------------------------------------------------------------


def test_a_spread_by_hand() -> None:
    found = spread([np.array([50.0, 52.0]), np.array([58.0, 62.0]), np.array([70.0])])
    assert found is not None
    # seed: (1·2 + 1·8) / 2 = 5; means 51, 60, 70 have variance 90.33; noise 5 · (½ + ½ + 1) / 3
    assert found.seed == pytest.approx(math.sqrt(5))
    assert found.between_variance == pytest.approx(np.var([51, 60, 70], ddof=1) - 5 * 2 / 3)
    assert found.between == pytest.approx(math.sqrt(found.between_variance))
    assert found.inits == 3


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (2, 3, 5, 10), (1, 1, 4, 4)])
@pytest.mark.parametrize("between", [0.0, 1.5])
def test_the_spread_is_unbiased(sizes: tuple[int, ...], between: float) -> None:
    rng = np.random.default_rng(1)
    raw, seed = [], []
    for _ in range(6000):
        found = spread([rng.normal(rng.normal(60, between), 2.0, size) for size in sizes])
        assert found is not None
        raw.append(found.between_variance)
        seed.append(found.seed**2)
    for values, truth in ((raw, between**2), (seed, 4.0)):
        assert np.mean(values) == pytest.approx(truth, abs=4 * float(np.std(values)) / math.sqrt(len(values)))


def test_an_estimate_below_zero_is_clipped_and_kept_beside() -> None:
    found = spread([np.array([50.0, 70.0]), np.array([51.0, 69.0])])  # equal means, large seed noise
    assert found is not None
    assert found.between == 0
    assert found.between_variance < 0


def test_a_shift_of_all_scores_changes_no_spread() -> None:
    scores = [np.array([50.0, 52.0, 57.0]), np.array([58.0, 62.0, 59.5])]
    found = [spread([values + shift for values in scores]) for shift in (0.0, 10.0, -30.0)]
    for one, other in pairwise(found):
        assert one is not None
        assert other is not None
        assert (one.between, one.seed) == pytest.approx((other.between, other.seed))


@pytest.mark.parametrize(
    "scores",
    [
        [],
        [np.array([50.0, 60.0])],
        [np.array([50.0]), np.array([60.0])],
    ],
)
def test_too_little_for_a_spread(scores: list[np.ndarray]) -> None:
    assert spread(scores) is None
