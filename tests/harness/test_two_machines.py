"""Two processes or two machines on one folder: a run is held by one of them, and taken over where it has left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from initbench import claims
from initbench.harness import run as run_module
from initbench.harness.execute import Outcome, execute
from initbench.runs import store, work
from initbench.runs.status import AskedRun, status
from initbench.studies import engine
from tests.claimed import other_machine, takes_over
from tests.crash_driver import study
from tests.harness.resumed import settings
from tests.runs_factory import SMALL, run

TWO_STEPS = (*SMALL, "steps.smoke=2")


@pytest.fixture
def whole(four_cases: Path, tmp_path: Path) -> Outcome:
    """A run of two steps."""
    [outcome] = run(four_cases, tmp_path / "whole", settings=TWO_STEPS)
    return outcome


def place_below(out: Path, whole: Outcome) -> Path:
    """Where the same run goes below another folder."""
    assert whole.folder is not None
    return out / whole.folder.relative_to(whole.request.out)


@contextlib.contextmanager
def another_process_holds(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Inside the block a process of its own has a claim, and gives its beats."""
    code = (
        "import sys; from pathlib import Path; from initbench import claims\n"
        "with claims.held(Path(sys.argv[1])) as claim: print(claim is not None, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"True\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_run_that_another_process_holds_is_left_alone_until_it_dies(whole: Outcome, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    folder = place_below(out, whole)
    with another_process_holds(work.claim_place(folder)) as process:
        assert work.is_held(folder)
        outcome = execute(replace(whole.request, out=out))
        assert (outcome.state, outcome.message) == ("busy", "another process is at it")
        assert outcome.waits_for == work.claim_place(folder)
        assert not work.work_folder(folder).exists()
        assert not folder.exists()
        process.kill()
        process.wait()
        assert execute(replace(whole.request, out=out)).state == "ok", "its death is seen at once"


def test_a_run_that_another_machine_holds_is_busy_and_said(whole: Outcome, tmp_path: Path) -> None:
    folder = place_below(tmp_path / "runs", whole)
    other_machine(work.claim_place(folder))
    state = work.work_folder(folder) / work.STATE
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"host": "another", "state": "training", "step": 5, "total": 9}))
    assert execute(replace(whole.request, out=tmp_path / "runs")).state == "busy"
    assert not folder.exists()
    shown = status(AskedRun("a run", {}, folder))
    assert (shown.state, shown.step) == ("training", 5)
    assert "on another" in shown.detail


def test_a_study_waits_for_another_machine_and_takes_its_run_over(
    whole: Outcome, four_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It watches the beats, which come late once and then no more."""
    place = work.claim_place(place_below(tmp_path / "runs", whole))
    other_machine(place)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if sum(slept) < 70:
            other_machine(place, beats=int(sum(slept)) // 50)  # the second beat comes after 50 seconds

    monkeypatch.setattr(engine.time, "sleep", sleep)
    monkeypatch.setattr(claims.time, "monotonic", lambda: sum(slept))
    [outcome] = run(four_cases, tmp_path / "runs", settings=TWO_STEPS)
    assert outcome.state == "ok"
    assert 50 + claims.PATIENCE <= sum(slept) <= 54 + claims.PATIENCE


def test_a_run_that_another_process_ends_is_there(
    whole: Outcome, four_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While this one waits for it."""
    out = tmp_path / "runs"
    folder = place_below(out, whole)
    other_machine(work.claim_place(folder))

    def sleep(seconds: float) -> None:
        assert whole.folder is not None
        folder.parent.mkdir(parents=True, exist_ok=True)
        whole.folder.rename(folder)

    monkeypatch.setattr(engine.time, "sleep", sleep)
    [outcome] = run(four_cases, out, settings=TWO_STEPS)
    assert (outcome.state, outcome.dice) == ("cached", whole.dice)


@pytest.mark.parametrize("after", ["train", "evaluation", "crash"])
def test_whoever_was_taken_over_leaves_the_run(
    whole: Outcome, four_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """A process that was paused wakes in its training, before it writes its result, or finds that its files are gone."""
    out = tmp_path / "runs"
    folder = place_below(out, whole)

    def lose() -> None:
        takes_over(work.claim_place(folder))
        [kept] = claims_of_this_process
        kept.check()

    claims_of_this_process: list[claims.Claim] = []
    take = claims.take

    def taken(place: Path) -> claims.Claim | None:
        found = take(place)
        claims_of_this_process.extend([found] if found else [])
        return found

    monkeypatch.setattr(claims, "take", taken)
    place: Any
    place, name = (run_module.VolumeShelf, "load") if after == "train" else (run_module, "draw")
    before = getattr(place, name)

    def late(*arguments: Any, **options: Any) -> Any:
        found = before(*arguments, **options)
        lose()
        if after == "crash":
            raise FileNotFoundError(2, "No such file or directory", "what the other one removed")
        return found

    monkeypatch.setattr(place, name, late)
    outcome = execute(replace(whole.request, out=out))
    assert (outcome.state, outcome.message) == ("busy", "another process has taken it over")
    assert not folder.exists()
    assert not list(folder.parent.glob(".seed-0-*"))
    assert work.work_folder(folder).exists(), "what helps the other one stays"


def test_runs_need_no_locks_of_the_file_system(four_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some cluster file systems have none."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for init in ("default", "lwi"):
        [outcome] = run(four_cases, tmp_path / "runs", init, settings=TWO_STEPS)
        assert outcome.state == "ok"
    assert len(list(tmp_path.rglob(store.RECORD))) == 2


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
