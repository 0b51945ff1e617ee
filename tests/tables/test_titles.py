"""Names in tables: two data sets, networks or recipes that folders tell apart are told apart wherever people read."""

from __future__ import annotations

import csv
import html
import io
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initbench.choices import Grouping
from initbench.report import page
from initbench.tables import sheet
from initbench.tables.classes import class_sheets
from initbench.tables.compare import compare_sheets
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.power import power_sheets
from initbench.tables.sheet import Sheet
from initbench.tables.study import Study, read_study
from initbench.tables.titles import Named, columns, shortest, titles, told_apart
from initbench.tables.variance import across, variance_sheets
from tests.recorded import write_block

SCORES = {"default": [0.60, 0.62, 0.64], "uniform": [0.65, 0.66, 0.70]}
NAMED = st.builds(
    Named,
    name=st.sampled_from(["Liver", "Lung"]),
    split=st.sampled_from(["auto", "fold 1/2"]),
    data_digest=st.text("0123456789abcdef", min_size=8, max_size=8).map(lambda text: text * 8),
    place=st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda parts: "/data/" + "/".join([*parts, "X"])),
)


@given(st.lists(NAMED, max_size=6))
def test_under_one_split_a_name_stands_for_one_content(runs: list[Named]) -> None:
    names = told_apart(runs)
    for split in {run.split for run in runs}:
        contents = [(run.name, run.data_digest, name) for run, name in zip(runs, names, strict=True) if run.split == split]
        for name, content, shown in contents:
            for other_name, other_content, other_shown in contents:
                if (name, content) != (other_name, other_content):
                    assert shown != other_shown
    for run, name in zip(runs, names, strict=True):
        alone = {(other.split, other.data_digest) for other in runs if other.name == run.name}
        if len({split for split, _ in alone}) == len(alone):
            assert name == run.name, "nothing is added where nothing is needed"


@pytest.mark.parametrize(
    ("paths", "ends"),
    [
        (["/a/Liver"], ["Liver"]),
        (["/a/Liver", "/b/Liver"], ["a/Liver", "b/Liver"]),
        (["/a/x/Liver", "/b/x/Liver"], ["a/x/Liver", "b/x/Liver"]),
        (["/a/Liver", "/a/Lung"], ["Liver", "Lung"]),
        (["/a/Liver/", "/a/Liver"], ["Liver", "Liver"]),
        (["/Liver", "/a/Liver"], ["/Liver", "a/Liver"]),
    ],
)
def test_paths_are_as_short_as_they_can_be(paths: list[str], ends: list[str]) -> None:
    assert shortest(paths) == dict(zip(paths, ends, strict=True))


def named_alike(out: Path) -> Study:
    """Two data sets of one name, of two folders."""
    for place, digit in (("hospital_a", "1"), ("hospital_b", "2")):
        asked = {"dataset": f"/data/{place}/Liver", "data_root": None}
        write_block(out, SCORES, dataset="Liver", data_digest=digit * 64, recipe_digest=digit * 12, asked=asked)
    return read_study(out)


def sheets_of(found: Study) -> list[tuple[str, list[Sheet]]]:
    return [
        ("leaderboard", leaderboard_sheets(found)),
        ("compare", compare_sheets(found, "uniform", "default")),
        ("variance", variance_sheets(found.tables)),
        ("classes", class_sheets(found)),
        ("pooled", pooled_sheets(found, "dataset")),
    ]


def test_data_sets_of_one_name_are_told_apart_in_every_table(tmp_path: Path) -> None:
    found = named_alike(tmp_path)
    assert [table.block["dataset"] for table in found.tables] == ["hospital_a/Liver", "hospital_b/Liver"]
    assert set(found.cases["dataset"]) == {"hospital_a/Liver", "hospital_b/Liver"}
    for name, made in sheets_of(found):
        for form in ("csv", "json", "md", "latex"):
            text = sheet.FORMS[form](made)
            for place in ("hospital_a/Liver", "hospital_b/Liver"):
                assert place in text.replace(r"\_", "_"), (name, form)


def test_the_report_tells_them_apart(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    page.write(named_alike(tmp_path), file)
    text = file.read_text("utf-8")
    assert "hospital_a/Liver × unetr" in text
    assert "hospital_b/Liver × unetr" in text


TOLD_APART: list[tuple[str, list[Any]]] = [
    ("dataset", ["lung", "liver"]),
    ("split", ["auto", "published"]),
    ("split", ["fold 1/2", "fold 2/2"]),
    ("backbone", ["unetr", "net.py:mine@11111111"]),
    ("variant", ["perceptron", "conv"]),
    ("size", ["tiny", "paper"]),
    ("budget", ["smoke", "short"]),
    ("steps", [120, 240]),
    ("precision", ["float32", "bf16"]),
    ("recipe_digest", ["abcdef111111", "abcdef222222"]),
    ("fixed_streams", [[], ["order"]]),
]


def two_blocks(out: Path, key: str, values: list[Any]) -> Study:
    """Two blocks that differ in one thing."""
    for value in values:
        write_block(out, SCORES, **{key: value})
    return read_study(out)


def two_protocols(out: Path) -> Study:
    """Two blocks that share the runs of the inits that learn nothing."""
    write_block(out, SCORES)
    for protocol in ("equal-total", "equal-finetune"):
        write_block(out, {"mae": [0.6, 0.64, 0.66]}, protocol=protocol)
    return read_study(out)


def check_told_apart(found: Study) -> None:
    """No two tables have one heading, and no two blocks one set of columns that tell machines which block a row is of."""
    for name, made in [*sheets_of(found), ("power", power_sheets(found.tables, ()))]:
        headings = [(item.title, item.subtitle) for item in made]
        assert len(set(headings)) == len(headings), (name, headings)
        if name == "pooled":
            continue
        keys = ["name"] if name == "power" else [*columns(found.tables[0].block)]
        for form in (sheet.as_csv, sheet.as_json):
            text = form(made)
            rows = json.loads(text) if form is sheet.as_json else list(csv.DictReader(io.StringIO(text)))
            blocks = {tuple(str(row[key]) for key in keys) for row in rows}
            assert len(blocks) == len(found.tables), (name, blocks)
    told = page.assemble(found, "default", 1.0)
    text = "".join(page.pieces(told))
    for title_ in titles([table.block for table in found.tables]):
        assert f">{html.escape(title_)}</a>" in text


def check_pooled(found: Study) -> None:
    """No two pooled tables have one heading, and no two of their rows are the same for machines."""
    groupings: tuple[Grouping, ...] = get_args(Grouping)
    for made in [*(pooled_sheets(found, by) for by in groupings), across(found.tables)]:
        headings = [(item.title, item.subtitle) for item in made]
        assert len(set(headings)) == len(headings), headings
        rows = [str({**row, "init": ""}) for item in made for row in item.values[:1]]
        assert len(set(rows)) == len(rows), rows


def test_many_blocks_are_told_apart_everywhere(tmp_path: Path) -> None:
    """A block, and for each thing that blocks can differ in one that differs from it in this alone.

    All have one recipe: another one would mark the first block, and the mark would hide that nothing else tells it apart.
    """
    write_block(tmp_path, SCORES)
    differing = [(key, values[1]) for key, values in TOLD_APART if key != "recipe_digest"]
    for key, value in differing:
        write_block(tmp_path, SCORES, **{key: value})
    found = read_study(tmp_path)
    assert len(found.tables) == 1 + len(differing)
    check_told_apart(found)


@pytest.mark.parametrize("key", ["split", "precision", "fixed_streams"])
def test_pooled_tables_are_told_apart(tmp_path: Path, key: str) -> None:
    check_pooled(two_blocks(tmp_path, key, dict(TOLD_APART)[key]))


def test_blocks_of_two_protocols_are_told_apart_everywhere(tmp_path: Path) -> None:
    check_told_apart(two_protocols(tmp_path))


@pytest.mark.full
@pytest.mark.parametrize(("key", "values"), TOLD_APART)
def test_two_blocks_are_told_apart_everywhere(tmp_path: Path, key: str, values: list[Any]) -> None:
    found = two_blocks(tmp_path, key, values)
    check_told_apart(found)
    check_pooled(found)


def test_a_title_says_no_more_than_it_needs(tmp_path: Path) -> None:
    found = two_blocks(tmp_path / "recipes", "recipe_digest", ["abcdef111111", "abcdef222222"])
    own = "phantom-lung × unetr (perceptron)"
    assert titles([table.block for table in found.tables]) == [f"{own}, recipe abcdef1", f"{own}, recipe abcdef2"]
    found = two_protocols(tmp_path / "protocols")
    assert titles([table.block for table in found.tables]) == [f"{own}, equal-finetune", f"{own}, equal-total"]
    assert titles([table.block for table in found.tables][:1]) == [own]


def test_they_are_chosen_by_either_name(tmp_path: Path) -> None:
    named_alike(tmp_path)
    for chosen, number in (("Liver", 2), ("hospital_a/Liver", 1), ("hospital_b/Liver", 1)):
        found = read_study(tmp_path, [chosen])
        assert len(found.tables) == number
        assert set(found.cases["cell"]) == set(found.runs["cell"])


def test_a_folder_that_changed_is_two_data_sets(tmp_path: Path) -> None:
    for digest in ("123456789" * 7 + "0", "12345677" * 8):
        asked = {"dataset": "/data/Liver", "data_root": None}
        write_block(tmp_path, SCORES, dataset="Liver", data_digest=digest, recipe_digest=digest[:12], asked=asked)
    names = {table.block["dataset"] for table in read_study(tmp_path).tables}
    assert names == {"Liver@12345678", "Liver@12345677"}, "as many digits as they need"


def test_folds_of_one_data_set_keep_its_name(tmp_path: Path) -> None:
    for number in (1, 2):
        digest = f"{number}" * 64
        write_block(tmp_path, SCORES, dataset="Liver", split=f"fold {number}/2", data_digest=digest, recipe_digest=digest[:12])
    assert {table.block["dataset"] for table in read_study(tmp_path).tables} == {"Liver"}


def test_recipes_that_nothing_else_tells_apart_are_named(tmp_path: Path) -> None:
    for recipe in ("abcdef111111", "abcdef222222", "123456789012"):
        steps = 240 if recipe.startswith("1") else 120
        write_block(tmp_path, SCORES, recipe_digest=recipe, steps=steps)
    found = read_study(tmp_path)
    made = leaderboard_sheets(found)
    said = {subtitle: "recipe" in subtitle for subtitle in (item.subtitle for item in made[: len(found.tables)])}
    assert sorted(said.values()) == [False, True, True], "only where the steps do not say it"
    assert any("recipe abcdef1" in subtitle for subtitle in said)
    assert any("recipe abcdef2" in subtitle for subtitle in said)
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(sheet.FORMS["csv"](made))))
    assert {row["mark"] for row in rows} == {"", "recipe abcdef1", "recipe abcdef2"}
    assert "recipe abcdef2" in json.dumps(json.loads(sheet.FORMS["json"](made)))


def test_networks_in_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for digest in ("11111111", "22222222"):
        write_block(tmp_path, SCORES, backbone=f"net.py:mine@{digest}", variant="default", recipe_digest=digest)
    titles = [item.title for item in leaderboard_sheets(read_study(tmp_path))]
    assert titles[:2] == ["phantom-lung × net.py:mine@11111111", "phantom-lung × net.py:mine@22222222"]
