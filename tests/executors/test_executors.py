"""Many runs: order, failures, killed processes, progress."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from initbench import registry
from initbench.executors import local, workers
from initbench.executors.local import LocalSubmission
from initbench.protocols import Device, QueuedRun, StudyWork
from initbench.spec import parse

# Worker processes import it by name, so it has to lie where they look.
WORK = '''
"""Work of a few milliseconds; no torch."""

import gc
import os
import signal
import sys
import time
from pathlib import Path


def note(what, text=""):
    """Says to the test, in a file that is there at once and whole, what this process does."""
    folder = Path(os.environ["INITBENCH_FAKE_NOTES"])
    part = folder / f".{what}-{os.getpid()}"
    part.write_text(text or str(os.getpid()))
    part.rename(folder / f"{what}-{os.getpid()}")


def work(request, device, progress):
    kind, value = request
    progress.start(kind, value)
    if kind == "killed in a write":
        os.write(progress._reporter._connection.fileno(), b"\\0\\0\\1\\0half")
    if kind.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "_exit":
        os._exit(0)
    if kind == "exit":
        sys.exit(0)
    if kind == "frozen":
        return ("ok", kind, gc.get_freeze_count(), os.getpid(), None)
    if kind == "closes the pipe":
        os.close(progress._reporter._connection.fileno())
        time.sleep(600)
    if kind == "gate":
        note("waits")
        while not (Path(os.environ["INITBENCH_FAKE_NOTES"]) / "open").exists():
            time.sleep(0.01)
        note("passed")
    if kind == "quick":
        note("quick")
    for done in range(value):
        progress.advance(done + 1, {"loss": 1 / (done + 1)})
    if kind == "hungry":  # for memory: alone on its device it has enough
        folder = Path(os.environ["INITBENCH_FAKE_NOTES"])
        tries = len(list(folder.glob(f"try-{value}-*")))
        note(f"try-{value}-{tries}")
        while not tries and len(list(folder.glob("try-*"))) < 2:
            time.sleep(0.01)
        return ("ok" if tries else "no memory", kind, value, os.getpid(), device)
    return ("failed" if kind == "fail" else "ok", kind, value, os.getpid(), os.environ.get("OMP_NUM_THREADS"))


def where(request, device, progress):
    """Says on which device it is, and which others are busy: every device waits for all of them once."""
    note(f"at-{device}")
    while len(list(Path(os.environ["INITBENCH_FAKE_NOTES"]).glob("at-*"))) < request[1]:
        time.sleep(0.01)
    return ("ok", device, request[1], os.getpid(), "")
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


CPU = [Device("cpu", "a CPU")]


def study(requests: Sequence[Any], work: Any, jobs: int = 1, **options: Any) -> StudyWork:
    runs = [QueuedRun(request) for request in requests]
    return StudyWork(Path(), runs, work, lost, lambda: CPU, jobs=jobs, **options)


def run_all(requests: Sequence[Any], work: Any, lost: Any, jobs: int, heard: Any, **options: Any) -> list[Any]:
    codes = options.pop("code", lambda request: ())
    asked = replace(study(requests, work, jobs, **options), lost=lost)
    asked = replace(asked, runs=[QueuedRun(request, code=codes(request)) for request in requests])
    outcomes = LocalSubmission(asked).watch(heard)
    return [outcomes[run] for run in range(len(requests))]


def lost(request: Any, message: str) -> tuple[str, Any, str]:
    return ("lost", request, message)


@pytest.mark.parametrize(("jobs", "isolated"), [(1, False), (1, True), (2, True)])
def test_outcomes_keep_their_order_and_failures_stop_nothing(fake: ModuleType, jobs: int, isolated: bool) -> None:
    requests = [("go", 1), ("fail", 2), ("go", 0), ("go", 3)]
    heard = Heard()
    outcomes: list[Any] = run_all(requests, fake.work, lost, jobs, heard, isolated=isolated)
    assert [(kind, value) for _, kind, value, *_ in outcomes] == requests
    assert [state for state, *_ in outcomes] == ["ok", "failed", "ok", "ok"]
    processes = {pid for *_, pid, _ in outcomes}
    assert (os.getpid() in processes) == (not isolated)
    assert len(processes) <= jobs, "a worker does one run after another"
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


def test_what_a_run_leaves_is_not_searched_for_garbage_again(fake: ModuleType) -> None:
    outcomes: list[Any] = run_all([("frozen", 0), ("frozen", 0)], fake.work, lost, 1, Heard())
    (_, _, before, worker, _), (_, _, after, same_worker, _) = outcomes
    assert worker == same_worker
    assert before == 0
    assert after > 1000, "the libraries that it imported"
    assert gc.get_freeze_count() == 0, "in the process of the command nothing is frozen"


def has_ended(process: psutil.Process) -> bool:
    """Also where nobody asks for its exit code, as the first process of a container may not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(happened: Callable[[], bool]) -> None:
    """Waits for an event. The bound is for a test that fails; a slow machine does not reach it."""
    bound = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < bound, "it never happened"
        time.sleep(0.02)


@pytest.mark.parametrize("idle", [False, True], ids=["busy", "one idle"])
def test_workers_do_not_outlive_a_parent_that_was_killed(fake: ModuleType, tmp_path: Path, idle: bool) -> None:
    """A worker finishes the run that it has in hand first. One without a run has ended before: it would keep its device."""
    requests = [("gate", 1), ("quick", 1)] if idle else [("gate", 1)] * 8
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import initbench_fake_work as fake\n"
        "from pathlib import Path\n"
        "from initbench.executors import local, workers\n"
        "from initbench.protocols import Device, QueuedRun, StudyWork\n"
        "from initbench.studies.sweep import Silent\n"
        "workers._PRELOADED.clear()\n"  # the work of this test needs no torch
        f"runs = [QueuedRun(request) for request in {requests}]\n"
        "study = StudyWork(Path(), runs, fake.work, None, lambda: [Device('cpu', 'a CPU')], jobs=2)\n"
        "local.local(study).watch(Silent())\n"  # no `if __name__`: workers do not import the script
    )
    script, notes = tmp_path / "parent.py", tmp_path / "notes"
    script.write_text(code, "utf-8")
    notes.mkdir()

    def noted(what: str) -> set[int]:
        return {int(path.read_text()) for path in notes.glob(f"{what}-*")}

    folder = str(Path(fake.__file__).parent)
    environment = {**os.environ, "INITBENCH_FAKE_NOTES": str(notes)}
    parent = subprocess.Popen([sys.executable, str(script), folder], env=environment)
    workers: dict[int, psutil.Process] = {}
    try:
        until(lambda: len(noted("waits")) == (1 if idle else 2) and len(noted("quick")) == (1 if idle else 0))
        workers = {pid: psutil.Process(pid) for pid in noted("waits")}
        for pid in noted("quick"):
            until(lambda pid=pid: not psutil.pid_exists(pid) or has_ended(psutil.Process(pid)))  # type: ignore[misc]
        parent.kill()
        parent.wait()
        assert not any(has_ended(workers[pid]) for pid in noted("waits")), "a run in hand is finished"
        (notes / "open").touch()
        until(lambda: all(map(has_ended, workers.values())))
        assert noted("passed") == noted("waits")
    finally:
        for process in (parent, *workers.values()):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("killed", "its process was killed, most likely for memory"),
        ("killed in a write", "its process was killed, most likely for memory"),
        ("closes the pipe", "its process was killed"),
        ("crash", "its process crashed (SIGSEGV)"),
        ("_exit", "its process ended by itself with exit code 0, as code that calls os._exit does"),
        ("exit", "its process ended by itself with exit code 0"),
    ],
)
def test_a_process_that_dies_loses_its_run_alone_with_a_message(fake: ModuleType, kind: str, says: str, jobs: int) -> None:
    heard = Heard()
    requests = [("go", 1), (kind, 1), ("go", 1), ("go", 1)]
    outcomes: list[Any] = run_all(requests, fake.work, lost, jobs, heard)
    assert [outcome[0] for outcome in outcomes] == ["ok", "lost", "ok", "ok"]
    assert outcomes[1][1] == (kind, 1)
    assert says in outcomes[1][2]
    assert sorted(item[1] for item in heard.told if item[0] == "finish") == [0, 1, 2, 3]


def test_code_of_others_has_processes_of_its_own(fake: ModuleType) -> None:
    requests = [("go", 0), ("go", 1), ("go", 2), ("go", 3), ("go", 3)]
    codes = {0: "", 1: "", 2: "theirs", 3: ""}
    outcomes: list[Any] = run_all(requests, fake.work, lost, 1, Heard(), code=lambda request: codes[request[1]])
    first, second, theirs, *later = [pid for *_, pid, _ in outcomes]
    assert first == second
    assert theirs not in (first, *later)
    assert later == [later[0]] * 2


def test_workers_get_one_thread_each_and_the_parent_keeps_its_own(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    outcomes: list[Any] = run_all([("go", 0), ("go", 0)], fake.work, lost, 2, Heard())
    assert {threads for *_, threads in outcomes} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_workers_see_the_environment_and_folder_of_now(fake: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of when the process was started that they are forked from."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("INITBENCH_FAKE_NOTES", str(tmp_path / name))
        run_all([("quick", 0)], fake.work, lost, 1, Heard())
        assert len(list((tmp_path / name).iterdir())) == 1


@pytest.mark.parametrize("jobs", [1, 4])
def test_one_request_in_this_process_or_none_starts_no_process(fake: ModuleType, jobs: int) -> None:
    outcomes: list[Any] = run_all([("go", 1)], fake.work, lost, jobs, Heard(), isolated=False)
    assert outcomes[0][3] == os.getpid()
    assert run_all([], fake.work, lost, jobs, Heard()) == []


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv("INITBENCH_FAKE_NOTES", str(folder))
    return folder


CARDS = [Device(f"card {number}", "a GPU") for number in range(3)]


def test_every_device_has_a_worker_of_its_own(fake: ModuleType, notes: Path) -> None:
    """Each run waits until a run was on every device, so it never ends where one of them has none."""
    found = LocalSubmission(replace(study([("go", 3)] * 6, fake.where), devices=lambda: CARDS)).watch(Heard())
    assert len(found) == 6
    workers: dict[str, set[int]] = {}
    for _, device, _, pid, _ in found.values():
        workers.setdefault(device, set()).add(pid)
    assert sorted(workers) == ["card 0", "card 1", "card 2"]
    assert [len(pids) for pids in workers.values()] == [1, 1, 1]


def test_a_run_without_memory_beside_others_is_tried_alone(fake: ModuleType, notes: Path) -> None:
    heard = Heard()
    asked = study(
        [("hungry", 1), ("hungry", 2), ("go", 0)], fake.work, 2, out_of_memory=lambda outcome: outcome[0] == "no memory"
    )
    found = LocalSubmission(asked).watch(heard)
    assert {run: outcome[0] for run, outcome in found.items()} == {0: "ok", 1: "ok", 2: "ok"}
    assert sorted(item for item in heard.told if item[0] == "finish") == [("finish", run, "ok") for run in range(3)]


def test_a_run_without_memory_that_was_alone_fails(fake: ModuleType) -> None:
    heard = Heard()
    found = LocalSubmission(study([("fail", 1)], fake.work, 2, out_of_memory=lambda outcome: True)).watch(heard)
    assert found[0][0] == "failed"
    assert heard.told.count(("start", 0, "fail", 1)) == 1


@pytest.mark.parametrize(("room", "most"), [(1, 1), (3, 3)])
def test_jobs_follow_what_a_run_took(fake: ModuleType, notes: Path, room: int, most: int) -> None:
    """The first run is alone. Then as many begin as fit: with room for three, runs that wait for three of them end."""
    requests = [("go", 1), *[("go", most)] * most]
    found = LocalSubmission(study(requests, fake.where, 0, room=lambda device, outcome: room)).watch(Heard())
    pids = {pid for *_, pid, _ in found.values()}
    assert len(pids) == most


def test_a_pair_on_another_kind_is_left_with_the_strict_rule_alone(fake: ModuleType) -> None:
    runs = [QueuedRun(("go", 0), pair="here"), QueuedRun(("go", 1), pair="elsewhere")]
    fixed = {"elsewhere": "another GPU"}
    asked = replace(study([], fake.work, isolated=False), runs=runs, fix_kind=fixed.setdefault)
    assert sorted(LocalSubmission(asked).watch(Heard())) == [0, 1]
    assert sorted(LocalSubmission(replace(asked, rule="same")).watch(Heard())) == [0]
    assert fixed == {"elsewhere": "another GPU", "here": "a CPU"}


def test_local_is_an_executor_by_name(fake: ModuleType) -> None:
    component = registry.find("executor", parse("local"))
    assert component.target is local.local
    submission = component.target(study([("go", 1)], fake.work, isolated=False), **component.params)
    assert submission.watch(Heard())[0][0] == "ok"
    submission.cancel()


@pytest.mark.full
def test_the_process_that_workers_are_forked_from_never_asks_cuda() -> None:
    """Whoever has asked it once cannot use it after a fork."""
    code = (
        "import importlib, torch\n"
        "def asked(*arguments): raise SystemExit('CUDA was asked')\n"
        "torch._C._cuda_getDeviceCount = torch.cuda.is_available = torch.cuda.device_count = asked\n"
        "from initbench.executors.workers import _PRELOADED\n"
        "for name in _PRELOADED: importlib.import_module(name)\n"
        "assert not torch.cuda.is_initialized()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_signal_to_every_process_of_a_job_loses_no_run(
    fake: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a scheduler sends it: the process that workers are forked from gets it, too."""
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setenv("INITBENCH_FAKE_NOTES", str(notes))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import initbench_fake_work as fake\n"
        "from pathlib import Path\n"
        "from initbench import interrupt\n"
        "from initbench.executors import local, workers\n"
        "from initbench.protocols import Device, QueuedRun, StudyWork\n"
        "from initbench.studies.sweep import Silent\n"
        "workers._PRELOADED.clear()\n"
        "runs = [QueuedRun(('gate', 1))] * 2\n"
        "lost = lambda request, message: ('lost', message)\n"
        "study = StudyWork(Path(), runs, fake.work, lost, lambda: [Device('cpu', 'a CPU')], jobs=2)\n"
        "with interrupt.handled():\n"
        "    print(sorted(outcome[0] for outcome in local.local(study).watch(Silent()).values()))\n"
    )
    command = [sys.executable, "-c", code, str(Path(fake.__file__).parent)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until(lambda: len(list(notes.glob("waits-*"))) == 2)
        os.killpg(parent.pid, signal.SIGTERM)
        os.killpg(parent.pid, signal.SIGUSR1)
        (notes / "open").touch()
        printed, _ = parent.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    assert printed == "['ok', 'ok']\n"


PAGES_AGAIN = """
import resource
import sys

import numpy as np

from initbench.executors import workers

if sys.argv[1] == "kept":
    workers._keep_freed_memory()
np.ones(2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**20), np.ones(2**22)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = int(open("/proc/self/statm").read().split()[1])
workers._give_memory_back()
print(faults, held - int(open("/proc/self/statm").read().split()[1]))
"""
"""Takes 40 MiB twenty times; prints the pages that the system had to map, and those that it got back at the end."""


@pytest.mark.skipif(workers._of_glibc("mallopt") is None, reason="another C library")
def test_a_worker_keeps_memory_that_it_frees_until_its_run_ends() -> None:
    found = {}
    small_pages = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}  # of huge pages the system maps few, whoever keeps them
    for way in ("kept", "as it is"):
        command = [sys.executable, "-c", PAGES_AGAIN, way]
        found[way] = [int(number) for number in subprocess.check_output(command, text=True, env=small_pages).split()]
    pages = 40 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert found["kept"][0] < found["as it is"][0] / 2
    assert found["kept"][1] > pages / 2 > found["as it is"][1]
