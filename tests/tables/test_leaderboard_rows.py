"""The rows of a leaderboard: paired differences, verdicts, ranks, and what may be compared at all."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from initbench.errors import UsageError
from initbench.stats.analysis import Analysis, analyse, verdicts
from initbench.stats.components import Components
from initbench.stats.summary import Interval
from initbench.tables import sheet, study, words
from initbench.tables.compare import compare_sheets
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.leaderboard_protocols import protocol_sheets
from initbench.tables.study import Scoring
from initbench.tables.variance import variance_sheets
from tests.recorded import PLACEBO, write_block, write_run
from tests.tables.boards import DEFAULTS, column, notes, rows, show


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
    assert "no score for seed 2 (failed: planted)" in row.reason
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
    assert "nan" not in sheet.as_markdown(leaderboard_sheets(found)).lower()


def test_runs_that_all_failed_for_one_reason_are_not_asked_for_again(tmp_path: Path) -> None:
    write_block(tmp_path, DEFAULTS)
    for seed in range(3):
        write_run(tmp_path, "uniform", seed=seed, status="failed")
    row = rows(study.read_study(tmp_path))["uniform"]
    assert (row.kind, row.reason) == ("failed", "0 of 3 seeds have a score, failed: planted")
    said = [note for note in notes(tmp_path) if "uniform" in note]
    assert said == ["uniform is withheld: 0 of 3 seeds have a score, failed: planted."]


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
    assert not any(note.startswith("tie:") for note in plain.legend)
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
    assert any(note.startswith("tie: two inits share a letter if") for note in made.legend)


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
    assert [note.startswith("*: cut here, as beyond it there can be no Dice") for note in made.legend].count(True) == 1
    assert words.dice(Interval(62.0, 55.0, 69.0)) == "62.0 [55.0, 69.0]"
    assert words.difference(Interval(62.0, -5.0, 100.0)) == "+62.0 [-5.0, +100.0*]"
    assert words.marked([("62.0 [55.0, 69.0]",)]) == []


def test_a_table_without_rows_prints_no_header(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": [0.6], "uniform": [0.6]})
    (made,) = variance_sheets(study.read_study(tmp_path).tables)
    assert made.rows == ()
    assert "source" not in show([made]).replace("No components", "")
    assert "| source |" not in sheet.as_markdown([made])
    assert "tabular" not in sheet.as_latex([made])
    assert all(made.notes[0] in form for form in (show([made], 200), sheet.as_markdown([made]), sheet.as_latex([made])))


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


def test_two_cells_of_one_name_are_two_rows(tmp_path: Path) -> None:
    """An older revision of an init left in the folder must not be pooled with the present one."""
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64]})
    write_block(tmp_path, {"default": [0.30, 0.32, 0.34]}, init_source="revision 0")
    got = rows(study.read_study(tmp_path))
    first, second = got.values()
    assert {first.init[:9], second.init[:9]} == {"default", "default #"}
    assert {round(first.dice.value), round(second.dice.value)} == {62, 32}
    assert [row.difference is None for row in got.values()].count(True) == 1
