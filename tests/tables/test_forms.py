"""A leaderboard on a terminal, in Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import ast
import csv
import io
import json
from pathlib import Path

import pytest

from initbench import printable
from initbench.tables import sheet, study
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.study import Study
from tests.folders import ROOT, TESTS
from tests.recorded import PLACEBO, write_block, write_run
from tests.tables.boards import show

EXPECTED = TESTS / "expected"


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


def test_no_number_is_cut_where_there_is_little_room(example: Study) -> None:
    for width in (80, 100, 200):
        text = show(leaderboard_sheets(example), width)
        assert max(map(len, text.splitlines())) <= width
        for bounds in ("lwi", "[5.7,100.0*]", "30 min", "[0.80,9.60]", "[+12.3,+16.4]", "better"):
            assert bounds in text, width


def test_conditions_of_verdicts_stand_below_a_table_that_is_too_wide_for_them(example: Study) -> None:
    sheets = leaderboard_sheets(example)
    narrow, wide = show(sheets, 80), show(sheets, 400)
    condition = "where it does not collapse (0/3; up to 63 %)"
    assert f"better {condition}" in wide
    assert "better¹" in narrow
    assert f"¹ {condition}." in narrow
    assert "¹" not in wide


@pytest.mark.parametrize("width", [40, 50, 60, 70])
def test_the_last_columns_are_left_out_where_there_is_no_room_for_their_numbers(example: Study, width: int) -> None:
    sheets = leaderboard_sheets(example, letters=True)
    lines = show(sheets, width).splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for kept in ("default", "lwi", "placebo", "[5.7,100.0*]"):
        assert kept in text
    (left_out, *_) = " ".join(text.split()).partition("The terminal is too narrow for: ")[2].split(". Markdown")
    assert left_out.endswith("cost")
    assert ("[+12.3,+16.4]" in text) != ("vs default" in left_out), "a column is whole, or named"
    assert "too narrow" not in show(sheets, 100)


def test_the_terminal_table(example: Study) -> None:
    assert show(leaderboard_sheets(example), 120) + "\n" == (EXPECTED / "leaderboard.txt").read_text("utf-8")


def test_the_markdown_table(example: Study) -> None:
    assert sheet.as_markdown(leaderboard_sheets(example)).rstrip("\n") + "\n" == (EXPECTED / "leaderboard.md").read_text("utf-8")


def test_the_latex_table(example: Study) -> None:
    text = sheet.as_latex(leaderboard_sheets(example))
    assert r"kaiming-normal(mode='fan\_out')" in text
    assert r"\begin{tabular}{lrrrrrrr}" in text
    assert r"\begin{tabular}{llrrrrrrr}" in sheet.as_latex(leaderboard_sheets(example, letters=True))
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
        assert printable.latex(sign).isascii(), sign
    assert printable.latex("0–4 → ≥ 5 % × 3²") == r"0--4 $\to$ $\geq$ 5 \% $\times$ 3$^2$"


def test_markdown_escapes_its_own_sign(tmp_path: Path) -> None:
    write_run(tmp_path, "mine(a='x|y')", 0.5)
    assert r"mine(a='x\|y')" in sheet.as_markdown(leaderboard_sheets(study.read_study(tmp_path)))


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
    assert (default["verdict"], default["seeds"], default["init_protocol"]) == ("", 3, "any")
    assert default["protocol"] == lwi["protocol"] == "equal-total", "the protocol is of the block, in every command"
    assert (lwi["place"], lwi["rank"], lwi["init_protocol"], lwi["changed_share"]) == (1, 1, "equal-total", 1.0)
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
