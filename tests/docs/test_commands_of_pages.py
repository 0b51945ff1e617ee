"""Whoever copies a command from a page gets what the page promises."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.generate import links
from initbench.cli.app import app
from initbench.errors import DataError
from initbench.protocols import Dataset
from tests.commands import said
from tests.docs.pages import blocks, commands, write_files
from tests.folders import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
HOW_TO = ROOT / "docs" / "how-to"
PAGES = [ROOT / "README.md", *(ROOT / name for name in links.ROOT_PAGES), *sorted((ROOT / "docs").rglob("*.md"))]
WITH_COMMANDS = [page for page in PAGES if any(words[0] == "initbench" for words in commands(page))]
# The least that a run can be: the commands of a page with these words instead of theirs.
LEAST = ("--seeds", "1", "--set", "steps.smoke=2")


@cache
def tool() -> Any:
    """The command line; putting it together takes a third of a second."""
    return typer.main.get_command(app)


def check(words: list[str]) -> None:
    """Parses a command as it is parsed before it runs.

    Raises:
        typer.Exit, KeyError or a usage error: there is no such command, option or value.
    """
    name, command = words[0], tool()
    rest = words[1:]
    while hasattr(command, "commands"):
        name = rest.pop(0)
        command = command.commands[name]
    command.make_context(name, rest)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    for words in commands(page):
        if words[0] == "initbench":
            check(words)


def test_a_wrong_command_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        check(["initbench", "run", "--init", "default", "--bakbone", "unetr"])
    with pytest.raises(KeyError):
        check(["initbench", "data", "downlaod", "lung"])


def test_your_data_from_files_to_a_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = TUTORIALS / "your-data.md"
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    printed = {}
    for words in commands(page):
        if words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
            capsys.readouterr()
            continue
        least = LEAST if words[1] == "run" else ()
        printed[" ".join(words[1:3])] = said(capsys, *words[1:], *least)
    assert "20 cases, 0 problem(s)" in printed["data verify"]
    assert "lesion" in printed["data info"]
    assert (tmp_path / "my-data.png").is_file()
    assert "lwi" in printed["leaderboard --out"]
    assert "patch" in (tmp_path / "my-recipe.toml").read_text("utf-8")


def test_the_package_of_the_tutorial_is_the_example() -> None:
    files = {block.title: block.text for block in blocks(TUTORIALS / "your-initializer.md")}
    example = ROOT / "tests" / "plugin"
    code = (example / "damped_init.py").read_text("utf-8")
    assert files["damped-init/damped_init.py"].partition("import math")[2] == code.partition("import math")[2]
    assert files["damped-init/pyproject.toml"] == (example / "pyproject.toml").read_text("utf-8")


def test_the_function_of_the_tutorial_keeps_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = TUTORIALS / "your-initializer.md"
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    [words] = [words for words in commands(page) if words[1:4] == ["validate", "init", "./my_init.py:damped"]]
    assert "damped" in said(capsys, *words[1:], "--backbone", "probe")


def test_the_backbone_of_the_page_keeps_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = HOW_TO / "add-a-backbone.md"
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    [words] = [words for words in commands(page) if words[1] == "validate"]
    printed = said(capsys, *words[1:])
    [last] = [line for line in printed.splitlines() if line.startswith("all ")]
    assert last.partition(" in ")[0] in page.read_text("utf-8")


def test_the_data_set_of_the_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = HOW_TO / "add-a-data-set.md"
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    runpy.run_path("make_archive.py", run_name="__main__")
    my_hospital = runpy.run_path("my-hospital/my_hospital.py")["my_hospital"]
    dataset = my_hospital(tmp_path, ())
    assert isinstance(dataset, Dataset)
    assert len(dataset.case_ids()) == 10
    assert dataset.load("patient00").label.max() == 1
    (tmp_path / "archive" / "patient03" / "mask.nii.gz").unlink()
    with pytest.raises(DataError, match=r"patient03/mask\.nii\.gz"):
        my_hospital(tmp_path, ())


JOURNEYS = {
    "first-study": (TUTORIALS / "first-study.md",),
    "data-and-initializer": (TUTORIALS / "your-data.md", TUTORIALS / "your-initializer.md"),
    "backbone": (HOW_TO / "add-a-backbone.md",),
    "data-set": (HOW_TO / "add-a-data-set.md",),
}


@pytest.mark.full
@pytest.mark.parametrize("name", JOURNEYS)
def test_pages_run_as_they_stand(name: str, tmp_path: Path) -> None:
    """All commands of the pages in one shell, with an installation of the package beside the environment's own."""
    site = tmp_path / "site"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    pip = {"PIP_TARGET": str(site), "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    env = os.environ | pip | {"PATH": path, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    for page in JOURNEYS[name]:
        write_files(page, tmp_path)
        script = "".join(block.text for block in blocks(page) if block.language == "sh")
        done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
