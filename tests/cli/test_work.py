"""Processes that share a study: `plan --note`, `work` and `cancel`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from initbench import interrupt
from initbench.cli.app import main
from initbench.runs import cancel, store, work
from initbench.runs.record import Cost, ValidationCost
from initbench.runs.status import AskedRun, read_asked, status
from initbench.studies import engine, sweep, turns
from initbench.studies.engine import TimeLimit
from tests.commands import said
from tests.runs_factory import SMALL, TINY, run

INITS = "default,kaiming-normal"


def options(data: Path, *settings: str) -> list[str]:
    """Of a study of two inits and two seeds."""
    found = ["--init", INITS, *TINY, "--dataset", str(data), "--seeds", "2", "--no-placebo"]
    for setting in (*SMALL, *settings):
        found += ["--set", setting]
    return found


def results(out: Path) -> dict[str, bytes]:
    """The tables of cases of all runs below a folder."""
    return {str(folder.relative_to(out)): (folder / store.CASES).read_bytes() for folder in store.find_runs(out)}


def test_a_noted_study_is_done_by_number_and_then_whole(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    assert "noted; initbench work" in said_beside(capsys, "plan", *options(data), "--note", "--out", str(out))
    asked = read_asked(out)
    assert [status(item).state for item in asked] == ["pending"] * 4
    assert "1 run: 1 ok" in said(capsys, "work", str(out), "--run", "2", "--run-code")
    assert [status(item).state for item in asked] == ["pending", "pending", "done", "pending"]
    assert "3 runs: 3 ok" in said(capsys, "work", str(out), "--run-code")
    assert "every run has ended" in said(capsys, "work", str(out), "--run-code")
    mark = cancel.mark(out)
    assert "every run has ended, so there was nothing to cancel" in " ".join(said(capsys, "cancel", str(out)).split())
    assert cancel.mark(out) == mark
    outcomes = run(data, tmp_path / "serial", INITS, seeds=2, placebo=False)
    assert {outcome.state for outcome in outcomes} == {"ok"}
    assert results(out) == results(tmp_path / "serial")


def said_beside(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that ends well says beside its output."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return " ".join(printed.err.split())


def test_a_run_that_cannot_end_in_time_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    limit = TimeLimit.of(1000, begun=100.0)
    assert limit.seconds == 940, "a minute is kept for saving"
    assert limit.refusal(None) == limit.refusal(900) == ""
    now[0] += 100
    assert limit.refusal(900) == "not begun: it takes about 15 min, and 14 min are left"
    assert limit.refusal(2000) == "", "longer than the whole limit: it goes on from checkpoint to checkpoint"
    now[0] += 900
    assert limit.refusal(1) == "not begun: the time limit is reached"


def asked_run(folder: Path, init: str) -> AskedRun:
    return AskedRun(init, {"init": init, "backbone": "b", "dataset": "d"}, folder)


def test_runs_take_as_long_as_those_like_them_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took = {tmp_path / "a": 10.0, tmp_path / "b": 30.0, tmp_path / "c": 90.0}

    def record(folder: Path) -> SimpleNamespace | None:
        if folder not in took:
            return None
        cost = Cost(total_seconds=took[folder] - 2.0, validation=ValidationCost(seconds=2.0))
        return SimpleNamespace(status="ok", cost=cost)

    monkeypatch.setattr(turns.store, "read_record", record)
    planned = [asked_run(tmp_path / name, init) for name, init in (("a", "default"), ("b", "default"), ("c", "lwi"))]
    waiting = {7: asked_run(tmp_path / "d", "default"), 8: asked_run(tmp_path / "e", "mae")}
    found = turns.expected_seconds(waiting, planned)
    assert found == {7: 30.0, 8: 90.0}, "an init without an example is as slow as the slowest of its block"
    elsewhere = AskedRun("x", {"init": "default", "backbone": "other"}, tmp_path / "f")
    assert turns.expected_seconds({9: elsewhere}, planned) == {}


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_warning_of_a_scheduler_asks_and_never_stops_at_once(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    with interrupt.handled(), interrupt.deferred():
        assert not interrupt.asked()
        for _ in range(3):
            os.kill(os.getpid(), number)
            now[0] += 60
        assert interrupt.asked()
        os.kill(os.getpid(), signal.SIGTERM)  # the first that may stop at once
        now[0] += 60
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_cancelled_study_is_left_and_goes_on_later(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    said_beside(capsys, "plan", *options(data), "--note", "--out", str(out))
    begun_under = cancel.mark(out)
    assert "cancelled; whoever works on it" in " ".join(said(capsys, "cancel", str(out)).split())
    assert cancel.mark(out) != begun_under
    request = turns.from_json(read_asked(out)[0].request, out=out)
    turn = engine.Turn(engine.Cells(), mark=begun_under)
    assert turn.refusal(request) == "not begun: the study was cancelled"
    assert engine.Turn(engine.Cells(), mark=cancel.mark(out)).refusal(request) == ""
    assert "1 run: 1 ok" in said(capsys, "work", str(out), "--run", "0", "--run-code")


def holders(out: Path) -> list[int]:
    """Sessions of the processes that have a run of a study in hand, and are in the middle of it."""
    found = []
    for item in read_asked(out):
        if status(item).state != "training" or item.folder is None:
            continue
        for owner in work.claim_place(item.folder).glob("*/owner.json"):
            with contextlib.suppress(OSError, ValueError):
                found.append(os.getsid(json.loads(owner.read_bytes())["pid"]))
    return found


@pytest.mark.full
def test_eight_processes_share_a_study(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One is killed with -9, one is stopped and woken when its run was taken over, one reaches its time limit."""
    out = tmp_path / "runs"
    settings = ("steps.smoke=2000",)
    said_beside(capsys, "plan", *options(data, *settings), "--note", "--out", str(out))
    command = [sys.executable, "-m", "initbench", "work", str(out), "--run-code"]
    others: list[list[str]] = [[]] * 7 + [["--time-limit", "20s"]]
    processes = {}
    for more in others:
        process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, start_new_session=True)
        processes[process.pid] = process  # the number of its session, too: its workers are in it
    try:
        wait_until(lambda: len(set(holders(out))) >= 2)
        killed, paused = list(dict.fromkeys(holders(out)))[:2]
        os.killpg(killed, signal.SIGKILL)
        os.killpg(paused, signal.SIGSTOP)
        for number, process in processes.items():
            if number != paused:
                process.wait(900)
        assert {status(item).state for item in read_asked(out)} == {"done"}, "somebody took the run over"
        done = results(out)
        os.killpg(paused, signal.SIGCONT)
        processes[paused].wait(100)
    finally:
        for number in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(number, signal.SIGKILL)
    assert results(out) == done, "whoever woke up left what others had done"
    run(data, tmp_path / "serial", INITS, seeds=2, placebo=False, assignments=settings)
    assert done == results(tmp_path / "serial")


def wait_until(happened: Callable[[], bool]) -> None:
    """Waits five minutes at most: eight commands that start at once on two cores take half a minute."""
    for _ in range(3000):
        if happened():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_a_plan_that_is_noted_looks_its_runs_up_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    look_up = sweep.look_up
    monkeypatch.setattr(sweep, "look_up", lambda request, *given: seen.append(request.label) or look_up(request, *given))
    with pytest.raises(SystemExit):
        main(["plan", *options(data), "--note", "--out", str(tmp_path)])
    assert len(seen) == len(set(seen)) == 4
    assert len(read_asked(tmp_path)) == 4


def test_a_run_whose_file_changed_is_done_in_the_note_too(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plugin = tmp_path / "plugin.py"
    plugin.write_text("def nothing(model, ctx):\n    pass\n")
    asked = ["--init", "./plugin.py:nothing", *TINY, "--dataset", str(data)]
    for setting in SMALL:
        asked += ["--set", setting]
    said_beside(capsys, "plan", *asked, "--no-measure", "--note", "--out", "runs")
    plugin.write_text("def nothing(model, ctx):\n    return None\n")
    assert "1 run: 1 ok" in said(capsys, "work", "runs", "--run-code")
    [noted] = read_asked(Path("runs"))
    assert status(noted).state == "done"
    assert "every run has ended" in said(capsys, "work", "runs")


def test_a_study_goes_on_where_its_data_lie_elsewhere(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, here, node = tmp_path / "runs", tmp_path / "here" / data.name, tmp_path / "node"
    shutil.copytree(data, here)
    said_beside(capsys, "plan", *options(here), "--note", "--out", str(out))
    shutil.move(here, node / data.name)
    assert "1 run: 1 ok" in said(capsys, "work", str(out), "--run", "0", "--run-code", "--data-root", str(node))
    assert [status(item).state for item in read_asked(out)] == ["done", "pending", "pending", "pending"]
