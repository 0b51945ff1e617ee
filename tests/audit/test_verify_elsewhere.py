"""Runs that were asked for by relative paths are verified, measured and tried again from another folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import initbench
from initbench.audit.verify import verify
from initbench.cli.app import main
from initbench.runs import store
from initbench.runs.status import read_asked, status
from tests.checks import failed
from tests.commands import said
from tests.runs_factory import LIGHT_FILE, OPTIONS, THIRTY_STEPS, run

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


def test_asked_with_relative_paths_and_verified_elsewhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data sets, recipes, plug-ins and weights by paths as one types them: another folder is no other run, and none is lost."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    shutil.copytree(data, here / "Task90_Noise")
    shutil.copy(LIGHT_FILE, here / "net.py")
    (here / "my.toml").write_text(RECIPE, "utf-8")
    monkeypatch.chdir(here)
    options = OPTIONS | {"recipe": "my.toml", "data_root": "."}
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
    assert "all 6 checks passed" in said(capsys, "verify", run, "--steps", "1", "--data-root", str(moved))
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
    outcomes = run("Task92_Damaged", "runs", "default,kaiming-normal", settings=THIRTY_STEPS)
    assert [outcome.state for outcome in outcomes] == ["failed", "failed"]
    image.write_bytes(whole)
    monkeypatch.chdir("/")
    again = json.loads(said(capsys, "retry", "--failed", "--out", str(tmp_path / "runs"), "--json"))
    assert [run["state"] for run in again] == ["ok", "ok"]
    assert [status(run).state for run in read_asked(tmp_path / "runs")] == ["done", "done"]
