"""A run that was killed, stopped, starved of disk or raced by other processes ends in the bits of one that was left alone."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import initbench
from initbench import digest, interrupt, seeding
from initbench.harness import run as run_module
from initbench.runs import store, work
from initbench.training.checkpoints import Checkpoints
from tests.crash_driver import SETTINGS, digests, leftovers, study
from tests.folders import ROOT, TESTS
from tests.msd_factory import make_msd

LIGHT = f"{TESTS / 'light_backbone.py'}:light"
# In the middle of a step, before a change of a file, and with a file half-written: each over the whole of a run.
KILLS = [{"kind": "kill", "of": "pass", "share": share} for share in (0.05, 0.2, 0.35, 0.5, 0.7, 0.95, 0.99)]
KILLS += [{"kind": "kill", "of": "file", "share": (n + 0.5) / 8} for n in range(8)]
KILLS += [{"kind": "torn", "of": "file", "share": (n + 0.5) / 5} for n in range(5)]
STOPS = [{"kind": kind, "of": "pass", "share": share} for kind in ("int", "term") for share in (0.2, 0.6, 0.9)]
STOPS += [{"kind": kind, "of": "file", "share": share} for kind in ("int", "term") for share in (0.3, 0.6)]
STOPS += [{"kind": "term", "of": "file", "share": share} for share in (0.91, 0.93, 0.95)]  # its evaluation begins there
STOPS += [{"kind": "int", "of": "pass", "share": 0.5, "twice": True}]
FULL = [{"kind": "full", "share": (n + 0.5) / 9} for n in range(9)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msd(tmp_path_factory.mktemp("data") / "Task90_Noise", cases=4)


def settings(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {"data": str(data), "out": str(out), "init": "lwi", "backbone": LIGHT, "trials": [], **changes}


def drive(asked: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.crash_driver", json.dumps(asked)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def check_identical(report: dict[str, Any]) -> None:
    assert len(report["whole"]) == 4
    for result in report["results"]:
        assert result["last"] == 0, result
        assert result["digests"] == report["whole"], result
        assert result["left"] == [], result


def test_killed_at_any_moment_it_ends_the_same(data: Path, tmp_path: Path) -> None:
    report = drive(settings(data, tmp_path, trials=KILLS))
    check_identical(report)
    assert [result["first"] for result in report["results"]] == [-signal.SIGKILL] * len(KILLS)
    assert {"pretraining", "training", "evaluating"} <= {result["doing"] for result in report["results"]}


def test_asked_to_stop_it_saves_and_ends_the_same(data: Path, tmp_path: Path) -> None:
    report = drive(settings(data, tmp_path, trials=STOPS))
    check_identical(report)
    *once, twice = report["results"]
    assert twice["first"] == 3, "the second signal does not wait for the end of the step"
    said = [text for result in once for state, text in result["said"].get("told", []) if state == "interrupted"]
    assert sum(text.startswith("stopped after step") for text in said) >= 4
    assert any(text.startswith("stopped at case") for text in said)


def test_a_full_disk_costs_the_run_and_nothing_else(data: Path, tmp_path: Path) -> None:
    report = drive(settings(data, tmp_path, trials=FULL))
    check_identical(report)
    failed = [text for result in report["results"] for state, text in result["said"]["told"] if state == "failed"]
    assert len(failed) >= 6
    assert all("the disk is full" in text for text in failed)


def test_four_processes_share_a_sweep_and_one_of_them_dies(data: Path, tmp_path: Path) -> None:
    report = drive(settings(data, tmp_path, init="default,lwi,kaiming-normal", seeds=2, together=4))
    [result] = report["results"]
    assert result["ended"] == [-signal.SIGKILL, 0, 0, 0]
    assert result["digests"] == report["whole"]
    assert len(report["whole"]) == 32  # four inits, as a study has a placebo, times two seeds, times four files
    assert result["left"] == []
    assert result["finished"] >= 1, "the first process had done some before it stopped"
    states = [[state for state, _ in run] for run in zip(*result["told"], strict=True)]
    assert {state for run in states for state in run} <= {"ok", "cached"}
    # Every run that the dead process did not finish was done by exactly one of the others, the one it held among them.
    assert sorted(run.count("ok") for run in states) == [0] * result["finished"] + [1] * (8 - result["finished"])
    assert all("ok" in [state for state, _ in process] for process in result["told"])


@pytest.mark.full
@pytest.mark.parametrize("kind", ["kill", "torn", "full"])
def test_at_everything_that_a_run_does_to_its_files(data: Path, tmp_path: Path, kind: str) -> None:
    few = (*(item for item in SETTINGS if not item.startswith("steps")), "steps.smoke=4")
    report = drive(settings(data, tmp_path, every=[kind], assignments=few))
    assert len(report["results"]) == report["events"]["file"] > 50
    check_identical(report)


@pytest.mark.full
@pytest.mark.parametrize(
    ("backbone", "init"),
    # The phantom is too shallow for two slabs of Swin's 32 slices.
    [("unetr", "lwi"), ("unetrpp", "lwi"), ("swin-unetr", "mae"), ("nnformer", "lwi"), ("unet", "lwi")],
)
def test_real_networks_go_on_too(tmp_path: Path, backbone: str, init: str) -> None:
    trials = [{"kind": "kill", "of": "pass", "share": share} for share in (0.3, 0.7)]
    small = ("steps.smoke=10", "pretext.share=0.4", "patch.batch=1", "pretext.batch=1")
    report = drive(settings(Path("phantom-lung"), tmp_path, backbone=backbone, init=init, trials=trials, assignments=small))
    check_identical(report)


# --- in this process --------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(data: Path, tmp_path: Path) -> Path:
    """A study that was asked to stop in its training, with two checkpoints of it."""
    before = run_module.fit

    def stop(*arguments: Any) -> Any:
        if arguments[1].stage == "train":
            keep = arguments[3].save

            def save(step: int, content: dict[str, Any]) -> None:
                keep(step, content)
                if step == 7:
                    interrupt.ask()

            arguments[3].save = save
        return before(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "fit", stop)
        with interrupt.handled():
            [outcome] = study(settings(data, tmp_path), tmp_path / "stopped")
    assert (outcome.state, outcome.message) == ("interrupted", "stopped after step 8 of 18 of the train stage")
    with interrupt.handled():
        pass
    return tmp_path / "stopped"


def finish(data: Path, out: Path) -> tuple[str, str]:
    interrupt.install()
    [outcome] = study(settings(data, out.parent), out)
    study(settings(data, out.parent), out.parent / "whole")
    assert digests(out) == digests(out.parent / "whole")
    assert leftovers(out) == []
    return outcome.state, outcome.message


@pytest.fixture(autouse=True)
def nobody_asked() -> Iterator[None]:
    with interrupt.handled():
        yield
    interrupt._asked = False


def checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob("*/*/*/.seed-0.work/train-*.pt"))


def test_a_broken_checkpoint_is_named_and_the_one_before_it_taken(data: Path, stopped: Path) -> None:
    assert [path.name[:15] for path in checkpoints(stopped)] == ["train-000000007", "train-000000008"]
    broken = checkpoints(stopped)[1]
    broken.write_bytes(broken.read_bytes()[:-100])
    state, said = finish(data, stopped)
    assert state == "ok"
    assert f"checkpoint {broken} is broken and was passed over" in said


def test_a_run_in_hand_on_two_machines_says_so(data: Path, stopped: Path) -> None:
    [noted] = stopped.glob(f"*/*/*/.seed-0.work/{work.MACHINES}")
    [here] = json.loads(noted.read_text())
    noted.write_text(json.dumps(["elsewhere"]))
    interrupt.install()
    [outcome] = study(settings(data, stopped.parent), stopped)
    assert outcome.folder is not None
    record = store.read_record(outcome.folder)
    assert record is not None
    assert record["environment"]["machines"] == ["elsewhere", here]
    assert record["environment"]["fingerprint"] == f"elsewhere+{here}"


def test_without_a_whole_checkpoint_the_stage_begins_again(data: Path, stopped: Path) -> None:
    for path in checkpoints(stopped):
        path.write_bytes(b"no checkpoint")
    state, said = finish(data, stopped)
    assert state == "ok"
    assert said.count("is broken") == 2


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_that_would_execute_is_not_taken(tmp_path: Path) -> None:
    said: list[str] = []
    kept = Checkpoints(tmp_path / "work", "train", 0.0, said.append)
    kept.save(1, {"step": 1})
    kept.save(2, {"step": Evil(tmp_path / "executed")})
    assert kept.newest() == {"step": 1}
    assert len(said) == 1
    assert not (tmp_path / "executed").exists()


def test_checkpoints_keep_the_newest_two(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, "train", 3600.0)
    assert not kept.due()
    assert kept.newest() is None
    for step in (1, 20, 300):
        kept.save(step, {"step": step, "weights": torch.full((3,), float(step))})
    assert len(list(tmp_path.iterdir())) == 2
    newest = kept.newest()
    assert newest is not None
    assert newest["step"] == 300
    other = Checkpoints(tmp_path, "pretext-0", 3600.0)
    assert other.newest() is None


def test_a_checkpoint_that_cannot_be_written_costs_no_run(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").write_text("")
    Checkpoints(tmp_path / "file" / "work", "train", 0.0, said.append).save(5, {})
    assert len(said) == 1
    assert said[0].startswith("no checkpoint at step 5: ")


def test_half_written_checkpoints_of_dead_processes_go(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "data" / "net" / "init-0123456789" / "seed-0"
    half = work.work_folder(folder) / ".train.123.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"gigabytes")
    with work.claim(folder):
        assert not half.exists()


def test_a_result_that_cannot_be_moved_into_place_is_no_result(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        [outcome] = study(settings(data, tmp_path, init="default"), tmp_path / "runs")
    assert outcome.state == "failed"
    assert "the disk is full" in outcome.message
    assert study(settings(data, tmp_path, init="default"), tmp_path / "runs")[0].state == "ok"


def test_a_clock_that_goes_backwards_changes_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10**9, 0, -1000))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: float(next(now)))
        [outcome] = study(settings(data, tmp_path), tmp_path / "backwards")
    assert outcome.state == "ok"
    study(settings(data, tmp_path), tmp_path / "whole")
    assert digests(tmp_path / "backwards") == digests(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_a_later_one_stops(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    with interrupt.handled(), interrupt.deferred():
        now = iter([10.0, 10.9, 12.0])  # as each of them comes
        monkeypatch.setattr(interrupt, "time", SimpleNamespace(monotonic=lambda: next(now)))
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # `make` sends its own beside the terminal's
        assert interrupt.asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_outside_of_a_stage_the_first_signal_stops() -> None:
    with interrupt.handled(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_worker_never_stops_by_itself() -> None:
    with interrupt.handled(worker=True):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.asked()


# --- two machines, one folder -----------------------------------------------------------------------------------------


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


def test_a_read_only_output_folder_is_said(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        if self.is_relative_to(tmp_path):
            raise PermissionError(13, "Permission denied", str(self))
        make(self, *arguments, **options)  # the cache is somewhere else

    with monkeypatch.context() as patch:  # tests may run as root, who may write anywhere
        patch.setattr(Path, "mkdir", refuse)
        [outcome] = study(settings(data, tmp_path), tmp_path / "runs")
    assert outcome.state == "failed"
    assert "Permission denied" in outcome.message


# --- shared init stages -----------------------------------------------------------------------------------------------


def stages(out: Path) -> list[str]:
    return sorted(path.name for path in (out / ".inits").iterdir())


def both(data: Path, out: Path, **changes: Any) -> list[Any]:
    options: dict[str, Any] = {"budget": "smoke", "size": "tiny", "device": "cpu", "precision": "float32", **changes}
    assignments = [*SETTINGS, *options.pop("more", ())]
    return initbench.run("lwi", LIGHT, str(data), out=out, assignments=assignments, **options)


def test_an_init_stage_is_shared_where_nothing_differs_for_it(data: Path, tmp_path: Path) -> None:
    equal_total, equal_finetune = both(data, tmp_path / "runs", protocol="both")
    assert len(stages(tmp_path / "runs")) == 1
    both(data, tmp_path / "runs", more=["optimizer.lr=0.002"])
    assert len(stages(tmp_path / "runs")) == 1
    records = [store.read_record(outcome.folder) for outcome in (equal_total, equal_finetune)]
    costs = [record["cost"]["init"] for record in records if record]
    assert costs[0] == costs[1]  # what it cost, once, and not nothing
    assert costs[0]["steps"] == 12
    alone = both(data, tmp_path / "alone", protocol="equal-finetune")[0]
    for name in ("weights.safetensors", "curve.csv", "cases.csv", "coverage.json"):
        assert (alone.folder / name).read_bytes() == (equal_finetune.folder / name).read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [1]},
        {"fixed": ("order",)},
        {"more": ["pretext.optimizer.lr=0.002"]},
        {"more": ["pretext.share=0.3"]},
        {"more": ["patch.size=8,16,20"]},
        {"more": ["augment.flip=0.1"]},
        {"precision": "bf16"},
    ],
)
def test_an_init_stage_is_shared_nowhere_else(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    both(data, tmp_path / "runs")
    both(data, tmp_path / "runs", **changes)
    assert len(stages(tmp_path / "runs")) == 2


def test_a_shared_stage_that_is_broken_is_made_again(data: Path, tmp_path: Path) -> None:
    first = both(data, tmp_path / "runs")[0]
    [stage] = (tmp_path / "runs" / ".inits").iterdir()
    weights = stage / store.WEIGHTS
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    again = both(data, tmp_path / "runs", protocol="equal-finetune")[0]
    assert again.state == "ok"
    assert digest.of_file(weights) == json.loads((stage / "stage.json").read_text("utf-8"))["sha256"]
    fresh = both(data, tmp_path / "fresh", protocol="equal-finetune")[0]
    assert (again.folder / store.WEIGHTS).read_bytes() == (fresh.folder / store.WEIGHTS).read_bytes()
    assert (again.folder / "coverage.json").read_bytes() == (first.folder / "coverage.json").read_bytes()


# --- fixed streams ----------------------------------------------------------------------------------------------------


def test_a_fixed_stream_gives_what_seed_0_gives() -> None:
    root = seeding.Root.of(3, ["order"])
    assert seeding.derive(root, "order", 5) == seeding.derive(0, "order", 5)
    for stream in seeding.STREAMS:
        if stream != "order":
            assert seeding.derive(root, stream, 5) == seeding.derive(3, stream, 5)


def test_every_stream_can_be_fixed_in_a_run(data: Path, tmp_path: Path) -> None:
    """With all streams fixed a seed is seed 0; with one of them it is neither."""

    def weights(out: str, **changes: Any) -> bytes:
        folder = both(data, tmp_path / out, **changes)[0].folder
        return bytes((folder / "curve.csv").read_bytes())

    zero, one = weights("runs"), weights("runs", seeds=[1])
    assert weights("runs", seeds=[1], fixed=seeding.STREAMS) == zero
    assert weights("runs", seeds=[1], fixed=("order",)) not in (zero, one)


# --- what is added later ----------------------------------------------------------------------------------------------


def test_other_inits_in_the_sweep_change_no_bit(data: Path, tmp_path: Path) -> None:
    """An init that draws from a stream of its own, and from torch's and numpy's global generators, runs before ours."""
    plugin = tmp_path / "greedy.py"
    plugin.write_text(
        "import random, numpy as np, torch\nfrom initbench import seeding\n"
        "def greedy(model, ctx):\n"
        "    seeding.rng(0, 'a-new-stream', 1).random(7); np.random.random(3); random.random(); torch.rand(5)\n"
        "    torch.manual_seed(1); np.random.seed(1)\n"
    )
    alone = study(settings(data, tmp_path, init="kaiming-normal,lwi"), tmp_path / "alone")
    beside = study(settings(data, tmp_path, init=f"{plugin}:greedy,kaiming-normal,lwi"), tmp_path / "beside")
    assert [outcome.state for outcome in beside] == ["ok"] * 3
    for one, other in zip(alone, beside[1:], strict=True):
        assert one.folder is not None
        assert other.folder is not None
        for name in ("weights.safetensors", "curve.csv", "cases.csv", "coverage.json"):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
