"""Runs that collapse: the rule, the bound of their share, the words of verdicts, and the exact test of two rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from benchmarks import collapse as benchmark
from initbench.stats import collapse as module
from initbench.stats.analysis import pair, rates, standing
from initbench.stats.collapse import STANDING, Collapses, collapsed, joining, limit, rate_test, seeds_needed
from initbench.stats.compare import Difference
from initbench.stats.families import Facts, Family, baseline_family
from initbench.stats.pooled import pool
from initbench.stats.table import ScoreTable
from tests.simulated import LUNG, ORGANS, scores
from tests.stats.made_up import scored

Array = NDArray[np.float64]
NONE = np.zeros((2, 5), bool)


# --- the rule ---------------------------------------------------------------------------------------------------------


def found(runs: list[float]) -> list[float]:
    """The runs that the rule finds among those of a block."""
    scored_runs = np.array([runs])
    return scored_runs[collapsed(scored_runs, np.zeros(scored_runs.shape, bool))].tolist()


def test_the_runs_that_collapsed_in_former_studies_are_found() -> None:
    assert found([49.0, 50.5, 27.0, 51.0, 53.0, 22.0, 52.0, 54.0, 55.0]) == [27.0, 22.0]
    assert found([79.0, 80.0, 81.0, 82.0, 26.0, 80.5, 79.5, 78.0, 81.5, 80.2]) == [26.0]


def test_nearly_half_of_the_runs_may_collapse_at_once() -> None:
    assert found([80.0, 81.0, 79.0, 80.5, 80.2, 79.8, 25.0, 31.0, 20.0, 44.0]) == [25.0, 31.0, 20.0, 44.0]


@pytest.mark.parametrize(
    "runs",
    [
        [80.0, 80.1, 80.2, 80.0, 80.1, 71.0],  # nine points below runs that are alike
        [60.0, 75.0, 90.0, 70.0, 82.0, 40.0],  # far below, but so do the others differ
        [80.0, 80.0, 80.0, 80.0, 10.0],  # too few runs to tell
    ],
)
def test_no_run_is_found_where_it_could_be_noise(runs: list[float]) -> None:
    assert found(runs) == []


def test_a_diverged_run_always_collapsed() -> None:
    diverged = np.array([[False, True], [False, False]])
    assert collapsed(np.array([[80.0, 0.0], [81.0, 79.0]]), diverged).tolist() == diverged.tolist()


def is_blind(rule: Callable[[Array, NDArray[np.bool_]], NDArray[np.bool_]]) -> bool:
    """Whether a run is judged alike, whichever init and seed it is of."""
    rng = np.random.default_rng(5)
    for _ in range(40):
        runs = rng.normal(70, 4, (3, 5)) - 35.0 * (rng.random((3, 5)) < 0.15) - np.array([[0.0], [0.0], [15.0]])
        order = rng.permutation(runs.size)
        shuffled = runs.reshape(-1)[order].reshape(runs.shape)
        never = np.zeros(runs.shape, bool)
        if (rule(shuffled, never).reshape(-1) != rule(runs, never).reshape(-1)[order]).any():
            return False
    return True


def test_the_rule_is_blind_to_the_init() -> None:
    assert is_blind(collapsed)


def test_a_rule_that_looks_at_the_init_is_seen() -> None:
    def by_init(runs: Array, diverged: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray(diverged | (runs < np.median(runs, axis=1, keepdims=True) - module.LOSS))

    assert not is_blind(by_init)


@pytest.mark.parametrize("noise", [LUNG, ORGANS])
def test_false_alarms_are_rare(noise: dict[str, float]) -> None:
    runs = scores(np.random.default_rng(2), 300, 3, 3, 20, **noise).mean(-1).reshape(300, -1)
    assert (runs < limit(runs)[:, None]).mean() <= 0.02


def test_a_table_keeps_the_flags_of_its_block_when_inits_are_left_out() -> None:
    y = block([[80, 81, 26, 79, 80], [82, 81, 83, 82, 80], [81, 80, 80, 82, 79]])
    table = scored(y, ("default", "lwi", "mae"))
    assert table.collapsed.sum() == 1
    assert table.only(["default"]).collapsed.tolist() == [[False, False, True, False, False]]


# --- how many there may be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "runs", "bound"), [(0, 5, 0.4507), (1, 10, 0.3942), (0, 29, 0.0981), (5, 5, 1.0)])
def test_the_bound_is_exact_and_one_sided(count: int, runs: int, bound: float) -> None:
    assert Collapses(count, runs).bound == pytest.approx(bound, abs=5e-5)
    if count < runs:
        assert scipy_stats.binom.cdf(count, runs, Collapses(count, runs).bound) == pytest.approx(0.05)


def test_no_collapse_in_five_runs_leaves_45_percent() -> None:
    assert str(Collapses(0, 5)) == "0/5 (up to 45 %)"
    assert round(1 - 0.025 ** (1 / 5), 2) == 0.52  # the two-sided bound that it is not


def test_one_run_in_ten_is_ruled_out_by_29_runs() -> None:
    assert STANDING == 29
    assert pytest.approx(0.047, abs=5e-4) == 0.9**STANDING
    assert 0.9 ** (STANDING - 1) > 0.05
    assert Collapses(0, 29).are_ruled_out
    assert not Collapses(0, 28).are_ruled_out
    assert not Collapses(1, 100).are_ruled_out


# --- verdicts ---------------------------------------------------------------------------------------------------------


def block(runs: list[list[float]], cases: int = 12) -> Array:
    """Dice points [init, seed, case] with these run scores; cases and residuals differ, and cancel in the mean of a run."""
    rng = np.random.default_rng(0)
    wobble = rng.normal(0, 1.0, (len(runs), len(runs[0]), cases))
    wobble -= wobble.mean(-1, keepdims=True)
    of_cases = np.linspace(-5, 5, cases)
    return np.asarray(np.array(runs, float)[..., None] + of_cases + wobble, np.float64)


def ahead(seeds: int, lost: tuple[int, ...] = ()) -> ScoreTable:
    """A study in which lwi is far ahead of default, and collapsed at some seeds, not far below default."""
    rng = np.random.default_rng(1)
    runs = np.array([rng.normal(40, 0.5, seeds), rng.normal(80, 0.5, seeds)])
    table = scored(block(runs.tolist()))
    flags = np.zeros((2, seeds), bool)
    flags[1, list(lost)] = True
    return replace(table, collapsed=flags)


@pytest.mark.parametrize(
    ("table", "says", "turned"),
    [
        (
            ahead(5),
            "better where it does not collapse (0/5; up to 45 %)",
            "worse where the other does not collapse (0/5; up to 45 %)",
        ),
        (
            ahead(10, (3,)),
            "better, though it collapsed in 1/10 (up to 39 %)",
            "worse, though the other collapsed in 1/10 (up to 39 %)",
        ),
        (
            ahead(28),
            "better where it does not collapse (0/28; up to 10 %)",
            "worse where the other does not collapse (0/28; up to 10 %)",
        ),
        (ahead(29), "better", "worse"),
    ],
)
def test_a_verdict_says_what_may_collapse(table: ScoreTable, says: str, turned: str) -> None:
    item = pair(table, "lwi", "default")
    assert item.verdict == "better"
    assert item.told_from_0  # counts as decided, in power, forecasts and looks
    assert item.says == says
    assert item.turned().says == turned
    assert pair(table, "default", "lwi").says == turned
    assert pair(table, "lwi", "default", scope="C").says == "better"  # these weights are there: no other run is asked about


def test_collapses_of_the_init_that_is_behind_put_no_bound_on_the_claim() -> None:
    table = ahead(29)
    flags = table.collapsed.copy()
    flags[0, 4] = True
    assert pair(replace(table, collapsed=flags), "lwi", "default").says == "better"


def test_over_several_blocks_the_runs_of_all_count() -> None:
    tables = [replace(ahead(5), block={**ahead(5).block, "dataset": name}) for name in ("lung", "liver")]
    pooled = pool(tables)
    (row,) = (row for row in pooled.inits if row.init == "lwi")  # type: ignore[union-attr]
    assert row.difference is not None
    assert row.difference.says == "better where it does not collapse (0/10; up to 26 %)"


# --- the runs that stand ----------------------------------------------------------------------------------------------


def test_the_runs_that_stand_are_compared_at_seeds_where_both_do() -> None:
    y = block([[80, 81, 26, 79, 80, 80], [82, 84, 84, 30, 82, 82]])
    table = scored(y)
    item = pair(table, "lwi", "default")
    got = standing(table, item)
    assert got is not None
    assert got.seeds == 4
    assert got.estimate.value == pytest.approx(np.mean([2, 3, 2, 2]))
    assert got.estimate.low < 2 < got.estimate.high
    assert item.estimate.value == pytest.approx((y[1] - y[0]).mean())  # the answer is over all runs


def test_where_all_runs_stand_there_is_nothing_beside_the_answer() -> None:
    table = ahead(5)
    assert standing(table, pair(table, "lwi", "default")) is None
    assert rates(table, pair(table, "lwi", "default")) is None


def test_with_seeds_of_their_own_each_init_keeps_its_standing_runs() -> None:
    table = replace(scored(block([[80, 81, 26, 79, 80, 80], [82, 83, 84, 83, 82, 82]])), design="nested")
    got = standing(table, pair(table, "lwi", "default"))
    assert got is not None
    assert got.seeds == 5
    assert got.estimate.value == pytest.approx(496 / 6 - 80)
    assert np.isnan(got.estimate.low)


# --- the test of two rates --------------------------------------------------------------------------------------------


def flags(count: int, runs: int) -> NDArray[np.bool_]:
    """Of `runs` runs the first `count` collapsed."""
    return np.arange(runs) < count


@pytest.mark.parametrize(("alone", "as_one_of_ten", "design"), [(6, 9, "crossed"), (4, 6, "nested")])
def test_seeds_from_which_rates_can_be_tested(alone: int, as_one_of_ten: int, design: str) -> None:
    assert seeds_needed(0.05, design) == alone  # type: ignore[arg-type]
    assert seeds_needed(0.05 / 10, design) == as_one_of_ten  # type: ignore[arg-type]


def test_four_of_five_against_none_of_five_is_told_with_seeds_of_their_own() -> None:
    assert rate_test(flags(4, 5), flags(0, 5), "nested").p == pytest.approx(0.0476, abs=5e-5)
    assert rate_test(flags(3, 5), flags(0, 5), "nested").least > 0.05
    assert rate_test(flags(5, 5), flags(0, 5), "crossed").p > 0.05


@pytest.mark.parametrize(("first", "second"), [(0, 3), (4, 1), (2, 2), (5, 5)])
def test_the_tests_are_those_of_scipy(first: int, second: int) -> None:
    counts = [[first, 5 - first], [second, 5 - second]]
    assert rate_test(flags(first, 5), flags(second, 5), "nested").p == pytest.approx(scipy_stats.fisher_exact(counts).pvalue)
    a, b = flags(first, 5), flags(second, 5)[::-1]
    alone, own = int((a != b).sum()), int((a & ~b).sum())
    wanted = scipy_stats.binomtest(own, alone).pvalue if alone else 1.0
    assert rate_test(a, b, "crossed").p == pytest.approx(wanted)


def test_only_tests_that_can_reach_their_level_join_a_family() -> None:
    assert joining([1.0, 1.0], 7) == 0
    assert joining([2 / 2**6], 0) == 1  # alone
    assert joining([2 / 2**6], 1) == 0  # beside one difference .025 are left, which takes seven seeds
    assert joining([2 / 2**7], 1) == 1
    assert joining([2 / 2**9] * 5 + [1.0] * 2, 5) == 5  # as one of ten each


def lost(collapses_of_lwi: int, seeds: int = 10) -> Facts:
    """A study of default and lwi in which lwi alone collapsed."""
    return Facts(("default", "lwi"), np.stack([flags(0, seeds), flags(collapses_of_lwi, seeds)]), "crossed")


def test_a_family_grows_by_the_rates_that_can_be_tested() -> None:
    names = ("default", "lwi")
    assert baseline_family(names, lost(0)) == Family("baseline", 1)
    assert baseline_family(names, lost(6)) == Family("baseline", 1)
    assert baseline_family(names, lost(7)) == Family("baseline", 2, rates=1)


def test_a_tested_rate_widens_the_interval_of_the_difference() -> None:
    rng = np.random.default_rng(3)
    runs = np.array([rng.normal(80, 1, 10), rng.normal(80, 1, 10)])
    runs[1, :4] -= 50
    few: Difference = pair(scored(block(runs.tolist())), "lwi", "default")
    runs[1, 4:7] -= 50
    many = scored(block(runs.tolist()))
    assert many.collapsed.sum() == 7
    assert few.family.size == 1
    item = pair(many, "lwi", "default")
    assert item.family == Family("baseline", 2, rates=1)
    test = rates(many, item)
    assert test is not None
    assert test.p == pytest.approx(2 / 2**7)


# --- what verdicts are worth, in simulation ---------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_worse_init_is_never_plainly_better_and_no_power_is_lost(seeds: int) -> None:
    setting = benchmark.Setting("precise", seeds=seeds)
    worse = benchmark.verdicts(setting, benchmark.Truth(2.0, (0.0, 0.1), 54.0), 300, 1)
    assert worse["difference"] == pytest.approx(-3.4)
    assert worse["former tables"] > 0.15  # so often the tables misled without a word
    assert worse["plainly"] <= 0.05
    alike = benchmark.verdicts(setting, benchmark.Truth(benchmark.half_found(setting)), 300, 2)
    assert alike["with its bound"] >= alike["former tables"] - 0.03
