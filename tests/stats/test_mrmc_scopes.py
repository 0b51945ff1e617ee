"""Differences of inits under three scopes: by hand, where they reduce to known tests, and by simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from initbench.stats.compare import compare, difference
from initbench.stats.mrmc import crossed_difference, nested_difference, omnibus_crossed, omnibus_nested, shares
from initbench.stats.omnibus import Omnibus
from initbench.stats.tails import Estimate, quantile, two_sided
from tests.simulated import DESIGNS, LUNG, ORGANS, SCOPES, scores

RNG = np.random.default_rng
STUDIES = 4000


def hillis(estimate: Estimate) -> np.ndarray:
    """Two-sided p of each pair alone by the degrees of freedom of Hillis 2007, which count the seeds alone."""
    df = np.minimum(estimate.df_seeds / estimate.share**2, 1e9)
    return np.asarray(2 * stats.t.sf(np.abs(estimate.value) / estimate.error, df))


# --- scope A ----------------------------------------------------------------------------------------------------------


def test_a_crossed_difference_by_hand() -> None:
    d = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 8.0]])  # seeds 2 and 5; cases 2, 3, 5.5; mean 3.5
    ms_s, ms_c = 3 * 2 * 1.5**2, 2 * (1.5**2 + 0.5**2 + 2**2) / 2
    ms_e = float(((d - d.mean(1, keepdims=True) - d.mean(0) + 3.5) ** 2).sum()) / 2
    noise = ms_s + (ms_c - ms_e)
    got = crossed_difference(d)
    assert float(got.value) == 3.5
    assert float(got.error) == pytest.approx(math.sqrt(noise / 6))
    assert float(got.share) == pytest.approx(ms_s / noise)
    assert float(got.tail_share) == pytest.approx(ms_s / (ms_s + max(ms_c - ms_e, ms_c / 4)))
    assert (float(got.df_seeds), float(got.df_cases)) == (1, 2)


def test_a_nested_difference_by_the_formulas() -> None:
    a, b = scores(RNG(1), 1, 2, 4, 6)[0]
    S, C = a.shape
    ms_r = C * (a.mean(1).var(ddof=1) + b.mean(1).var(ddof=1)) / 2
    ms_tc = S / 2 * (a - b).mean(0).var(ddof=1)
    rests = [x - x.mean(1, keepdims=True) - x.mean(0) + x.mean() for x in (a, b)]
    ms_e = sum(float((x**2).sum()) for x in rests) / (2 * (S - 1) * (C - 1))
    noise = ms_r + max(ms_tc - ms_e, 0)
    got = nested_difference(a, b)
    assert float(got.error) == pytest.approx(math.sqrt(2 * noise / (S * C)))
    assert float(got.share) == pytest.approx(ms_r / noise)
    assert (float(got.df_seeds), float(got.df_cases)) == (2 * (S - 1), C - 1)


@pytest.mark.parametrize("seeds", ["crossed", "nested"])
def test_without_noise_of_the_cases_scope_a_is_the_t_test_of_the_runs(seeds: Any) -> None:
    rng = RNG(2)
    a, b = rng.normal(70, 2, (2, 5))
    # Cases differ alike in every run: nothing is left to a case, and max(MS_C − MS_E, 0) is 0.
    cases = rng.normal(0, 20, 12)
    got = difference(a[:, None] + cases, b[:, None] + cases, seeds=seeds)
    expected = stats.ttest_rel(a, b) if seeds == "crossed" else stats.ttest_ind(a, b)
    assert got.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (got.estimate.low, got.estimate.high) == pytest.approx((interval.low, interval.high))


def test_a_case_noise_below_0_is_not_taken_off() -> None:
    d = np.array([[5.0, -5.0], [-4.0, 6.0], [1.0, 0.0]])  # residual far above cases
    seeds = 2 * d.mean(1).var(ddof=1)
    got = crossed_difference(d)
    assert float(got.error) == pytest.approx(math.sqrt(seeds / 6))
    assert float(got.share) == 1
    # In the tails the cases count as a quarter of their mean square all the same.
    cases = 3 * d.mean(0).var(ddof=1)
    assert float(got.tail_share) == pytest.approx(seeds / (seeds + cases / 4))


def test_shares_by_hand() -> None:
    noise, share, tail_share = shares(np.array([6.0, 6.0, 0.0]), np.array([8.0, 8.0, 8.0]), np.array([4.0, 9.0, 4.0]))
    assert noise == pytest.approx([10, 6, 4])
    assert share == pytest.approx([0.6, 1, 0])
    assert tail_share == pytest.approx([0.6, 0.75, 0])


@pytest.mark.parametrize("kind", [LUNG, ORGANS])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_size_and_coverage_of_scope_a(kind: dict[str, float], seeds: int) -> None:
    y = scores(RNG(50 + seeds), STUDIES, 2, seeds, 63 if kind is LUNG else 30, **kind)
    for estimate in (crossed_difference(y[:, 0] - y[:, 1]), nested_difference(y[:, 0], y[:, 1])):
        size = float((two_sided(estimate) < 0.05).mean())
        assert 0.025 <= size <= 0.075
        coverage = float((np.abs(estimate.value) <= quantile(estimate, 0.05) * estimate.error).mean())
        assert coverage == pytest.approx(1 - size, abs=1e-3)


@pytest.mark.parametrize(("seeds", "alone"), [(3, 0.215), (5, 0.095), (10, 0.06)])
def test_a_family_of_pairs_has_5_percent_of_false_verdicts(seeds: int, alone: float) -> None:
    y = scores(RNG(22), 1500, 6, seeds, 63)
    estimates = [crossed_difference(y[:, i] - y[:, j]) for i in range(6) for j in range(i)]
    ours = np.stack([two_sided(one) for one in estimates]).min(0) * 15
    by_seeds = np.stack([hillis(one) for one in estimates]).min(0) * 15
    assert 0.02 <= float((ours < 0.05).mean()) <= 0.08
    assert float((by_seeds < 0.05).mean()) == pytest.approx(alone, abs=0.035)  # why Hillis' p is not used for pairs


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_few_cases_do_not_make_scope_a_conservative(seeds: int) -> None:
    y = scores(RNG(20 + seeds), STUDIES, 2, seeds, 12)
    assert 0.03 <= float((two_sided(crossed_difference(y[:, 0] - y[:, 1])) < 0.05).mean()) <= 0.08


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_obvious_tests_reject_where_nothing_is(seeds: int) -> None:
    """One seed .18, pooled .20 to .24, averaged over seeds .17 to .13 in the specification; runs alone .05 to .09."""
    y = scores(RNG(seeds), 1500, 2, seeds, 63, **LUNG)
    d = y[:, 0] - y[:, 1]

    def rejected(values: np.ndarray) -> float:
        return float((stats.wilcoxon(values, axis=1, zero_method="pratt").pvalue < 0.05).mean())

    assert rejected(d[:, 0]) == pytest.approx(0.18, abs=0.04)
    assert rejected(d.reshape(len(d), -1)) == pytest.approx({3: 0.20, 5: 0.22, 10: 0.24}[seeds], abs=0.04)
    assert rejected(d.mean(1)) == pytest.approx({3: 0.17, 5: 0.16, 10: 0.13}[seeds], abs=0.04)
    runs = float((stats.ttest_1samp(d.mean(-1), 0, axis=1).pvalue < 0.05).mean())
    assert runs == pytest.approx({3: 0.05, 5: 0.06, 10: 0.09}[seeds], abs=0.025)


@pytest.mark.full
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("cases", [12, 30, 63])
@pytest.mark.parametrize("shape", ["skewed", "unequal"])
def test_size_of_scope_a_where_its_assumptions_fail(seeds: int, cases: int, shape: str) -> None:
    rng = RNG(seeds * cases)
    y = scores(rng, 20_000, 2, seeds, cases, residual=0.0 if shape == "skewed" else 10.0)
    if shape == "skewed":
        y += 10 * (1 - rng.exponential(1, y.shape))  # a tail of failed cases
    else:
        y[:, 0] += rng.normal(0, 4.5, (len(y), seeds, 1))
    assert 0.03 <= float((two_sided(crossed_difference(y[:, 0] - y[:, 1])) < 0.05).mean()) <= 0.08


# --- all inits --------------------------------------------------------------------------------------------------------


def test_the_omnibus_of_two_inits_is_the_square_of_t() -> None:
    y = scores(RNG(3), 50, 2, 4, 10)
    f, df1, df2 = omnibus_crossed(y)
    pair = crossed_difference(y[:, 0] - y[:, 1])
    assert f == pytest.approx((pair.value / pair.error) ** 2)
    assert df2 == pytest.approx(pair.df_seeds / pair.share**2)
    assert special.fdtrc(df1, df2, f) == pytest.approx(hillis(pair))
    f, df1, df2 = omnibus_nested(y)
    pair = nested_difference(y[:, 0], y[:, 1])
    assert special.fdtrc(df1, df2, f) == pytest.approx(hillis(pair))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_size_of_the_omnibus_test(seeds: int) -> None:
    y = scores(RNG(30 + seeds), 1200, 8, seeds, 30)
    for f, df1, df2 in (omnibus_crossed(y), omnibus_nested(y)):
        assert 0.03 <= float((stats.f.sf(f, df1, df2) < 0.05).mean()) <= 0.08


def test_the_omnibus_over_runs_is_the_analysis_of_variance() -> None:
    y = scores(RNG(4), 1, 3, 5, 8)[0]
    names = ("a", "b", "c")
    nested = compare(y, names, scope="B", seeds="nested").omnibus
    assert isinstance(nested, Omnibus)
    expected = stats.f_oneway(*y.mean(-1))
    assert (nested.f, nested.p) == pytest.approx((expected.statistic, expected.pvalue))
    crossed = compare(y, names, scope="B").omnibus
    assert isinstance(crossed, Omnibus)
    m = y.mean(-1)
    rest = m - m.mean(1, keepdims=True) - m.mean(0) + m.mean()
    assert crossed.f == pytest.approx(5 * m.mean(1).var(ddof=1) / (float((rest**2).sum()) / 8))
    assert (crossed.df1, crossed.df2) == (2, 8)


# --- scopes B and C ---------------------------------------------------------------------------------------------------


def test_scope_b_is_scipys_t_test_of_the_runs() -> None:
    a, b = scores(RNG(5), 1, 2, 5, 9)[0]
    b = b * 2
    paired = difference(a, b, scope="B")
    assert paired.p == pytest.approx(stats.ttest_rel(a.mean(1), b.mean(1)).pvalue)
    welch = difference(a, b, scope="B", seeds="nested")
    expected = stats.ttest_ind(a.mean(1), b.mean(1), equal_var=False)
    assert welch.p == pytest.approx(expected.pvalue)
    assert (welch.estimate.low, welch.estimate.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize("seeds", DESIGNS)
def test_scope_c_is_scipys_t_test_of_the_cases(seeds: Any) -> None:
    a, b = scores(RNG(6), 1, 2, 3, 20)[0]
    got = difference(a, b, scope="C", seeds=seeds)
    expected = stats.ttest_rel(a.mean(0), b.mean(0))
    assert got.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (got.estimate.low, got.estimate.high) == pytest.approx((interval.low, interval.high))


def test_scope_c_needs_no_second_seed_and_one_case_is_scope_b() -> None:
    a, b = scores(RNG(7), 1, 2, 1, 20)[0]
    assert difference(a, b, scope="C").verdict != "untestable"
    a, b = scores(RNG(8), 1, 2, 5, 1)[0]
    assert difference(a, b, scope="B").p == pytest.approx(stats.ttest_rel(a[:, 0], b[:, 0]).pvalue)


def test_scopes_are_said_in_words() -> None:
    y = scores(RNG(9), 1, 2, 3, 8)[0]
    claims = {scope: compare(y, "ab", scope=scope).claim for scope in SCOPES}  # type: ignore[arg-type]
    assert "new seeds and new cases" in claims["A"]
    assert "these test cases" in claims["B"]
    assert "these trained weights" in claims["C"]
