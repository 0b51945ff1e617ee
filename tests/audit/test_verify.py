"""Runs that are not as they were written are named by what was changed, and kept off the tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import initbench
from initbench.audit.rescore import asked
from initbench.audit.verify import verify
from initbench.cli.app import main
from initbench.runs import store
from initbench.runs.status import read_asked, status
from tests.checks import failed
from tests.commands import said
from tests.msd_factory import make_msd
from tests.recorded import record_values, reseal
from tests.runs_factory import THIRTY_STEPS, run


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "runs"
    outcomes = run(data, out, "default,lwi", settings=THIRTY_STEPS, save_predictions=True)
    assert [outcome.state for outcome in outcomes] == ["ok", "ok"]
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "runs")
    return tmp_path / "runs"


def folder_of(out: Path, init: str = "default") -> Path:
    [folder] = out.glob(f"*/*/{init}-*/seed-0")
    return folder


@pytest.mark.parametrize("init", ["default", "lwi"])
def test_a_run_that_was_left_alone_is_what_it_says(out: Path, init: str) -> None:
    checks = verify(folder_of(out, init), steps=5)
    assert failed(checks) == {}
    details = {check.name: check.detail for check in checks}
    assert list(details) == ["files", "score", "settings", "data", "Dice", "steps"]
    assert details["Dice"] == "1 case scored again from the predictions: the same counts"
    assert details["steps"].startswith(f"5 steps of the {'pretext' if init == 'lwi' else 'train'} stage")


def test_without_predictions_the_weights_are_asked(out: Path) -> None:
    shutil.rmtree(folder_of(out) / store.PREDICTIONS)
    assert "scored again from the weights" in verify(folder_of(out), steps=1)[4].detail


def better(folder: Path) -> None:
    table = pd.read_csv(folder / store.CASES)
    table["tp"] = (table["tp"] + table["fn"]).astype(int)
    table["fn"] = 0
    table.to_csv(folder / store.CASES, index=False)


def claimed(folder: Path) -> None:
    record = record_values(folder)
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
    [again, _] = run(data_of(out), out, "default,lwi", settings=THIRTY_STEPS)
    assert again.state == "ok"
    assert failed(verify(folder_of(out), steps=1)) == {}


def data_of(out: Path) -> str:
    record = record_values(folder_of(out, "lwi"))
    return str(record["asked"]["dataset"])


def test_a_forger_who_reseals_is_found_by_making_it_again(out: Path) -> None:
    folder = folder_of(out)
    better(folder)
    reseal(folder)
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
    reseal(folder)
    assert "not the weights that the record names" in failed(verify(folder, steps=1))["Dice"]


def test_another_curve_is_found(out: Path) -> None:
    folder = folder_of(out, "lwi")
    text = (folder / store.CURVE).read_text()
    header, first = (line.split(",") for line in text.splitlines()[:2])
    loss = first[header.index("loss")]
    (folder / store.CURVE).write_text(text.replace(loss, str(float(np.nextafter(float(loss), 0.0))), 1))
    reseal(folder)
    assert "loss of pretext step 0 is" in failed(verify(folder, steps=2))["steps"]


@pytest.mark.parametrize("init", ["default", "lwi"])
def test_a_diverged_run_is_what_it_says_too(data: Path, tmp_path: Path, init: str) -> None:
    hot = ["optimizer.lr=1e30", "pretext.optimizer.lr=1e30"]
    [outcome] = run(data, tmp_path / "runs", init, settings=THIRTY_STEPS, assignments=hot)
    assert outcome.state == "diverged"
    assert outcome.folder is not None
    assert failed(verify(outcome.folder, steps=20)) == {}


def test_another_machine_is_compared_by_its_first_loss(out: Path) -> None:
    folder = folder_of(out)
    record = record_values(folder)
    record["environment"]["fingerprint"] = "elsewhere"
    reseal(folder, record)
    assert verify(folder, steps=2)[-1].detail.startswith("another machine or other packages: the first loss agrees")


def test_changed_data_are_said(data: Path, out: Path, tmp_path: Path) -> None:
    changed = make_msd(tmp_path / data.name, cases=5, seed=7)
    folder = folder_of(out)
    record = record_values(folder)
    record["asked"]["dataset"] = str(changed)
    reseal(folder, record)
    assert "data_digest changed" in failed(verify(folder, steps=1))["settings"]


def test_the_command_says_it_and_exits_with_1(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(folder_of(out)), "--steps", "2"])
    assert ended.value.code == 0
    assert "all 6 checks passed" in capsys.readouterr().out
    better(folder_of(out))
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(out), "--steps", "1"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert "3 of 6 checks failed" in printed
    assert "all 6 checks passed" in printed
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(out / "nowhere")])
    assert ended.value.code == 2


def test_from_within_a_study(out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders are named as one stands: from the run's own, from the one above, from that of all runs."""
    folder = folder_of(out)
    monkeypatch.chdir(folder.parent)
    assert "all 6 checks passed" in said(capsys, "verify", "seed-0", "--steps", "1", "--run-code")
    said(capsys, "measure", "seed-0", "--run-code")
    assert "run seed-0" in " ".join(said(capsys, "describe", "seed-0").split())
    monkeypatch.chdir(folder)
    assert "all 6 checks passed" in said(capsys, "verify", ".", "--steps", "1", "--run-code")
    said(capsys, "measure", ".", "--nsd-tolerance", "1", "--run-code")
    monkeypatch.chdir(out)
    assert "all 6 checks passed" in said(capsys, "verify", ".", "--steps", "1", "--run-code")
    said(capsys, "report", "--out", ".")
    assert "no run is failed" in said(capsys, "retry", "--failed", "--out", ".", code=2)


def test_a_run_that_was_copied_out_of_its_study(out: Path, tmp_path: Path) -> None:
    shutil.copytree(folder_of(out), tmp_path / "alone")
    assert failed(verify(tmp_path / "alone", steps=1)) == {}
    above = Path("/seed-0")
    record = store.load_record(folder_of(out))
    assert asked(above, record).out == Path("/")
