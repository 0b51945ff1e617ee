"""Studies on nested subsets of the training cases: the table and the chart of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from initbench.report.page import write
from initbench.tables.leaderboard_subsets import groups, subset_sheets
from initbench.tables.study import read_study
from tests.commands import said
from tests.html_page import figures
from tests.html_page import read as elements
from tests.recorded import write_block, write_run

NUMBERS = (3, 12, None)


def write_subsets(out: Path, number: int | None, scores: dict[str, list[float]], **options: object) -> None:
    split = "unetrpp-50/13" + (f", trained on {number} cases" if number else "")
    train = [f"t{i}" for i in range(number or 50)]
    write_block(out, scores, dataset="lung", split=split, train_cases=train, data_digest=f"{number}" * 8, **options)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subsets") / "runs"
    for number, base in zip(NUMBERS, (0.5, 0.6, 0.7), strict=True):
        write_subsets(
            folder, number, {"default": [base, base + 0.02, base - 0.01], "lwi": [base + 0.05, base + 0.06, base + 0.03]}
        )
    write_subsets(folder, 6, {"default": [0.4, 0.5]}, steps=7, budget="short")  # another question
    return folder


def test_blocks_that_differ_in_the_number_alone_are_together(out: Path) -> None:
    (found,) = groups(read_study(out))
    assert list(found.tables) == [3, 12, 50]
    assert found.block["split"] == "unetrpp-50/13"
    for number, mean in zip(found.tables, (50.33, 60.33, 70.33), strict=True):
        assert found.tables[number].runs("default").mean() == pytest.approx(mean, abs=0.5)


def test_the_table_has_each_init_at_each_number(out: Path) -> None:
    (sheet,) = subset_sheets(read_study(out))
    assert [(row[0], row[1]) for row in sheet.rows] == [
        (init, cases) for init in ("default", "lwi") for cases in ("3", "12", "50")
    ]
    assert {row[4] for row in sheet.rows if row[0] == "default"} == {"–"}
    assert all(row[3].startswith("+") for row in sheet.rows if row[0] == "lwi")


def test_the_leaderboard_shows_it(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "by the number of training cases" in said(capsys, "leaderboard", "--out", str(out), "--format", "md")


def test_a_row_that_lacks_runs_has_no_verdict(tmp_path: Path) -> None:
    for number in (3, None):
        write_subsets(tmp_path, number, {"default": [0.5, 0.6], "lwi": [0.5, 0.6]})
    split = {"split": "unetrpp-50/13, trained on 3 cases", "train_cases": ["t0", "t1", "t2"], "data_digest": "3" * 8}
    write_run(tmp_path, "mae", 0.5, seed=0, dataset="lung", **split)
    (sheet,) = subset_sheets(read_study(tmp_path))
    assert [row[2:] for row in sheet.rows if row[0] == "mae"] == [("50.0", "–", "withheld")]


def test_the_report_draws_a_line_per_init(out: Path, tmp_path: Path) -> None:
    write(read_study(out), tmp_path / "report.html")
    (figure,) = figures(elements((tmp_path / "report.html").read_text("utf-8")), "subsets")
    inits = {group.attributes["data-init"]: group for group in figure.all("g", "init")}
    assert list(inits) == ["lwi", "default"]
    assert {"3", "12", "50"} <= {tick.text for tick in figure.all("text", "tick")}
    heights = [float(mark.attributes["cy"]) for mark in inits["default"].all("circle")]
    assert len(heights) == 3
    assert heights == sorted(heights, reverse=True)  # Dice rises, pixels fall


def test_a_study_without_subsets_has_neither(tmp_path: Path) -> None:
    write_block(tmp_path / "runs", {"default": [0.5, 0.6], "lwi": [0.5, 0.7]})
    study = read_study(tmp_path / "runs")
    assert subset_sheets(study) == []
    write(study, tmp_path / "report.html")
    assert "Dice against the number of training cases" not in (tmp_path / "report.html").read_text("utf-8")
