"""Two processes or two machines on one folder: a run is held by one of them, and taken over where it has left."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from initbench.errors import InitbenchError
from initbench.harness import reuse
from initbench.harness.execute import execute
from initbench.runs import store, work
from initbench.runs.status import AskedRun, status
from tests.crash_driver import study
from tests.harness.resumed import settings
from tests.runs_factory import SMALL, run

TWO_STEPS = (*SMALL, "steps.smoke=2")


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


def test_a_run_that_another_process_holds_is_busy_and_left_alone(four_cases: Path, tmp_path: Path) -> None:
    """The other process is one of its own: locks of the same process would say nothing."""
    [whole] = run(four_cases, tmp_path / "whole", settings=TWO_STEPS)
    assert whole.folder is not None
    folder = tmp_path / "runs" / whole.folder.relative_to(tmp_path / "whole")
    with another_process_holds(work.lock_file(folder)):
        assert work.is_held(folder)
        outcome = execute(replace(whole.request, out=tmp_path / "runs"))
        assert (outcome.state, outcome.message) == ("busy", "another process is at it")
        assert not work.work_folder(folder).exists()
        assert not folder.exists()
    assert execute(replace(whole.request, out=tmp_path / "runs")).state == "ok"


def test_a_run_that_another_machine_holds_is_busy_and_said(
    four_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock does not reach this machine; its state goes on."""
    [whole] = run(four_cases, tmp_path / "whole", settings=TWO_STEPS)
    assert whole.folder is not None
    folder = tmp_path / "runs" / whole.folder.relative_to(tmp_path / "whole")
    other_machine(folder, 0)
    monkeypatch.setattr(work, "time", Clock(work.BEAT, lambda count: other_machine(folder, count)))
    assert execute(replace(whole.request, out=tmp_path / "runs")).state == "busy"
    assert not folder.exists()
    shown = status(AskedRun("a run", {}, folder))
    assert (shown.state, shown.step) == ("training", 5)
    assert "on another" in shown.detail


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_with_what_to_do(
    four_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for init in ("default", "lwi"):  # a learned one has a lock of its init stage, too
        [outcome] = run(four_cases, tmp_path / "runs", init, settings=TWO_STEPS)
        assert outcome.state == "failed"
        assert "the file system gives no locks" in outcome.message
        assert "choose a local disk (--out, INITBENCH_CACHE)" in outcome.message
    with pytest.raises(InitbenchError, match="gives no locks"), reuse.held(tmp_path / "runs" / ".inits" / "0"):
        pass
    assert not list(tmp_path.rglob(store.RECORD))


def test_a_file_system_that_knows_no_locks_has_files_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "no")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = tmp_path / "runs" / "data" / "net" / "init-0123456789" / "seed-0"
    with warnings.catch_warnings(record=True, action="always") as said, work.claim(folder) as first, work.claim(folder) as second:
        assert first is not None
        assert second is None
    assert {str(item.message)[:19] for item in said} == {"flock not supported"}


@contextlib.contextmanager
def another_process_holds(path: Path) -> Iterator[None]:
    """Inside the block a process of its own holds a lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        yield
    finally:
        process.communicate(b"\n")


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
    assert "access is denied" in outcome.message
