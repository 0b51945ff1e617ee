"""Many runs: order, failures, killed processes, progress."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from initbench.executors import local
from initbench.executors.local import run_all

# Worker processes import it by name, so it has to lie where they look.
WORK = '''
"""Work of a few milliseconds; no torch."""

import os
import time

from initbench.executors import local


def work(request, progress):
    kind, value = request
    progress.start(kind, value)
    if kind == "kill in a write":
        local._worker_queue._wlock.acquire()
    if kind.startswith("kill"):
        os._exit(9)
    if kind == "wait":
        time.sleep(0.3)
    if kind == "long":
        time.sleep(6)
    for done in range(value):
        progress.advance(done + 1, {"loss": 1 / (done + 1)})
    return ("failed" if kind == "fail" else "ok", kind, value, os.getpid(), os.environ.get("OMP_NUM_THREADS"))
'''


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "initbench_fake_work.py").write_text(WORK, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "initbench_fake_work", raising=False)
    return __import__("initbench_fake_work")


class Heard:
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def start(self, run: int, stage: str, total: int) -> None:
        self.told.append(("start", run, stage, total))

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        self.told.append(("advance", run, done, dict(info)))

    def finish(self, run: int, outcome: Any) -> None:
        self.told.append(("finish", run, outcome[0]))

    def of(self, run: int) -> list[tuple[Any, ...]]:
        return [item for item in self.told if item[1] == run]


def lost(request: Any, message: str) -> tuple[str, Any, str]:
    return ("lost", request, message)


@pytest.mark.parametrize("jobs", [1, 2])
def test_outcomes_keep_their_order_and_failures_stop_nothing(fake: ModuleType, jobs: int) -> None:
    requests = [("wait", 1), ("fail", 2), ("go", 0), ("go", 3)]
    heard = Heard()
    outcomes: list[Any] = run_all(requests, fake.work, lost, jobs, heard)
    assert [(kind, value) for _, kind, value, *_ in outcomes] == requests
    assert [state for state, *_ in outcomes] == ["ok", "failed", "ok", "ok"]
    own = {pid == os.getpid() for *_, pid, _ in outcomes}
    assert own == {jobs == 1}
    for run, (kind, steps) in enumerate(requests):
        told = heard.of(run)
        assert ("start", run, kind, steps) in told
        assert [item for item in told if item[0] == "advance"] == [
            ("advance", run, done + 1, {"loss": 1 / (done + 1)}) for done in range(steps)
        ]
        assert told.count(("finish", run, outcomes[run][0])) == 1
    if jobs == 1:
        assert [item[1] for item in heard.told] == sorted(item[1] for item in heard.told)
        assert [heard.of(0)[0][0], heard.of(0)[-1][0]] == ["start", "finish"]


def has_ended(process: psutil.Process) -> bool:
    """Also where nobody asks for its exit code, as the first process of a container may not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("requests", ["[('wait', 1)] * 400", "[('long', 1), ('quick', 1)]"], ids=["busy", "one idle"])
def test_workers_do_not_outlive_a_parent_that_was_killed(fake: ModuleType, tmp_path: Path, requests: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import initbench_fake_work as fake\n"
        "from initbench.executors.local import run_all\n"
        "from initbench.harness.sweep import Silent\n"
        "if __name__ == '__main__':\n"
        f"    run_all({requests}, fake.work, None, 2, Silent())\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(fake.__file__).parent)}
    parent = subprocess.Popen([sys.executable, str(script), str(Path(fake.__file__).parent)], env=environment)
    own = psutil.Process(parent.pid)
    until = time.monotonic() + 60
    while len(workers := [child for child in own.children() if "spawn_main" in " ".join(child.cmdline())]) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    time.sleep(3)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 20
    while not all(map(has_ended, workers)):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize("kind", ["kill", "kill in a write"])
def test_a_killed_process_loses_its_runs_with_a_message(fake: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_PATIENCE", 0.5)
    heard = Heard()
    requests = [(kind, 1), ("wait", 1), ("wait", 1)]
    outcomes: list[Any] = run_all(requests, fake.work, lost, 2, heard)
    assert len(outcomes) == 3
    assert outcomes[0][:2] == ("lost", (kind, 1))
    for message in (outcome[2] for outcome in outcomes if outcome[0] == "lost"):
        assert "its process was killed, most likely for memory" in message
        assert "the same command runs what is missing" in message
    assert sorted(item[1] for item in heard.told if item[0] == "finish") == [0, 1, 2]


def test_workers_get_one_thread_each_and_the_parent_keeps_its_own(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    outcomes: list[Any] = run_all([("go", 0), ("go", 0)], fake.work, lost, 2, Heard())
    assert {threads for *_, threads in outcomes} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("jobs", [1, 4])
def test_one_request_or_none_starts_no_process(fake: ModuleType, jobs: int) -> None:
    outcomes: list[Any] = run_all([("go", 1)], fake.work, lost, jobs, Heard())
    assert outcomes[0][3] == os.getpid()
    assert run_all([], fake.work, lost, jobs, Heard()) == []
