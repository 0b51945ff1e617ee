"""A stopped run goes on from its checkpoints, whatever became of them; a signal asks first and stops later."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from initbench import interrupt
from initbench.harness import run as run_module
from initbench.runs import work
from initbench.runs.status import statuses
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.study import read_study
from initbench.training import fast
from initbench.training.checkpoints import Checkpoints
from tests.crash_driver import digests, leftovers, study
from tests.harness.resumed import settings
from tests.hostile import Hostile
from tests.recorded import record_values


@pytest.fixture
def stopped(four_cases: Path, tmp_path: Path) -> Path:
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
            [outcome] = study(settings(four_cases, tmp_path), tmp_path / "stopped")
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


def test_status_says_the_step_of_the_last_checkpoint(stopped: Path) -> None:
    """Steps are told every ten; a run that stops tells its last one, too."""
    [row] = statuses(stopped)
    assert (row.state, row.step, row.total) == ("interrupted", 8, 18)


def test_a_broken_checkpoint_is_named_and_the_one_before_it_taken(four_cases: Path, stopped: Path) -> None:
    assert [path.name[:15] for path in checkpoints(stopped)] == ["train-000000007", "train-000000008"]
    broken = checkpoints(stopped)[1]
    broken.write_bytes(broken.read_bytes()[:-100])
    state, said = finish(four_cases, stopped)
    assert state == "ok"
    assert f"checkpoint {broken} is broken and was passed over" in said


def test_a_run_in_hand_on_two_machines_says_so(four_cases: Path, stopped: Path) -> None:
    [noted] = stopped.glob(f"*/*/*/.seed-0.work/{work.MACHINES}")
    [here] = json.loads(noted.read_text())
    noted.write_text(json.dumps(["elsewhere"]))
    interrupt.install()
    [outcome] = study(settings(four_cases, stopped.parent), stopped)
    assert outcome.folder is not None
    record = record_values(outcome.folder)
    assert record["environment"]["machines"] == ["elsewhere", here]
    assert record["environment"]["fingerprint"] == f"elsewhere+{here}"


def test_a_run_that_ends_on_another_kind_of_device_is_flagged(
    four_cases: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers are neither kind's, and the table says which row holds it."""
    [noted] = stopped.glob(f"*/*/*/.seed-0.work/{work.MACHINES}")
    [begun] = json.loads(noted.read_text())
    found = run_module.environment

    def of_another_kind(device: torch.device, threads: int, **more: Any) -> dict[str, Any]:
        return {**found(device, threads, **more), "accelerator": "another GPU"}

    monkeypatch.setattr(run_module, "environment", of_another_kind)
    interrupt.install()
    [outcome] = study(settings(four_cases, stopped.parent), stopped)
    assert outcome.folder is not None
    environment = record_values(outcome.folder)["environment"]
    first, second = environment["machines"]
    assert first == begun != second
    assert environment["fingerprint"] == f"{first}+{second}"
    [made] = leaderboard_sheets(read_study(stopped))
    [flag] = [note for note in made.notes if "different environments" in note]
    assert flag.endswith("(seed 0).")


def test_a_run_that_goes_on_with_fast_is_flagged(four_cases: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "why_eager", lambda kind: "no compiler")
    interrupt.install()
    [outcome] = study(settings(four_cases, stopped.parent, fast=True), stopped)
    assert outcome.folder is not None
    environment = record_values(outcome.folder)["environment"]
    assert len(set(environment["machines"])) == 2
    [made] = leaderboard_sheets(read_study(stopped))
    assert [note for note in made.notes if "different environments (hardware, package versions or --fast)" in note]


def test_without_a_whole_checkpoint_the_stage_begins_again(four_cases: Path, stopped: Path) -> None:
    for path in checkpoints(stopped):
        path.write_bytes(b"no checkpoint")
    state, said = finish(four_cases, stopped)
    assert state == "ok"
    assert said.count("is broken") == 2


def test_a_checkpoint_that_would_execute_is_not_taken(tmp_path: Path) -> None:
    said: list[str] = []
    kept = Checkpoints(tmp_path / "work", "train", 0.0, said.append)
    kept.save(1, {"step": 1})
    kept.save(2, {"step": Hostile(tmp_path / "executed")})
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


def with_curve(kept: Checkpoints, first: int, count: int) -> None:
    """Appends rows and saves a checkpoint after them."""
    rows = [[float(step), 0.5 * step] for step in range(first, first + count)]
    kept.save(first + count, {"columns": ["step", "loss"], "curve": kept.append(rows)})


def steps_of(kept: Checkpoints) -> list[float]:
    content = kept.newest()
    assert content is not None
    return [row[0] for row in content["curve"].tolist()]


def test_a_checkpoint_costs_the_same_however_long_the_curve_is(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, "train", 0.0)
    sizes = set()
    for first in range(0, 500, 10):
        with_curve(kept, first, 10)
        sizes |= {path.stat().st_size for path in tmp_path.glob("*.pt")}
        assert (tmp_path / "train.curve").stat().st_size == (first + 10) * 2 * 8, "what was written before stays"
    assert max(sizes) - min(sizes) < 64
    assert steps_of(Checkpoints(tmp_path, "train", 0.0)) == list(range(500))


def test_rows_of_a_process_that_was_killed_are_cut_off(tmp_path: Path) -> None:
    """It had appended rows, half a value among them, and no checkpoint knows of them."""
    with_curve(Checkpoints(tmp_path, "train", 0.0), 0, 10)
    with (tmp_path / "train.curve").open("ab") as file:
        file.write(b"x" * 29)
    later = Checkpoints(tmp_path, "train", 0.0)
    assert steps_of(later) == list(range(10))
    with_curve(later, 10, 3)
    assert steps_of(Checkpoints(tmp_path, "train", 0.0)) == list(range(13))


def test_a_checkpoint_whose_rows_are_broken_is_passed_over(tmp_path: Path) -> None:
    said: list[str] = []
    kept = Checkpoints(tmp_path, "train", 0.0)
    with_curve(kept, 0, 4)
    with_curve(kept, 4, 4)
    curve = tmp_path / "train.curve"
    curve.write_bytes(curve.read_bytes()[:-1] + b"x")
    later = Checkpoints(tmp_path, "train", 0.0, said.append)
    assert steps_of(later) == list(range(4))
    assert len(said) == 1
    curve.unlink()
    assert Checkpoints(tmp_path, "train", 0.0).newest() is None


def test_a_checkpoint_of_an_earlier_version_is_passed_over(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, "train", 0.0)
    kept.save(3, {"columns": ["step", "loss"], "rows": torch.zeros(3, 2)})
    assert kept.newest() is None


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
    four_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Path.rename

    def full(self: Path, target: Path) -> Path:
        if Path(target).is_relative_to(tmp_path):  # the cache of volumes lies elsewhere and has room
            raise OSError(28, "No space left on device", str(target))
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        [outcome] = study(settings(four_cases, tmp_path, init="default"), tmp_path / "runs")
    assert outcome.state == "failed"
    assert "the disk is full" in outcome.message
    assert study(settings(four_cases, tmp_path, init="default"), tmp_path / "runs")[0].state == "ok"


def test_a_clock_that_goes_backwards_changes_nothing(four_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10**9, 0, -1000))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: float(next(now)))
        [outcome] = study(settings(four_cases, tmp_path), tmp_path / "backwards")
    assert outcome.state == "ok"
    study(settings(four_cases, tmp_path), tmp_path / "whole")
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
