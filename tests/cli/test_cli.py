"""The command line as a process: what it imports, what it exits with, what it says.

What it imports stands for how long it takes to start; seconds are the machine's business.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from initbench.catalog import BACKBONES, DATASETS, INITIALIZERS
from tests.one_process import TABLES, in_one_process
from tests.recorded import write_block


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a few runs."""
    path: Path = tmp_path_factory.mktemp("cli")
    write_block(path / "runs", {"default": [0.6, 0.62], "xavier-normal": [0.7, 0.71]})
    (path / "void").mkdir()
    return path


# --- light commands ---------------------------------------------------------------------------------------------------


# Lighter ones first: what one of them imports is there for those that come after it.
LIGHT: list[tuple[list[str], str, tuple[str, ...]]] = [
    (["--help"], "Crosses initializers with backbones", ()),
    (["run", "--help"], "Run a study: inits × regimens × backbones × data sets × seeds.", ()),
    (["run", "-h"], "Run a study: inits × regimens × backbones × data sets × seeds.", ()),
    (["--version"], f"initbench {metadata.version('initbench')}", ()),
    (["list"], "learnable weight initialization", ()),
    (["list", "inits", "--json"], '"name": "lwi"', ()),
    (["describe", "base"], "UNETR recipe of LWI", ()),
    (["recipe", "show", "lung"], "patch.size", ()),
    (["status", "--out", "void"], "void holds no study", ()),
    (["run", "--init", "nothing", "--backbone", "unetr"], "unknown initializer 'nothing'", TABLES),
    (["leaderboard", "--format", "md"], "| xavier-normal | 70.5 [", TABLES),
    (["leaderboard", "--json"], '"xavier-normal"', TABLES),
    (["describe", "lung", "--json"], "Task06_Lung", (*TABLES, "nibabel")),
]


def test_light_commands_import_nothing_heavy(folder: Path) -> None:
    for (command, says, may), ended in zip(LIGHT, in_one_process(folder, *(command for command, *_ in LIGHT)), strict=True):
        assert says in ended.said, command
        assert set(ended.heavy) - {"pydantic"} <= set(may), command


def test_help_does_not_even_import_pydantic(folder: Path) -> None:
    [ended] = in_one_process(folder, ["--help"])
    assert (ended.code, ended.err, ended.heavy) == (0, "", [])


def test_list_is_json_for_every_kind(folder: Path) -> None:
    kinds = ["inits", "regimens", "backbones", "datasets", "executors", "recipes"]
    everything, *single = in_one_process(folder, ["list", "--json"], *(["list", kind, "--json"] for kind in kinds))
    tables = dict(zip(kinds, (json.loads(ended.out) for ended in single), strict=True))
    assert json.loads(everything.out) == tables
    names = {kind: {item["name"] for item in rows} for kind, rows in tables.items()}
    assert set(INITIALIZERS) <= names["inits"]
    assert set(BACKBONES) <= names["backbones"]
    assert set(DATASETS) <= names["datasets"]
    assert {"base", "lung", "generic-ct", "generic-mr"} <= names["recipes"]
    assert all(item["summary"] and item["origin"] for rows in tables.values() for item in rows)
    assert {item["name"] for item in tables["inits"] if item["learned"]} == {"mae", "tube", "order", "lwi", "lwi-as-released"}


# --- describe and leaderboard -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def described(folder: Path) -> dict[str, Any]:
    names = ("lwi", "lung", "unetr", "base")
    commands = {name: ["describe", name] for name in names} | {f"{name} --json": ["describe", name, "--json"] for name in names}
    ended = dict(zip(commands, in_one_process(folder, *commands.values()), strict=True))
    assert [(name, item.err) for name, item in ended.items() if item.code] == []
    return {name: json.loads(item.out) if "--json" in name else item.said for name, item in ended.items()}


def test_describe_lwi(described: dict[str, Any]) -> None:
    table = described["lwi --json"]
    assert (table["initializer"], table["learned"], table["origin"]) == ("lwi", True, "initbench")
    assert table["parameters"]["mask_ratio"] == 0.4
    assert "``lwi``: learnable weight initialization" in table["about"]
    assert "LWI section 3.2" in described["lwi"]


def test_describe_says_what_a_parameter_may_be_and_means(described: dict[str, Any]) -> None:
    table = described["lwi --json"]
    assert table["parameters"]["pool"] == "depth"
    assert table["choices"]["pool"] == "depth | width | interleaved"
    assert "mask_ratio" not in table["choices"]
    assert "`crops` says whether" in described["lwi"]


def test_describe_lung(described: dict[str, Any]) -> None:
    assert described["lung --json"]["dataset"] == "lung"
    assert "63 cases" in described["lung"]


def test_describe_unetr(described: dict[str, Any]) -> None:
    table = described["unetr --json"]
    assert (table["backbone"], table["variant"], table["variants"]) == (
        "unetr",
        "perceptron",
        ["perceptron", "conv", "perceptron-xyz", "conv-xyz"],
    )
    assert table["patch"] == "a multiple of (16, 16, 16) (D, H, W)"
    assert len(table["paper levels"]) == len(table["tiny levels"]) == 4
    counts = [int(table[f"{size} parameters"].replace(",", "")) for size in ("paper", "tiny")]
    assert counts[0] > 90_000_000 > 5_000_000 > counts[1]
    assert "monai.networks.nets.UNETR" in described["unetr"]


def test_describe_a_recipe(described: dict[str, Any]) -> None:
    assert described["base --json"]["steps"]["paper"] == 90000
    assert "UNETR recipe of LWI" in described["base"]


def test_the_leaderboard_in_every_form(folder: Path) -> None:
    commands = [["leaderboard", "--format", form] for form in ("table", "md", "csv", "json")]
    commands += [["leaderboard", "--json"], ["leaderboard", "--backbone", "unetr", "--dataset", "phantom-lung", "--json"]]
    table, markdown, text, plain, option, chosen = in_one_process(folder, *commands)
    assert all(ended.code == 0 for ended in (table, markdown, text, plain, option, chosen))
    assert "Choosing the init moves Dice by an SD of " in table.out
    assert "may be best" in table.out
    assert markdown.out.startswith("### phantom-lung × unetr (perceptron)\n")
    assert text.out.startswith("dataset,split,backbone,")
    assert [row["init"] for row in json.loads(plain.out)] == ["xavier-normal", "default"]
    assert plain.out == option.out == chosen.out
