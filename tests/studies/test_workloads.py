"""The runs that are missing, and what the finished ones took, make the time that is left before the first step is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from initbench.runs.time_left import TimeLeft, Workload
from initbench.studies.forecast import plan_looked_up
from initbench.studies.sweep import LookedUp, Silent, cross_requests, look_up_study
from initbench.studies.workloads import workloads
from tests.runs_factory import LIGHT, OPTIONS, SMALL, record_of, run_one


def looked_up(data: Path, out: Path, inits: str) -> LookedUp:
    requests = cross_requests(inits, LIGHT, str(data), seeds=1, out=out, assignments=SMALL, **OPTIONS)
    return look_up_study(requests, Silent())


def found_for(study: LookedUp) -> dict[int, Workload | None]:
    return workloads(study, plan_looked_up(study, "equal-total"))


def test_finished_runs_tell_it(data: Path, tmp_path: Path) -> None:
    cost = record_of(run_one(data, tmp_path))["cost"]
    found = found_for(looked_up(data, tmp_path, "default,lwi,kaiming-normal"))
    assert sorted(found) == [1, 2], "the first is there"
    lwi, kaiming = found[1], found[2]
    assert lwi is not None
    assert kaiming is not None
    assert dict(lwi.steps) == {"pretext": 2, "train": 8, "evaluate": 1}
    assert dict(kaiming.steps) == {"pretext": 0, "train": 10, "evaluate": 1}
    assert lwi.kind == kaiming.kind
    assert kaiming.paces == {"train": cost["train"]["seconds"] / 10, "evaluate": cost["evaluate_seconds"]}
    left = TimeLeft()
    left.expect(found)
    assert left.of_all() == pytest.approx(2 * (cost["train"]["seconds"] + cost["evaluate_seconds"]))


def test_nothing_is_asked_of_code_of_others(data: Path, tmp_path: Path) -> None:
    study = replace(looked_up(data, tmp_path, "default,lwi"), isolated=True)
    assert found_for(study) == {0: None, 1: None}
