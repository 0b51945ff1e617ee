"""Whoever copies a command from a page gets what the page promises."""

from __future__ import annotations

import os
import re
import runpy
import shlex
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
from tests.docs.pages import blocks, commands, mentioned_commands, rows_of_measurements, write_files
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
    command, rest = named(words)
    command.make_context(command.name, rest)


def named(words: list[str]) -> tuple[Any, list[str]]:
    """The command that some words name, and the words after its name.

    Raises:
        KeyError: there is no such command.
    """
    command = tool()
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        command = command.commands[rest.pop(0)]
    return command, rest


def unknown_options(words: list[str]) -> list[str]:
    """The options among some words that their command does not have."""
    command, rest = named(words)
    known = {"--help"}
    for parameter in command.params:
        known.update(parameter.opts, parameter.secondary_opts)
    return [word for word in rest if word.startswith("-") and word.partition("=")[0] not in known]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    for words in commands(page):
        if words[0] == "initbench":
            check(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_that_a_page_mentions_is_one(page: Path) -> None:
    for words in mentioned_commands(page):
        assert not unknown_options(words), " ".join(words)


def test_commands_in_sentences_tables_and_shown_output_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Ask `initbench report\n--html x`.\n\n| a | `initbench lst` |\n\n```\n$ initbench run \\\n  --bakbone a\n```\n", "utf-8"
    )
    shown, sentence, row = mentioned_commands(page)
    assert unknown_options(shown) == ["--bakbone"]
    assert unknown_options(sentence) == ["--html"]
    with pytest.raises(KeyError):
        unknown_options(row)


MEASURED = ROOT / "docs" / "explanation" / "measured.md"


def missing(command: str) -> str:
    """What a command needs and the repository does not have, if anything: a file, a test, a target of make, a command."""
    words = shlex.split(command)
    while words[0] == "time":
        words.pop(0)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        return "" if re.search(rf"^{words[1]}:", makefile, re.MULTILINE) else f"no target {words[1]}"
    if words[0] == "pytest":
        file = ROOT / words[1]
        tests = re.findall(r"def (test_\w+)", file.read_text("utf-8")) if file.is_file() else []
        if "-k" not in words:
            return "" if tests else f"no test in {words[1]}"
        word = words[words.index("-k") + 1]
        return "" if any(word in test for test in tests) else f"no test of {word} in {words[1]}"
    if words[:2] == ["python", "-m"]:
        module = ROOT / words[2].replace(".", "/")
        return "" if module.with_suffix(".py").is_file() else f"no module {words[2]}"
    if words[0] == "initbench":
        return ", ".join(unknown_options(words))
    return f"{words[0]} is no command that is known here"


def test_every_measured_number_stands_beside_a_command_that_is_there() -> None:
    rows = list(rows_of_measurements(MEASURED))
    assert len(rows) > 15
    for what, codes in rows:
        for code in codes:
            assert not missing(code), what


@pytest.mark.parametrize(
    "command",
    [
        "make bnch",
        "pytest tests/harness/test_real.py -m full -k ordr",
        "python -m benchmarks.raeding A",
        "initbench plan --in lwi",
        "perf",
    ],
)
def test_a_measurement_without_its_command_is_noticed(command: str) -> None:
    assert missing(command)


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
