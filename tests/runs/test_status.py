"""How far a study is, where its runs failed, and that what failed is run again."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from initbench.cli.app import main
from initbench.harness.request import RunRequest, as_json, from_json
from initbench.runs import store, work
from initbench.runs.record import Where
from initbench.runs.status import AskedRun, read_asked, status, time_left
from tests.msd_factory import make_msd
from tests.runs_factory import LIGHT, THIRTY_STEPS, run


def request(out: Path, **changes: Any) -> RunRequest:
    return RunRequest.of("default", LIGHT, "phantom-lung", 0, out=out, assignments=THIRTY_STEPS, **changes)


def test_a_request_survives_json(tmp_path: Path) -> None:
    wanted = request(tmp_path, fixed=("order",), data_root=tmp_path / "data")
    assert from_json(json.loads(json.dumps(as_json(wanted)))) == wanted


def test_a_request_of_an_earlier_version_is_of_the_plain_regimen(tmp_path: Path) -> None:
    wanted = request(tmp_path)
    written = as_json(wanted)
    assert written.pop("regimen") == "plain"
    assert from_json(written) == wanted


def planned(out: Path) -> AskedRun:
    folder = out / "data" / "net" / "init-0123456789" / "seed-0"
    folder.parent.mkdir(parents=True, exist_ok=True)
    return AskedRun("init × net", {}, folder)


def test_states_of_a_run_in_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "time", SimpleNamespace(time=lambda: 1040.0))
    run = planned(tmp_path)
    assert run.folder is not None
    assert status(run).state == "pending"
    with work.claim(run.folder) as claim:
        assert claim is not None
        claim.state |= {
            "state": "training",
            "step": 30,
            "first": 10,
            "total": 50,
            "began": 1000.0,
            "info": {"loss": 0.5},
        }
        claim.write()
        row = status(run)
        assert (row.state, row.step, row.total, row.detail) == ("training", 30, 50, "loss 0.5")
        assert row.seconds_left == 40
        assert time_left([row]) == 40
    row = status(run)
    assert (row.state, row.detail) == ("interrupted", "in training")


def test_another_machine_at_work_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planned(tmp_path)
    assert run.folder is not None
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "node7")
        with work.claim(run.folder) as claim:
            assert claim is not None
            claim.write()
            patch.undo()
            row = status(run)
            assert row.state == "pending"
            assert "on node7, last seen" in row.detail
    row = status(run)
    assert (row.state, row.detail) == ("pending", ""), "every machine says that nobody has it any more"


def test_a_study_with_a_failure_is_shown_and_tried_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import os\ndef fragile(model, ctx):\n    if 'FRAGILE' in os.environ:\n        raise RuntimeError('planted')\n"
    )
    monkeypatch.setenv("FRAGILE", "1")
    out = tmp_path / "runs"
    outcomes = run(data, out, f"default,{plugin}:fragile", settings=THIRTY_STEPS)
    assert [outcome.state for outcome in outcomes] == ["ok", "failed"]
    with pytest.raises(SystemExit):
        main(["status", "--out", str(out), "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in rows] == ["done", "failed"]
    assert rows[0]["detail"].startswith("Dice ")
    assert "RuntimeError: planted" in rows[1]["detail"]
    assert store.TRACEBACK in rows[1]["detail"]
    assert Path(rows[1]["folder"], store.TRACEBACK).read_text().startswith("Traceback")
    with pytest.raises(SystemExit):
        main(["status", "--out", str(out), "--watch"])  # ends at once: all have ended
    assert "2 runs: 1 done, 1 failed" in capsys.readouterr().out
    monkeypatch.delenv("FRAGILE")
    with pytest.raises(SystemExit) as ended:
        main(["retry", "--failed", "--out", str(out), "--json", "--run-code"])
    assert ended.value.code == 0
    [again] = json.loads(capsys.readouterr().out)
    assert again["state"] == "ok"
    with pytest.raises(SystemExit) as ended:
        main(["retry", "--failed", "--out", str(out)])
    assert ended.value.code == 2
    assert "no run is failed" in capsys.readouterr().err


def test_what_is_refused_late_or_cannot_be_read_is_shown_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask that does not divide the patch shows when the init begins; a broken case when the data are read."""
    broken = make_msd(tmp_path / "Task91_Broken", cases=3)
    next((broken / "imagesTr").iterdir()).write_bytes(b"no image")
    out = tmp_path / "runs"
    outcomes = run(f"{data},{broken}", out, "default,mae(mask_patch=5)", settings=THIRTY_STEPS, skip_refused=True)
    assert [outcome.state for outcome in outcomes] == ["ok", "refused", "failed", "refused"]
    rows = [status(run) for run in read_asked(out)]
    assert [row.state for row in rows] == ["done", "refused", "failed", "refused"]
    assert "mask_patch 5 does not divide" in rows[1].detail
    assert not list(out.glob("*/*/*/.seed-*"))


def test_where_a_run_failed_is_on_record(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from initbench.harness import score

    def broken(*arguments: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(score.overlay, "draw", broken)
    [outcome] = run(data, tmp_path / "runs", settings=THIRTY_STEPS)
    assert outcome.folder is not None
    record = store.load_record(outcome.folder)
    assert record.where == Where(state="evaluating", step=1, total=1)


def test_status_without_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "holds no study" in capsys.readouterr().err


def test_two_commands_on_one_folder_are_one_list(data: Path, tmp_path: Path) -> None:
    for inits in ("default", "default,kaiming-normal", "default"):
        run(data, tmp_path / "runs", inits, settings=THIRTY_STEPS)
    assert len(list((tmp_path / "runs" / ".sweeps").iterdir())) == 2
    assert [run.label.partition(" ")[0] for run in read_asked(tmp_path / "runs")] == ["default", "kaiming-normal"]
    first, second = (tmp_path / "runs" / ".sweeps").iterdir()
    os.truncate(first, 10)
    assert read_asked(tmp_path / "runs")
    second.write_text('{"runs": [{"label": "of another version"}]}')
    assert read_asked(tmp_path / "runs") == []
