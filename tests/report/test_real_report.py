"""A real study from its first step to its page in a browser: three schemes, two networks, five seeds, both protocols."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import initbench
from initbench.report.page import write
from initbench.tables.study import read_study
from tests.recorded import record_values
from tests.report.browsing import Opened, visit
from tests.shared_data import shared

pytestmark = pytest.mark.full

CASES = 20
SMALL = ("steps.smoke=14", "pretext.share=0.4", "patch.batch=1", "pretext.batch=1")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on some real volumes, which are linked to, with their report."""
    source = shared("data", "Task04_Hippocampus")
    root = tmp_path_factory.mktemp("data") / "Task04_Hippocampus"
    table = json.loads((source / "dataset.json").read_text("utf-8"))
    root.mkdir()
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).symlink_to(source / folder)
    (root / "dataset.json").write_text(json.dumps({**table, "training": table["training"][:CASES]}), "utf-8")
    out: Path = tmp_path_factory.mktemp("study") / "runs"
    outcomes = initbench.run(
        "default,kaiming-normal,lwi",
        "unetr,unetrpp",
        str(root),
        seeds=5,
        protocol="both",
        size="tiny",
        budget="smoke",
        device="cpu",
        out=out,
        assignments=SMALL,
    )
    assert [outcome.state for outcome in outcomes] == ["ok"] * (5 * 2 * 5)
    write(read_study(out), out / "report.html")
    return out


@pytest.fixture
def page(browser: Any, out: Path) -> Iterator[Opened]:
    yield from visit(browser, out / "report.html")


def test_a_real_report_sorts_filters_and_tells_where_it_comes_from(page: Opened, out: Path) -> None:
    tab = page.tab
    boards = tab.locator("table[id$='-board']")
    assert boards.count() == 4  # two networks under two protocols
    for number in range(boards.count()):
        board = boards.nth(number)
        rows = board.locator("tbody tr:visible")
        names = [rows.nth(k).get_attribute("data-init") for k in range(rows.count())]
        assert set(names) == {"default", "kaiming-normal", "lwi", "default(construct='other')"}
        board.locator("th.c-dice button").click()
        assert [rows.nth(k).get_attribute("data-init") for k in range(rows.count())] == names[::-1]
    assert tab.locator("#filter-init").count() == 0, "four inits are found without a filter"
    tab.select_option("#filter-backbone", "unetr")
    assert tab.locator("table[id$='-board'] tbody tr:visible").count() == 8  # four rows under two protocols
    tab.select_option("#filter-backbone", "")
    tab.locator("button.provenance", has_text="lwi").first.click()
    cells = {record_values(folder)["cell"] for folder in out.glob("hippocampus/*/lwi-*/seed-0")}
    assert any(cell in tab.locator("dialog:visible").inner_text() for cell in cells)
    tab.keyboard.press("Escape")
    for figure in ("forest", "strips", "curves", "cost", "heat", "overlays"):
        assert tab.locator(f"figure.{figure}").count() > 0, figure
    assert tab.locator("figure.overlays image").count() > 0
