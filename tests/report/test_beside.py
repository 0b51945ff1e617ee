"""The tables beside a leaderboard of the report: single runs, and how firm verdicts are."""

from __future__ import annotations

from pathlib import Path

from initbench.report import page
from initbench.report.content import assemble
from initbench.tables.study import read_study
from tests.html_page import read
from tests.recorded import write_block

SCORES = {"default": [0.80, 0.81, 0.26, 0.79, 0.80], "lwi": [0.82, 0.83, 0.81, 0.82, 0.81]}


def test_single_runs_and_firmness_stand_beside_the_leaderboard(tmp_path: Path) -> None:
    write_block(tmp_path, SCORES)
    document = read("".join(page.pieces(assemble(read_study(tmp_path), "default", 0.5))))
    tables = {}
    for item in document.all("div", "scroll"):
        tables[item.attributes.get("aria-label", "")] = item.text
    (runs,) = (text for label, text in tables.items() if label.endswith(": single runs"))
    assert "1/5 (up to 66 %)" in runs
    assert "0/5 (up to 45 %)" in runs
    (firm,) = (text for label, text in tables.items() if label.startswith("How firm"))
    assert "verdict stays in" in firm
