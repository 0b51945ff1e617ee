"""What is not as it was written is named and kept off; how far a study is; what failed is run again."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import initbench
from initbench.audit.rescore import asked
from initbench.audit.verify import verify
from initbench.cli.app import main
from initbench.harness.request import RunRequest, as_json, from_json
from initbench.runs import store, work
from initbench.runs.status import AskedRun, read_asked, status, time_left
from initbench.validation.checks import Check
from tests.commands import said
from tests.crash_driver import SETTINGS
from tests.folders import TESTS
from tests.msd_factory import make_msd

LIGHT = f"{TESTS / 'light_backbone.py'}:light"
RECIPE = """
name = "mine"
version = 1
source = "tests"
preprocess = { spacing = "native", crop = false }
patch = { size = [8, 16, 16], batch = 1 }
pretext = { batch = 1, mask_patch = 4 }
steps = { smoke = 4, short = 4, paper = 4 }

[[override]]
when = { backbone = "./net.py:light" }
patch = { batch = 2 }
"""
OPTIONS: dict[str, Any] = {"budget": "smoke", "size": "tiny", "device": "cpu", "precision": "float32", "assignments": SETTINGS}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msd(tmp_path_factory.mktemp("data") / "Task90_Noise", cases=5)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "runs"
    outcomes = initbench.run("default,lwi", LIGHT, str(data), out=out, save_predictions=True, **OPTIONS)
    assert [outcome.state for outcome in outcomes] == ["ok", "ok"]
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "runs")
    return tmp_path / "runs"


def folder_of(out: Path, init: str = "default") -> Path:
    [folder] = out.glob(f"*/*/{init}-*/seed-0")
    return folder


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.passed}


@pytest.mark.parametrize("init", ["default", "lwi"])
def test_a_run_that_was_left_alone_is_what_it_says(out: Path, init: str) -> None:
    checks = verify(folder_of(out, init), steps=5)
    assert failed(checks) == {}
    details = {check.name: check.detail for check in checks}
    assert list(details) == ["files", "score", "settings", "Dice", "steps"]
    assert details["Dice"] == "1 cases scored again from the predictions: the same counts"
    assert details["steps"].startswith(f"5 steps of the {'pretext' if init == 'lwi' else 'train'} stage")


def test_without_predictions_the_weights_are_asked(out: Path) -> None:
    shutil.rmtree(folder_of(out) / store.PREDICTIONS)
    assert "scored again from the weights" in verify(folder_of(out), steps=1)[3].detail


def better(folder: Path) -> None:
    table = pd.read_csv(folder / store.CASES)
    table["tp"] = (table["tp"] + table["fn"]).astype(int)
    table["fn"] = 0
    table.to_csv(folder / store.CASES, index=False)


def claimed(folder: Path) -> None:
    record = json.loads((folder / store.RECORD).read_text())
    (folder / store.RECORD).write_text(json.dumps(record | {"dice": 0.99}))


def gone(folder: Path) -> None:
    (folder / store.CURVE).unlink()


def shorter(folder: Path) -> None:
    (folder / store.WEIGHTS).write_bytes((folder / store.WEIGHTS).read_bytes()[:-8])


def other_weights(folder: Path) -> None:
    """Of the same size: no leaderboard sees it, `verify` does."""
    data = bytearray((folder / store.WEIGHTS).read_bytes())
    data[-1] ^= 64
    (folder / store.WEIGHTS).write_bytes(bytes(data))


TAMPERED: dict[Callable[[Path], None], str] = {
    better: "cases.csv",
    claimed: "record.json was changed",
    gone: "curve.csv is missing",
    shorter: "weights.safetensors has another size",
}


@pytest.mark.parametrize("spoil", TAMPERED)
def test_what_was_changed_is_named_and_kept_off(
    out: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None]
) -> None:
    spoil(folder_of(out))
    assert TAMPERED[spoil] in failed(verify(folder_of(out), steps=1))["files"]
    runs = initbench.load_runs(out).set_index("init")
    assert runs.loc["default", "status"] == "invalid"
    assert np.isnan(runs.loc["default", "dice"])
    assert runs.loc["lwi", "status"] == "ok"
    assert set(initbench.load_cases(out)["init"]) == {"lwi"}
    with pytest.raises(SystemExit):
        main(["leaderboard", "--out", str(out)])
    assert "is kept off, see `initbench verify" in " ".join(capsys.readouterr().out.split())
    [row] = [row for row in map(status, read_asked(out)) if row.planned.label.startswith("default")]
    assert (row.state, TAMPERED[spoil] in row.detail) == ("invalid", True)
    [again, _] = initbench.run("default,lwi", LIGHT, *data_of(out), out=out, **OPTIONS)
    assert again.state == "ok"
    assert failed(verify(folder_of(out), steps=1)) == {}


def data_of(out: Path) -> tuple[str]:
    record = store.read_record(folder_of(out, "lwi"))
    assert record is not None
    return (record["asked"]["dataset"],)


def resealed(folder: Path) -> None:
    """What a forger does who knows the format."""
    record = json.loads((folder / store.RECORD).read_text())
    del record["digest"]
    store.write_json(folder / store.RECORD, store.seal(record, folder))


def test_a_forger_who_reseals_is_found_by_making_it_again(out: Path) -> None:
    folder = folder_of(out)
    better(folder)
    resealed(folder)
    wrong = failed(verify(folder, steps=1))
    assert "gives a Dice of" in wrong["score"]
    assert "other counts" in wrong["Dice"]
    shutil.rmtree(folder / store.PREDICTIONS)
    assert "other counts" in failed(verify(folder, steps=1))["Dice"]


def test_other_weights_are_found(out: Path) -> None:
    folder = folder_of(out)
    shutil.rmtree(folder / store.PREDICTIONS)
    other_weights(folder)
    assert "weights.safetensors was changed" in failed(verify(folder, steps=1))["files"]
    state = load_file(folder / store.WEIGHTS)
    save_file({key: torch.zeros_like(value) for key, value in state.items()}, folder / store.WEIGHTS)
    resealed(folder)
    assert "not the weights that the record names" in failed(verify(folder, steps=1))["Dice"]


def test_another_curve_is_found(out: Path) -> None:
    folder = folder_of(out, "lwi")
    text = (folder / store.CURVE).read_text()
    header, first = (line.split(",") for line in text.splitlines()[:2])
    loss = first[header.index("loss")]
    (folder / store.CURVE).write_text(text.replace(loss, str(float(np.nextafter(float(loss), 0.0))), 1))
    resealed(folder)
    assert "loss of pretext step 0 is" in failed(verify(folder, steps=2))["steps"]


@pytest.mark.parametrize("init", ["default", "lwi"])
def test_a_diverged_run_is_what_it_says_too(data: Path, tmp_path: Path, init: str) -> None:
    hot = [*SETTINGS, "optimizer.lr=1e30", "pretext.optimizer.lr=1e30"]
    [outcome] = initbench.run(init, LIGHT, str(data), out=tmp_path / "runs", **OPTIONS | {"assignments": hot})
    assert outcome.state == "diverged"
    assert outcome.folder is not None
    assert failed(verify(outcome.folder, steps=20)) == {}


def test_another_machine_is_compared_by_its_first_loss(out: Path) -> None:
    folder = folder_of(out)
    record = json.loads((folder / store.RECORD).read_text())
    record["environment"]["fingerprint"] = "elsewhere"
    (folder / store.RECORD).write_text(json.dumps(record))
    resealed(folder)
    assert verify(folder, steps=2)[-1].detail.startswith("another machine or other packages: the first loss agrees")


def test_changed_data_are_said(data: Path, out: Path, tmp_path: Path) -> None:
    changed = make_msd(tmp_path / data.name, cases=5, seed=7)
    folder = folder_of(out)
    record = json.loads((folder / store.RECORD).read_text())
    record["asked"]["dataset"] = str(changed)
    (folder / store.RECORD).write_text(json.dumps(record))
    resealed(folder)
    assert "data_digest changed" in failed(verify(folder, steps=1))["settings"]


def test_the_command_says_it_and_exits_with_1(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(folder_of(out)), "--steps", "2"])
    assert ended.value.code == 0
    assert "all 5 checks passed" in capsys.readouterr().out
    better(folder_of(out))
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(out), "--steps", "1"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert "3 of 5 checks failed" in printed
    assert "all 5 checks passed" in printed
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(out / "nowhere")])
    assert ended.value.code == 2


def test_from_within_a_study(out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders are named as one stands: from the run's own, from the one above, from that of all runs."""
    folder = folder_of(out)
    monkeypatch.chdir(folder.parent)
    assert "all 5 checks passed" in said(capsys, "verify", "seed-0", "--steps", "1")
    said(capsys, "measure", "seed-0")
    assert "run seed-0" in " ".join(said(capsys, "describe", "seed-0").split())
    monkeypatch.chdir(folder)
    assert "all 5 checks passed" in said(capsys, "verify", ".", "--steps", "1")
    said(capsys, "measure", ".", "--nsd-tolerance", "1")
    monkeypatch.chdir(out)
    assert "all 5 checks passed" in said(capsys, "verify", ".", "--steps", "1")
    said(capsys, "report", "--out", ".")
    assert "no run is failed" in said(capsys, "retry", "--failed", "--out", ".", code=2)


def test_a_run_that_was_copied_out_of_its_study(out: Path, tmp_path: Path) -> None:
    shutil.copytree(folder_of(out), tmp_path / "alone")
    assert failed(verify(tmp_path / "alone", steps=1)) == {}
    above = Path("/seed-0")
    record = store.read_record(folder_of(out))
    assert record is not None
    assert asked(above, record).out == Path("/")


def test_asked_with_relative_paths_and_verified_elsewhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data sets, recipes, plug-ins and weights by paths as one types them: another folder is no other run, and none is lost."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    shutil.copytree(data, here / "Task90_Noise")
    shutil.copy(TESTS / "light_backbone.py", here / "net.py")
    (here / "my.toml").write_text(RECIPE, "utf-8")
    monkeypatch.chdir(here)
    options = OPTIONS | {"recipe": "my.toml", "data_root": ".", "assignments": ()}
    [first, second] = initbench.run("default,./net.py:one", "./net.py:light", "Task90_Noise", out="runs", **options)
    assert first.folder is not None
    weights = str(first.folder / store.WEIGHTS)
    [third] = initbench.run(f"checkpoint(path={weights!r})", "./net.py:light", "./Task90_Noise", out="runs", **options)
    assert [outcome.state for outcome in (first, second, third)] == ["ok", "ok", "ok"]
    names = sorted(str(path.relative_to("runs")) for path in Path("runs").glob("*/*/*/seed-0"))
    [broken] = initbench.run("./net.py:broken", "./net.py:light", "Task90_Noise", out="runs", **options)
    assert broken.state == "failed"

    monkeypatch.chdir(elsewhere)
    for outcome in (first, second, third):
        assert outcome.folder is not None
        assert failed(verify(here / outcome.folder, steps=1)) == {}
    said(capsys, "measure", str(here / "runs"))
    [again] = json.loads(said_anyway(capsys, "retry", "--failed", "--out", str(here / "runs"), "--json"))
    assert (again["state"], again["message"]) == ("failed", "RuntimeError: planted")
    # Absolute paths are the same runs: no id and no name in a table knows where a file lies.
    absolute = options | {"recipe": str(here / "my.toml")}
    asked_again = initbench.run(
        f"default,{here}/net.py:one", f"{here}/net.py:light", str(here / "Task90_Noise"), out=here / "runs", **absolute
    )
    assert [outcome.state for outcome in asked_again] == ["cached", "cached"]
    assert set(names) <= {str(path.relative_to(here / "runs")) for path in (here / "runs").glob("*/*/*/seed-0")}

    moved = elsewhere / "data"
    moved.mkdir()
    (here / "Task90_Noise").rename(moved / "Task90_Noise")
    assert first.folder is not None
    run = str(here / first.folder)
    assert "cannot be made again here" in said_anyway(capsys, "verify", run, "--steps", "1")
    assert "all 5 checks passed" in said(capsys, "verify", run, "--steps", "1", "--data-root", str(moved))
    said(capsys, "measure", run, "--data-root", str(moved), "--nsd-tolerance", "1")


def said_anyway(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints that ends with 1."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 1
    return capsys.readouterr().out


def test_a_run_that_failed_without_a_place_and_has_one_now(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its data were damaged; mended, it is run from elsewhere, and no longer listed as failed."""
    folder = Path(shutil.copytree(data, tmp_path / "Task92_Damaged"))
    image = next((folder / "imagesTr").iterdir())
    whole = image.read_bytes()
    image.write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    outcomes = initbench.run("default,kaiming-normal", LIGHT, "Task92_Damaged", out="runs", **OPTIONS)
    assert [outcome.state for outcome in outcomes] == ["failed", "failed"]
    image.write_bytes(whole)
    monkeypatch.chdir("/")
    again = json.loads(said(capsys, "retry", "--failed", "--out", str(tmp_path / "runs"), "--json"))
    assert [run["state"] for run in again] == ["ok", "ok"]
    assert [status(run).state for run in read_asked(tmp_path / "runs")] == ["done", "done"]


# --- status and retry -------------------------------------------------------------------------------------------------


def request(out: Path, **changes: Any) -> RunRequest:
    return RunRequest("default", LIGHT, "phantom-lung", 0, out=out, assignments=SETTINGS, **changes)


def test_a_request_survives_json(tmp_path: Path) -> None:
    wanted = request(tmp_path, fixed=("order",), data_root=tmp_path / "data")
    assert from_json(json.loads(json.dumps(as_json(wanted)))) == wanted


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
    assert "on node7, last seen" in status(run).detail


def test_a_study_with_a_failure_is_shown_and_tried_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import os\ndef fragile(model, ctx):\n    if 'FRAGILE' in os.environ:\n        raise RuntimeError('planted')\n"
    )
    monkeypatch.setenv("FRAGILE", "1")
    out = tmp_path / "runs"
    outcomes = initbench.run(f"default,{plugin}:fragile", LIGHT, str(data), out=out, **OPTIONS)
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
        main(["retry", "--failed", "--out", str(out), "--json"])
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
    outcomes = initbench.run("default,mae(mask_patch=5)", LIGHT, f"{data},{broken}", out=out, **OPTIONS)
    assert [outcome.state for outcome in outcomes] == ["ok", "refused", "failed", "failed"]
    rows = [status(run) for run in read_asked(out)]
    assert [row.state for row in rows] == ["done", "refused", "failed", "failed"]
    assert "mask_patch 5 does not divide" in rows[1].detail
    assert not list(out.glob("*/*/*/.seed-*"))


def test_where_a_run_failed_is_on_record(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from initbench.harness import score

    def broken(*arguments: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(score.overlay, "draw", broken)
    [outcome] = initbench.run("default", LIGHT, str(data), out=tmp_path / "runs", **OPTIONS)
    assert outcome.folder is not None
    record = store.read_record(outcome.folder)
    assert record is not None
    assert record["where"] == {"state": "evaluating", "step": 1, "total": 1}


def test_status_without_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "holds no study" in capsys.readouterr().err


def test_two_commands_on_one_folder_are_one_list(data: Path, tmp_path: Path) -> None:
    for inits in ("default", "default,kaiming-normal", "default"):
        initbench.run(inits, LIGHT, str(data), out=tmp_path / "runs", **OPTIONS)
    assert len(list((tmp_path / "runs" / ".sweeps").iterdir())) == 2
    assert [run.label.partition(" ")[0] for run in read_asked(tmp_path / "runs")] == ["default", "kaiming-normal"]
    first, second = (tmp_path / "runs" / ".sweeps").iterdir()
    os.truncate(first, 10)
    assert read_asked(tmp_path / "runs")
    second.write_text('{"runs": [{"label": "of another version"}]}')
    assert read_asked(tmp_path / "runs") == []
