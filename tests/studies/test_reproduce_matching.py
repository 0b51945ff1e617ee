"""Which runs are of which row of a published table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from initbench.published import tables, trials
from initbench.published.trials import Overrides
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import AutoSettings
from initbench.runs.read import read_runs
from initbench.spec import Spec, parse
from initbench.tables.reproduce import sheets as reproduction
from initbench.tables.reproduce.matching import find
from initbench.tables.reproduce.measured import Asked, answers
from tests.recorded import write_run
from tests.studies.reproduced import TABLE, TINY, report, resolved, rows_of, write_rows


def matched(out: Path, table: tables.Table = TABLE, overrides: Overrides = TINY) -> list[set[str]]:
    return [set(found.cells) for found in find(read_runs(out).runs, trials.trials(table, overrides).trials, overrides)]


ALL = {"default", "masking", "tube masking", "order prediction", "order + masking"}


def test_runs_answer_the_rows_that_they_are_of(study: Path) -> None:
    assert matched(study) == [ALL]


@pytest.mark.parametrize(
    "changed",
    [
        {"protocol": "equal-total"},
        {"size": "paper"},
        {"budget": "short"},
        {"backbone": "unetrpp"},
        {"dataset": "hippocampus"},
        {"steps": 121},
        {"split": "auto, trained on 3 cases"},
        {"split": "fold 1/5"},
        {"fixed_streams": ["order"]},
        {"regimen": "joint"},
        {"recipe": resolved(TINY, "optimizer.lr=0.1")["recipe"]},
        {"recipe": {}},
    ],
    ids=str,
)
def test_a_run_of_another_setting_answers_no_row(tmp_path: Path, changed: dict[str, Any]) -> None:
    write_rows(tmp_path, {"lwi": 0.0}, 1, **changed)
    assert matched(tmp_path) == []


def test_settings_that_are_asked_for_are_those_of_the_runs(tmp_path: Path) -> None:
    write_rows(tmp_path, {"lwi": 0.0}, 1, recipe=resolved(TINY, "optimizer.lr=0.1")["recipe"])
    overrides = Overrides("phantom-lung", "unetr", "tiny", "smoke", assignments=("optimizer.lr=0.1",))
    assert matched(tmp_path, overrides=overrides) == [{"order + masking"}]


@pytest.mark.parametrize(
    ("changed", "matches"),
    [({}, True), ({"patch": {"size": (48, 96, 96)}}, True), ({"steps": 500}, True), ({"loss": {"squared": False}}, False)],
    ids=str,
)
def test_numbers_that_a_plan_filled_in_are_not_compared(tmp_path: Path, changed: dict[str, Any], matches: bool) -> None:
    """A generic recipe leaves spacing, patch and steps to the training cases; the record has numbers."""
    overrides = Overrides("Task90_Noise", "unetr")
    plan = load_recipe("generic-ct", size="paper", backbone="unetr", budget="paper")
    assert plan.plan.patch
    values = plan.model_dump(mode="json") | {"plan": AutoSettings().model_dump()}
    values["preprocess"]["spacing"] = (2.0, 1.0, 1.0)
    for section, numbers in changed.items():
        if section != "steps":
            values[section] |= numbers
    own = {"recipe": values, "steps": changed.get("steps", 700), "size": "paper", "budget": "paper", "dataset": "Task90_Noise"}
    write_rows(tmp_path, {"lwi": 0.0}, 1, **own)
    assert matched(tmp_path, overrides=overrides) == ([{"order + masking"}] if matches else [])
    by_hand = Overrides("Task90_Noise", "unetr", assignments=("patch.size=32,32,32",))
    assert matched(tmp_path, overrides=by_hand) == []


def test_parameters_of_an_init_tell_rows_apart(tmp_path: Path) -> None:
    """The row of 0.4 is asked for by its parameter and called by its default; another parameter is another row, or none."""
    for init, ratio, patch in (("lwi", 0.4, None), ("lwi(mask_ratio=0.2)", 0.2, None), ("lwi(mask_patch=8)", 0.4, 8)):
        write_rows(tmp_path, {init: 0.0}, 1, init_params={"mask_ratio": ratio, "mask_patch": patch})
    figures = {name: matched(tmp_path, tables.get(f"lwi:{name}")) for name in ("fig-4a", "fig-4b")}
    assert figures == {"fig-4a": [{"0.2", "0.4"}], "fig-4b": [{"8"}]}


def test_taps_are_a_tuple_in_one_place_and_a_list_in_the_other(tmp_path: Path) -> None:
    write_rows(tmp_path, {"lwi(taps=(3, 4))": 0.0}, 1, init_params={"taps": [3, 4]})
    assert matched(tmp_path, tables.get("lwi:table-8")) == [{"t3 and t4"}]


def test_runs_of_two_precisions_are_two_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for precision in ("float32", "bf16"):
        write_rows(tmp_path, {"default": 0.0, "lwi": 0.01}, precision=precision)
    assert matched(tmp_path) == [{"default", "order + masking"}] * 2
    found = json.loads(report(capsys, tmp_path, "--precision", "float32"))
    assert {row["precision"] for row in found if row.get("seeds")} == {"float32"}


def test_of_two_cells_of_a_row_that_with_more_runs_counts_and_it_is_said(tmp_path: Path) -> None:
    write_rows(tmp_path, {"default": 0.0, "lwi": 0.0})
    write_rows(tmp_path, {"lwi": 0.1}, 1, data_digest="e" * 64)
    asked = Asked(TABLE, trials.trials(TABLE, TINY), TINY)
    sheet = reproduction.reproduction_sheets(asked, answers(asked, read_runs(tmp_path)))[0]
    assert any("order + masking: there are runs of other data, code or variants, too" in note for note in sheet.notes)
    assert next(row["dice"] for row in sheet.values if row["row"] == "order + masking") == pytest.approx(72, abs=0.2)


def test_rows_are_of_one_state_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row has as many runs on either; five points lie between the states, and none between the inits."""
    inits = ("default", "mae", "tube", "order", "lwi")
    for digit, shift in (("d", 0.0), ("e", 0.05)):
        write_rows(tmp_path, dict.fromkeys(inits, shift), data_digest=digit * 64)
    claims_ = rows_of(report(capsys, tmp_path), "claim")
    assert all(abs(row["difference"]) < 1 for row in claims_.values() if row["verdict"] != "untestable")
    assert sum(row["verdict"] != "untestable" for row in claims_.values()) == 4


def test_rows_of_a_network_are_of_one_variant(tmp_path: Path) -> None:
    write_rows(tmp_path, {"default": 0.0}, variant="conv")
    write_rows(tmp_path, {"lwi": 0.0, "mae": 0.0}, variant="perceptron")
    asked = Asked(TABLE, trials.trials(TABLE, TINY), TINY)
    (answer,) = answers(asked, read_runs(tmp_path))
    assert set(answer.rows) == {"order + masking", "masking"}
    assert answer.found.other == ("default",)


def test_a_cell_with_results_comes_before_one_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(4):
        write_run(tmp_path, "default", None, seed=seed, status="failed", init_source="revision 0", **resolved())
    write_rows(tmp_path, {"default": 0.0, "lwi": 0.0})
    assert rows_of(report(capsys, tmp_path, "--seeds", "3"))["default"]["seeds"] == 3


@pytest.mark.parametrize(
    ("dataset", "split", "asked", "fits"),
    [
        ("btcv", "monai-24/6", {}, True),
        ("btcv", "transunet-18/12", {}, False),
        ("camus", "camus-400/50/50", {"split": None, "fold": None}, True),
        ("camus", "camus-400/50/50", {}, False),
        ("camus", "fold 1/5", {"split": None, "fold": "1/5"}, False),
        ("lung", "unetrpp-50/13", {"split": "unetrpp-50/13", "fold": None}, True),
    ],
    ids=str,
)
def test_the_usual_split_is_that_of_the_data_set(
    tmp_path: Path, dataset: str, split: str, asked: dict[str, Any], fits: bool
) -> None:
    overrides = Overrides(dataset, "unetr", "tiny", "smoke")
    write_rows(tmp_path, {"lwi": 0.0}, 1, dataset=dataset, split=split, asked=asked, **resolved(overrides))
    assert matched(tmp_path, overrides=overrides) == ([{"order + masking"}] if fits else [])


def test_a_data_set_of_another_name_is_known_by_its_folder(tmp_path: Path) -> None:
    folder = str(tmp_path / "Dataset123_Mine")
    overrides = Overrides(folder, "unetr", "tiny", "smoke")
    generic = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke").model_dump(mode="json")
    own = {**resolved(), "asked": {"dataset": folder, "split": None}, "recipe": generic, "steps": generic["steps"]["smoke"]}
    write_rows(tmp_path / "runs", {"lwi": 0.0}, 1, dataset="mine", **own)
    assert matched(tmp_path / "runs", overrides=overrides) == [{"order + masking"}]


@pytest.mark.parametrize(("given", "fits"), [("/x/mine.pt", True), ("/x/other.pt", False)])
def test_weights_answer_the_row_that_names_them(tmp_path: Path, given: str, fits: bool) -> None:
    overrides = Overrides("phantom-lung", "unetr", "tiny", "smoke", assignments=(f"init.path={given}",))
    own = {"init_params": {"path": "c" * 64}, "external": True, **resolved()}
    write_run(tmp_path, "swin-ssl(path='mine.pt@cccccccc')", 0.6, **own)
    found = matched(tmp_path, tables.get("lwi:table-9"), overrides)
    assert found == ([{"SSL, Synapse", "SSL, BTCV"}] if fits else [])


def test_training_on_fewer_cases_is_another_row(tmp_path: Path) -> None:
    table = tables.get("lwi:fig-7")
    asked = [
        trials.Trial(row.label, parse(row.init), Spec("unetr"), "phantom-lung", row.protocol, train_cases=row.train_cases)
        for row in table.row
    ]
    few = {"split": "auto, trained on 3 cases", "train_cases": ["a", "b", "c"]}
    write_rows(tmp_path, {"lwi": 0.0}, 1, **few)
    write_rows(tmp_path, {"default": 0.0}, 1)
    (found,) = find(read_runs(tmp_path).runs, asked, TINY)
    assert set(found.cells) == {"LWI, 3 cases", "UNETR, all cases"}
