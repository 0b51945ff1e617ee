"""Rankings, their bootstrap, and Friedman's test over data sets."""

from __future__ import annotations

import math
import time
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from initbench.stats.across import Friedman, by_dataset, friedman, nemenyi
from initbench.stats.design import Refused
from initbench.stats.ranks import Ranking, bootstrap_means, kendall, orders, place_shares, ranking, ranks, seed_curve
from tests.simulated import LUNG, scores

RNG = np.random.default_rng


def ranked(y: np.ndarray, names: tuple[str, ...] | None = None) -> Ranking:
    got = ranking(y, names or tuple(f"i{k}" for k in range(len(y))))
    assert isinstance(got, Ranking)
    return got


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_ranks_are_scipys_with_the_highest_first() -> None:
    values = RNG(0).integers(0, 4, (50, 6)).astype(float)  # many ties
    assert ranks(values) == pytest.approx(stats.rankdata(-values, axis=-1))


def test_kendall_is_scipys() -> None:
    values = RNG(1).integers(0, 5, (40, 6)).astype(float)
    reference = RNG(2).integers(0, 5, 6).astype(float)
    expected = [stats.kendalltau(row, reference).statistic for row in values]
    assert kendall(values, reference) == pytest.approx(expected)
    assert np.isnan(kendall(np.ones((2, 4)), np.arange(4.0))).all()


def test_tied_inits_share_the_places_they_cover() -> None:
    assert place_shares(np.array([[1.0, 2.5, 2.5], [2.0, 2.0, 2.0]])) == pytest.approx(
        np.array([[4, 1, 1], [1, 2.5, 2.5], [1, 2.5, 2.5]]) / 6
    )


def test_the_places_of_a_ranking_are_shares_that_begin_with_being_best() -> None:
    got = ranked(scores(RNG(11), 1, 5, 4, 20)[0])
    table = np.array([row.places for row in got.inits])
    assert table.sum(0) == pytest.approx(np.ones(5))
    assert table.sum(1) == pytest.approx(np.ones(5))
    assert [row.best for row in got.inits] == [row.places[0] for row in got.inits]
    assert table @ np.arange(1, 6) == pytest.approx([_mean_rank(got, row.init) for row in got.inits])


def _mean_rank(got: Ranking, init: str) -> float:
    y = scores(RNG(11), 1, 5, 4, 20)[0]
    return float(ranks(bootstrap_means(y, draws=got.draws))[:, int(init[1:])].mean())


# --- bootstrap --------------------------------------------------------------------------------------------------------


def test_the_bootstrap_is_the_loop_over_both_axes() -> None:
    """Moments against an independent loop that resamples indices."""
    y = scores(RNG(3), 1, 2, 4, 12)[0]
    rng = RNG(4)
    loop = np.array([y[:, rng.integers(0, 4, 4)][..., rng.integers(0, 12, 12)].mean((1, 2)) for _ in range(6000)])
    fast = bootstrap_means(y, draws=20_000)
    assert fast.mean(0) == pytest.approx(y.mean((1, 2)), abs=0.2)
    assert fast.std(0) == pytest.approx(loop.std(0), rel=0.05)
    # Cases and crossed seeds are drawn once for all inits: the difference varies less than the sum.
    assert (fast[:, 0] - fast[:, 1]).std() == pytest.approx((loop[:, 0] - loop[:, 1]).std(), rel=0.05)


def test_seeds_are_drawn_jointly_where_they_are_crossed() -> None:
    y = np.broadcast_to(RNG(5).normal(0, 5, (1, 5, 1)), (2, 5, 3)).copy()  # a seed does the same to both inits
    crossed, nested = bootstrap_means(y, "crossed"), bootstrap_means(y, "nested")
    assert crossed[:, 0] == pytest.approx(crossed[:, 1])
    assert np.corrcoef(nested.T)[0, 1] == pytest.approx(0, abs=0.06)
    assert nested.std() == pytest.approx(y[0].std() / math.sqrt(5), rel=0.05)


def test_the_bootstrap_gives_the_same_every_time_and_quickly() -> None:
    y = scores(RNG(6), 1, 8, 10, 63)[0]
    begin = time.process_time()
    first = bootstrap_means(y)
    assert time.process_time() - begin < 1
    assert (bootstrap_means(y) == first).all()
    np.random.default_rng().random()
    assert ranked(y) == ranked(y)


# --- ranking ----------------------------------------------------------------------------------------------------------


def test_a_clear_order() -> None:
    y = scores(RNG(7), 1, 3, 5, 30, seed=0.2, init_case=0.2, residual=0.5)[0] + np.array([0.0, 20.0, 10.0])[:, None, None]
    got = ranked(y, ("c", "a", "b"))
    assert [(one.init, one.rank, one.low, one.high, one.best) for one in got.inits] == [
        ("a", 1, 1, 1, 1.0),
        ("b", 2, 2, 2, 0.0),
        ("c", 3, 3, 3, 0.0),
    ]
    assert [one.letters for one in got.inits] == ["a", "b", "c"]
    assert [one.with_leader for one in got.inits] == [True, False, False]
    assert got.tau == 1.0


def test_inits_that_nothing_tells_apart_share_a_letter() -> None:
    got = ranked(scores(RNG(8), 1, 4, 3, 20)[0])
    assert {one.letters for one in got.inits} == {"a"}
    assert all(one.with_leader for one in got.inits)
    assert sum(one.best for one in got.inits) == pytest.approx(1)
    assert all(1 <= one.low <= one.rank <= one.high <= 4 for one in got.inits)


def test_equal_inits_share_rank_and_first_place() -> None:
    y = scores(RNG(9), 1, 1, 4, 10)[0]
    got = ranked(np.concatenate([y, y]))
    assert [one.rank for one in got.inits] == [1.5, 1.5]
    assert [one.best for one in got.inits] == [0.5, 0.5]


def test_the_order_of_the_inits_does_not_matter() -> None:
    y = scores(RNG(10), 1, 3, 4, 10)[0]
    one, other = ranked(y, ("a", "b", "c")), ranked(y[::-1], ("c", "b", "a"))
    assert other.inits == one.inits


def test_too_little_to_rank() -> None:
    for shape, word in (((1, 3, 4), "one init"), ((3, 1, 4), "one seed")):
        got = ranking(np.zeros(shape), tuple("abc"[: shape[0]]))
        assert isinstance(got, Refused)
        assert word in got.reason


@pytest.mark.parametrize(("lead", "shares"), [(1.0, (0.22, 0.33, 0.40, 0.52, 0.62)), (2.0, (0.38, 0.61, 0.75, 0.89, 0.96))])
def test_how_often_a_leader_is_ranked_first(lead: float, shares: tuple[float, ...]) -> None:
    for seeds, share in zip((1, 3, 5, 10), shares, strict=False):
        means = scores(RNG(seeds), 800, 8, seeds, 63, **LUNG).mean((-2, -1))
        means[:, 0] += lead
        assert float((ranks(means)[:, 0] == 1).mean()) == pytest.approx(share, abs=0.05)


def test_three_ways_to_rank() -> None:
    y = scores(RNG(11), 1, 3, 5, 30, seed=0.2, init_case=0.2, residual=0.5)[0] + np.array([0.0, 20.0, 10.0])[:, None, None]
    got = orders(y)
    assert got.mean_then_rank == got.rank_then_mean == got.test_then_rank == (3, 1, 2)
    assert (got.tau_mean_rank, got.tau_mean_test, got.tau_rank_test) == (1, 1, 1)
    # One case that goes very wrong: the mean falls, the ranks hardly.
    y[1, :, 0] -= 2000
    assert (orders(y).mean_then_rank[1], orders(y).rank_then_mean[1]) == (3, 1)
    assert math.isnan(orders(scores(RNG(12), 1, 3, 3, 8)[0]).tau_mean_test)


def test_the_seed_curve_is_over_all_subsets() -> None:
    y = scores(RNG(13), 1, 3, 5, 10)[0]
    m = y.mean(-1)
    winner = m.mean(1).argmax()
    for size, share in seed_curve(y).items():
        subsets = [list(chosen) for chosen in combinations(range(5), size)]
        assert share == pytest.approx(np.mean([m[:, chosen].mean(1).argmax() == winner for chosen in subsets]))
    assert list(seed_curve(y)) == [1, 2, 3, 4]
    assert set(seed_curve(y + np.array([0, 500, 0])[:, None, None]).values()) == {1.0}


def test_a_long_seed_curve_is_drawn() -> None:
    curve = seed_curve(scores(RNG(14), 1, 3, 20, 5)[0])
    assert list(curve) == list(range(1, 20))
    assert curve[19] >= curve[1]


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
