"""The notebook of the documentation: every cell runs, and every table shows itself as text and as HTML."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tests.folders import ROOT
from tests.runs_factory import LIGHT, OPTIONS, SMALL

NOTEBOOK = ROOT / "docs" / "tutorials" / "notebook.ipynb"


def code_cells() -> list[str]:
    """The code of each cell."""
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    assert notebook["nbformat"] == 4
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def executed(cells: list[str], names: dict[str, Any]) -> list[Any]:
    """Executes cells one after another in one namespace; returns the value of the last line of each, None where it has none."""
    values = []
    for cell in cells:
        lines = ast.parse(cell).body
        last = lines.pop() if isinstance(lines[-1], ast.Expr) else None
        exec(compile(ast.Module(lines, []), "cell", "exec"), names)  # noqa: S102
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307
        values.append(value)
    return values


def check(values: list[Any]) -> None:
    plan, runs, board, frame, compared, classes, variance, cases, report = (value for value in values if value is not None)
    assert "6 new + 0 cached runs" in repr(plan)
    assert [run.state for run in runs] == ["ok"] * 6
    assert repr(runs).count("ok ") == 6
    assert len(frame) == 3, "two inits and a placebo"
    for tables in (plan, runs, board, compared, classes, variance):
        assert "<table>" in tables._repr_html_()
        assert len(tables.frame) > 0
    assert "lwi" in repr(board)
    assert "lwi" in repr(compared)
    assert not cases.empty
    assert report.path.is_file()
    assert str(report.path) in report._repr_html_()


def test_every_cell_runs_on_a_small_network(data: Path, tmp_path: Path) -> None:
    first, *others = code_cells()
    assert first.count("\n") == 3, "the import, and two lines of settings, which are other ones here"
    settings: dict[str, Any] = {**OPTIONS, "assignments": SMALL, "jobs": 1, "folds": ["1/2"]}
    names = {"network": LIGHT, "data": str(data), "out": str(tmp_path / "runs"), "settings": settings}
    check(executed(["import initbench", *others], names))


@pytest.mark.full
def test_every_cell_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check(executed(code_cells(), {}))
