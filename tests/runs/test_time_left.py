"""How long runs take from now on: by the steps that are left, and what steps took so far or in earlier runs."""

from __future__ import annotations

import pytest

from initbench.runs.time_left import TimeLeft, Workload


class Clock:
    """Seconds that are set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def load(pretext: int = 0, train: int = 100, evaluate: int = 10, kind: str = "net", **paces: float) -> Workload:
    return Workload(kind, {"pretext": pretext, "train": train, "evaluate": evaluate}, paces)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def left(clock: Clock) -> TimeLeft:
    return TimeLeft(clock)


def test_earlier_runs_tell_it_before_the_first_step(left: TimeLeft) -> None:
    left.expect({0: load(), 1: load(pretext=20, train=80)})
    assert left.of_all() is None
    left.expect({2: Workload("net", {"train": 100, "evaluate": 10}, {"train": 2.0, "evaluate": 3.0})})
    assert left.of_all() == (200 + 30) + (100 * 2 + 30) + (200 + 30), "a pretext is taken to have the pace of training"


def test_steps_so_far_tell_it(left: TimeLeft, clock: Clock) -> None:
    left.expect({0: load(), 1: load(train=50)})
    left.start(0, "train", 100)
    assert left.of_run(0) is None
    clock.now = 10.0
    left.advance(0, 20, {"loss": 1.0})
    assert left.of_run(0) == 40
    assert left.of_all() == 40 + 25
    left.start(1, "train", 50)
    assert left.of_all() == 40, "two at a time, and the longer one ends last"


def test_a_stage_that_goes_on_is_paced_by_its_new_steps(left: TimeLeft, clock: Clock) -> None:
    left.expect({0: load()})
    left.start(0, "train", 100)
    left.advance(0, 60, {})
    clock.now = 10.0
    left.advance(0, 70, {"loss": 1.0})
    assert left.of_run(0) == 30


def test_later_stages_count(left: TimeLeft, clock: Clock) -> None:
    left.expect({0: load(pretext=10, train=90, evaluate=5)})
    left.start(0, "pretext", 10)
    clock.now = 5.0
    left.advance(0, 5, {"loss": 1.0})
    assert left.of_run(0) == 5 + 90
    left.start(0, "train", 90)
    left.start(0, "evaluate", 5)
    clock.now = 9.0
    left.advance(0, 2, {})
    assert left.of_run(0) == 6
    left.finish(0)
    assert left.of_all() == 0


def test_a_run_of_which_nothing_is_known_is_as_long_as_the_others(left: TimeLeft) -> None:
    left.expect({0: Workload("net", {"train": 100}, {"train": 1.0}), 1: None, 2: load(kind="another")})
    assert left.of_all() == 300


def test_another_network_has_another_pace(left: TimeLeft, clock: Clock) -> None:
    left.expect({0: load(), 1: Workload("large", {"train": 10}, {"train": 60.0})})
    left.start(0, "train", 100)
    clock.now = 1.0
    left.advance(0, 10, {"loss": 1.0})
    assert left.of_all() == 9 + 600
