"""Each run leaves a log: what it was asked for, and how far it was when, also where it was stopped, went on or failed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from initbench.runs.run_log import RunLog
from initbench.training import checkpoints
from tests.runs_factory import LIGHT_FILE, run, run_one

STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ")


def lines(folder: Path | None) -> list[str]:
    """The lines of a run's log without their times."""
    assert folder is not None
    found = (folder / "run.log").read_text("utf-8").splitlines()
    assert all(STAMP.match(line) for line in found)
    return [STAMP.sub("", line) for line in found]


def test_the_log_of_a_run(data: Path, tmp_path: Path) -> None:
    found = lines(run_one(data, tmp_path, "lwi"))
    text = "\n".join(found)
    assert found[0].startswith("lwi × ")
    assert "on cpu in float32, 1 threads; 2 steps of the init stage, 8 steps of training on 2 patches of 8 × 16 × 16" in text
    assert '"steps.smoke=10"' in text
    assert "training begins, 8 steps" in found
    last_step = next(line for line in found if line.startswith("training 8/8"))
    assert re.fullmatch(r"training 8/8  loss \S+  \S+ patches/s  \S+ GiB  about \d+ s left", last_step)
    assert re.fullmatch(r"ok, Dice \d+\.\d\d, after \d+ s", found[-1])


def test_it_goes_on_where_the_run_does(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoints.Checkpoints.save

    def killed(self: checkpoints.Checkpoints, step: int, content: dict[str, object]) -> None:
        save(self, step, content)
        if step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path, checkpoint_every=0.0)
    found = lines(run_one(data, tmp_path))
    assert sum(line.startswith("default × ") for line in found) == 2
    assert "stopped at once" in found
    assert found[-1].startswith("ok, Dice ")


def test_a_failed_run_keeps_it(data: Path, tmp_path: Path) -> None:
    [outcome] = run(data, tmp_path, f"{LIGHT_FILE}:broken")
    assert outcome.state == "failed"
    assert lines(outcome.folder)[-1] == "RuntimeError: planted"


def test_a_full_disk_costs_the_log_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = RunLog(tmp_path / "file" / "run.log")
    log.write("nowhere")
    log.write("nor here")
    log.close()
    log = RunLog(tmp_path / "run.log", clock=lambda: 0.0)
    log.write("two\nlines\x1b[2J")
    log.close()
    assert [STAMP.sub("", line) for line in (tmp_path / "run.log").read_text().splitlines()] == ["two", "lines�[2J"]


def test_a_line_now_and_then(tmp_path: Path) -> None:
    now = [1000.0]
    log = RunLog(tmp_path / "run.log", clock=lambda: now[0])
    assert log.is_due()
    now[0] = 1029.0
    assert not log.is_due()
    now[0] = 1031.0
    assert log.is_due()
