"""Studies that a queue of others does: what is submitted, what a task of it does, and where the data are prepared."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from initbench import claims
from initbench.clusters import slurm
from initbench.errors import InitbenchError
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest
from initbench.runs import status as statuses
from initbench.runs import work
from initbench.runs.status import AskedRun, read_asked, status
from initbench.studies import turns
from initbench.studies.engine import Resources
from initbench.studies.sweep import Silent
from tests.commands import said
from tests.runs_factory import SMALL, TINY

REQUEST = RunRequest.of("default", "unetrpp", "phantom-lung", 0)


@pytest.fixture(autouse=True)
def no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITBENCH_SITE", str(tmp_path / "none"))


def words(data: Path, out: Path, *more: str) -> list[str]:
    found = ["run", "--init", "default,kaiming-normal", *TINY, "--dataset", str(data), "--seeds", "2", "--no-placebo", *more]
    for setting in SMALL:
        found += ["--set", setting]
    return [*found, "--out", str(out), "--executor", "slurm", "--dry-run"]


def test_a_study_is_noted_at_once_and_gets_its_places_where_the_data_are_prepared(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INITBENCH_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "runs"
    assert "4 runs: 2 inits" in said(capsys, *words(data, out))
    asked = read_asked(out)
    assert [run.folder for run in asked] == [None] * 4
    assert not (tmp_path / "cache" / "volumes").exists(), "no data are read where a study is submitted"
    monkeypatch.chdir(data)  # noted requests mean the same everywhere
    assert "prepared for 4 runs" in said(capsys, "work", str(out), "--prepare", "--run-code")
    placed = read_asked(out)
    assert [run.label for run in placed] == [run.label for run in asked], "no run has another number"
    assert len({run.folder for run in placed}) == 4
    assert placed[0].pair == placed[1].pair != placed[2].pair
    assert {status(run).state for run in placed} == {"pending"}
    said(capsys, *words(data, out))
    assert (out / ".slurm" / "001" / "prepare.sh").exists()
    assert not (out / ".slurm" / "002" / "prepare.sh").exists(), "all data are prepared by now"


def test_a_plan_for_a_queue_says_the_command_and_what_is_unknown(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = words(data, tmp_path / "runs")
    told = " ".join(said(capsys, "plan", *asked[1:-1], "--max-parallel", "4", "--slurm", "partition=gpu,time=4h").split())
    assert "Every other kind of device: unknown" in told
    for part in ("--init default,kaiming-normal", "--no-placebo", "--executor slurm", "--slurm partition=gpu,time=4h"):
        assert part in told
    assert not (tmp_path / "runs").exists()


def test_a_run_that_is_refused_ends_the_job_that_prepares(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    said(capsys, *words(data, out, "--init", "images"))
    for more, code in (((), 2), (("--skip-refused",), 0)):
        said(capsys, "work", str(out), "--prepare", "--run-code", *more, code=code)
        states = [status(run).state for run in read_asked(out)]
        assert sorted(states) == ["pending"] * 4 + ["refused"] * 2


def test_a_plug_in_that_was_mended_is_noted_anew_and_may_lie_outside_of_the_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    plug_in = tmp_path / "plug.py"
    plug_in.write_text("def zeros(model, ctx):\n    raise RuntimeError('wrong')\n")
    asked = words(data, tmp_path / "runs", "--init", f"{plug_in}:zeros")
    said(capsys, *asked)
    before = read_asked(tmp_path / "runs")
    plug_in.write_text("def zeros(model, ctx):\n    pass\n")
    said(capsys, *asked)
    after = read_asked(tmp_path / "runs")
    assert [run.label for run in after] == [run.label for run in before], "no run has another number, and none stands twice"
    changed = [new.label for old, new in zip(before, after, strict=True) if new.code != old.code]
    assert len(changed) == 2
    assert all("zeros" in label for label in changed)
    for name in ("prepare.sh", "run.sh"):
        assert "--run-code" in (tmp_path / "runs" / ".slurm" / "002" / name).read_text(), "a task may run what the user named"
    assert "prepared for 6 runs" in said(capsys, "work", str(tmp_path / "runs"), "--prepare", "--run-code")
    plug_in.write_text("def zeros(model, ctx):\n    return None\n")
    said(capsys, *asked)
    places = [run.folder is None for run in read_asked(tmp_path / "runs")]
    assert sorted(places) == [False] * 4 + [True] * 2, "other code is another run, so its place is found out again"


# --- which run a task does --------------------------------------------------------------------------------------------


class Study:
    """Made-up runs in some state, and which of them were begun."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: Mapping[int, str], **ends: str) -> None:
        self.begun: list[tuple[int, bool]] = []
        self.out = tmp_path
        self.asked = [AskedRun(str(number), {}, tmp_path / "d" / "b" / "i" / f"seed-{number}") for number in states]
        self._ends = ends
        self.at_end: Callable[[int], None] = lambda number: None
        self.states = dict(states)
        for module in (turns, statuses):
            monkeypatch.setattr(module, "status", lambda run: SimpleNamespace(state=self.states[int(run.label)]))
        monkeypatch.setattr(turns, "take_turns", self._take_turns)

    def task(self, number: int, *, waits: bool = False) -> list[int]:
        return list(turns.take_one(self.asked, number, self.out, Resources(), Silent(), waits=waits))

    def _take_turns(self, runs: Mapping[int, AskedRun], *arguments: Any, waits: bool, **options: Any) -> dict[int, Outcome]:
        found = {}
        for number in runs:
            self.states[number] = "done"
            self.begun.append((number, waits))
            self.at_end(number)
            found[number] = Outcome(REQUEST, self._ends.get(f"run_{number}", "ok"), None, None)  # type: ignore[arg-type]
        return found


@pytest.mark.parametrize(
    ("states", "number", "done"),
    [
        ({0: "pending", 1: "pending", 2: "pending"}, 1, [1]),
        ({0: "pending", 1: "done", 2: "pending"}, 1, [2]),
        ({0: "pending", 1: "training", 2: "done"}, 1, [0]),
        ({0: "interrupted", 1: "done", 2: "done"}, 2, [0]),
        ({0: "failed", 1: "pending", 2: "done"}, 0, [0]),
        ({0: "failed", 1: "done", 2: "refused"}, 1, []),
        ({0: "pending", 1: "done", 2: "done"}, 9, [0]),
        ({0: "done", 1: "done", 2: "done"}, 9, []),
    ],
    ids=[
        "own",
        "own is done",
        "own is held",
        "one before",
        "own failed",
        "nothing is free",
        "beyond",
        "beyond the end",
    ],
)
def test_a_task_does_its_run_or_the_next_free_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: dict[int, str], number: int, done: list[int]
) -> None:
    study = Study(tmp_path, monkeypatch, states)
    assert statuses.is_anything_left(study.asked, number) == bool(done)
    assert study.task(number) == done
    assert study.begun == [(run, False) for run in done]


def test_a_run_that_somebody_took_meanwhile_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(tmp_path, monkeypatch, dict.fromkeys(range(4), "pending"), run_1="busy", run_2="cached")
    assert study.task(1) == [3]
    assert [run for run, _ in study.begun] == [1, 2, 3]


def held_elsewhere(study: Study, beats: Callable[[claims.Owner], int], run: int = 0) -> threading.Event:
    """Claims a run as a process of another machine does; the event ends it."""
    place = work.claim_place(study.asked[run].folder or Path())
    folder = place / "000001"
    folder.mkdir(parents=True)
    owner = claims.Owner(host="other", machine="other", pid=1, started="1")
    (folder / claims.OWNER).write_bytes(claims._written(owner))
    ended = threading.Event()

    def live() -> None:
        now = owner
        while not ended.wait(0.01):
            now = now.model_copy(update={"beats": beats(now)})
            (folder / claims.OWNER).write_bytes(claims._written(now))

    threading.Thread(target=live, daemon=True).start()
    return ended


def test_a_task_that_was_begun_again_does_other_runs_and_then_waits_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {0: "done", 1: "training", 2: "pending", 3: "pending"}
    study = Study(tmp_path, monkeypatch, states)
    ended = held_elsewhere(study, lambda owner: owner.beats + 1, run=1)
    assert study.task(1, waits=True) == [2, 3, 1]
    assert study.begun == [(2, False), (3, False), (1, True)]
    ended.set()


def test_its_own_run_comes_before_others_as_soon_as_its_owner_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    study = Study(tmp_path, monkeypatch, {0: "training", 1: "pending", 2: "pending", 3: "pending"})
    held_elsewhere(study, lambda owner: owner.beats).set()
    place = work.claim_place(study.asked[0].folder or Path())

    study.at_end = lambda number: now.__setitem__(0, now[0] + claims.PATIENCE / 2)  # what a run takes
    monkeypatch.setattr(claims.Watch, "is_free", watched(claims.Watch.is_free, place, study))
    assert study.task(0, waits=True) == [1, 2, 0]


def watched(is_free: Callable[..., bool], place: Path, study: Study) -> Callable[..., bool]:
    """`Watch.is_free`, after which the made-up status of run 0 is what the claim says."""

    def look(watch: claims.Watch, asked: Path) -> bool:
        found = is_free(watch, asked)
        if found and asked == place:
            study.states[0] = "interrupted"
        return found

    return look


@pytest.mark.parametrize("waits", [True, False])
def test_a_run_of_a_process_that_lives_is_waited_for_by_a_task_that_was_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    monkeypatch.setattr(turns, "_LOOK", 0.05)
    study = Study(tmp_path, monkeypatch, {0: "training"})
    ended = held_elsewhere(study, lambda owner: owner.beats + 1)
    assert study.task(0, waits=waits) == ([0] if waits else [])
    assert study.begun == ([(0, True)] if waits else [])
    ended.set()


def test_a_run_of_a_dead_node_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(turns.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    study = Study(tmp_path, monkeypatch, {0: "training"})
    held_elsewhere(study, lambda owner: owner.beats).set()
    time.sleep(0)
    assert study.task(0) == [0]
    assert now[0] >= claims.PATIENCE


# --- a task that is begun again ---------------------------------------------------------------------------------------


def test_a_task_is_begun_again_by_its_own_name_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(slurm, "_ask", lambda *command: asked.append(command) or "")
    # The last task of an array has the id of the whole array.
    task = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "11"}
    assert "again" in slurm.requeue(task, 3)
    assert asked == [("scontrol", "requeue", "7_11")]
    assert "enough" in slurm.requeue({**task, "SLURM_RESTART_COUNT": "3"}, 3)
    assert "no job of Slurm" in slurm.requeue({}, 3)
    assert len(asked) == 1


def test_where_slurm_does_not_begin_it_again_the_task_says_what_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*command: str) -> str:
        raise InitbenchError("scontrol: disabled")

    monkeypatch.setattr(slurm, "_ask", refuse)
    assert "initbench run" in slurm.requeue({"SLURM_JOB_ID": "7"}, 3)
    assert os.environ.get("SLURM_JOB_ID") is None
