"""Mean squares and variance components: by hand, by projection matrices, and by simulation."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import pytest
from scipy import stats

from initbench.stats import components as components_module
from initbench.stats.components import Components, case_instability, components
from initbench.stats.design import Refused
from initbench.stats.inits import effective_inits
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
    assert got.retraining.raw == pytest.approx(ms_r / C)


def test_crossed_components_are_covariances() -> None:
    """Without any mean square: from the mean product of two scores that agree in init, seed and case, or not.

    Two scores of one init, of other seeds and other cases, have the init's effect in common, so that their covariance is σ²_init.
    """
    I, S, C = 3, 4, 5  # noqa: E741
    y = scores(RNG(31), 1, I, S, C, shared=3.0)[0]
    places = [np.array(place) for place in np.ndindex(y.shape)]

    def mean_product(same_init: bool, same_seed: bool, same_case: bool) -> float:
        """Mean of y y' over all pairs of scores that agree and differ so."""
        wanted = (same_init, same_seed, same_case)
        found = [y[tuple(p)] * y[tuple(q)] for p in places for q in places if tuple(p == q) == wanted]
        return float(np.mean(found))

    none = mean_product(False, False, False)
    init, seed, case = (mean_product(*(k == one for k in range(3))) for one in range(3))
    init_seed, init_case, seed_case = (mean_product(*(k != one for k in range(3))) for one in (2, 1, 0))
    own = mean_product(True, True, True)
    expected = {
        "init": init - none,
        "seed": seed - none,
        "case": case - none,
        "seed_init": init_seed - init - seed + none,
        "init_case": init_case - init - case + none,
        "seed_case": seed_case - seed - case + none,
        "residual": own - init_seed - init_case - seed_case + init + seed + case - none,
    }
    got = found(y)
    assert {name: getattr(got, name).raw for name in expected} == pytest.approx(expected)
    m = y.mean(-1)
    assert got.retraining.raw == pytest.approx(float(m.var(axis=1, ddof=1).mean()))


def test_components_of_a_tiny_study_by_hand() -> None:
    """Two inits, two seeds, two cases. Run scores 10, 14 and 20, 28: inits differ by 12, seeds by 6, their interaction is 1."""
    runs = np.array([[10.0, 14.0], [20.0, 28.0]])
    y = runs[:, :, None] + np.array([-3.0, 3.0])  # cases alike in all runs: nothing is left for a case
    got = found(y)
    # Mean squares: init 4·2·6² = 288, seed 2·2·2·3² = 72, init × seed 2·4·1² = 8, case 2·4·3² = 72; all others 0.
    assert got.init is not None
    assert got.seed_init is not None
    assert got.seed_case is not None
    assert got.init.raw == pytest.approx((288 - 8) / 4)
    assert got.seed.raw == pytest.approx((72 - 8) / 4)
    assert got.case.raw == pytest.approx(72 / 4)
    assert got.seed_init.raw == pytest.approx(8 / 2)
    assert (got.seed_case.raw, got.residual.raw) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert got.retraining.raw == pytest.approx((4**2 / 2 + 8**2 / 2) / 2)  # variances of 10, 14 and of 20, 28
    apart = found(y, "nested")
    assert apart.init is not None
    assert apart.init.raw == pytest.approx((288 - 40) / 4)  # seeds within inits: (72 + 8) / 2
    assert apart.seed.raw == pytest.approx(40 / 2)
    assert apart.seed_init is None
    assert apart.seed_case is None


def raw_init_variances(count: int) -> np.ndarray:
    """Of studies of 8 inits with variance 4 over 3 seeds that do to all of them what has variance 9."""
    rng = RNG(32)
    y = scores(rng, count, 8, 3, 12, seed=1.5, init_case=2.0, residual=4.0, case=10.0, shared=3.0)
    y = y + rng.normal(0, 2, (count, 8, 1, 1))
    contrast = components_module._crossed(mean_squares(y), 8, 3, 12)["init"]  # all studies at once, as one by one below
    raw = np.asarray(sum(scale * square.value for square, scale in contrast))
    for study, value in zip(y[:5], raw[:5], strict=True):
        own = found(study).init
        assert own is not None
        assert own.raw == pytest.approx(value)
    return raw


def mean_is(raw: np.ndarray, truth: float) -> bool:
    """Within Monte-Carlo error."""
    return bool(abs(raw.mean() - truth) <= 4 * raw.std() / math.sqrt(raw.size))


def test_what_a_seed_does_to_all_inits_is_not_taken_off_their_variance() -> None:
    assert mean_is(raw_init_variances(2000), 4)


def test_a_formula_that_takes_it_off_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of inits with seeds of their own: 4 - 9 / 3 is expected of it."""
    monkeypatch.setattr(components_module, "_crossed", components_module._nested)
    raw = raw_init_variances(2000)
    assert not mean_is(raw, 4)
    assert mean_is(raw, 4 - 9 / 3)


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
    apart = np.array([[1.0, 2.0, 1.0], [5.0, 6.0, 7.0]])
    for design in ("nested", "crossed"):
        alike = found(np.stack([apart, apart[::-1]]), design).init  # the same mean: seeds alone do something
        assert alike is not None
        assert alike.raw < 0
        assert (alike.value, alike.sd.value, alike.sd.low) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("inits", "seeds", "cases", "sd"), [(1, 3, 63, 1.5), (2, 3, 20, 5.0), (4, 5, 63, 1.5)])
def test_intervals_of_components_cover(inits: int, seeds: int, cases: int, sd: float) -> None:
    studies = scores(RNG(6), 300, inits, seeds, cases, seed=sd)
    got = [found(y, "nested") for y in studies]
    # Wider than normal scores need, as those of real cases have heavy tails: the upper bound was .985.
    assert 0.91 <= np.mean([one.seed.low <= sd**2 <= one.seed.high for one in got]) <= 0.995
    assert np.mean([one.residual.low <= 100 <= one.residual.high for one in got]) >= 0.91


def test_the_interval_of_a_single_mean_square_is_the_chi_square_one() -> None:
    """With 0.4 of the degrees of freedom that the cases show (Satterthwaite), as a sample shows less of a tail than there is."""
    y = scores(RNG(7), 1, 2, 3, 10)[0]
    got = found(y, "nested")
    rest = y - y.mean(2, keepdims=True) - y.mean(1, keepdims=True) + y.mean((1, 2), keepdims=True)
    parts = (rest**2).sum((0, 1))
    shown = 2 * parts.sum() ** 2 / (10 * parts.var(ddof=1))
    df = 0.4 * min(2 * 2 * 9, shown)
    expected = got.residual.raw * df / stats.chi2.ppf([0.975, 0.025], df)
    assert (got.residual.low, got.residual.high) == pytest.approx(tuple(expected), rel=0.03)


def test_the_interval_of_retraining_is_that_of_the_pooled_seed_variance() -> None:
    y = scores(RNG(33), 1, 3, 4, 10)[0]
    got = found(y, "nested").retraining
    own = y.mean(-1).var(axis=1, ddof=1)
    inits = own.sum() ** 2 / (own**2).sum()
    assert effective_inits(y) == pytest.approx(inits)
    df = 3 * inits  # three for each init, were their variances alike
    assert got.raw == pytest.approx(own.mean())
    expected = own.mean() * df / stats.chi2.ppf([0.975, 0.025], df)
    assert (got.low, got.high) == pytest.approx(tuple(expected), rel=0.03)


def test_as_many_inits_count_as_are_alike() -> None:
    runs = RNG(34).normal(0, 1, (1, 5, 1)) + np.zeros((4, 5, 6))
    assert effective_inits(runs) == pytest.approx(4)
    runs[0] *= 1000
    assert effective_inits(runs) == pytest.approx(1, abs=1e-4)
    assert effective_inits(np.zeros((4, 5, 6))) == 4


@pytest.mark.parametrize(("init", "retraining"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, 3.0)])
def test_how_often_the_better_of_two_inits_wins_is_what_pairs_of_runs_show(init: float, retraining: float) -> None:
    rng, count = RNG(35), 400_000
    effects = rng.normal(0, init, (count, 2))
    runs = effects + rng.normal(0, retraining, (count, 2))
    better = effects[:, 0] >= effects[:, 1]
    won = (runs[:, 0] > runs[:, 1]) == better
    expected = 0.5 + math.atan2(init, retraining) / math.pi
    assert won.mean() == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(count))
    assert float(components_module._chance(np.asarray(init**2), np.asarray(retraining**2))) == pytest.approx(expected)


@pytest.mark.parametrize("design", ["crossed", "nested"])
def test_wins_are_those_of_the_components(design: str) -> None:
    got = found(scores(RNG(36), 1, 5, 3, 20)[0] + np.arange(5.0)[:, None, None], design)
    assert got.wins is not None
    assert got.init is not None
    ratio = math.sqrt(got.init.value / got.retraining.value)
    assert got.wins.value == pytest.approx(0.5 + math.atan(ratio) / math.pi)
    assert 0.5 <= got.wins.low <= got.wins.value <= got.wins.high <= 1
    assert found(scores(RNG(36), 1, 1, 3, 20)[0]).wins is None


def test_the_interval_of_wins_covers() -> None:
    truth = 0.5 + math.atan2(2.0, math.sqrt(1.5**2 + 3.0**2 + 4.0**2 / 12)) / math.pi
    y = scores(RNG(37), 200, 8, 3, 12, seed=1.5, init_case=2.0, residual=4.0, case=10.0, shared=3.0)
    y += RNG(38).normal(0, 2, (200, 8, 1, 1))
    got = [found(one).wins for one in y]
    assert np.mean([one.low <= truth <= one.high for one in got if one is not None]) >= 0.92


def test_what_is_left_in_a_mean_by_hand() -> None:
    y = scores(RNG(39), 1, 4, 3, 12, shared=2.0)[0] + np.array([0.0, 2.0, 4.0, 9.0])[:, None, None]
    got = found(y)
    left = got.left_in_mean()
    over = {"init": 1, "seed": 3, "seed_init": 3, "case": 12, "init_case": 12, "seed_case": 36, "residual": 36}
    assert set(left) == set(over)
    for name, count in over.items():
        part = getattr(got, name)
        assert left[name].value == pytest.approx(math.sqrt(part.value / count))
        assert (left[name].low, left[name].high) == pytest.approx((math.sqrt(part.low / count), math.sqrt(part.high / count)))
    assert set(found(y, "nested").left_in_mean()) == {"init", "seed", "case", "init_case", "residual"}
    assert set(found(y[:1]).left_in_mean()) == {"seed", "case", "residual"}


@pytest.mark.parametrize("design", ["crossed", "nested"])
@pytest.mark.parametrize("seeds", [2, 3])
def test_no_sd_is_larger_than_dice_allows(design: Any, seeds: int) -> None:
    rng = RNG(40)
    for _ in range(10):
        y = rng.choice([0.0, 100.0], (4, seeds, 5)) + rng.normal(0, 0.01, (4, seeds, 5)).clip(-0.1, 0.1)
        y = y.clip(0, 100)
        got = found(y, design)
        for name in ("init", "seed", "case", "residual", "retraining", "init_case", "seed_init", "seed_case"):
            part = getattr(got, name)
            if part is not None:
                assert 0 <= part.sd.low <= part.sd.high <= 50
                assert part.sd.value <= 50
        assert all(item.high <= 50 for item in got.left_in_mean().values())


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
    for shape, word in (((2, 1, 5), "one seed"), ((2, 3, 1), "one reported case")):
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
