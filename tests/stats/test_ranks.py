"""The places that inits may have, and Friedman's test over data sets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from initbench.stats.across import Friedman, by_dataset, friedman, nemenyi
from initbench.stats.compare import compare
from initbench.stats.design import Refused
from initbench.stats.mrmc import crossed_difference
from initbench.stats.ranks import InitRank, ranking, ranks, surely_ahead, tie_letters
from initbench.stats.tails import quantile
from tests.simulated import LUNG, scores

RNG = np.random.default_rng


def ranked(y: np.ndarray, names: tuple[str, ...] | None = None, seeds: Any = "crossed") -> tuple[InitRank, ...]:
    got = ranking(y, names or tuple(f"i{k}" for k in range(len(y))), seeds)
    assert not isinstance(got, Refused)
    return got


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_ranks_are_scipys_with_the_highest_first() -> None:
    values = RNG(0).integers(0, 4, (50, 6)).astype(float)  # many ties
    assert ranks(values) == pytest.approx(stats.rankdata(-values, axis=-1))


# --- ranking ----------------------------------------------------------------------------------------------------------

CLEAR = {"seed": 0.2, "init_case": 0.2, "residual": 0.5}


def test_a_clear_order() -> None:
    y = scores(RNG(7), 1, 3, 5, 30, **CLEAR)[0] + np.array([0.0, 20.0, 10.0])[:, None, None]
    got = ranked(y, ("c", "a", "b"))
    assert [(one.init, one.rank, one.low, one.high, one.may_be_best) for one in got] == [
        ("a", 1, 1, 1, True),
        ("b", 2, 2, 2, False),
        ("c", 3, 3, 3, False),
    ]
    assert [one.mean for one in got] == pytest.approx(sorted(y.mean((1, 2)), reverse=True))


def test_places_by_hand() -> None:
    """One init is ahead of the last, everything else is open: places 1 to 3, 1 to 4, 1 to 4, 2 to 4."""
    y = 50 + scores(RNG(8), 1, 4, 3, 20)[0]
    for k, wanted in enumerate([56.0, 53.0, 52.0, 50.0]):
        y[k] += wanted - y[k].mean()
    found = surely_ahead(y, "crossed")
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    by_hand = np.zeros((4, 4))
    for i, j in pairs:
        estimate = crossed_difference(y[i] - y[j])
        by_hand[i, j] = float(estimate.value) > float(quantile(estimate, 0.05 / 3) * estimate.error)
    assert (found == by_hand).all()
    for one in ranked(y):
        own = int(one.init[1:])
        assert one.low == 1 + sum(by_hand[:, own])
        assert one.high == 4 - sum(by_hand[own])


def test_places_from_a_planted_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Init 0 is ahead of 2 and 3, init 1 of 3."""
    ahead = np.zeros((4, 4))
    ahead[0, 2] = ahead[0, 3] = ahead[1, 3] = 1
    monkeypatch.setattr("initbench.stats.ranks.surely_ahead", lambda y, seeds, share: ahead)
    y = np.broadcast_to(np.array([4.0, 3.0, 2.0, 1.0])[:, None, None], (4, 3, 2))
    assert [(one.init, one.low, one.high) for one in ranked(y)] == [("i0", 1, 2), ("i1", 1, 3), ("i2", 2, 4), ("i3", 3, 4)]
    assert [one.may_be_best for one in ranked(y)] == [True, True, False, False]


def test_inits_that_nothing_tells_apart_may_have_every_place() -> None:
    got = ranked(scores(RNG(8), 1, 4, 3, 20)[0])
    assert all(one.may_be_best for one in got)
    assert {(one.low, one.high) for one in got} == {(1, 4)}
    assert all(1 <= one.low <= one.rank <= one.high <= 4 for one in got)


def test_equal_inits_share_their_rank() -> None:
    y = scores(RNG(9), 1, 1, 4, 10)[0]
    got = ranked(np.concatenate([y, y]))
    assert [one.rank for one in got] == [1.5, 1.5]
    # Not a difference, and no noise either: none of the two is ahead.
    assert [(one.low, one.high) for one in got] == [(1, 2), (1, 2)]


def test_the_order_of_the_inits_does_not_matter() -> None:
    y = scores(RNG(10), 1, 3, 4, 10)[0]
    for seeds in ("crossed", "nested"):
        one, other = ranked(y, ("a", "b", "c"), seeds), ranked(y[::-1], ("c", "b", "a"), seeds)
        assert other == one


def test_too_little_to_rank() -> None:
    for shape, word in (
        ((1, 3, 4), "one init"),
        ((3, 1, 4), "with 1 nearly any init could have nearly any place"),
        ((3, 2, 4), "places need 3 seeds; with 2"),
        ((3, 3, 1), "one reported case"),
    ):
        got = ranking(RNG(1).normal(50, 1, shape), tuple("abc"[: shape[0]]))
        assert isinstance(got, Refused)
        assert word in got.reason


@pytest.mark.parametrize("seeds", ["crossed", "nested"])
def test_who_may_be_best_agrees_with_the_verdicts_on_default(seeds: Any) -> None:
    """Each init is compared with all others, as default is in its family: both judge I - 1 differences at once."""
    rng, names = RNG(12), ("default", "a", "b", "c", "d")
    told = 0
    for y in 50 + scores(rng, 60, 5, 3, 20) + rng.normal(0, 10, (60, 5, 1, 1)):
        verdicts = compare(y, names, seeds=seeds, against="default").differences
        better = [one.first for one in verdicts if one.estimate.low > 0]
        worse = [one.first for one in verdicts if one.estimate.high < 0]
        (place,) = (one for one in ranked(y, names, seeds) if one.init == "default")
        assert (place.low, place.high) == (1 + len(better), 5 - len(worse))
        assert place.may_be_best == (not better)
        told += bool(better) + bool(worse)
    assert told > 20


@pytest.mark.parametrize(("seeds", "design"), [(3, "crossed"), (5, "crossed"), (3, "nested")])
def test_places_hold_the_true_ones(seeds: int, design: Any) -> None:
    """Of one init in 95 % of studies; and the truly best one may be best in as many."""
    rng = RNG(100 + seeds)
    held, best = [], []
    shared = 3.0 if design == "crossed" else 0.0
    for y in 50 + scores(rng, 300, 8, seeds, 20, shared=shared):
        effects = rng.normal(0, 2, 8)
        truth = ranks(effects)
        found = {int(one.init[1:]): one for one in ranked(y + effects[:, None, None], None, design)}
        held.append(np.mean([found[k].low <= truth[k] <= found[k].high for k in range(8)]))
        best.append(found[int(effects.argmax())].may_be_best)
    assert np.mean(held) >= 0.95
    assert np.mean(best) >= 0.95


def test_letters_are_those_of_the_verdicts() -> None:
    y = scores(RNG(7), 1, 4, 5, 30, **CLEAR)[0] + np.array([20.0, 10.0, 10.0, 0.0])[:, None, None]
    y[2] += y[1].mean() - y[2].mean() + 0.01
    names = ("a", "b", "c", "d")
    every = compare(y, names)
    assert tie_letters(every, ("a", "c", "b", "d")) == {"a": "a", "c": "b", "b": "b", "d": "c"}
    open_pairs = {(one.first, one.second) for one in every.differences if not one.told_from_0}
    assert open_pairs == {("b", "c")}


@pytest.mark.parametrize(("lead", "shares"), [(1.0, (0.22, 0.33, 0.40, 0.52, 0.62)), (2.0, (0.38, 0.61, 0.75, 0.89, 0.96))])
def test_how_often_a_leader_is_ranked_first(lead: float, shares: tuple[float, ...]) -> None:
    for seeds, share in zip((1, 3, 5, 10), shares, strict=False):
        means = scores(RNG(seeds), 800, 8, seeds, 63, **LUNG).mean((-2, -1))
        means[:, 0] += lead
        assert float((ranks(means)[:, 0] == 1).mean()) == pytest.approx(share, abs=0.05)


# --- over data sets ---------------------------------------------------------------------------------------------------


def result(got: Friedman | Refused) -> Friedman:
    assert isinstance(got, Friedman)
    return got


def test_friedman_over_datasets_is_scipys_with_iman_and_davenport() -> None:
    table = RNG(15).normal(70, 5, (6, 4))
    got = result(friedman(table, list("abcdef")))
    expected = stats.friedmanchisquare(*table.T)
    assert got.chi2 == pytest.approx(expected.statistic)
    f = 5 * got.chi2 / (6 * 3 - got.chi2)
    assert got.p == pytest.approx(stats.f.sf(f, 3, 15))
    assert got.mean_ranks == pytest.approx(stats.rankdata(-table, axis=1).mean(0))


def test_blocks_of_a_dataset_are_one() -> None:
    table = np.array([[3.0, 2.0, 1.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0]])
    got, names = by_dataset(table, ["x", "x", "y"])
    assert names == ("x", "y")
    assert got == pytest.approx(np.array([[1.5, 1.5, 3.0], [3.0, 2.0, 1.0]]))


def test_the_first_mean_rank_is_the_best() -> None:
    table = np.tile([50.0, 70.0, 60.0, 40.0], (5, 1))
    got = result(friedman(table, list("abcde")))
    assert got.mean_ranks == (3, 1, 2, 4)
    assert math.isinf(got.f)
    assert got.p == pytest.approx(24.0**-4)  # all five agree by chance, not 0


def test_blocks_taken_for_datasets_reject_where_nothing_is() -> None:
    rng = RNG(16)
    naive, ours = [], []
    for _ in range(400):
        table = (rng.normal(0, 1, (2, 1, 8)) + rng.normal(0, 1, (2, 4, 8))).reshape(8, 8)
        naive.append(stats.friedmanchisquare(*table.T).pvalue < 0.05)
        many = (rng.normal(0, 1, (6, 1, 5)) + rng.normal(0, 1, (6, 4, 5))).reshape(24, 5)
        ours.append(result(friedman(many, [str(k // 4) for k in range(24)])).p < 0.05)
    assert np.mean(naive) == pytest.approx(0.58, abs=0.08)
    assert 0.02 <= np.mean(ours) <= 0.085


def test_too_few_datasets() -> None:
    for table, names in ((np.eye(3), "aaa"), (np.eye(3)[:2], "ab"), (np.zeros((3, 2)), "abc"), (np.zeros((4, 4)), "abcd")):
        assert isinstance(friedman(table, list(names)), Refused)
    with pytest.raises(ValueError, match="finite"):
        friedman(np.full((3, 3), math.nan), list("abc"))


def test_nemenyis_critical_difference() -> None:
    assert nemenyi(8, 8) == pytest.approx(3.031 * math.sqrt(8 * 9 / (6 * 8)), abs=0.001)  # Demšar's q
    assert (nemenyi(8, 8), nemenyi(8, 4)) == pytest.approx((3.71, 5.25), abs=0.005)
