"""Letters that inits share, and the probability that one init beats another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from initbench.stats.design import Refused
from initbench.stats.multiplicity import compact_letters
from initbench.stats.superiority import Superiority, superiority

# --- many comparisons -------------------------------------------------------------------------------------------------

RNG = np.random.default_rng


def test_letters_by_hand() -> None:
    assert compact_letters(3, []) == ["a", "a", "a"]
    assert compact_letters(3, [(0, 2)]) == ["a", "ab", "b"]
    assert compact_letters(3, [(0, 1), (0, 2), (1, 2)]) == ["a", "b", "c"]
    assert compact_letters(4, [(0, 2), (0, 3), (1, 3)]) == ["a", "ab", "bc", "c"]


def test_letters_are_shared_exactly_by_what_is_not_told_apart() -> None:
    rng = RNG(16)
    for _ in range(200):
        count = int(rng.integers(2, 8))
        pairs = {(i, j) for i in range(count) for j in range(i + 1, count) if rng.random() < 0.4}
        letters = compact_letters(count, sorted(pairs))
        for i in range(count):
            for j in range(i + 1, count):
                assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in pairs)


# --- P(A > B) ---------------------------------------------------------------------------------------------------------


def chance(a: np.ndarray, b: np.ndarray, seeds: Any = "crossed") -> Superiority:
    got = superiority(a, b, seeds)
    assert isinstance(got, Superiority)
    return got


def test_superiority_by_hand() -> None:
    a, b = np.array([3.0, 5.0, 7.0, 9.0]), np.array([3.0, 4.0, 8.0, 1.0])
    paired = chance(a, b)  # a tie, two wins, one loss
    assert (paired.chance.value, paired.pairs) == (2.5 / 4, 4)
    free = chance(a, b, "nested")
    assert free.chance.value == pytest.approx(stats.mannwhitneyu(a, b).statistic / 16)
    assert free.pairs == 16
    assert isinstance(superiority(a[:1], b[:1]), Refused)


def test_the_paired_interval_is_wilsons() -> None:
    got = chance(np.array([1.0, 1, 1, 1, 1, 1, 1, -1, -1]), np.zeros(9)).chance
    expected = stats.binomtest(7, 9).proportion_ci(0.95, method="wilson")
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high))


def test_seeds_that_all_agree_leave_doubt() -> None:
    for seeds, low in (("crossed", 0.44), ("nested", 0.50)):
        got = chance(np.array([3.0, 4, 5]), np.array([0.0, 1, 2]), seeds)
        assert (got.chance.value, got.chance.high) == (1.0, 1.0)
        assert got.chance.low == pytest.approx(low, abs=0.005)
        worst = chance(np.array([0.0, 1, 2]), np.array([3.0, 4, 5]), seeds)
        assert worst.chance.high == pytest.approx(1 - got.chance.low)


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("design", ["crossed", "nested"])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_interval_of_superiority_covers(seeds: int, design: str, shift: float) -> None:
    rng, truth = RNG(17), float(stats.norm.cdf(shift / math.sqrt(2)))
    draws = [chance(rng.normal(shift, 1, seeds), rng.normal(0, 1, seeds), design).chance for _ in range(500)]
    assert np.mean([one.low <= truth <= one.high for one in draws]) >= 0.91
