"""Runs that were asked for by relative paths are verified, measured and tried again from another folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

import initbench
from initbench import registry
from initbench.audit.code import check_code
from initbench.audit.verify import verify
from initbench.cli.app import main
from initbench.errors import UsageError
from initbench.runs import store
from initbench.runs.record import Record
from initbench.runs.status import SWEEPS, read_asked, status
from tests.checks import failed
from tests.commands import said
from tests.recorded import write_run
from tests.runs_factory import LIGHT_FILE, OPTIONS, SMALL, THIRTY_STEPS, run

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
        assert failed(verify(here / outcome.folder, steps=1, run_code=True)) == {}
    said(capsys, "measure", str(here / "runs"), "--run-code")
    [again] = json.loads(said_anyway(capsys, "retry", "--failed", "--out", str(here / "runs"), "--json", "--run-code"))
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
    assert "cannot be made again here" in said_anyway(capsys, "verify", run, "--steps", "1", "--run-code")
    assert "all 6 checks passed" in said(capsys, "verify", run, "--steps", "1", "--data-root", str(moved), "--run-code")
    said(capsys, "measure", run, "--data-root", str(moved), "--nsd-tolerance", "1", "--run-code")


def said_anyway(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints that ends with 1."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 1
    return capsys.readouterr().out


MARKED = """
from pathlib import Path
Path({mark!r}).touch()
def plain(model, ctx): ...
def breaks(model, ctx): raise RuntimeError("planted")
"""


def marked(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A folder with a plug-in that makes a mark when it is imported, a folder elsewhere, and the mark."""
    mine, elsewhere, mark = tmp_path / "mine", tmp_path / "elsewhere", tmp_path / "mark"
    mine.mkdir()
    elsewhere.mkdir()
    (mine / "inits.py").write_text(MARKED.format(mark=str(mark)), "utf-8")
    return mine, elsewhere, mark


def forget_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this process import files anew."""
    registry.forget()
    for name in [name for name in sys.modules if name.startswith("_initbench_file_")]:
        monkeypatch.delitem(sys.modules, name)


def test_code_that_a_record_names_is_run_where_it_is_the_users_own_and_unchanged(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record may come from anybody. Its code is looked at before it is imported, also where it is nested in another."""
    mine, elsewhere, mark = marked(tmp_path)
    source = (mine / "inits.py").read_text("utf-8")
    monkeypatch.chdir(mine)
    shutil.copy(LIGHT_FILE, mine / "net.py")
    inits = "./inits.py:plain,shuffled(./inits.py:plain)"
    found = initbench.run(inits, "./net.py:light", str(data), out="runs", assignments=SMALL, **OPTIONS)
    folders = [mine / str(outcome.folder) for outcome in found]
    forget_code(monkeypatch)
    mark.unlink()

    def refused(reason: str) -> None:
        for folder in folders:
            assert reason in failed(verify(folder, steps=1))["settings"]
            assert reason in " ".join(said_anyway(capsys, "measure", str(folder)).split())
        assert not mark.exists()

    monkeypatch.chdir(elsewhere)
    refused("not below the folder that you are in; nothing of it was run. Look at it, then add --run-code")
    monkeypatch.chdir(mine)
    (mine / "inits.py").write_text(source + "# changed", "utf-8")
    refused("is not the file that the run was made with")
    (mine / "inits.py").unlink()
    refused("there is no such file")
    (mine / "inits.py").write_text(source, "utf-8")
    assert failed(verify(folders[0], steps=1)) == {}
    assert mark.exists()


@pytest.mark.parametrize("component", ["init", "backbone", "regimen"])
def test_code_in_a_study_that_was_copied_here_is_not_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, component: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_run(tmp_path / "copied", "default", 0.5)
    file = tmp_path / "copied" / "inits.py"
    file.write_text("raise RuntimeError", "utf-8")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    record = json.loads((folder / store.RECORD).read_text("utf-8"))
    record["asked"][component] = f"{file}:f"
    record["resolved"][component] = f"inits.py:f@{digest}"
    found = Record.model_validate(record)
    with pytest.raises(UsageError, match="not below the folder"):
        check_code(folder, found, consent=False)
    check_code(folder, found, consent=True)


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


def test_code_that_a_note_names_is_looked_at_before_a_run_is_tried_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The study of somebody else may name any file of this machine; and a file below the current folder may be another by now."""
    mine, elsewhere, mark = marked(tmp_path)
    source = (mine / "inits.py").read_text("utf-8")
    monkeypatch.chdir(mine)
    [outcome] = initbench.run("shuffled(./inits.py:breaks)", "unetr", str(data), out="runs", **OPTIONS)
    assert outcome.state == "failed"
    mark.unlink()
    asked = ("retry", "--failed", "--out", str(mine / "runs"))

    def refused(reason: str) -> None:
        forget_code(monkeypatch)
        assert reason in said(capsys, *asked, code=2)
        assert not mark.exists()

    monkeypatch.chdir(elsewhere)
    refused("not below the folder that you are in; nothing of it was run. Look at it, then add --run-code")
    monkeypatch.chdir(mine)
    (mine / "inits.py").write_text(source.replace("planted", "another"), "utf-8")
    refused("is not the file that the run was asked for with")
    [note] = (mine / "runs" / SWEEPS).glob("*.json")
    whole = note.read_text("utf-8")
    rows = json.loads(whole)
    del rows["runs"][0]["code"]
    note.write_text(json.dumps(rows), "utf-8")
    refused("and the note has none")
    note.write_text(whole, "utf-8")
    [again] = json.loads(said_anyway(capsys, *asked, "--run-code", "--json"))
    assert (again["state"], again["message"]) == ("failed", "RuntimeError: another")
    assert mark.exists()
