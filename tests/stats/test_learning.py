"""Mean learning curves over seeds, and the steps to 95 % of the Dice that default ends at."""

from __future__ import annotations

import math

import numpy as np
import pytest

from initbench.stats.learning import LearningCurve, StepsTo, mean_curve, steps_to_share

STEPS = (100, 200, 300, 400)


def curve(seed: int, *dice: float, first: int = 0, diverged: bool = False) -> LearningCurve:
    """A curve on the first of `STEPS`, a second a step, behind `first` steps of an init stage."""
    steps = np.array(STEPS[: len(dice)], float) + first
    return LearningCurve(seed, steps, 10 * steps, np.array(dice), diverged)


def test_the_mean_is_of_all_seeds_at_each_point() -> None:
    found = mean_curve([curve(0, 10, 20, 30, 40), curve(1, 30, 40, 50, 60)])
    assert found.steps.tolist() == list(STEPS)
    assert found.dice.tolist() == [20, 30, 40, 50]
    assert found.seconds.tolist() == [1000, 2000, 3000, 4000]
    assert found.runs.tolist() == [2, 2, 2, 2]


def test_a_run_that_diverged_counts_with_nothing_from_there_on() -> None:
    found = mean_curve([curve(0, 10, 20, 30, 40), curve(1, 30, 40, diverged=True)])
    assert found.dice.tolist() == [20, 30, 15, 20]
    assert found.seconds.tolist() == [1000, 2000, 3000, 4000]
    assert found.runs.tolist() == [2, 2, 2, 2]


def test_a_run_whose_curve_was_cut_short_for_another_reason_is_left_out() -> None:
    found = mean_curve([curve(0, 10, 20, 30, 40), curve(1, 30, 40)])
    assert found.dice.tolist() == [20, 30, 30, 40]
    assert found.runs.tolist() == [2, 2, 1, 1]


def test_each_seed_is_compared_with_default_of_the_same_seed() -> None:
    found = steps_to_share(
        {
            "default": [curve(0, 10, 60, 77, 80), curve(1, 10, 20, 30, 40)],
            "lwi": [curve(1, 20, 38, 50, 60, first=20), curve(0, 10, 50, 70, 75.9, first=20), curve(2, 90, 90, 90, 90)],
        }
    )
    assert found == [StepsTo("default", (300, 400)), StepsTo("lwi", (math.inf, 220))]


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((300.0,), "300"),
        ((300.0, 100.0, 1200.0), "300 (100 to 1,200)"),
        ((300.0, 100.0, 200.0, math.inf, math.inf), "300 (100 to 300), not reached in 2/5"),
        ((300.0, 100.0, math.inf, math.inf), "not reached in 2/4, else 100 to 300"),
        ((math.inf, math.inf), "not reached in 2/2"),
    ],
)
def test_in_words(steps: tuple[float, ...], text: str) -> None:
    assert str(StepsTo("lwi", steps)) == text


def test_the_wanted_dice_itself_is_enough() -> None:
    [found] = steps_to_share({"default": [curve(0, 19, 19, 19, 20)]})
    assert found.steps == (100,)


def test_without_default_nothing_is_compared() -> None:
    assert steps_to_share({"lwi": [curve(0, 10, 20)]}) == []
    assert steps_to_share({"default": [curve(0, 10, 20, diverged=True)], "lwi": [curve(0, 10, 20)]}) == []
    assert steps_to_share({"default": [curve(0, 0, 0)], "lwi": [curve(0, 10, 20)]}) == []
