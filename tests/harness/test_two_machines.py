"""Two processes or two machines on one folder: a run is held by one of them, and taken over where it has left."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from initbench.runs import work
from tests.crash_driver import study
from tests.harness.resumed import settings


def other_machine(folder: Path, beats: int) -> None:
    state = work.work_folder(folder) / work.STATE
    state.parent.mkdir(parents=True, exist_ok=True)
    temporary = state.with_name("new")
    temporary.write_text(json.dumps({"host": "another", "pid": 1, "state": "training", "step": 5, "total": 9, "beats": beats}))
    temporary.replace(state)


class Clock:
    """Stands for the module `time`: time passes only while somebody sleeps, and every so often something happens in it."""

    def __init__(self, every: float, happens: Callable[[int], None]) -> None:
        self.now, self.every, self.happens, self.count = 0.0, every, happens, 0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.every * (self.count + 1) <= self.now:
            self.count += 1
            self.happens(self.count)


@pytest.mark.parametrize("late", [1, 3])
def test_a_run_that_another_machine_works_on_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int) -> None:
    """Also where it is busy, and its state comes with two beats missed."""
    folder = tmp_path / "runs" / "data" / "net" / "init-0123456789" / "seed-0"
    other_machine(folder, 0)
    clock = Clock(late * work.BEAT, lambda count: other_machine(folder, count))
    monkeypatch.setattr(work, "time", clock)
    with work.claim(folder) as claim:
        assert claim is None
    assert clock.now == pytest.approx(late * work.BEAT), "it watched no longer than it had to"


def test_a_run_that_another_machine_has_left_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "data" / "net" / "init-0123456789" / "seed-0"
    other_machine(folder, 0)
    clock = Clock(math.inf, lambda count: None)
    monkeypatch.setattr(work, "time", clock)
    with work.claim(folder) as claim:
        assert claim is not None
    assert clock.now >= work.PATIENCE


def test_a_run_is_held_by_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "data" / "net" / "init-0123456789" / "seed-0"
    with work.claim(folder) as first:
        assert first is not None
        assert work.is_held(folder)
        with work.claim(folder) as second:
            assert second is None
    assert not work.is_held(folder)


def test_a_read_only_output_folder_is_said(four_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        if self.is_relative_to(tmp_path):
            raise PermissionError(13, "Permission denied", str(self))
        make(self, *arguments, **options)  # the cache is somewhere else

    with monkeypatch.context() as patch:  # tests may run as root, who may write anywhere
        patch.setattr(Path, "mkdir", refuse)
        [outcome] = study(settings(four_cases, tmp_path), tmp_path / "runs")
    assert outcome.state == "failed"
    assert "Permission denied" in outcome.message
