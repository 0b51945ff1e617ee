"""Quantiles, the interval of an SD, and the scales of Dice: against scipy.stats and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from initbench.stats.scale import DICE, DIFFERENCE, SD, cut
from initbench.stats.summary import Interval, chi2_quantile, sd_interval, t_quantile


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


def test_one_value_has_no_interval() -> None:
    sd = sd_interval(np.array([71.5]))
    assert all(math.isnan(value) for value in (sd.value, sd.low, sd.high))
    assert math.isnan(sd_interval(np.array([])).value)


def test_equal_values_give_an_interval_of_no_width() -> None:
    values = np.full(4, 60.0)
    assert (sd_interval(values).value, sd_interval(values).low, sd_interval(values).high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_intervals_of_an_sd_cover_what_they_say(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    trials = 4000
    draws = rng.normal(50, 3, (trials, seeds))
    sds = [sd_interval(row) for row in draws]
    tolerance = 4 * math.sqrt(0.95 * 0.05 / trials)
    assert np.mean([item.low <= 3 <= item.high for item in sds]) == pytest.approx(0.95, abs=tolerance)


def test_numbers_are_cut_where_no_dice_can_be() -> None:
    wide = Interval(40.0, -140.0, 240.0)
    assert cut(wide, DICE) == Interval(40.0, 0.0, 100.0)
    assert cut(wide, DIFFERENCE) == Interval(40.0, -100.0, 100.0)
    assert cut(Interval(3.0, 1.0, 80.0), SD) == Interval(3.0, 1.0, 50.0)
    inside = Interval(40.0, 39.0, 41.0)
    assert all(cut(inside, scale) == inside for scale in (DICE, DIFFERENCE, SD))
    unknown = cut(Interval(40.0, math.nan, math.nan), DICE)
    assert unknown.value == 40
    assert math.isnan(unknown.low)
    assert math.isnan(unknown.high)


def test_no_scores_have_a_larger_sd_than_the_scale_allows() -> None:
    halves = np.repeat([0.0, 100.0], 500)
    assert halves.std() == SD.high
    rng = np.random.default_rng(5)
    assert all(rng.choice([0.0, 100.0, 50.0], 8).std() <= SD.high for _ in range(200))
