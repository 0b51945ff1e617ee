"""From run records to the leaderboard: reading, what may be compared, rows, and the five forms."""

from __future__ import annotations

import ast
import csv
import io
import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import initbench
from initbench import dice
from initbench.errors import UsageError
from initbench.runs import store
from initbench.runs.read import read_runs
from initbench.runs.status import AskedRun, write_asked
from initbench.stats.analysis import Analysis, analyse, verdicts
from initbench.stats.components import Components
from initbench.stats.design import Refused
from initbench.stats.summary import Interval
from initbench.tables import leaderboard, sheet, study, variance, words
from initbench.tables.classes import class_sheets
from initbench.tables.compare import compare_sheets
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.leaderboard_protocols import protocol_sheets
from initbench.tables.power import power_sheets
from initbench.tables.sheet import Sheet
from initbench.tables.standings import Standing, standings, summaries
from initbench.tables.study import Scoring, Study
from initbench.tables.variance import variance_sheets
from tests.folders import ROOT, TESTS
from tests.recorded import CASES, write_block, write_run

EXPECTED = TESTS / "expected"
DEFAULTS = {"default": [0.60, 0.62, 0.64]}


def rows(found: Study, protocol: str | None = None) -> dict[str, Standing]:
    """The rows of the only block (of a protocol)."""
    (table,) = (table for table in found.tables if protocol in (None, table.block["protocol"]))
    return {row.init: row for row in standings(table, summaries(found.runs), analyse(table))}


def notes(out: Path) -> list[str]:
    return list(leaderboard_sheets(study.read_study(out))[0].notes)


def column(made: Sheet, name: str) -> dict[str, str]:
    """The cells of a column by the name of their row."""
    names, place = made.columns.index("initializer"), made.columns.index(name)
    return {row[names]: row[place] for row in made.rows}


# --- reading ----------------------------------------------------------------------------------------------------------


def _keys(name: str) -> tuple[set[str], set[str]]:
    """Keys of the record and of its `resolved`, as harness/record.py writes them; read without importing torch."""
    tree = ast.parse((ROOT / "initbench/harness/record.py").read_text("utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    table = next(node.value for node in ast.walk(function) if isinstance(node, ast.Return))
    assert isinstance(table, ast.Dict)
    named = {key.value: value for key, value in zip(table.keys, table.values, strict=True) if isinstance(key, ast.Constant)}
    resolved = named["resolved"]
    assert isinstance(resolved, ast.Dict)
    return set(named), {key.value for key in resolved.keys if isinstance(key, ast.Constant)}


def test_hand_made_records_have_the_keys_of_real_ones(tmp_path: Path) -> None:
    record = store.read_record(write_run(tmp_path))
    assert record is not None
    header, resolved = _keys("header")
    assert set(record["resolved"]) == resolved
    assert header <= set(record)


def test_runs_are_read_with_their_types(tmp_path: Path) -> None:
    write_run(tmp_path, "lwi", 0.6, seed=1, seconds=(20.0, 100.0), changed=0.75, protocol="equal-total")
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "mae", status="failed", protocol="equal-total")
    write_run(tmp_path, "order", 0.0, status="diverged", protocol="equal-total")
    runs = initbench.load_runs(tmp_path)
    assert list(runs["init"]) == ["default", "lwi", "mae", "order"]
    assert list(runs["status"]) == ["ok", "ok", "failed", "diverged"]
    assert runs["dice"].to_list()[:2] == [0.5, 0.6]
    assert math.isnan(runs["dice"][2])
    assert runs["dice"][3] == 0
    kinds = {"seed": "i", "steps": "i", "dice": "f", "changed_share": "f", "total_seconds": "f", "learned": "b"}
    assert {column: runs[column].dtype.kind for column in kinds} == kinds
    lwi = runs[runs["init"] == "lwi"].iloc[0]
    assert (lwi["init_seconds"], lwi["train_seconds"], lwi["total_seconds"], lwi["changed_share"]) == (20, 80, 100, 0.75)
    assert (lwi["device"], lwi["environment"], lwi["recipe"]) == ("a CPU", "e0", "a" * 12)
    assert store.is_finished(Path(lwi["path"]))
    assert runs["reason"][2] == "planted"


def test_types_do_not_depend_on_what_there_is(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    write_run(tmp_path / "bad", status="failed")
    (tmp_path / "empty").mkdir()
    good, bad, empty = (initbench.load_runs(tmp_path / name) for name in ("good", "bad", "empty"))
    assert list(good.columns) == list(bad.columns) == list(empty.columns)
    for column in ("dice", "changed_share", "init_seconds", "train_seconds", "total_seconds"):
        assert good[column].dtype == bad[column].dtype == empty[column].dtype == np.float64
    assert len(empty) == 0


def test_cases_are_read_with_their_types(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "lwi", 0.6, seed=1, protocol="equal-total")
    write_run(tmp_path, "mae", status="failed")
    cases = initbench.load_cases(tmp_path)
    assert list(cases.columns[:7]) == ["init", "backbone", "dataset", "seed", "protocol", "status", "cell"]
    assert list(cases["init"]) == ["default"] * 4 + ["lwi"] * 4
    assert list(cases["case"]) == [*CASES, *CASES]
    assert list(cases["seed"]) == [0] * 4 + [1] * 4
    assert list(cases["dice"])[:3] == [0.396, 0.5, 0.604]
    assert cases["dice"].isna().to_list() == [False, False, False, True] * 2
    assert {cases[column].dtype.kind for column in ("tp", "fp", "fn", "seed", "class")} == {"i"}
    # the run's score comes back from the counts
    counts = [[dice.Counts(*values)] for values in cases.iloc[:4][["tp", "fp", "fn"]].itertuples(index=False)]
    assert dice.run_dice(counts) == pytest.approx(0.5)


def test_case_names_stay_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    text = (folder / store.CASES).read_text("utf-8").replace("case_01", "001").replace("case_02", "NA")
    (folder / store.CASES).write_text(text, "utf-8")
    record = store.read_record(folder)
    assert record is not None
    store.write_json(folder / store.RECORD, store.seal({k: v for k, v in record.items() if k != "digest"}, folder))
    assert list(initbench.load_cases(tmp_path)["case"]) == ["001", "NA", "case_03", "case_04"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1, "sta', b"[]", b'{"schema": 99}', b"\xff\xfe\x00", b"null"])
def test_a_corrupt_record_is_passed_over(tmp_path: Path, content: bytes) -> None:
    write_run(tmp_path, "default", 0.5)
    folder = write_run(tmp_path, "lwi", 0.6)
    (folder / store.RECORD).write_bytes(content)
    assert list(initbench.load_runs(tmp_path)["init"]) == ["default"]
    assert read_runs(tmp_path).unreadable == (folder,)
    assert set(initbench.load_cases(tmp_path)["init"]) == {"default"}
    assert not store.is_finished(folder)


def test_half_written_runs_and_strange_files_are_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder.parent / ".seed-1-abc").mkdir()
    (folder.parent / ".seed-1-abc" / store.RECORD).write_text((folder / store.RECORD).read_text("utf-8"), "utf-8")
    (folder.parent / "seed-2").mkdir()
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    assert len(initbench.load_runs(tmp_path)) == 1


def test_a_missing_folder_is_an_error_and_an_empty_one_is_not(tmp_path: Path) -> None:
    for read in (initbench.load_runs, initbench.load_cases):
        with pytest.raises(UsageError, match="there is no such folder of runs; `initbench run"):
            read(tmp_path / "nowhere")
        assert read(tmp_path).empty


# --- rows -------------------------------------------------------------------------------------------------------------


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64], "xavier-normal": [0.65, 0.66, 0.70]})
    found = study.read_study(tmp_path)
    got = rows(found)
    assert list(got) == ["xavier-normal", "default"]
    row = got["xavier-normal"]
    assert row.difference is not None
    assert row.difference.estimate.value == pytest.approx(5)
    assert row.dice.value == pytest.approx(67)
    assert row.sd.value == pytest.approx(math.sqrt(7))  # 65, 66, 70
    assert (row.seeds, row.diverged, row.role) == (3, 0, "init")
    assert got["default"].difference is None
    whole = analyse(found.tables[0])
    assert isinstance(whole, Analysis)
    assert isinstance(whole.components, Components)
    assert whole.components.retraining.raw == pytest.approx((4 + 7) / 2)
    # Runs of equal seeds differ by 5, 4 and 6 points: what seeds share cancels, and a variance of 1 over 3 seeds is left.
    assert whole.components.init is not None
    assert whole.components.init.raw == pytest.approx(25 / 2 - (1 / 2) / 3)


def test_the_numbers_are_those_of_the_analysis(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64], "uniform": [0.60, 0.65, 0.61], "xavier-normal": [0.65, 0.66, 0.70]})
    found = study.read_study(tmp_path)
    whole = analyse(found.tables[0])
    assert isinstance(whole, Analysis)
    got = rows(found)
    for item in whole.comparison.differences:
        assert got[item.first].difference == item
    for summary in whole.inits:
        assert (got[summary.init].dice, got[summary.init].sd) == (summary.mean, summary.run_sd)
    values = {row["init"]: row for row in leaderboard_sheets(found)[0].values}
    item = got["uniform"].difference
    assert item is not None
    assert values["uniform"]["p_adjusted"] == item.p_adjusted == min(1.0, 2 * item.p)
    assert (values["uniform"]["family"], values["uniform"]["family_size"]) == ("baseline", 2)
    assert values["uniform"]["dice_low"] == got["uniform"].dice.low
    assert isinstance(whole.components, Components)
    assert whole.components.init is not None
    for row in values.values():
        assert row["between_init_sd"] == whole.components.init.sd.value
        assert row["between_init_sd_high"] == whole.components.init.sd.high


def test_an_init_that_lacks_a_run_gets_no_verdict(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60]})
    write_run(tmp_path, "uniform", 0.0, seed=1, status="diverged")
    write_run(tmp_path, "uniform", seed=2, status="failed")
    row = rows(study.read_study(tmp_path))["uniform"]
    assert (row.role, row.difference, row.rank) == ("withheld", None, None)
    assert (row.dice.value, row.diverged, row.runs.failed, row.seeds) == (pytest.approx(30), 1, 1, 2)
    assert "no score for seed 2 (failed)" in row.reason
    narrowed = rows(study.read_study(tmp_path, scoring=Scoring(shared=True)))["uniform"]
    assert narrowed.role == "init"
    assert narrowed.difference is not None
    assert narrowed.difference.estimate.value == pytest.approx((0 - 62) / 2 + (60 - 60) / 2)
    assert rows(study.read_study(tmp_path, scoring=Scoring(shared=True)))["default"].seeds == 2  # of three that there are


def test_an_init_that_only_failed_stands_last(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.0, status="diverged")
    write_run(tmp_path, "uniform", status="failed")
    found = study.read_study(tmp_path)
    assert list(rows(found)) == ["default", "uniform"]
    row = rows(found)["uniform"]
    assert math.isnan(row.dice.value)
    assert (row.seeds, row.runs.failed) == (0, 1)
    assert "nan" not in show(leaderboard_sheets(found)).lower()
    assert "nan" not in sheet.markdown(leaderboard_sheets(found)).lower()


def test_without_default_all_pairs_are_compared_and_no_column_is_empty(tmp_path: Path) -> None:
    write_block(tmp_path, {"uniform": [0.60, 0.62, 0.64], "xavier-normal": [0.65, 0.66, 0.70]})
    (made,) = leaderboard_sheets(study.read_study(tmp_path))
    assert made.columns == ("initializer", "Dice [95 %]", "seed SD [95 %]", "may be best", "rank", "div.", "cost")
    (other,) = leaderboard_sheets(study.read_study(tmp_path), against="uniform")
    assert "vs uniform [95 %]" in other.columns
    for make in (leaderboard_sheets, lambda found, against: pooled_sheets(found, "all", against)):
        with pytest.raises(UsageError, match="--against unifrom: the inits of these runs are uniform, xavier-normal"):
            make(study.read_study(tmp_path), "unifrom")  # type: ignore[operator]


def test_letters_are_there_for_those_who_ask(tmp_path: Path) -> None:
    """Two inits share one exactly if their difference is not told from 0, each pair judged in its own family."""
    scores = DEFAULTS | {"uniform": [0.60, 0.65, 0.63], "xavier-normal": [0.80, 0.83, 0.84], PLACEBO: [0.61, 0.61, 0.64]}
    write_block(tmp_path, scores)
    found = study.read_study(tmp_path)
    (plain,) = leaderboard_sheets(found)
    assert "tie" not in plain.columns
    assert "tie" not in plain.values[0]
    assert not any(note.startswith("tie:") for note in plain.notes)
    (made,) = leaderboard_sheets(found, letters=True)
    assert made.columns == ("tie", *plain.columns)
    letters = column(made, "tie")
    assert letters.pop("placebo") == ""
    assert {row["init"]: row["tie"] for row in made.values if row["role"] == "init"} == letters
    told = set()
    for item in verdicts(found.tables[0].schemes(), against=None).differences:
        if item.told_from_0:
            told.add(frozenset((item.first, item.second)))
    assert told
    for first, second in combinations(letters, 2):
        assert bool(set(letters[first]) & set(letters[second])) == (frozenset((first, second)) not in told)
    assert any(note.startswith("tie: two inits share a letter if") for note in made.notes)


def test_the_headline_says_what_init_and_seed_do(tmp_path: Path) -> None:
    write_block(tmp_path / "two", DEFAULTS | {"uniform": [0.61, 0.66, 0.63]})
    unknown = "Choosing the init moves Dice by an SD of 0.0 points (not told from 0; with 2 inits it may be anything up to "
    assert notes(tmp_path / "two")[0].startswith(unknown)
    write_block(tmp_path / "told", DEFAULTS | {"uniform": [0.80, 0.83, 0.84], "xavier-normal": [0.70, 0.71, 0.74]})
    found = study.read_study(tmp_path / "told")
    whole = analyse(found.tables[0])
    assert isinstance(whole, Analysis)
    assert isinstance(whole.components, Components)
    assert whole.components.init is not None
    assert whole.components.wins is not None
    wins = whole.components.wins
    assert notes(tmp_path / "told")[0] == (
        f"Choosing the init moves Dice by an SD of {words.sd(whole.components.init.sd)} points; retraining with another seed "
        f"moves it by {words.sd(whole.components.retraining.sd)}. Of two inits trained once each, with seeds of their own, the "
        f"truly better one wins in {100 * wins.value:.0f} % of pairs ({100 * wins.low:.0f} to {100 * wins.high:.0f})."
    )
    write_block(tmp_path / "one", DEFAULTS)
    assert notes(tmp_path / "one")[0].startswith("How much the init moves Dice cannot be told from one init; retraining with")
    write_block(tmp_path / "seed", {"default": [0.6], "uniform": [0.6]})
    assert notes(tmp_path / "seed")[0].startswith("How much the init moves Dice cannot be told: with one seed there is no")


def test_ends_that_no_scale_allows_are_cut_and_marked(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.10, 0.80, 0.95], "uniform": [0.05, 0.90, 0.80]})
    (made,) = leaderboard_sheets(study.read_study(tmp_path))
    assert column(made, "Dice [95 %]")["default"].endswith(" [0.0*, 100.0*]")
    (own,) = (row for row in made.values if row["init"] == "default")
    assert (own["dice_low"], own["dice_high"], own["seed_sd_high"]) == (0.0, 100.0, 50.0)
    assert [note.startswith("*: cut here, as beyond it there can be no Dice") for note in made.notes].count(True) == 1
    assert words.dice(Interval(62.0, 55.0, 69.0)) == "62.0 [55.0, 69.0]"
    assert words.difference(Interval(62.0, -5.0, 100.0)) == "+62.0 [-5.0, +100.0*]"
    assert words.marked(["62.0 [55.0, 69.0]"]) == []


def test_a_table_without_rows_prints_no_header(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.6], "uniform": [0.6]})
    (made,) = variance_sheets(study.read_study(tmp_path).tables)
    assert made.rows == ()
    assert "source" not in show([made]).replace("No components", "")
    assert "| source |" not in sheet.markdown([made])
    assert "tabular" not in sheet.latex([made])
    assert all(made.notes[0] in form for form in (show([made], 200), sheet.markdown([made]), sheet.latex([made])))


def test_who_has_several_cases_is_said(tmp_path: Path) -> None:
    twins = {"case_01": "a", "case_02": "a", "case_03": "b", "case_04": "b"}
    unknown: dict[str, str] = {}
    studies = (("own", None, "3 cases"), ("twins", twins, "2 patients, 3 cases"), ("old", unknown, "3 cases (patients unknown)"))
    for name, patients, shape in studies:
        write_block(tmp_path / name, DEFAULTS | {"uniform": [0.61, 0.66, 0.63]}, patients=patients)
        found = study.read_study(tmp_path / name)
        (made,) = leaderboard_sheets(found)
        assert f" · 3 seeds × {shape}" in made.subtitle
        unsure = "These runs do not say which patient a case is of"
        assert any(note.startswith(unsure) for note in made.notes) == (name == "old")
        assert [row["patients"] for row in json.loads(sheet.as_json([made]))] == [{"own": 3, "twins": 2, "old": None}[name]] * 2
        (pair,) = compare_sheets(found, "uniform", "default")
        (parts,) = variance_sheets(found.tables)
        assert f"× {shape}" in pair.subtitle
        assert f"× {shape}" in parts.subtitle


def test_a_diverged_run_is_said_beside_what_the_others_have(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.62]})
    write_run(tmp_path, "uniform", 0.0, seed=2, status="diverged")
    row = rows(study.read_study(tmp_path))["uniform"]
    assert (row.dice.value, row.without_diverged) == (pytest.approx(122 / 3), pytest.approx(61))
    assert "uniform: 1 run diverged and scores 0; the others have a mean of 61.0." in notes(tmp_path)


def test_runs_without_a_pretext_stand_in_the_blocks_of_both_protocols(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.6, 0.61]})
    write_block(tmp_path, {"lwi": [0.7, 0.75]}, protocol="equal-total")
    write_block(tmp_path, {"lwi": [0.8, 0.85]}, protocol="equal-finetune")
    found = study.read_study(tmp_path)
    assert [table.block["protocol"] for table in found.tables] == ["equal-finetune", "equal-total"]
    for protocol, score in (("equal-total", 72.5), ("equal-finetune", 82.5)):
        got = rows(found, protocol)
        assert {init: row.dice.value for init, row in got.items()} == pytest.approx({"lwi": score, "default": 60.5})
        assert (got["default"].runs.protocol, got["lwi"].runs.protocol) == ("any", protocol)
    (both,) = protocol_sheets(found)
    assert [row[:3] for row in both.rows] == [("lwi", "equal-total", "72.5"), ("lwi", "equal-finetune", "82.5")]
    assert [row[3].split()[0] for row in both.rows] == ["+12.0", "+22.0"]


def test_the_control_has_no_verdict_beside_itself(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.61, 0.66, 0.63]})
    for protocol in ("equal-total", "equal-finetune"):
        write_block(tmp_path, {"lwi": [0.7, 0.75, 0.72], "mae": [0.7, 0.71, 0.74]}, protocol=protocol)
        write_block(tmp_path, {"order": [0.7, 0.71]}, protocol=protocol)
    (both,) = protocol_sheets(study.read_study(tmp_path), against="lwi")
    said = {row[0]: row[3:] for row in both.rows}
    assert said["lwi"] == ("–", "–")
    assert said["mae"][1] not in ("init", "–")
    assert said["order"] == ("–", "withheld")


def test_one_protocol_has_no_other_side(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.6, 0.61]})
    write_block(tmp_path, {"lwi": [0.7, 0.75]}, protocol="equal-total")
    assert protocol_sheets(study.read_study(tmp_path)) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recipe_digest", "b" * 12),
        ("precision", "bf16"),
        ("size", "paper"),
        ("budget", "short"),
        ("steps", 121),
        ("split", "published"),
        ("dataset", "lung"),
        ("backbone", "unetrpp"),
        ("variant", "conv"),
        ("fixed_streams", ["order"]),
    ],
)
def test_what_differs_in_anything_but_the_init_is_never_mixed(tmp_path: Path, key: str, value: Any) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "uniform", 0.6)
    write_run(tmp_path, "xavier-normal", 0.7, **{key: value})
    found = study.read_study(tmp_path).tables
    assert sorted(sorted(table.inits) for table in found) == [["default", "uniform"], ["xavier-normal"]]


def test_streams_that_seeds_share_are_said(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "default", 0.6, fixed_streams=["construct", "order"], recipe_digest="c" * 12)
    lines = {made.subtitle for made in leaderboard_sheets(study.read_study(tmp_path))}
    plain = "tiny size · 120 steps (smoke) · float32 · split auto"
    assert lines == {f"{plain} · 1 seed × 3 cases", f"{plain} · seeds share construct, order · 1 seed × 3 cases"}


def test_weights_from_outside_are_said_to_be(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "checkpoint(path='a.pt@12345678')", 0.6, external=True)
    assert [note for note in notes(tmp_path) if "external" in note] == [
        "checkpoint(path='a.pt@12345678'): conditional on these weights, one draw for all seeds; external data."
    ]


def test_a_comparison_with_weights_from_outside_says_what_it_rests_on(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65, 0.61]})
    write_block(tmp_path, {"checkpoint(path='a.pt@1')": [0.65, 0.66, 0.70]}, external=True)
    found = study.read_study(tmp_path)
    (made,) = compare_sheets(found, "checkpoint(path='a.pt@1')", "default")
    assert made.notes[0].startswith("checkpoint(path='a.pt@1'): conditional on these weights")
    (other,) = compare_sheets(found, "uniform", "default")
    assert not any("conditional" in note for note in other.notes)


def test_equal_weights_under_two_seeds_are_withheld(tmp_path: Path) -> None:
    for seed, weights in enumerate(("w", "w", "v")):
        write_run(tmp_path, "default", 0.5, seed=seed, weights=weights)
        write_run(tmp_path, "uniform", 0.5, seed=seed)
    assert rows(study.read_study(tmp_path))["default"].role == "withheld"
    assert [note for note in notes(tmp_path) if "bit" in note] == [
        "Warning: Nothing is compared: default is withheld: seeds 0, 1 have the same weights, bit for bit: the seed is not in "
        "effect."
    ]


def test_a_withheld_control_is_said_in_every_row(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62], "uniform": [0.60, 0.65, 0.61], PLACEBO: [0.61, 0.61, 0.64]})
    (made,) = leaderboard_sheets(study.read_study(tmp_path))
    assert column(made, "vs default [95 %]") == {
        "uniform": "– untestable", "placebo": "– untestable", "default": "withheld"
    }  # fmt: skip
    assert any(note.startswith("Nothing is compared: default is withheld: no score for seed 2 (not run)") for note in made.notes)
    (pooled,) = pooled_sheets(study.read_study(tmp_path), "all")
    assert {row[0]: row[3] for row in pooled.rows} == {"uniform": "untestable", "placebo": "untestable"}
    assert pooled.notes[0].startswith("Nothing is compared: default is not complete in phantom-lung × unetr (no score for seed 2")


def test_no_legend_of_a_column_that_no_table_has(tmp_path: Path) -> None:
    write_block(tmp_path, {"uniform": [0.60, 0.62, 0.64], "xavier-normal": [0.65, 0.66, 0.70]})
    assert not any("vs default" in note for note in notes(tmp_path))
    (pooled,) = pooled_sheets(study.read_study(tmp_path), "all")
    assert pooled.columns == ("initializer", "Dice", "mean rank", "first in", "div.")
    assert not any("Differences to" in note for note in pooled.notes)
    write_run(tmp_path, "default", 0.6)
    assert any(note.startswith("vs default: ") for note in notes(tmp_path))


def test_what_lies_outside_the_shared_seeds_is_said(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65]})
    write_run(tmp_path, "default", 0.0, seed=3, status="diverged")
    found = study.read_study(tmp_path, scoring=Scoring(shared=True))
    note = "1 diverged run lies outside the shared seeds, where nothing is counted: default (seed 3)."
    assert note in leaderboard_sheets(found)[0].notes
    assert note in compare_sheets(found, "uniform", "default")[0].notes
    assert note in variance_sheets(found.tables)[0].notes
    for made in (*pooled_sheets(found, "all"), *variance.across(found.tables)):
        assert f"phantom-lung × unetr (perceptron): {note}" in made.notes
    assert not any("shared seeds" in line for line in notes(tmp_path))


def test_seeds_of_which_none_is_shared_are_said(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62]})
    for seed in (2, 3):
        write_run(tmp_path, "uniform", 0.6, seed=seed)
    (made,) = leaderboard_sheets(study.read_study(tmp_path, scoring=Scoring(shared=True)))
    assert "No seed has a score of every init: --shared-seeds changes nothing here." in made.notes


def test_mixed_environments_are_flagged(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.5)
    write_run(tmp_path, "uniform", 0.5)
    assert not any("environments" in note for note in notes(tmp_path))
    write_run(tmp_path, "xavier-normal", 0.5, environment="e1")
    assert any("different environments" in note for note in notes(tmp_path))


def test_seeds_that_were_added_later_are_said_to_be(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64], "uniform": [0.6, 0.63, 0.61]})
    folders = {init: sorted(tmp_path.glob(f"*/*/{init}-*/seed-*")) for init in ("default", "uniform")}
    first = [AskedRun(init, {"init": init, "seed": n}, folders[init][n]) for init in folders for n in (0, 1)]
    write_asked(tmp_path, first)
    assert not any("Seeds were added" in note for note in notes(tmp_path))
    for path in (tmp_path / ".sweeps").iterdir():
        path.write_text(path.read_text("utf-8").replace('"asked": "20', '"asked": "10'), "utf-8")  # a thousand years ago
    write_asked(tmp_path, [*first, *(AskedRun(init, {"init": init, "seed": 2}, folders[init][2]) for init in folders)])
    (said,) = (note for note in notes(tmp_path) if "Seeds were added" in note)
    assert said.startswith("Seeds were added: 0–1 (10")
    assert ", then 2 (20" in said
    write_asked(tmp_path, first)  # the same command again is no new decision
    assert said in notes(tmp_path)
    assert words.seeds([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"


def test_a_changed_run_is_kept_off_and_named(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)
    folder = write_run(tmp_path, "uniform", 0.6)
    (folder / store.CASES).write_text((folder / store.CASES).read_text("utf-8").replace("600", "900"), "utf-8")
    assert any(f"uniform: {folder} is kept off" in note for note in notes(tmp_path))
    assert rows(study.read_study(tmp_path))["uniform"].role == "withheld"


def test_two_cells_of_one_name_are_two_rows(tmp_path: Path) -> None:
    """An older revision of an init left in the folder must not be pooled with the present one."""
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64]})
    write_block(tmp_path, {"default": [0.30, 0.32, 0.34]}, init_source="revision 0")
    got = rows(study.read_study(tmp_path))
    first, second = got.values()
    assert {first.init[:9], second.init[:9]} == {"default", "default #"}
    assert {round(first.dice.value), round(second.dice.value)} == {62, 32}
    assert [row.difference is None for row in got.values()].count(True) == 1


# --- the placebo --------------------------------------------------------------------------------------------------------


PLACEBO = "default(construct='other')"


def test_a_placebo_is_a_row_that_costs_the_others_nothing(tmp_path: Path) -> None:
    scores = DEFAULTS | {"uniform": [0.61, 0.66, 0.63], "xavier-normal": [0.65, 0.66, 0.70]}
    write_block(tmp_path / "without", scores)
    write_block(tmp_path / "with", scores | {PLACEBO: [0.61, 0.61, 0.64]})
    without, with_ = rows(study.read_study(tmp_path / "without")), rows(study.read_study(tmp_path / "with"))
    for init, row in without.items():
        own = with_[init]
        assert (own.difference, own.rank, own.sd, own.dice.value) == (row.difference, row.rank, row.sd, row.dice.value)
    assert (with_[PLACEBO].role, with_[PLACEBO].rank) == ("placebo", None)
    item = with_[PLACEBO].difference
    assert item is not None
    assert (item.family.kind, item.family.size, item.p_adjusted) == ("placebo", 1, item.p)
    (made,) = leaderboard_sheets(study.read_study(tmp_path / "with"))
    assert column(made, "may be best")["placebo"] == column(made, "rank")["placebo"] == "–"
    (headline,) = (note for note in made.notes if note.startswith("Choosing the init"))
    assert headline in notes(tmp_path / "without")
    hidden = f"{item.estimate.high - item.estimate.value:.1f}"
    assert (
        f"The placebo, default drawn again ({PLACEBO}), comes out undecided. From these runs no difference below {hidden} points "
        "could have been told, so a smaller fault of the study would stay hidden."
    ) in made.notes


def test_a_placebo_that_wins_is_a_warning(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {PLACEBO: [0.80, 0.83, 0.84]})
    assert any(note.startswith(f"Warning: the placebo ({PLACEBO}) comes out better.") for note in notes(tmp_path))
    write_block(tmp_path, {"uniform": [0.60, 0.61, 0.65]})
    (other,) = leaderboard_sheets(study.read_study(tmp_path), against="uniform")
    assert not any("the placebo" in note or "The placebo" in note for note in other.notes[:-6])  # it is one of default alone


# --- scoring ------------------------------------------------------------------------------------------------------------


def test_the_policy_changes_the_score_without_running_again(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)  # three cases that hold the class, a fourth with 7 voxels predicted and none there
    for policy, mean in (("reference-mask", 62), ("monai", 62), ("nnunet", 46.5), ("empty-is-one", 46.5), ("worst", 46.5)):
        found = study.read_study(tmp_path, scoring=Scoring(policy=study.policy_of(policy)))
        assert rows(found)["default"].dice.value == pytest.approx(mean)
        assert f"policy {policy}" in " ".join(leaderboard_sheets(found)[0].notes)
    with pytest.raises(UsageError, match="--dice-policy 'mine': there are reference-mask, monai, nnunet"):
        study.policy_of("mine")


def unlike(tmp_path: Path) -> Study:
    """Two inits that nnU-Net's rule scores on different cases."""
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65, 0.61]})
    for seed, folder in enumerate(sorted(tmp_path.glob("*/*/default-*/seed-*"))):
        table = (folder / store.CASES).read_text("utf-8")
        (folder / store.CASES).write_text(table.replace(",0,7,0,", f",0,{0 if seed else 7},0,"), "utf-8")
        record = store.read_record(folder)
        assert record is not None
        store.write_json(folder / store.RECORD, store.seal({k: v for k, v in record.items() if k != "digest"}, folder))
    return study.read_study(tmp_path, scoring=Scoring(policy="nnunet"))


def test_runs_on_different_cases_have_means_and_nothing_else(tmp_path: Path) -> None:
    found = unlike(tmp_path)
    (table,) = found.tables
    assert "not scored on the same cases" in table.refused
    default = rows(found)["default"]
    assert default.dice.value == pytest.approx(np.mean([60 * 3 / 4, 62, 64]))  # of the runs, as everywhere
    assert default.difference is None
    (made,) = compare_sheets(found, "uniform", "default")
    assert {row[-1] for row in made.rows} == {"untestable"}
    assert not any("beats one of" in note for note in made.notes)
    for refusal in (
        *variance_sheets(found.tables),
        *power_sheets(found.tables, ()),
        *pooled_sheets(found, "all"),
    ):
        assert refusal.rows == ()
        assert "not scored on the same cases" in " ".join(refusal.notes)
    (across,) = variance.across(found.tables)
    assert any("is left out: under the policy nnunet" in note for note in across.notes)
    refusal = analyse(table)
    assert isinstance(refusal, Refused)
    assert leaderboard.headline(table, refusal).startswith("How much the init moves Dice cannot be told: under the policy nnunet")


def test_false_positives_are_counted_where_the_reference_has_nothing(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)
    write_run(tmp_path, "uniform", 0.0, status="diverged")
    classes, empty = class_sheets(study.read_study(tmp_path))
    assert classes.columns == ("initializer", "seeds", "nodule", "mean")
    assert classes.rows == (("default", "3", "62.0 ± 2.0", "62.0 ± 2.0"), ("uniform", "1", "0.0", "0.0"))
    assert empty.rows == (("default", "3", "100.0 %", "7.0"),)


def test_distances_that_nobody_measured_are_refused(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)
    with pytest.raises(UsageError, match="has hd95: `initbench measure"):
        class_sheets(study.read_study(tmp_path), "hd95")


def with_distances(folder: Path, hd95: float | None = 3.5) -> None:
    """As `measure` leaves a run; `hd95` None where it predicts nothing."""
    cases = pd.read_csv(folder / store.CASES)
    held = cases["tp"] + cases["fn"] > 0
    cases.loc[held, "nsd"] = 0.0 if hd95 is None else 0.8
    if hd95 is not None:
        cases.loc[held, "hd95_mm"] = hd95
    cases.to_csv(folder / store.CASES, index=False)
    record = store.read_record(folder)
    assert record is not None
    store.write_json(folder / store.RECORD, store.seal({k: v for k, v in record.items() if k != "digest"}, folder))


def test_inits_without_distances_are_named_with_what_adds_them(tmp_path: Path) -> None:
    with_distances(write_run(tmp_path, "default", 0.6))
    write_run(tmp_path, "uniform", 0.6)
    write_run(tmp_path, PLACEBO, 0.6)
    with_distances(write_run(tmp_path, "orthogonal", 0.0, status="diverged"), hd95=None)
    classes, _ = class_sheets(study.read_study(tmp_path), "hd95")
    assert classes.rows == (("default", "1", "3.5", "3.5"),)
    assert set(classes.notes[1:]) == {
        f"Left out without hd95: placebo, uniform; `initbench measure {tmp_path}` adds distances to finished runs.",
        "Left out without hd95: orthogonal; predictions hold no class where the reference does.",
    }
    classes, _ = class_sheets(study.read_study(tmp_path), "nsd")
    assert [row[0] for row in classes.rows] == ["default", "orthogonal"]
    assert "over the cases in which the reference holds the class; mean" in classes.notes[0], "a prediction alone has none"
    assert [note for note in classes.notes if "orthogonal" in note] == []
    classes, _ = class_sheets(study.read_study(tmp_path))
    assert len(classes.notes) == 1


def test_a_block_without_distances_has_a_note_and_no_table(tmp_path: Path) -> None:
    write_run(tmp_path, "default", 0.6, backbone="unet")
    with_distances(write_run(tmp_path, "default", 0.6))
    write_run(tmp_path, "default", 0.6, backbone="unetrpp")
    for metric in ("hd95", "nsd"):
        made = class_sheets(study.read_study(tmp_path), metric)  # type: ignore[arg-type]
        assert [item.title.partition(":")[0] for item in made if "mean" in item.columns] == ["phantom-lung × unetr (perceptron)"]
        skipped = [note for note in made[-1].notes if note.startswith("No table of ")]
        assert ["unet (" in note for note in skipped] == [True, False]
        assert all(f"no run has {metric}: `initbench measure {tmp_path}` adds" in note for note in skipped)
        assert len(skipped) == 2


def test_classes_of_runs_without_scores_are_refused_in_a_sentence(tmp_path: Path) -> None:
    write_run(tmp_path, "default", status="failed")
    for metric in ("dice", "hd95"):
        with pytest.raises(UsageError, match="has a score yet: `initbench status"):
            class_sheets(study.read_study(tmp_path), metric)  # type: ignore[arg-type]


def test_classes_that_no_reference_holds_are_no_matter_of_distances(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "default", 0.6)
    lines = (folder / store.CASES).read_text("utf-8").splitlines()
    empty = [f"case_0{k},1,nodule,0,7,0,,," for k in range(1, 5)]
    (folder / store.CASES).write_text("\n".join([lines[0], *empty]) + "\n", "utf-8")
    record = store.read_record(folder)
    assert record is not None
    store.write_json(folder / store.RECORD, store.seal({k: v for k, v in record.items() if k != "digest"}, folder))
    with pytest.raises(UsageError, match="has dice: the references of its cases hold none") as caught:
        class_sheets(study.read_study(tmp_path))
    assert "measure" not in str(caught.value)


def test_a_class_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)
    assert rows(study.read_study(tmp_path, scoring=Scoring(classes=("Nodule",))))["default"].dice.value == pytest.approx(62)
    with pytest.raises(UsageError, match="phantom-lung has no class 'spleen'; it has nodule; named sets: synapse-8"):
        study.read_study(tmp_path, scoring=Scoring(classes=("synapse-8",)))


# --- pooled -------------------------------------------------------------------------------------------------------------


def test_blocks_are_pooled_by_what_they_share(tmp_path: Path) -> None:
    for backbone in ("unetr", "unetrpp"):
        for dataset, more in (("phantom-lung", 0.0), ("lung", 0.1)):
            write_block(tmp_path, {"default": [0.5 + more, 0.52 + more, 0.57 + more]}, backbone=backbone, dataset=dataset)
            write_block(tmp_path, {"uniform": [0.51 + more, 0.53 + more, 0.56 + more]}, backbone=backbone, dataset=dataset)
    found = study.read_study(tmp_path)
    assert len(leaderboard_sheets(found)) == 4
    by = {name: pooled_sheets(found, name) for name in ("backbone", "dataset", "all")}  # type: ignore[arg-type]
    assert [made.title for made in by["backbone"]] == ["unetr (perceptron)", "unetrpp (perceptron)"]
    assert [made.title for made in by["dataset"]] == ["lung", "phantom-lung"]
    (whole,) = by["all"]
    values = {row["init"]: row for row in whole.values}
    assert values["uniform"]["difference"] == pytest.approx(100 / 300)  # (+1 +1 −1) / 3 in every block
    assert (values["uniform"]["dice"], values["uniform"]["blocks"]) == (pytest.approx(58 + 1 / 3), 4)
    assert values["uniform"]["first_in"] == 4
    assert any("Other data sets: Friedman's test needs three inits" in note for note in whole.notes)


def test_seed_sds_are_pooled_by_what_blocks_share(tmp_path: Path) -> None:
    """Under both protocols the runs of inits that learn nothing are the same ones; folds share training cases."""
    for backbone in ("unetr", "unetrpp"):
        write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65, 0.61], PLACEBO: [0.61, 0.61, 0.64]}, backbone=backbone)
        for protocol in ("equal-total", "equal-finetune"):
            write_block(tmp_path, {"lwi": [0.7, 0.75, 0.72]}, protocol=protocol, backbone=backbone)
    made = variance.across(study.read_study(tmp_path).tables)
    assert [sheet.values[0]["protocol"] for sheet in made] == ["equal-finetune", "equal-total"]
    for sheet_ in made:
        assert {row[0]: row[1] for row in sheet_.rows} == {"placebo": "2", "lwi": "2", "uniform": "2"}
    folds = tmp_path / "folds"
    for fold in ("fold 1/2", "fold 2/2"):
        write_block(folds, DEFAULTS | {"uniform": [0.60, 0.65, 0.61]}, split=fold)
    made = variance.across(study.read_study(folds).tables)
    assert [[row[:2] for row in sheet_.rows] for sheet_ in made] == [[("uniform", "1")], [("uniform", "1")]]
    assert ["fold 1/2" in sheet_.subtitle for sheet_ in made] == [True, False]


def test_a_placebo_has_no_place_among_pooled_schemes(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65, 0.63], PLACEBO: [0.81, 0.81, 0.84]})
    (made,) = pooled_sheets(study.read_study(tmp_path), "all")
    assert made.columns[-3:] == ("mean rank", "first in", "div.")
    assert {row[0]: row[-3:] for row in made.rows} == {
        "placebo": ("–", "–", "0/3"),
        "default": ("2.0", "0/1", "0/3"),
        "uniform": ("1.0", "1/1", "0/3"),
    }


def test_pooled_tables_say_which_runs_diverged(tmp_path: Path) -> None:
    for backbone in ("unetr", "unetrpp"):
        write_block(tmp_path, DEFAULTS | {"uniform": [0.60, 0.65]}, backbone=backbone)
        write_run(tmp_path, "uniform", 0.0, seed=2, status="diverged", backbone=backbone)
    (made,) = pooled_sheets(study.read_study(tmp_path), "all")
    assert column(made, "div.") == {"default": "0/6", "uniform": "2/6"}
    assert {row["init"]: (row["diverged"], row["runs"]) for row in made.values} == {"default": (0, 6), "uniform": (2, 6)}
    assert any("div.: diverged runs, which score 0." in note for note in made.notes)


# --- forms ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path) -> Study:
    """Two blocks: one with everything that can happen, one of a single run."""
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64]}, seconds=(0.0, 90.0))
    write_block(tmp_path, {"kaiming-normal(mode='fan_out')": [0.60, 0.61, 0.65]}, seconds=(0.0, 90.0), changed=0.9)
    write_block(tmp_path, {PLACEBO: [0.61, 0.61, 0.64]}, seconds=(0.0, 90.0), changed=0.9)
    write_block(tmp_path, {"lwi": [0.75, 0.76, 0.78]}, seconds=(900.0, 1800.0), changed=1.0, protocol="equal-total")
    write_run(tmp_path, "uniform", 0.58, seed=0, changed=0.9, environment="e1")
    write_run(tmp_path, "uniform", 0.0, seed=1, status="diverged", changed=0.9)
    write_run(tmp_path, "uniform", seed=2, status="failed")
    write_run(tmp_path, "default", 0.812, backbone="unetrpp", variant="default", seconds=(0.0, 40000.0))
    return study.read_study(tmp_path)


def show(sheets: list[Sheet], width: int = 100) -> str:
    out = io.StringIO()
    sheet.terminal(sheets, Console(file=out, width=width, color_system=None, highlight=False, legacy_windows=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def test_no_number_is_cut_where_there_is_little_room(example: Study) -> None:
    for width in (80, 100, 200):
        text = show(leaderboard_sheets(example), width)
        assert max(map(len, text.splitlines())) <= width
        for bounds in ("lwi", "[5.7,100.0*]", "30 min", "[0.80,9.60]", "[+12.3,+16.4]", "better"):
            assert bounds in text, width


def test_the_terminal_table(example: Study) -> None:
    assert show(leaderboard_sheets(example), 120) + "\n" == (EXPECTED / "leaderboard.txt").read_text("utf-8")


def test_the_markdown_table(example: Study) -> None:
    assert sheet.markdown(leaderboard_sheets(example)).rstrip("\n") + "\n" == (EXPECTED / "leaderboard.md").read_text("utf-8")


def test_the_latex_table(example: Study) -> None:
    text = sheet.latex(leaderboard_sheets(example))
    assert r"kaiming-normal(mode='fan\_out')" in text
    assert r"\begin{tabular}{lrrrrrrr}" in text
    assert r"\begin{tabular}{llrrrrrrr}" in sheet.latex(leaderboard_sheets(example, letters=True))
    assert text.count(r"\toprule") == 2


def _strings(path: Path) -> str:
    """All that a module may print: its strings but for docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return "".join(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_latex_knows_every_sign_that_tables_print() -> None:
    signs = {sign for path in (ROOT / "initbench/tables").rglob("*.py") for sign in _strings(path) if not sign.isascii()}
    assert {"→", "≥", "×", "±", "·", "−", "–"} <= signs
    for sign in sorted(signs | {"≤", "²", "³"}):
        assert sheet._tex(sign).isascii(), sign
    assert sheet._tex("0–4 → ≥ 5 % × 3²") == r"0--4 $\to$ $\geq$ 5 \% $\times$ 3$^2$"


def test_markdown_escapes_its_own_sign(tmp_path: Path) -> None:
    write_run(tmp_path, "mine(a='x|y')", 0.5)
    assert r"mine(a='x\|y')" in sheet.markdown(leaderboard_sheets(study.read_study(tmp_path)))


def test_csv_and_json_hold_the_same_rows(example: Study) -> None:
    made = leaderboard_sheets(example)
    text = sheet.as_json(made)
    assert "NaN" not in text
    found = json.loads(text)
    lines = list(csv.DictReader(io.StringIO(sheet.as_csv(made))))
    assert [list(line) for line in lines] == [list(item) for item in found]
    assert [{key: "" if value is None else str(value) for key, value in item.items()} for item in found] == lines


def test_json_has_null_where_there_is_no_value(example: Study) -> None:
    found = {(item["backbone"], item["init"]): item for item in json.loads(sheet.as_json(leaderboard_sheets(example)))}
    default, lwi = found["unetr", "default"], found["unetr", "lwi"]
    assert default["difference"] is default["difference_low"] is default["p_adjusted"] is None
    assert (default["verdict"], default["seeds"], default["protocol"]) == ("", 3, "any")
    assert (lwi["place"], lwi["rank"], lwi["protocol"], lwi["changed_share"]) == (1, 1, "equal-total", 1.0)
    assert (lwi["may_be_best"], lwi["rank_low"], lwi["rank_high"]) == (True, 1, 1)
    assert (default["may_be_best"], default["rank_low"], default["rank_high"]) == (False, 2, 3)
    assert not {"tie", "best", "p_holm", "probability_best"} & set(lwi)
    assert lwi["difference"] == pytest.approx(14 + 1 / 3)
    assert lwi["init_share_of_seconds"] == pytest.approx(0.5)
    uniform = found["unetr", "uniform"]
    assert (uniform["diverged"], uniform["failed"], uniform["role"]) == (1, 1, "withheld")
    assert found["unetr", PLACEBO]["role"] == "placebo"
    alone = found["unetrpp", "default"]
    assert (alone["dice"], alone["seed_sd"], alone["between_init_sd"], alone["seconds"]) == (
        pytest.approx(81.2),
        None,
        None,
        40000.0,
    )


def test_no_sheets_give_empty_forms() -> None:
    assert sheet.as_json([]) == "[]"
    assert sheet.as_csv([]) == ""
