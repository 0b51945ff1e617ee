"""Mean squares and variance components: by hand, by projection matrices, and by simulation."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from scipy import stats

from initbench.stats.components import Components, case_instability, components
from initbench.stats.design import Refused
from initbench.stats.inits import mean_for_new_cases, summarize
from initbench.stats.meansquares import mean_squares, two_way
from tests.simulated import LUNG, scores

RNG = np.random.default_rng


def found(y: np.ndarray, seeds: str = "crossed") -> Components:
    result = components(y, seeds)  # type: ignore[arg-type]
    assert isinstance(result, Components)
    return result


# --- mean squares -----------------------------------------------------------------------------------------------------


def test_a_two_way_layout_by_hand() -> None:
    # Seeds 2 and 4 on average, cases 1, 3, 5; rest: 1 in the corners, with alternating sign, and 0 in the middle.
    d = np.array([[0.0, 2.0, 4.0], [2.0, 4.0, 6.0]]) + np.array([[1.0, 0.0, -1.0], [-1.0, 0.0, 1.0]])
    seeds, cases, rest = two_way(d)
    assert (float(seeds.value), seeds.df) == (3 * 2 * 1**2 / 1, 1)
    assert (float(cases.value), cases.df) == (2 * (4 + 0 + 4) / 2, 2)
    assert (float(rest.value), rest.df) == (4 / 2, 2)


@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 2, 3), (3, 5, 2)])
def test_mean_squares_are_those_of_projection_matrices(shape: tuple[int, int, int]) -> None:
    y = RNG(1).normal(50, 10, shape)
    flat = y.reshape(-1)

    def square(*centred: bool) -> float:
        """y' P y over the rank of P, where P is a product of averaging and centring matrices."""
        averages = [np.full((n, n), 1 / n) for n in shape]
        parts = [np.eye(len(a)) - a if inside else a for a, inside in zip(averages, centred, strict=True)]
        projection = reduce(np.kron, parts)
        return float(flat @ projection @ flat) / round(np.trace(projection))

    ms = mean_squares(y)
    expected = {
        "init": square(True, False, False),
        "seed": square(False, True, False),
        "case": square(False, False, True),
        "init_seed": square(True, True, False),
        "init_case": square(True, False, True),
        "seed_case": square(False, True, True),
        "residual": square(True, True, True),
    }
    assert {name: float(getattr(ms, name).value) for name in expected} == pytest.approx(expected, rel=1e-9)
    within = sum(float(y[i].mean(-1).var(ddof=1)) for i in range(shape[0])) / shape[0]
    assert float(ms.seed_in_init.value) == pytest.approx(shape[2] * within)


def test_studies_are_computed_at_once_as_one_by_one() -> None:
    y = scores(RNG(2), 5, 3, 4, 6)
    assert mean_squares(y).residual.value == pytest.approx([float(mean_squares(one).residual.value) for one in y])
    assert two_way(y[:, 0])[0].value == pytest.approx([float(two_way(one)[0].value) for one in y[:, 0]])


# --- components -------------------------------------------------------------------------------------------------------


def test_nested_components_are_the_formulas_of_the_specification() -> None:
    I, S, C = 3, 4, 5  # noqa: E741
    y = scores(RNG(3), 1, I, S, C)[0]
    m, grand = y.mean(-1), y.mean()
    ms_r = C * sum((m[i, s] - m[i].mean()) ** 2 for i in range(I) for s in range(S)) / (I * (S - 1))
    ms_t = S * C * sum((m[i].mean() - grand) ** 2 for i in range(I)) / (I - 1)
    tc = y.mean(1) - m.mean(1)[:, None] - y.mean((0, 1)) + grand
    ms_tc = S * float((tc**2).sum()) / ((I - 1) * (C - 1))
    ms_c = I * S * float(y.mean((0, 1)).var(ddof=1))
    rest = y - m[:, :, None] - y.mean(1)[:, None] + m.mean(1)[:, None, None]
    ms_e = float((rest**2).sum()) / (I * (S - 1) * (C - 1))
    got = found(y, "nested")
    assert got.residual.raw == pytest.approx(ms_e)
    assert got.seed.raw == pytest.approx((ms_r - ms_e) / C)
    assert got.case.raw == pytest.approx((ms_c - ms_tc) / (I * S))
    assert got.init_case is not None
    assert got.init is not None
    assert got.init_case.raw == pytest.approx((ms_tc - ms_e) / S)
    assert got.init.raw == pytest.approx((ms_t - ms_r - ms_tc + ms_e) / (S * C))
    assert got.pairing_gain is None


@pytest.mark.parametrize("design", ["nested", "crossed"])
def test_components_are_unbiased(design: str) -> None:
    # The spec's truth of .0150, .0300 and .1000 as fractions of Dice; crossed with a seed effect that all inits share on top.
    shared = 2.0 if design == "crossed" else 0.0
    studies = scores(RNG(4), 250, 4, 5, 63, **LUNG, shared=shared) + np.array([0.0, 1.0, 2.0, 3.0])[:, None, None]
    all_found = [found(y, design) for y in studies]
    truth = {"init_case": 9.0, "residual": 100.0, "case": 625.0, "init": float(np.var([0, 1, 2, 3], ddof=1))}
    truth |= {"seed": 4.0, "seed_init": 2.25, "seed_case": 0.0} if design == "crossed" else {"seed": 2.25}
    for name, value in truth.items():
        raw = np.array([getattr(one, name).raw for one in all_found])
        assert raw.mean() == pytest.approx(value, abs=4 * raw.std() / math.sqrt(raw.size)), name
    assert np.mean([one.residual.raw for one in all_found]) == pytest.approx(100, rel=0.01)


def test_raw_sd_of_runs_holds_a_share_of_the_residual() -> None:
    """.0196 in the specification: √(.015² + .1²/63) of seed and residual."""
    runs = scores(RNG(5), 4000, 1, 5, 63, **LUNG)[:, 0].mean(-1)
    assert math.sqrt(float(runs.var(axis=-1, ddof=1).mean())) == pytest.approx(1.96, abs=0.03)


def test_a_negative_estimate_is_shown_as_0_and_kept() -> None:
    flip = np.array([[2.0, -1.0], [-1.0, 1.0]])  # little seed variance, much residual
    got = found(np.stack([flip, flip + 5]), "nested")
    assert got.seed.raw < 0
    assert (got.seed.value, got.seed.sd.value, got.seed.low) == (0.0, 0.0, 0.0)
    assert got.seed.high > 0


@pytest.mark.parametrize(("inits", "seeds", "cases", "sd"), [(1, 3, 63, 1.5), (2, 3, 20, 5.0), (4, 5, 63, 1.5)])
def test_intervals_of_components_cover(inits: int, seeds: int, cases: int, sd: float) -> None:
    studies = scores(RNG(6), 300, inits, seeds, cases, seed=sd)
    got = [found(y, "nested") for y in studies]
    assert 0.91 <= np.mean([one.seed.low <= sd**2 <= one.seed.high for one in got]) <= 0.985
    assert 0.91 <= np.mean([one.residual.low <= 100 <= one.residual.high for one in got]) <= 0.985


def test_the_interval_of_a_single_mean_square_is_the_chi_square_one() -> None:
    got = found(scores(RNG(7), 1, 2, 3, 10)[0], "nested")
    df = 2 * 2 * 9
    expected = got.residual.raw * df / stats.chi2.ppf([0.975, 0.025], df)
    assert (got.residual.low, got.residual.high) == pytest.approx(tuple(expected), rel=0.02)


def test_pairing_gain() -> None:
    alike = found(scores(RNG(8), 1, 3, 30, 63, seed=0.3, residual=1.0, shared=5.0)[0])
    apart = found(scores(RNG(9), 1, 3, 30, 63, seed=5.0, residual=1.0)[0])
    assert alike.pairing_gain is not None
    assert apart.pairing_gain is not None
    assert alike.pairing_gain.value > 0.95
    assert apart.pairing_gain.low < 0.05
    assert alike.pairing == "runs of the same seed share 100 % of the seed variance"
    # Seeds whose means go opposite ways in the two inits: they share less than nothing.
    opposite = np.array([[1.0, -1.0, 3.0], [-1.0, 1.0, -3.0]])[:, :, None] + RNG(10).normal(0, 0.1, (2, 3, 9))
    assert "pairing gains nothing" in found(opposite).pairing
    assert "not paired" in found(opposite, "nested").pairing


def test_the_pairing_interval_covers() -> None:
    got = [found(y) for y in scores(RNG(11), 200, 4, 5, 63, seed=1.5, shared=1.5)]
    assert 0.90 <= np.mean([g.pairing_gain.low <= 0.5 <= g.pairing_gain.high for g in got if g.pairing_gain]) <= 1.0


def test_too_little_is_refused_in_words() -> None:
    for shape, word in (((2, 1, 5), "one seed"), ((2, 3, 1), "one case")):
        result = components(np.zeros(shape))
        assert isinstance(result, Refused)
        assert word in result.reason
    with pytest.raises(ValueError, match="not finite"):
        components(np.full((2, 2, 2), math.nan))
    with pytest.raises(ValueError, match="init, seed, case"):
        components(np.zeros((2, 2)))


def test_permuting_cases_seeds_and_inits_changes_nothing() -> None:
    y, rng = scores(RNG(12), 1, 3, 4, 6)[0], RNG(0)
    shuffled = y[rng.permutation(3)][:, rng.permutation(4)][..., rng.permutation(6)]
    one, other = found(y), found(shuffled)
    for name in ("init", "seed", "case", "residual"):
        assert getattr(other, name).raw == pytest.approx(getattr(one, name).raw)
        assert getattr(other, name).high == pytest.approx(getattr(one, name).high)
    assert found(y) == one  # bit for bit


def test_instability_of_a_case() -> None:
    y = np.zeros((1, 3, 2))
    y[0, :, 1] = [0.0, 60.0, 90.0]
    assert case_instability(y)[0] == pytest.approx([0.0, np.std([0, 60, 90], ddof=1)])
    assert np.isnan(case_instability(y[:, :1])).all()


# --- one init ---------------------------------------------------------------------------------------------------------


def test_a_summary_by_hand() -> None:
    y = np.array([[60.0, 80.0], [64.0, 84.0], [0.0, 0.0]])
    got = summarize(y, "lwi", np.array([False, False, True]))
    assert got.mean.value == pytest.approx((70 + 74 + 0) / 3)
    assert (got.seeds, got.diverged, got.mean_without_diverged) == (3, 1, 72.0)
    assert got.run_sd.value == pytest.approx(np.std([70, 74, 0], ddof=1))
    assert (got.run_sd.low / got.run_sd.value, got.run_sd.high / got.run_sd.value) == pytest.approx((0.52, 6.28), abs=0.005)
    expected = stats.ttest_1samp([70.0, 74.0, 0.0], 0).confidence_interval(0.95)
    assert (got.mean.low, got.mean.high) == pytest.approx(tuple(expected))
    assert math.isnan(summarize(y, "lwi", np.ones(3, bool)).mean_without_diverged)


def test_one_seed_or_one_case_gives_no_interval() -> None:
    for y in (np.array([[60.0, 80.0]]), np.array([[60.0], [70.0]])):
        got = summarize(y)
        assert math.isnan(got.mean_new_cases.low)


def test_the_mean_for_new_seeds_and_cases_by_the_formulas() -> None:
    y = scores(RNG(15), 1, 1, 3, 6)[0, 0]
    seeds, cases, rest = (float(square.value) for square in two_way(y))
    noise = seeds + cases - rest
    got = mean_for_new_cases(y)
    assert float(got.error) == pytest.approx(math.sqrt(noise / 18))
    assert float(got.df) == pytest.approx(noise**2 / (seeds**2 / 2 + cases**2 / 5 + rest**2 / 10))
    assert summarize(y).mean_new_cases.low == pytest.approx(y.mean() - stats.t.ppf(0.975, got.df) * got.error)


@pytest.mark.parametrize(("seeds", "cases"), [(3, 12), (3, 63), (10, 12)])
def test_the_mean_covers_for_new_seeds_and_cases(seeds: int, cases: int) -> None:
    estimate = mean_for_new_cases(scores(RNG(13), 4000, 1, seeds, cases)[:, 0])
    half = stats.t.ppf(0.975, estimate.df) * estimate.error
    assert 0.935 <= float((np.abs(estimate.value) <= half).mean()) <= 0.965


@pytest.mark.parametrize(("seeds", "bootstrap"), [(3, 0.75), (5, 0.84), (10, 0.90)])
def test_a_percentile_bootstrap_over_few_seeds_covers_too_little(seeds: int, bootstrap: float) -> None:
    rng = RNG(14)
    runs = rng.normal(0, 1, (4000, seeds))
    drawn = runs[:, rng.integers(0, seeds, (400, seeds))].mean(-1)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
    assert float(((low <= 0) & (high >= 0)).mean()) == pytest.approx(bootstrap, abs=0.06)
    half = stats.t.ppf(0.975, seeds - 1) * runs.std(1, ddof=1) / math.sqrt(seeds)
    assert float((np.abs(runs.mean(1)) <= half).mean()) == pytest.approx(0.95, abs=0.015)
