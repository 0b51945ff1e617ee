"""The table of rooms in ARCHITECTURE.md says what the import rules of pyproject.toml say."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests.folders import ROOT

Contract = dict[str, Any]


@pytest.fixture(scope="module")
def contracts() -> dict[str, Contract]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    return {contract["name"]: contract for contract in table["contracts"]}


@pytest.fixture(scope="module")
def rows() -> list[tuple[list[str], str]]:
    """Rooms and the column "may import" of each line, the highest first."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8").partition("| room | ")[2].partition("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return [(re.findall(r"`(\w+)`", rooms), may) for rooms, _, may in cells]


def test_each_line_is_a_layer(rows: list[tuple[list[str], str]], contracts: dict[str, Contract]) -> None:
    layers = [re.split(" [:|] ", layer) for layer in contracts["rooms, top to bottom"]["layers"]]
    assert [rooms for rooms, _ in rows] == layers


def test_rooms_of_a_line_import_each_other_where_it_says_so(
    rows: list[tuple[list[str], str]], contracts: dict[str, Contract]
) -> None:
    for (rooms, may), layer in zip(rows, contracts["rooms, top to bottom"]["layers"], strict=True):
        assert ("each other" in may) == (" : " in layer), rooms


def test_every_line_but_the_last_may_import_what_is_below(rows: list[tuple[list[str], str]]) -> None:
    assert [may.startswith("below") for _, may in rows] == [True] * (len(rows) - 1) + [False]


def test_rooms_without_torch_are_those_of_the_rule(rows: list[tuple[list[str], str]], contracts: dict[str, Contract]) -> None:
    named = [room for _, may in rows for room in re.findall(r"`(\w+)` no torch", may)]
    assert sorted(f"initbench.{room}" for room in named) == sorted(contracts["tables need no torch"]["source_modules"])


def test_backbones_see_what_the_table_says(rows: list[tuple[list[str], str]], contracts: dict[str, Contract]) -> None:
    place = next(number for number, (rooms, _) in enumerate(rows) if "backbones" in rooms)
    seen = re.findall(r"`(\w+)`", rows[place][1].partition("`backbones` only ")[2])
    below = [f"initbench.{room}" for rooms, _ in rows[place + 1 :] for room in rooms if room not in seen]
    assert below == contracts["backbones see protocols only"]["forbidden_modules"]


def test_plug_ins_are_reached_by_name(contracts: dict[str, Contract]) -> None:
    rule = contracts["nobody imports an initializer, a backbone, a regimen or an executor: they are reached by name"]
    rooms = ("initializers", "backbones", "regimens", "executors")
    assert rule["protected_modules"] == [f"initbench.{room}" for room in rooms]
    assert rule["allowed_importers"] == []
