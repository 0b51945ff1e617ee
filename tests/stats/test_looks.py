"""Planned looks: levels, when a study is decided, and what the tables say of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from initbench.stats.analysis import pair
from initbench.stats.looks import Looks, expected_seeds, is_decided, levels, seeds_taken, shares
from initbench.stats.power import stated
from initbench.stats.table import ScoreTable, Steps
from initbench.tables import words
from tests.simulated import scores
from tests.stats.made_up import scored

PLAN = Looks((3, 5, 10), 0.5, "default", ("default", "lwi"))
TIMES = (("2026-11-30T10:00", (0, 1, 2)), ("2026-11-30T11:00", (3, 4)))


def table(seeds: int, looks: Looks | None = PLAN, shift: float = 2.0) -> ScoreTable:
    """Two inits, the second ahead by `shift` points, with a plan."""
    y = scores(np.random.default_rng(4), 1, 2, seeds, 12, seed=0.5, init_case=0.5, residual=1.0)[0] + 60
    y[1] += shift
    return replace(scored(y), looks=looks)


def test_the_levels_of_the_looks_sum_to_five_percent() -> None:
    assert sum(levels((3, 5, 10))) == pytest.approx(0.05)
    assert sum(shares((2, 7))) == pytest.approx(1)
    assert PLAN.shares == pytest.approx((3 / 18, 5 / 18, 10 / 18))


def test_a_level_that_was_spent_is_not_spent_again() -> None:
    """Whatever was interrupted, a look has the level of its own number of seeds, and no more."""
    assert [PLAN.share_at(seeds) for seeds in (3, 5, 10)] == list(PLAN.shares)
    assert PLAN.share_at(4) == PLAN.share_at(5)
    assert PLAN.share_at(12) == PLAN.shares[-1]
    spent = [pair(table(seeds), "lwi", "default").family for seeds in (3, 5, 10)]
    assert sum(0.05 / family.divisor for family in spent) == pytest.approx(0.05)


def test_a_level_that_is_spent_again_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: each look has the level that a study without looks has."""
    monkeypatch.setattr(Looks, "share_at", lambda self, seeds: 1.0)
    with pytest.raises(AssertionError):
        test_a_level_that_was_spent_is_not_spent_again()


def test_a_look_is_stricter_than_a_study_that_is_judged_once() -> None:
    planned, once = pair(table(5), "lwi", "default"), pair(table(5, None), "lwi", "default")
    assert planned.estimate.value == once.estimate.value
    assert planned.estimate.high - planned.estimate.low > once.estimate.high - once.estimate.low
    assert planned.p_adjusted == pytest.approx(min(1.0, once.p / PLAN.share_at(5)))
    assert (planned.p_adjusted < 0.05) == planned.told_from_0


def test_between_two_looks_nothing_is_decided() -> None:
    item = pair(table(4), "lwi", "default")
    assert item.verdict == "untestable"
    assert "4 seeds lie between the planned looks at 3, 5, 10 seeds" in item.reason


def test_a_study_stops_where_all_contrasts_are_decided() -> None:
    y = 60 + scores(np.random.default_rng(1), 3, 3, 10, 12, seed=0.01, init_case=0.01, residual=0.02, case=5)
    y[1, 1:] += 5.0  # both ahead
    y[2, 1] += 5.0  # one ahead, one alike
    assert seeds_taken(y, (3, 5, 10)).tolist() == [3, 3, 3]
    decided, told = is_decided(y, PLAN.shares[0])
    assert decided.all()
    assert told.tolist() == [[False, False], [True, True], [True, False]]
    y[2, 2] += np.linspace(-3, 3, 10)[:, None]  # one that is not known
    assert seeds_taken(y, (3, 5, 10)).tolist() == [3, 3, 10]


def test_looks_save_seeds_where_differences_are_large_and_cost_none_elsewhere() -> None:
    noise = stated(0.5, 0.5, 2.0)
    large, none = (expected_seeds(noise, (3, 5, 10), 12, 1, points) for points in (10.0, 0.0))
    assert large < 5 < none <= 10
    assert expected_seeds(noise, (3, 5, 10), 12, 3, 10.0) >= large


def test_false_verdicts_over_all_looks_stay_below_five_percent_and_a_half() -> None:
    y = 60 + scores(np.random.default_rng(3), 1500, 2, 10, 12, seed=5, init_case=3, residual=5)
    wrong = np.zeros(len(y), bool)
    for seeds in PLAN.seeds:
        wrong |= is_decided(y[:, :, :seeds], PLAN.share_at(seeds))[1].any(-1)
    assert wrong.mean() <= 0.065
    unspent = np.zeros(len(y), bool)
    for seeds in PLAN.seeds:
        unspent |= is_decided(y[:, :, :seeds], 1.0)[1].any(-1)
    assert unspent.mean() > 0.065  # every look at 5 % would be seen here


@pytest.mark.parametrize(
    ("seeds", "looks", "asked", "chosen", "said"),
    [
        (5, None, (), "at once", ""),
        (5, None, (TIMES,), "added without a plan", "Seeds were added without a plan: 0–2 (2026-11-30T10:00), then 3–4"),
        (
            5,
            PLAN,
            (TIMES,),
            "planned looks",
            "Looks were planned at 3, 5, 10 seeds before the first run. This one may spend 1.4 %",
        ),
        (11, PLAN, (TIMES,), "added without a plan", "Seeds were added without a plan"),
    ],
)
def test_tables_say_how_the_number_of_seeds_came_about(
    seeds: int, looks: Looks | None, asked: tuple[Steps, ...], chosen: str, said: str
) -> None:
    made = replace(table(seeds, looks), asked=asked)
    assert words.seeds_chosen([made]) == chosen
    notes = " ".join(words.about_seeds(made))
    assert said in notes
    assert bool(notes) == bool(said)
