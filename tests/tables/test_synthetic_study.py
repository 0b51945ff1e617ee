"""The made-up study of the benchmarks is what runs would leave: whole, read by every command, with the effects it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import initbench
from initbench.runs import store
from initbench.runs.read import read_runs
from initbench.stats.assembly import score_tables
from initbench.stats.components import Components, components
from tests import benchmark_scripts
from tests.recorded import record_values
from tests.runs_factory import record_of, run_one

synthetic = benchmark_scripts.load("synthetic_study")


def keys(value: Any, depth: int = 2) -> Any:
    return {key: keys(item, depth - 1) for key, item in value.items()} if isinstance(value, dict) and depth else None


def test_records_have_what_those_of_runs_have(data: Path, tmp_path: Path) -> None:
    trained = run_one(data, tmp_path / "runs")
    real = record_of(trained)
    synthetic.write_study(tmp_path / "made", synthetic.Design(1, 1, 2, 1, 3, diverged=0.0))
    folder = next(store.find_runs(tmp_path / "made"))
    made = record_values(folder)
    assert keys(real, 1) == keys(made, 1)
    for part in ("resolved", "cost"):
        assert set(real[part]) == set(made[part])
    assert set(real["environment"]) == set(made["environment"])
    for name in (store.CASES, store.CURVE):
        header = [(run / name).read_text().partition("\n")[0] for run in (trained, folder)]
        assert header[0] == header[1]


def test_files_are_whole_and_the_same_twice(tmp_path: Path) -> None:
    plan = synthetic.Design(2, 1, 4, 3, 5, diverged=0.2, failed=0.1, missing_class=0.3)
    assert synthetic.write_study(tmp_path / "a", plan) == 24
    synthetic.write_study(tmp_path / "b", plan)
    states, files = [], []
    for out in ("a", "b"):
        found = sorted(path for path in (tmp_path / out).glob("**/*") if path.is_file())
        files.append({path.relative_to(tmp_path / out): path.read_bytes() for path in found})
    assert files[0] == files[1]
    for folder in store.find_runs(tmp_path / "a"):
        record = store.load_record(folder)
        states.append(record.status)
        if record.has_result:
            assert store.problem(folder, record, thorough=True) == ""
    assert set(states) == {"ok", "diverged", "failed"}
    cases = initbench.load_cases(tmp_path / "a")
    assert cases["dice"].isna().any()  # classes that a reference lacks


def test_scores_follow_the_effects(tmp_path: Path) -> None:
    effects = synthetic.Effects(level=60, init=0, block_init=0, seed=0, seed_init=2, case=6, init_case=3, residual=4)
    plan = synthetic.Design(1, 1, 12, 20, 60, 1, effects, diverged=0.0, missing_class=0.0)
    synthetic.write_study(tmp_path, plan)
    (table,) = score_tables(initbench.load_runs(tmp_path), initbench.load_cases(tmp_path))
    own = [number for number, init in enumerate(table.inits) if init != synthetic.PLACEBO]  # it shares its cases with default
    found = components(table.y[own])
    assert isinstance(found, Components)
    assert found.seed_init is not None
    assert found.init_case is not None
    got = [np.sqrt(part.value) for part in (found.seed_init, found.case, found.init_case, found.residual)]
    assert got == pytest.approx([2, 6, 3, 4], rel=0.15)
    assert table.y.mean() == pytest.approx(60, abs=2.5)
    placebo, default = (table.y[table.inits.index(name)].mean(0) for name in (synthetic.PLACEBO, "default"))
    assert np.std(placebo - default) == pytest.approx(4 * np.sqrt(2 / 20), rel=0.35)  # the residual alone


def test_cases_of_a_patient_share_most_of_their_effects(tmp_path: Path) -> None:
    effects = synthetic.Effects(level=60, init=0, block_init=0, seed=0, seed_init=0, case=6, init_case=3, residual=0)
    plan = synthetic.Design(1, 1, 10, 1, 900, 1, effects, diverged=0.0, missing_class=0.0, cases_per_patient=3)
    synthetic.write_study(tmp_path, plan)
    loaded = read_runs(tmp_path)
    maps = list(loaded.patients.values())
    assert len(maps) == 10
    assert all(item == maps[0] for item in maps)
    patients = list(maps[0].values())
    assert [patients[place] for place in (0, 2, 3, -1)] == ["lung_p000", "lung_p000", "lung_p001", "lung_p299"]
    (table,) = score_tables(loaded.runs, loaded.cases)
    own = [number for number, init in enumerate(table.inits) if init != synthetic.PLACEBO]
    y = table.y[own, 0].reshape(len(own), 300, 3)
    whole = y - y.mean(axis=1, keepdims=True)
    of_case = whole.mean(axis=0)
    of_init_case = whole - of_case
    for part, sd in ((of_case, np.hypot(6, 3 / np.sqrt(len(own)))), (of_init_case, 3 * np.sqrt(1 - 1 / len(own)))):
        assert part.std() == pytest.approx(sd, rel=0.1)
        assert (part[..., 0] * part[..., 1]).mean() / part.var() == pytest.approx(0.8, abs=0.08)
