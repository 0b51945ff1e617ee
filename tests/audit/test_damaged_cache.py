"""Cached arrays that are not as they were written, at the same size and time: every command notices, none uses them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from initbench import cache
from initbench.cli.app import main
from initbench.runs import store
from tests.commands import said
from tests.crash_driver import RESULTS
from tests.msd_factory import make_msd
from tests.runs_factory import THIRTY_STEPS, TINY, as_flags, run_one

NAMES = ("image", "label", "reference")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a run on it, and the cache that it left."""
    folder: Path = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.ENVIRONMENT, str(folder / "cache"))
        make_msd(folder / "Task90_Noise", cases=5)
        run(folder, "runs")
    return folder


@pytest.fixture
def here(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study."""
    shutil.copytree(study, tmp_path / "study")
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "study" / "cache"))
    return tmp_path / "study"


def run(folder: Path, out: str) -> Path:
    return run_one(folder / "Task90_Noise", folder / out, settings=THIRTY_STEPS)


def said_anyway(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints that ends with 1."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 1
    return capsys.readouterr().out


def arrays(name: str) -> list[Path]:
    return sorted((cache.root() / "volumes").glob(f"*/{name}.npy"))


def zeros(file: Path) -> None:
    """Overwrites the numbers of an array. numpy's header stays, so that numpy reads it."""
    status, array = file.stat(), np.load(file)
    np.save(file, np.zeros_like(array))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size


@pytest.mark.parametrize("name", NAMES)
def test_a_run_uses_what_is_made_again(here: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    [whole] = here.glob("runs/*/*/*/seed-0")
    for file in arrays(name):
        zeros(file)
    again = run(here, "again")
    assert [(again / file).read_bytes() for file in RESULTS] == [(whole / file).read_bytes() for file in RESULTS]
    assert caplog.messages
    assert all("it is made again from its files" in message for message in caplog.messages)


@pytest.mark.parametrize("name", NAMES)
def test_verify_names_the_cases(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Also those that scores and first steps do not read."""
    for file in arrays(name):
        zeros(file)
    command = ["verify", str(here / "runs"), "--steps", "1", "--data-root", str(here)]
    printed = " ".join(said_anyway(capsys, *command).split())
    assert "the cache held damaged arrays of case_00, case_01, case_02, case_03, case_04" in printed
    assert "1 of 6 checks failed" in printed
    assert "all 6 checks passed" in said(capsys, *command)


@pytest.mark.parametrize("name", NAMES)
def test_data_verify_and_data_prepare_notice(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    dataset = str(here / "Task90_Noise")
    zeros(arrays(name)[0])
    [problem] = json.loads(said_anyway(capsys, "data", "verify", dataset, "--json"))["problems"]
    assert f"{name}.npy was damaged" in problem["problem"]
    assert json.loads(said(capsys, "data", "verify", dataset, "--json"))["problems"] == []
    prepare = ["data", "prepare", dataset, *TINY[:6], *as_flags(THIRTY_STEPS), "--json"]
    assert json.loads(said(capsys, *prepare))[0]["mended"] == []
    zeros(arrays(name)[0])
    [row] = json.loads(said(capsys, *prepare))
    assert (row["cases"], len(row["mended"])) == (5, 1)
    assert json.loads(said(capsys, *prepare))[0]["mended"] == []


def test_a_run_on_numbers_that_are_not_in_the_files_is_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As earlier versions trained on whatever was in the cache: here the checksums are those of the wrong numbers."""
    for name in ("image", "label"):
        for file in arrays(name):
            zeros(file)
            table = json.loads((file.parent / "meta.json").read_text("utf-8"))
            values = table["values"]
            contents = {path.stem: np.load(path) for path in file.parent.glob("*.npy")}
            shutil.rmtree(file.parent)
            cache.write("volumes", file.parent.name, contents, values)
    wrong = run(here, "wrong")
    shutil.rmtree(cache.root() / "volumes")
    checks: dict[str, Any] = {row["name"]: row for row in checks_of(capsys, here, wrong)}
    assert not checks["Dice"]["passed"]
    assert not checks["steps"]["passed"]


def checks_of(capsys: pytest.CaptureFixture[str], here: Path, folder: Path) -> list[dict[str, Any]]:
    [report] = json.loads(said_anyway(capsys, "verify", str(folder), "--steps", "1", "--data-root", str(here), "--json"))
    found: list[dict[str, Any]] = report["checks"]
    return found


def test_bytes_that_change_without_a_write_are_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing disk gives other bytes and the same times."""
    monkeypatch.setattr(cache, "_SETTLED", -1.0)
    dataset = str(here / "Task90_Noise")
    image = next((here / "Task90_Noise" / "imagesTr").iterdir())
    cache._remember(cache._state(image), "0" * 64)
    [problem] = json.loads(said_anyway(capsys, "data", "verify", dataset, "--json"))["problems"]
    assert f"{image} has other bytes than when it was last read" in problem["problem"]
    assert json.loads(said(capsys, "data", "verify", dataset, "--json"))["problems"] == []


def test_verify_reads_the_files_whatever_is_remembered_of_them(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SETTLED", -1.0)
    image = next((here / "Task90_Noise" / "imagesTr").iterdir())
    right, content = cache.file_digest(image), bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    cache._remember(cache._state(image), right)  # as if the change had left no trace
    [found] = here.glob("runs/*/*/*/seed-0")
    assert store.is_finished(found)
    checks = {row["name"]: row["detail"] for row in checks_of(capsys, here, found) if not row["passed"]}
    assert list(checks) == ["settings"]
    assert "data_digest changed" in checks["settings"] or "cannot be read" in checks["settings"]
