"""Options and help: one meaning for a name, groups of options, old spellings, panels, completion in the shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from docs.generate.commands import commands
from initbench.cli.app import PANELS
from initbench.cli.command import command
from initbench.cli.spellings import OLD_SPELLINGS, newly_spelled
from tests.commands import said
from tests.recorded import write_block

COMMANDS = {name.removeprefix("initbench "): declared for name, declared in commands()}
GROUPS = ("data", "recipe", "validate")


def options(declared: Any) -> Iterator[Any]:
    for parameter in declared.params:
        if parameter.param_type_name == "option":
            yield parameter


def meaning(parameter: Any) -> str:
    return str(parameter.help.split(". ")[0].removesuffix("."))


# --- meanings ---------------------------------------------------------------------------------------------------------


def test_an_option_name_has_one_meaning() -> None:
    found: dict[str, set[str]] = {}
    for declared in COMMANDS.values():
        for parameter in options(declared):
            for name in parameter.opts:
                found.setdefault(name, set()).add(meaning(parameter))
    assert len(found) > 40
    assert {name: said for name, said in found.items() if len(said) > 1} == {}


def test_help_holds_nothing_that_could_be_read_as_markup() -> None:
    for name, declared in COMMANDS.items():
        texts = [declared.help, *(parameter.help for parameter in declared.params)]
        assert [text for text in texts if "[" in text] == [], name


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two options."""

    left: Annotated[int, typer.Option("--left", help="Left.")]
    right: Annotated[str, typer.Option("--right", help="Right.")] = "r"


def test_a_group_of_options_reaches_the_command_as_one_value() -> None:
    taken = []

    @command
    def take(
        pair: Pair, name: Annotated[str, typer.Argument(help="Name.")], more: Annotated[bool, typer.Option("--more")] = False
    ) -> None:
        """Takes it."""
        taken.append((pair, name, more))

    single = typer.Typer()
    single.command()(take)
    assert CliRunner().invoke(single, ["one", "--left", "3"]).exit_code == 0
    assert CliRunner().invoke(single, ["--more", "--right", "x", "--left", "4", "two"]).exit_code == 0
    assert taken == [(Pair(left=3), "one", False), (Pair(left=4, right="x"), "two", True)]
    assert CliRunner().invoke(single, ["one"]).exit_code == 2  # --left is needed


# --- old spellings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", OLD_SPELLINGS, ids=" ".join)
def test_an_old_spelling_is_no_option_and_the_new_one_is(words: tuple[str, ...]) -> None:
    names = {name for parameter in options(COMMANDS[" ".join(words)]) for name in parameter.opts}
    for old, new in OLD_SPELLINGS[words].items():
        assert new in names
        assert old not in names


def test_an_old_spelling_becomes_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert newly_spelled(["report", "--html", "page.html", "--out", "runs"]) == ["report", "--file", "page.html", "--out", "runs"]
    assert newly_spelled(["report", "--html=a=b"]) == ["report", "--file=a=b"]
    assert capsys.readouterr().err == 2 * "note: --html is called --file now\n"
    assert newly_spelled(["recipe", "new", "lung", "--out", "x.toml"]) == ["recipe", "new", "lung", "--file", "x.toml"]
    assert newly_spelled(["validate", "init", "--steps=3"]) == ["validate", "init", "--pretext-steps=3"]
    capsys.readouterr()
    for other in (["run", "--out", "x"], ["verify", "runs", "--steps", "3"], ["recipe", "show", "lung"], []):
        assert newly_spelled(other) == other
    assert capsys.readouterr().err == ""


def test_a_command_with_an_old_spelling_does_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_block(tmp_path, {"default": [0.6, 0.62], "xavier-normal": [0.7, 0.71]})
    page = tmp_path / "page.html"
    assert "page.html" in said(capsys, "report", "--out", str(tmp_path), "--html", str(page))
    assert page.read_text("utf-8").startswith("<!doctype html>")


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("words", [(), *((group,) for group in GROUPS)], ids=lambda words: " ".join(words) or "initbench")
def test_each_command_is_described_on_one_line(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, *words, "--help")
    assert "…" not in text
    below = [name.removeprefix(" ".join(words)).split() for name in COMMANDS if name.startswith(" ".join(words))]
    for name in {inside[0] for inside in below if words or len(inside) == 1}:
        [line] = re.findall(rf"^│ {name} +(.*?) *│$", text, re.MULTILINE)
        whole = COMMANDS[" ".join((*words, name))].help.split("\n\n")[0]
        assert line == whole


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_is_cut(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, *name.split(), "--help")
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def titles(text: str) -> list[str]:
    return re.findall(r"^╭─ (.*?) ─", text, re.MULTILINE)


@pytest.mark.usefixtures("narrow")
def test_help_is_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    assert titles(said(capsys, "--help")) == ["Options", "Study", "Results", "Data", "Components", "Checks"]
    study = ["Options", "What", "How long", "Where", "Which data", "How they are judged", "Output"]
    assert titles(said(capsys, "run", "--help")) == study
    assert titles(said(capsys, "plan", "--help")) == study
    assert titles(said(capsys, "leaderboard", "-h")) == ["Options", "Which runs", "How they are judged", "Output"]


def test_every_option_is_in_a_panel() -> None:
    for name, declared in COMMANDS.items():
        strays = [parameter.name for parameter in options(declared) if not isinstance(parameter.rich_help_panel, str)]
        assert strays == [], name


def test_defaults_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = said(capsys, "run", "--help")
    for default in ("(phantom-lung)", "paper", "equal-total", "runs", "placebo", "(published where there is one)"):
        assert f"[default: {default}]" in text


# --- completion -------------------------------------------------------------------------------------------------------


def completed(*words: str) -> list[str]:
    """What bash is offered for the last word."""
    asked = {"_INITBENCH_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    driver = "import sys; sys.argv[0] = 'initbench'; from initbench.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", driver], capture_output=True, text=True, check=False, env={**os.environ, **asked}
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_names() -> None:
    assert completed("initbench", "lea") == ["leaderboard"]
    assert completed("initbench", "run", "--init", "xavier") == ["xavier-uniform", "xavier-normal"]
    assert completed("initbench", "run", "--init", "default,orth") == ["default,orthogonal"]
    assert completed("initbench", "plan", "--backbone", "unetr") == ["unetr", "unetrpp"]
    assert completed("initbench", "run", "--dataset", "phantom") == ["phantom-lung"]
    assert completed("initbench", "run", "--budget", "s") == ["smoke", "short"]
    assert completed("initbench", "run", "--recipe", "synapse") == ["synapse", "synapse-8"]
    assert completed("initbench", "compare", "kaiming-n") == ["kaiming-normal"]
    assert completed("initbench", "data", "info", "phantom") == ["phantom-lung"]
    assert completed("initbench", "reproduce", "lwi:table-6") == ["lwi:table-6"]


def test_completion_can_be_installed(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--help")
    assert "--install-completion" in text
    assert "--show-completion" in text


def test_the_panels_name_every_command() -> None:
    names = [name for commands_ in PANELS.values() for name in commands_]
    assert sorted(names) == sorted({name.split()[0] for name in COMMANDS})
