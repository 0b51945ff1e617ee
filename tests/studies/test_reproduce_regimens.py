"""Rows of a published table that differ in the regimen: which runs are asked for, and which runs answer them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from initbench.published import tables, trials
from initbench.published.trials import Overrides
from initbench.runs.read import read_runs
from initbench.studies.reproduce import trial_requests, workload_of
from initbench.tables.reproduce.matching import PLACEBO_LABEL, control, find
from tests.studies.reproduced import TINY, write_rows

TABLE = tables.get("medcontext:fig-1")
MEANT: dict[str, Any] = {"regimen": "medcontext", "regimen_params": {"beta": 0.5, "norm": "l2"}}
OF_NNFORMER: dict[str, Any] = {"regimen": "medcontext(beta=0.4)", "regimen_params": {"beta": 0.4, "norm": "l2"}}


def answered(out: Path) -> set[str]:
    """The labels that runs answer, of rows that train on all cases."""
    labels: set[str] = set()
    for found in find(read_runs(out).runs, trials.trials(TABLE, TINY).trials, TINY):
        labels |= set(found.cells)
    return labels


def test_a_run_answers_the_rows_of_its_regimen(tmp_path: Path) -> None:
    write_rows(tmp_path, {"default": 0.0}, 1)
    write_rows(tmp_path, {"default": 0.0}, 1, **MEANT)
    # All rows are of one network here, so the plain ones are the same run, and so are those with the same parameters.
    assert answered(tmp_path) == {"UNETR", "Swin-UNETR", "nnFormer", "UNETR + MedContext", "Swin-UNETR + MedContext"}
    write_rows(tmp_path, {"default": 0.0}, 1, **OF_NNFORMER)
    assert "nnFormer + MedContext" in answered(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [{"regimen_budget": "compute"}, {"regimen": "medcontext(norm='mean')"}, {"regimen": "medcontext-as-released"}],
    ids=str,
)
def test_a_run_of_another_regimen_answers_no_row(tmp_path: Path, changed: dict[str, Any]) -> None:
    write_rows(tmp_path, {"default": 0.0}, 1, **MEANT | changed)
    assert answered(tmp_path) == set()


def test_the_placebo_is_the_plain_one(tmp_path: Path) -> None:
    write_rows(tmp_path, {"default": 0.0}, 1)
    write_rows(tmp_path, {"default(construct='other')": 0.0}, 1, **MEANT)
    assert PLACEBO_LABEL not in answered(tmp_path)
    write_rows(tmp_path, {"default(construct='other')": 0.0}, 1)
    assert PLACEBO_LABEL in answered(tmp_path)


def test_what_is_run_is_what_the_rows_ask_for(data: Path, tmp_path: Path) -> None:
    """On other data the list of five cases becomes a number of cases. Each row is made once, and one placebo with them."""
    overrides = Overrides(str(data), size="tiny", budget="smoke")
    few = [trial for trial in trials.trials(TABLE, overrides).trials if trial.label.startswith("UNETR")]
    requests = trial_requests(few, overrides, [0, 1], control(few), {"out": tmp_path, "budget": "smoke", "size": "tiny"})
    made = Counter((str(request.init), str(request.regimen), request.train_cases) for request in requests)
    assert made == {
        ("default", "plain", None): 2,
        ("default", "medcontext", None): 2,
        ("default(construct='other')", "plain", None): 2,
        ("default", "plain", 5): 2,
        ("default", "medcontext", 5): 2,
    }
    assert workload_of(few, overrides, 2, control(few)).runs == len(requests)
