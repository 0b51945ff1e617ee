"""Runs measure distances where they are asked to, and are the same runs without."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import initbench
from initbench.audit.add_distances import add_distances as measure_run
from initbench.audit.rescore import read_cases
from initbench.audit.verify import verify
from initbench.cli.app import main
from initbench.evaluation.distances import (
    Distances,
    distances_of_case,
    distances_per_class,
    voxel_size,
)
from initbench.harness import score as score_module
from initbench.harness.cell import resolve_cell
from initbench.harness.request import RunRequest, from_json
from initbench.preprocessing.prepare import PreparedCase
from initbench.runs import store
from initbench.runs.record import MEASURES
from tests.checks import failed
from tests.evaluation.measured_runs import directly, rows_of, started
from tests.runs_factory import LIGHT, THIRTY_STEPS, as_flags, record_of

# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_measures_them(ten_cases: Path, with_distances: Path) -> None:
    expected = directly(ten_cases, with_distances / store.PREDICTIONS, 1.0)
    assert len(expected) == 2
    _, found = read_cases(with_distances)
    assert found == expected
    assert any(item.hd95_mm for per_class in expected.values() for item in per_class)
    record = record_of(with_distances)
    assert record["distances"] == {"tool": "monai", "version": monai_version(), "percentile": 95, "nsd_tolerance_mm": 1.0}
    for key in MEASURES:
        values = [getattr(per_class[0], key) for per_class in expected.values()]
        assert record[f"{key}_per_class"]["part 1"]["mean"] == pytest.approx(np.mean([v for v in values if v is not None]))
    cost = record["cost"]
    assert cost["distance_seconds"] > 0
    parts = cost["init"]["seconds"] + cost["train"]["seconds"] + cost["evaluate_seconds"]
    assert cost["total_seconds"] == pytest.approx(parts)  # distances are a measurement and no cost of the init
    table = initbench.load_cases(with_distances.parents[3])
    assert table[["nsd", "ravd_percent"]].notna().all(axis=None)


def test_their_time_is_no_cost(ten_cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour that passes while a case is measured is in no other number."""
    hours = 0

    def slow(*arguments: Any) -> list[Distances]:
        nonlocal hours
        hours += 1
        return distances_of_case(*arguments)

    clock = time.perf_counter
    monkeypatch.setattr(score_module, "distances_of_case", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + 3600 * hours)
    cost = record_of(started(ten_cases, tmp_path, distances=True))["cost"]
    assert hours == 2
    assert cost["distance_seconds"] >= 2 * 3600
    assert cost["total_seconds"] < 3600


def monai_version() -> str:
    import monai

    return str(monai.__version__)


def test_without_asking_there_are_none(without_distances: Path) -> None:
    header = "case,class,class_name,tp,fp,fn,dice,hd95_mm,nsd"  # as before more was measured
    assert (without_distances / store.CASES).read_text().splitlines()[0] == header
    assert {(row["hd95_mm"], row["nsd"]) for row in rows_of(without_distances)} == {("", "")}
    assert initbench.load_cases(without_distances.parents[3])[list(MEASURES)].isna().all(axis=None)
    record = record_of(without_distances)
    assert [record[key] for key in ("distances", *(f"{name}_per_class" for name in MEASURES))] == [None] * 6
    assert record["cost"]["distance_seconds"] == 0


def test_they_are_no_part_of_what_a_run_is(
    without_distances: Path, with_distances: Path, ten_cases: Path, tmp_path: Path
) -> None:
    assert record_of(without_distances)["cell"] == record_of(with_distances)["cell"]
    assert record_of(without_distances)["weights_digest"] == record_of(with_distances)["weights_digest"]
    assert (without_distances / store.CURVE).read_bytes() == (with_distances / store.CURVE).read_bytes()
    assert read_cases(without_distances)[0] == read_cases(with_distances)[0]
    request = RunRequest.of(
        "default", LIGHT, str(ten_cases), 0, budget="smoke", size="tiny", assignments=THIRTY_STEPS, out=tmp_path
    )
    asked = {resolve_cell(from_json({**vars(request), **more})).id for more in ({}, {"distances": True, "nsd_tolerance": 7.0})}
    assert len(asked) == 1
    old = {
        key: value for key, value in record_of(without_distances)["asked"].items() if key not in ("distances", "nsd_tolerance")
    }
    assert resolve_cell(from_json(old, out=tmp_path)).id == record_of(without_distances)["cell"]


def test_a_diverged_run_follows_the_rule_of_empty_predictions(ten_cases: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"assignments": ["optimizer.lr=1e30"]}
    first = started(ten_cases, tmp_path / "a", distances=True, **options)
    assert record_of(first)["status"] == "diverged"
    assert {tuple(row[name] for name in MEASURES) for row in rows_of(first)} == {("", "0.0", "100.0", "", "")}
    assert record_of(first)["hd95_mm_per_class"]["part 2"] == {
        "mean": None, "cases": 0, "reference_empty": 0, "prediction_empty": 2,
    }  # fmt: skip
    later = started(ten_cases, tmp_path / "b", **options)
    assert measure_run(later).source == "empty predictions"
    assert rows_of(later) == rows_of(first)
    assert failed(verify(later, steps=1)) == {}


def test_the_command_line(ten_cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--init", "default", "--backbone", LIGHT, "--dataset", str(ten_cases), "--out", str(tmp_path / "runs")]
    arguments += ["--size", "tiny", "--budget", "smoke", "--device", "cpu", "--precision", "float32"]
    arguments += as_flags(THIRTY_STEPS)
    assert exit_code(arguments) == 0
    capsys.readouterr()
    assert exit_code([*arguments, "--distances"]) == 0
    assert "cached" in (printed := capsys.readouterr().out)
    assert f"`initbench measure {tmp_path / 'runs'} --nsd-tolerance 2` adds them" in printed
    assert exit_code(["measure", str(tmp_path / "runs")]) == 0
    assert "2 cases from the weights" in capsys.readouterr().out
    assert exit_code([*arguments, "--distances"]) == 0
    assert "initbench measure" not in capsys.readouterr().out
    assert exit_code([*arguments, "--distances", "--nsd-tolerance", "1"]) == 0
    assert "--nsd-tolerance 1` adds them" in capsys.readouterr().out
    [folder] = [path.parent for path in tmp_path.rglob(store.RECORD)]
    assert exit_code(["measure", str(folder), "--nsd-tolerance", "1", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["state"], row["cases"]) == ("measured", 2)
    assert exit_code(["measure", str(folder), "--nsd-tolerance", "1"]) == 0
    assert "its distances are there" in capsys.readouterr().out
    assert exit_code(["describe", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "HD95 (mm)" in printed
    assert "surface Dice (1 mm)" in printed
    assert all(name in printed for name in ("RAVD (%)", "ASSD (mm)", "MSSD (mm)"))
    (folder / store.CURVE).unlink()
    assert exit_code(["measure", str(folder)]) == 1
    assert "curve.csv is missing" in capsys.readouterr().out
    assert exit_code(["measure", str(tmp_path / "nowhere")]) == 2
    assert exit_code(["measure", str(folder), "--nsd-tolerance", "-1"]) == 2


def exit_code(arguments: list[str]) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


# --- finished runs ----------------------------------------------------------------------------------------------------


def test_the_case_of_a_scored_label_is_measured_on_its_own_grid(ten_cases: Path, with_distances: Path) -> None:
    """Spacings differ from case to case: another case's affine gives other numbers."""
    record = record_of(with_distances)
    prepared = resolve_cell(from_json(record["asked"])).prepared
    cases: list[PreparedCase] = [prepared.case(case) for case in prepared.split.test]
    sizes = [voxel_size(case.affine) for case in cases]
    assert sizes[0] != pytest.approx(sizes[1])
    path = with_distances / store.PREDICTIONS / f"{cases[0].id}.nii.gz"
    prediction = np.asarray(nibabel.load(path).dataobj, np.uint8)
    own, other = (distances_per_class(np.asarray(cases[0].reference), prediction, case.affine, 3, 1.0) for case in cases)
    assert own == read_cases(with_distances)[1][cases[0].id] != other
