"""Studies on a real Slurm of two nodes, which is started here."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from initbench import cache
from initbench.runs import store, work
from initbench.runs.status import read_asked, status
from tests.clusters.slurm_here import NODES, Slurm, UnavailableError, until
from tests.clusters.small_study import INITS, SEEDS, check_equal, study_words
from tests.folders import ROOT
from tests.msd_factory import make_noise

pytestmark = pytest.mark.cluster

STEPS = 1200  # some seconds on a quiet machine: a run has to train still when something happens to it


class Site:
    """A Slurm, data that its nodes see, and the command line as people run it there."""

    def __init__(self, slurm: Slurm, folder: Path) -> None:
        self.slurm = slurm
        self.folder = folder
        self.data = make_noise(folder)
        slurm.environment |= {cache.ENVIRONMENT: str(folder / "cache"), "INITBENCH_SITE": str(folder / "site.toml")}
        slurm.environment.pop("INITBENCH_IN_PROCESS", None)  # runs have processes of their own, as everywhere
        self._count_squeue()

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Starts a command of initbench, in the folder of the tests, where the network lies that they train."""
        command = [sys.executable, "-m", "initbench", *words]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.slurm.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def said(self, *words: str, code: int = 0) -> str:
        """What a command prints; its complaint where it is to fail."""
        process = self.begin(*words)
        out, errors = process.communicate(timeout=120)
        assert process.returncode == code, (words, out, errors)
        return errors if code else out

    def study(self, inits: tuple[str, ...] = INITS, *more: str) -> list[str]:
        """The words of `run` for a study of a network of a few thousand parameters."""
        return [*study_words(self.data, STEPS, inits), *more]

    def tasks(self, out: Path, *fields: str) -> list[list[str]]:
        """What squeue says of the tasks of a study."""
        name = (out / ".slurm" / "name").read_text("ascii")
        form = "|".join(("%i", "%T", *fields))
        answer = self.slurm.ask(self.squeue, "-h", "-r", "-t", "all", "-n", name, "-o", form)
        return [line.split("|") for line in answer.stdout.splitlines()]

    def is_empty(self, out: Path) -> bool:
        """Whether no task of a study waits or runs."""
        return all(state in ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL") for _, state in self.tasks(out))

    def _count_squeue(self) -> None:
        """Puts a program before squeue that writes a line for each call and then is squeue."""
        self.squeue = shutil.which("squeue", path=self.slurm.environment["PATH"]) or ""
        self.calls = self.folder / "calls"
        self.calls.touch()
        counting = self.folder / "bin" / "squeue"
        counting.parent.mkdir()
        counting.write_text(f'#!/bin/sh\necho >>"{self.calls}"\nexec "{self.squeue}" "$@"\n', "utf-8")
        counting.chmod(0o755)
        self.slurm.environment["PATH"] = f"{counting.parent}:{self.slurm.environment['PATH']}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Slurm of this module's own. Where its packages cannot be had, all of it is skipped."""
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.start()
        yield Site(slurm, tmp_path_factory.mktemp("site"))
    except UnavailableError as error:
        pytest.skip(str(error))
    finally:
        slurm.stop()
    until(lambda: not slurm.processes(), "every process of Slurm has ended")


# --- twelve runs, and what may happen to them -------------------------------------------------------------------------


class Hits:
    """What happens to the runs of a study while they train."""

    def __init__(self, site: Site, out: Path, array: str) -> None:
        self.site = site
        self.out = out
        self.array = array
        self.folders = [run.folder or Path() for run in read_asked(out)]
        self.node = ""
        self.asleep: list[psutil.Process] = []
        self.is_short = False

    def task(self, number: int) -> str:
        return f"{self.array}_{number}"

    def trains(self, number: int) -> bool:
        """Whether a run has saved a checkpoint of its training, and has not ended."""
        return any(work.work_folder(self.folders[number]).glob("train-*.pt"))

    def process(self, number: int) -> psutil.Process:
        """The process of a task, which the batch script became."""
        wanted = ["work", str(self.out), "--run", str(number)]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if wanted == words[words.index("work") :][:4] if "work" in words else False:
                    return process
        raise AssertionError(f"run {number} has no process")

    def kill(self, number: int) -> None:
        self.process(number).kill()

    def requeue(self, number: int) -> None:
        assert self.site.slurm.ask("scontrol", "requeue", self.task(number)).returncode == 0

    def lose_node(self, number: int) -> None:
        """Its node hangs: the processes stop, and the daemon is gone."""
        [self.node] = [node for task, _, node in self.site.tasks(self.out, "%N") if task == self.task(number)]
        self.sleep(number)
        self.site.slurm.stop_node(self.node)

    def end_time(self, number: int) -> None:
        """Its time ends before it does: it sleeps until Slurm warns it, and wakes it by that."""
        self.asleep = self.sleep(number)
        changed = self.site.slurm.ask("scontrol", "update", f"JobId={self.task(number)}", "TimeLimit=1")
        assert changed.returncode == 0, changed.stderr

    def sleep(self, number: int) -> list[psutil.Process]:
        first = self.process(number)
        found = [first, *first.children(recursive=True)]
        for process in found:
            process.suspend()
        return found

    def tend(self) -> None:
        """Slurm wakes the process of the task whose time ends, and that one alone: the others of the task go on, too.

        Its next life has time enough.
        """
        if self.asleep and not _is_stopped(self.asleep[0]):
            for process in self.asleep[1:]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
            self.asleep = []
            self.is_short = True
        if self.is_short and [self.task(2), "PENDING"] in self.site.tasks(self.out):
            self.site.slurm.ask("scontrol", "update", f"JobId={self.task(2)}", "TimeLimit=10")
            self.is_short = False


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def test_twelve_runs_end_as_serial_ones_whatever_happens_to_them(site: Site, tmp_path: Path) -> None:
    """One task is killed with -9, one requeued, one loses its node, which comes back, and the time of one ends."""
    out, serial = tmp_path / "study", tmp_path / "serial"
    command = [*site.study(), "--seeds", str(SEEDS), "--out", str(out), "--slurm", "partition=main,time=10", "--json"]
    submitted = json.loads(site.said(*command))
    assert submitted["runs"] == list(range(len(INITS) * SEEDS))
    _, array = submitted["jobs"]
    until(lambda: all(run.folder for run in read_asked(out)), "the data are prepared")
    hits = Hits(site, out, array)
    wanted: dict[int, Callable[[int], None]] = {0: hits.kill, 1: hits.requeue, 2: hits.end_time, 3: hits.lose_node}
    while wanted:
        until(lambda: any(map(hits.trains, wanted)), f"one of the runs {list(wanted)} trains")
        for number in filter(hits.trains, list(wanted)):
            wanted.pop(number)(number)
    again = json.loads(site.said(*command))
    assert again["runs"] == [0], "the task that was killed is all that is missing"
    words = [*site.study(), "--seed", "0", "--out", str(serial)]
    reference = site.begin(*words)

    def lost_run_is_done() -> bool:
        hits.tend()
        return store.has_record(hits.folders[3])

    until(lost_run_is_done, "the run whose node was lost goes on elsewhere", 300)
    site.slurm.start_node(hits.node)

    def all_are_done() -> bool:
        hits.tend()
        return {status(run).state for run in read_asked(out)} == {"done"}

    until(all_are_done, "all runs are done", 300)
    until(lambda: site.is_empty(out), "no task is left")
    _, errors = reference.communicate(timeout=120)
    assert reference.returncode == 0, errors
    site.said(*site.study(INITS[:2]), "--seed", "1", "--out", str(serial))
    check_equal(out, serial, 6)
    logs = "\n".join(path.read_text("utf-8") for path in sorted((out / ".slurm").glob("*/logs/*.txt")))
    recorded = Counter(re.findall(r"  ok +(.* seed \d)  ", logs))
    assert len(recorded) == recorded.total() == len(INITS) * SEEDS, "each run was done once"
    assert f"Slurm begins task {hits.task(2)} again" in logs
    for number in range(4):
        # Whichever task was free took it: a run that was killed is free before the task that is submitted for it begins.
        began = rf"  run {number + 1} of \d+  .*: train [1-9]\d+/{STEPS}$"
        assert re.search(began, logs, re.MULTILINE), f"run {number} went on where it was"
    used = {node for _, _, node in site.tasks(out, "%N")}
    assert set(NODES) <= used
    assert json.loads(site.said(*command))["runs"] == []


def test_a_cancelled_study_leaves_the_queue_and_goes_on_later(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "study"
    # Nobody waits for the end of these runs: they are so long that some of them train still when the command has started.
    study = study_words(site.data, 10 * STEPS, INITS)
    command = [*study, "--seed", "0", "--out", str(out), "--slurm", "partition=main", "--json"]
    jobs = json.loads(site.said(*command))["jobs"]
    until(lambda: all(run.folder for run in read_asked(out)), "the data are prepared")
    hits = Hits(site, out, jobs[-1])
    until(lambda: any(map(hits.trains, range(4))), "a run trains")
    site.said("cancel", str(out))
    until(lambda: site.is_empty(out), "no task is left")
    states = [status(run).state for run in read_asked(out)]
    assert set(states) <= {"interrupted", "pending", "done"}
    assert "interrupted" in states
    rows = json.loads(site.said("status", "--out", str(out), "--json"))
    assert all("not in the queue" in row["detail"] for row in rows if row["state"] != "done")
    again = json.loads(site.said(*command, "--dry-run"))
    assert again["runs"] == [number for number, state in enumerate(states) if state != "done"]


# --- a thousand runs --------------------------------------------------------------------------------------------------


def test_a_thousand_runs_are_submitted_and_watched_with_few_calls(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "study"
    (site.folder / "site.toml").write_text('[slurm]\noptions = ["--hold"]\narray_size = 300\n', "utf-8")
    try:
        begun = time.monotonic()
        words = [*site.study(), "--seeds", "250", "--out", str(out), "--slurm", "kinds=old+new", "--json"]
        submitted = json.loads(site.said(*words))
        took = time.monotonic() - begun
    finally:
        (site.folder / "site.toml").unlink()
    tasks = site.tasks(out, "%f")
    assert len(tasks) == 1001, "a job that prepares the data, and a task for each run"
    assert Counter(state for _, state, _ in tasks) == {"PENDING": 1001}
    assert {feature for *_, feature in tasks} == {"old", "new", "(null)"}
    before = len(site.calls.read_bytes())
    begun = time.monotonic()
    watching = [site.begin("status", "--out", str(out), "--watch") for _ in range(3)]
    time.sleep(40)
    assert [process.poll() for process in watching] == [None] * 3
    for process in watching:
        process.terminate()
        process.communicate(timeout=60)
    watched = time.monotonic() - begun
    calls = len(site.calls.read_bytes()) - before
    print(f"1,000 runs in {len(submitted['jobs'])} jobs submitted in {took:.1f} s; {calls} squeue in {watched:.0f} s")  # noqa: T201
    assert calls <= 1 + watched / 20, "three a minute, however many watch"
    rows = json.loads(site.said("status", "--out", str(out), "--json"))
    assert len(rows) == 1000
    assert all("Slurm" in row["detail"] and "not in the queue" not in row["detail"] for row in rows)
    assert json.loads(site.said(*words))["waiting"] == 1000
    site.said("cancel", str(out))
    until(lambda: site.is_empty(out), "all tasks have left the queue")


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["partition=nowhere", "partition=main,constraint=quantum"])
def test_what_slurm_refuses_is_said_in_a_line(site: Site, tmp_path: Path, asked: str) -> None:
    out = tmp_path / "study"
    refused = site.said(*site.study(), "--out", str(out), "--slurm", asked, code=2)
    assert refused.count("\n") == 1, refused
    assert "Slurm refuses such jobs" in refused
    assert not out.exists()


def test_what_slurm_refuses_when_it_is_submitted_is_said_too(site: Site, tmp_path: Path) -> None:
    """An array may be too large though a single job is accepted. The job that prepares the data does not stay alone."""
    out = tmp_path / "study"
    words = [*site.study(), "--seeds", "300", "--out", str(out), "--slurm", "partition=main,array_size=2000"]
    refused = site.said(*words, code=2)
    assert refused.count("\n") == 1, refused
    assert "Slurm refuses the job: Batch job submission failed: Invalid job array specification" in refused
    assert len(read_asked(out)) == 1200, "the study is kept"
    assert site.is_empty(out)


def test_a_folder_that_nodes_do_not_see_is_refused(site: Site, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a folder cannot be hidden from a process here: nobody may make a mount namespace")
    hidden = tmp_path / "of the login node"
    hidden.mkdir()
    site.slurm.stop_node("n2")
    site.slurm.start_node("n2", hidden=hidden)
    try:
        until(lambda: site.slurm.states() == {"idle"}, "both nodes are idle")
        words = [*site.study(), "--out", str(hidden / "study"), "--slurm", "constraint=new"]
        refused = site.said(*words, code=2)
        assert re.fullmatch(r"error: node n2 does not see .*take a folder that all nodes see \(--out\)\n", refused)
        assert not site.tasks(hidden / "study")
        assert len(read_asked(hidden / "study")) == 4
    finally:
        site.slurm.stop_node("n2")
        site.slurm.start_node("n2")
    until(lambda: site.slurm.states() == {"idle"}, "both nodes are idle")


def test_a_controller_that_is_gone_is_said_in_a_line(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "study"
    nowhere = tmp_path / "slurm.conf"
    text = (site.slurm.folder / "slurm.conf").read_text("utf-8")
    nowhere.write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=9", text), "utf-8")
    site.slurm.environment["SLURM_CONF"], before = str(nowhere), site.slurm.environment["SLURM_CONF"]
    try:
        refused = site.said(*site.study(), "--out", str(out), "--executor", "slurm", code=1)
    finally:
        site.slurm.environment["SLURM_CONF"] = before
    assert refused.count("\n") == 1, refused
    assert "gives no answer" in refused
    assert not out.exists()
