"""Each init by itself: its mean with the interval that holds for all inits at once, and the SD of its runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from initbench.stats.design import SeedDesign
from initbench.stats.inits import InitSummary, effective_number, summarize
from initbench.stats.meansquares import two_way
from tests.simulated import scores

RNG = np.random.default_rng


def summaries(y: np.ndarray, seeds: SeedDesign = "crossed") -> tuple[InitSummary, ...]:
    return summarize(y, [f"i{k}" for k in range(len(y))], seeds)


def test_a_summary_by_hand() -> None:
    y = np.array([[[60.0, 80.0], [64.0, 84.0], [0.0, 0.0]]])
    (got,) = summaries(y)
    assert got.mean.value == pytest.approx((70 + 74 + 0) / 3)
    assert got.run_sd.value == pytest.approx(np.std([70, 74, 0], ddof=1))
    assert got.run_sd.low / got.run_sd.value == pytest.approx(0.52, abs=0.005)
    assert got.run_sd.high == 50  # 6.28 times the SD is more than Dice can have
    (near,) = summaries(np.array([[[60.0, 80.0], [64.0, 84.0], [62.0, 83.0]]]))
    assert near.run_sd.high / near.run_sd.value == pytest.approx(6.28, abs=0.005)


def test_every_init_has_its_own_summary() -> None:
    y = 50 + scores(RNG(1), 1, 3, 4, 10)[0]
    y[1, 2] = 0
    got = summarize(y, ("a", "b", "c"))
    assert [one.init for one in got] == ["a", "b", "c"]
    assert [one.mean.value for one in got] == pytest.approx(list(y.mean((1, 2))))
    assert [one.run_sd.value for one in got] == pytest.approx(list(y.mean(-1).std(axis=1, ddof=1)))


def test_one_seed_or_one_case_gives_no_interval() -> None:
    for y in (np.array([[[60.0, 80.0]]]), np.array([[[60.0], [70.0]]])):
        (got,) = summaries(y)
        assert got.mean.value == y.mean()
        assert math.isnan(got.mean.low)
        assert math.isnan(got.mean.high)


def test_the_mean_of_one_init_by_the_formulas() -> None:
    y = 50 + scores(RNG(15), 1, 1, 3, 6)[0]
    seeds, cases, rest = (float(square.value) for square in two_way(y[0]))
    noise = seeds + max(cases - rest, 0)
    # Cases are skewed: their variance is known as badly as half as many normal ones would tell it.
    df = noise**2 / (seeds**2 / 2 + cases**2 / (5 / 2) + rest**2 / 10)
    half = stats.t.ppf(0.975, df) * math.sqrt(noise / 18)
    (got,) = summaries(y)
    assert got.mean.low == pytest.approx(max(0.0, y.mean() - half))
    assert got.mean.high == pytest.approx(min(100.0, y.mean() + half))


def test_an_init_of_small_seed_variance_is_not_believed() -> None:
    """Three seeds that happen to agree: the seed variance of the others counts."""
    y = 50 + scores(RNG(2), 1, 6, 3, 30, seed=4.0, init_case=0.5, residual=1.0, case=2.0)[0]
    y[0] = y[0].mean(0) + RNG(3).normal(0, 0.01, (3, 30))
    for design in ("crossed", "nested"):
        got = summaries(y, design)  # type: ignore[arg-type]
        widths = [one.mean.high - one.mean.low for one in got]
        assert got[0].run_sd.value < 0.02
        assert widths[0] > 0.5 * float(np.median(widths))


@pytest.mark.parametrize("seeds", ["crossed", "nested"])
def test_the_collapse_of_one_init_leaves_the_intervals_of_the_others(seeds: Any) -> None:
    """Its runs are 60 points lower in one seed."""
    ratios = []
    for y in 70 + scores(RNG(4), 40, 8, 3, 20, case=5.0, residual=5.0, shared=0.0):
        before = summaries(y, seeds)
        y[3, 1] -= 60
        after = summaries(y, seeds)
        kept = [k for k in range(8) if k != 3]
        ratios += [(after[k].mean.high - after[k].mean.low) / (before[k].mean.high - before[k].mean.low) for k in kept]
        assert after[3].mean.high - after[3].mean.low > 2 * (before[3].mean.high - before[3].mean.low)
    assert max(ratios) <= 4 / 3


def all_hold(found: tuple[InitSummary, ...]) -> bool:
    """Whether the interval of every init holds the true mean of 50."""
    return all(one.mean.low <= 50 <= one.mean.high for one in found)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_intervals_of_all_inits_hold_at_once(seeds: int) -> None:
    """Where inits share seeds, which do the same to all of them. Of 300 studies 92 % are 2.4 standard errors below 95 %."""
    studies = 50 + scores(RNG(seeds), 300, 8, seeds, 20, shared=3.0, case=15.0)
    assert np.mean([all_hold(summaries(y)) for y in studies]) >= 0.92


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_intervals_hold_with_seeds_of_their_own(seeds: int) -> None:
    studies = 50 + scores(RNG(10 + seeds), 300, 8, seeds, 20, case=15.0)
    assert np.mean([all_hold(summaries(y, "nested")) for y in studies]) >= 0.92


@pytest.mark.parametrize(("seeds", "cases"), [(3, 12), (3, 63), (10, 12)])
def test_the_interval_of_one_init_covers(seeds: int, cases: int) -> None:
    held = []
    for y in 50 + scores(RNG(13), 800, 1, seeds, cases, case=15.0):
        (got,) = summaries(y)
        held.append(got.mean.low <= 50 <= got.mean.high)
    # The upper bound was .965; the interval allows for skewed cases, so that it is wide for the normal ones here.
    assert 0.93 <= np.mean(held) <= 0.99


@pytest.mark.parametrize("inits", [1, 2, 4, 8])
@pytest.mark.parametrize("shared", [0.0, 0.3, 0.7, 0.95])
def test_so_many_intervals_are_worth_what_the_joint_normal_says(inits: int, shared: float) -> None:
    """Against scipy's quadrature: at the quantile of so many independent ones all inits hold in 95 %."""
    number = effective_number(inits, shared)
    q = stats.norm.isf(0.05 / (2 * number))

    def inside(common: float) -> float:
        low, high = ((side * q - math.sqrt(shared) * common) / math.sqrt(1 - shared) for side in (-1, 1))
        return float((stats.norm.cdf(high) - stats.norm.cdf(low)) ** inits * stats.norm.pdf(common))

    whole = integrate.quad(inside, -8, 8, epsabs=1e-9)[0]
    assert whole == pytest.approx(0.95, abs=5e-4)


def test_so_many_intervals_are_worth_what_made_up_means_show() -> None:
    rng, count = RNG(6), 200_000
    for inits, shared in ((8, 0.5), (4, 0.8)):
        errors = math.sqrt(shared) * rng.normal(size=(count, 1)) + math.sqrt(1 - shared) * rng.normal(size=(count, inits))
        q = stats.norm.isf(0.025 / effective_number(inits, shared))
        assert (np.abs(errors).max(1) <= q).mean() == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / count))


def test_more_in_common_is_worth_fewer_intervals() -> None:
    for inits in (1, 2, 8):
        found = [effective_number(inits, shared) for shared in np.linspace(0, 1, 41)]
        assert all(1 <= one <= inits + 1e-9 for one in found)
        assert found == sorted(found, reverse=True)
        assert found[0] == pytest.approx(inits, rel=0.03)  # Šidák's quantile, a little less than Bonferroni's
        assert found[-1] == pytest.approx(1, abs=0.12)  # the share counts as .999 at most
    by_size = [effective_number(inits, 0.5) for inits in range(1, 12)]
    assert by_size == sorted(by_size)


@pytest.mark.parametrize("seeds", ["crossed", "nested"])
def test_dice_lies_between_0_and_100(seeds: Any) -> None:
    rng = RNG(7)
    for level in (1.0, 50.0, 99.0):
        y = (level + rng.normal(0, 30, (4, 2, 3))).clip(0, 100)
        for one in summaries(y, seeds):
            assert 0 <= one.mean.low <= one.mean.value <= one.mean.high <= 100
            assert one.run_sd.high <= 50


def test_the_order_of_the_inits_does_not_matter() -> None:
    y = 50 + scores(RNG(8), 1, 4, 3, 9, shared=2.0)[0]
    one = {item.init: item.mean for item in summarize(y, "abcd")}
    other = {item.init: item.mean for item in summarize(y[::-1], "dcba")}
    for init, mean in one.items():
        assert (other[init].value, other[init].low, other[init].high) == pytest.approx((mean.value, mean.low, mean.high))


def test_runs_without_any_noise_have_no_width() -> None:
    (first, second) = summaries(np.broadcast_to(np.array([40.0, 60.0])[:, None, None], (2, 3, 5)))
    assert (first.mean.low, first.mean.high) == (40, 40)
    assert (second.mean.low, second.mean.high) == (60, 60)


@pytest.mark.parametrize(("seeds", "bootstrap"), [(3, 0.75), (5, 0.84), (10, 0.90)])
def test_a_percentile_bootstrap_over_few_seeds_covers_too_little(seeds: int, bootstrap: float) -> None:
    rng = RNG(14)
    runs = rng.normal(0, 1, (4000, seeds))
    drawn = runs[:, rng.integers(0, seeds, (400, seeds))].mean(-1)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
    assert float(((low <= 0) & (high >= 0)).mean()) == pytest.approx(bootstrap, abs=0.06)
    half = stats.t.ppf(0.975, seeds - 1) * runs.std(1, ddof=1) / math.sqrt(seeds)
    assert float((np.abs(runs.mean(1)) <= half).mean()) == pytest.approx(0.95, abs=0.015)
