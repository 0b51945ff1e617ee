"""A run with ``--fast``: its id is that of the run without, its environment is not, and tables flag rows that mix."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from initbench.audit.verify import verify
from initbench.cli.app import main
from initbench.harness import reuse
from initbench.harness.cell import resolve_cell
from initbench.harness.request import RunRequest
from initbench.runs import store
from initbench.runs.status import read_asked
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.study import read_study
from initbench.training import fast
from tests.runs_factory import LIGHT, SMALL, TINY, record_of, run_one

REASON = "InvalidCxxCompiler: No working C++ compiler found"


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "why_eager", lambda kind: REASON)


@pytest.mark.usefixtures("without_compiler")
def test_a_fast_run_has_the_id_of_a_plain_one_and_is_flagged_beside_others(data: Path, tmp_path: Path) -> None:
    plain, quick = run_one(data, tmp_path / "a"), run_one(data, tmp_path / "b", fast=True)
    assert plain.relative_to(tmp_path / "a") == quick.relative_to(tmp_path / "b")
    assert (plain / store.WEIGHTS).read_bytes() == (quick / store.WEIGHTS).read_bytes(), "nothing was compiled"
    one, other = record_of(plain), record_of(quick)
    assert one["environment"]["fingerprint"] != other["environment"]["fingerprint"]
    assert "fast" not in one["environment"]
    assert other["environment"]["fast"] == "eager"
    assert (one["asked"]["fast"], other["asked"]["fast"]) == (False, True)
    assert other["notes"] == [f"--fast: steps were not compiled: {REASON}"]
    [steps] = [check for check in verify(quick) if check.name == "steps"]
    assert steps.passed
    assert steps.detail.startswith("plain steps, where the run had --fast: the first loss agrees")
    run_one(data, tmp_path / "b", "uniform")
    [made] = leaderboard_sheets(read_study(tmp_path / "b"))
    [flag] = [note for note in made.notes if "different environments (hardware, package versions or --fast)" in note]
    assert flag.endswith("differ: uniform (seed 0).")


@pytest.mark.usefixtures("without_compiler")
def test_a_stage_that_was_trained_fast_is_not_taken_for_another(data: Path) -> None:
    request = RunRequest.of(
        "lwi", LIGHT, str(data), 0, size="tiny", budget="smoke", device="cpu", precision="float32", assignments=SMALL
    )
    plain = resolve_cell(request)
    quick = resolve_cell(replace(request, fast=True))
    assert plain.id == quick.id
    assert reuse.key(plain) != reuse.key(quick)


def test_a_planned_study_keeps_that_it_is_fast(data: Path, tmp_path: Path) -> None:
    command = ["plan", "--init", "default", *TINY, "--dataset", str(data), "--out", str(tmp_path / "runs"), "--note", "--fast"]
    for setting in SMALL:
        command += ["--set", setting]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    assert [json.loads(json.dumps(run.request))["fast"] for run in read_asked(tmp_path / "runs")] == [True]
