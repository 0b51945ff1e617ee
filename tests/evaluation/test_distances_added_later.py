"""A finished run gets the distances that it would have had; whoever is killed in between leaves it whole."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import initbench
from initbench.audit.add_distances import add_distances as measure_run
from initbench.audit.rescore import read_cases
from initbench.audit.verify import verify
from initbench.errors import InitbenchError, UsageError
from initbench.evaluation.distances import (
    mean_distances,
)
from initbench.runs import store, work
from initbench.runs.record import FIRST_MEASURES, MEASURES
from initbench.tables import study
from initbench.tables.classes import class_sheets
from tests.checks import failed
from tests.evaluation.measured_runs import copy, directly, rows_of
from tests.msd_factory import make_msd
from tests.recorded import reseal
from tests.runs_factory import THIRTY_STEPS, record_of, run


@pytest.mark.parametrize("kept", [False, True])
def test_a_finished_run_gets_the_numbers_it_would_have_had(
    ten_cases: Path, without_distances: Path, with_distances: Path, tmp_path: Path, kept: bool
) -> None:
    folder = copy(without_distances, tmp_path)
    if kept:
        shutil.copytree(with_distances / store.PREDICTIONS, folder / store.PREDICTIONS)
    before, weights = record_of(folder), (folder / store.WEIGHTS).stat().st_mtime_ns
    done = measure_run(folder, tolerance_mm=1.0)
    assert (done.cases, done.source) == (2, "predictions" if kept else "weights")
    assert (folder / store.CASES).read_bytes() == (with_distances / store.CASES).read_bytes()
    record = record_of(folder)
    assert store.problem(folder, store.load_record(folder), thorough=True) == ""
    changed = {key for key in record if record[key] != before[key]}
    means_ = {f"{name}_per_class" for name in MEASURES}
    assert changed == {"distances", *means_, "cost", "files", "sizes", "digest"}
    assert record["dice"] == before["dice"]
    assert record["cost"]["total_seconds"] == before["cost"]["total_seconds"]
    assert (folder / store.WEIGHTS).stat().st_mtime_ns == weights
    checks = verify(folder, steps=2)
    assert failed(checks) == {}
    details = {check.name: check.detail for check in checks}
    assert details["Dice"].endswith("the same counts and distances")
    [again] = run(ten_cases, folder.parents[3], settings=THIRTY_STEPS, distances=True, nsd_tolerance=1.0)
    assert (again.state, again.message) == ("cached", "")
    assert not list(folder.parent.glob(".seed-0*"))


def test_measuring_twice_changes_nothing_and_another_tolerance_replaces(without_distances: Path, tmp_path: Path) -> None:
    folder = copy(without_distances, tmp_path)
    measure_run(folder, tolerance_mm=1.0)
    stamp = (folder / store.RECORD).stat().st_mtime_ns
    assert measure_run(folder, tolerance_mm=1.0).cases == 0
    assert (folder / store.RECORD).stat().st_mtime_ns == stamp
    strict = read_cases(folder)[1]
    assert measure_run(folder, tolerance_mm=5.0).cases == 2
    lenient = read_cases(folder)[1]
    assert record_of(folder)["distances"]["nsd_tolerance_mm"] == 5.0
    for case in strict:
        for one_, other in zip(strict[case], lenient[case], strict=True):
            assert one_.hd95_mm == other.hd95_mm
            assert (one_.nsd or 0) <= (other.nsd or 0)
    assert strict != lenient


def as_of_an_older_version(folder: Path) -> None:
    """Takes the later distances out of a run, so that it is as a version left it that measured HD95 and surface Dice alone."""
    rows = rows_of(folder)
    later = MEASURES[len(FIRST_MEASURES) :]
    kept = [name for name in rows[0] if name not in later]
    with (folder / store.CASES).open("w", newline="") as file:
        writer = csv.DictWriter(file, kept, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    dropped = {f"{name}_per_class" for name in later}
    reseal(folder, {key: value for key, value in record_of(folder).items() if key not in dropped})


def test_a_run_that_an_older_version_measured_reads_and_gets_the_others(
    ten_cases: Path, with_distances: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(with_distances, tmp_path)
    as_of_an_older_version(folder)
    assert failed(verify(folder, steps=1)) == {}
    table = initbench.load_cases(folder.parents[3])
    assert table["nsd"].notna().all()
    assert table["ravd_percent"].isna().all()
    runs = study.read_study(folder.parents[3])
    assert "95 % Hausdorff" in class_sheets(runs, "hd95")[0].title
    with pytest.raises(UsageError, match=r"has assd: `initbench measure .*` adds distances"):
        class_sheets(runs, "assd")
    [again] = run(ten_cases, folder.parents[3], settings=THIRTY_STEPS, distances=True, nsd_tolerance=1.0)
    assert again.message.startswith("without some distances")
    assert measure_run(folder, tolerance_mm=1.0).cases == 2
    assert (folder / store.CASES).read_bytes() == (with_distances / store.CASES).read_bytes()
    assert failed(verify(folder, steps=1)) == {}
    measured = initbench.load_cases(folder.parents[3]).groupby("class_name", observed=True)["assd_mm"].mean()
    [row] = class_sheets(study.read_study(folder.parents[3]), "assd")[0].rows
    assert row[2:] == (*(f"{mean:.2f}" for mean in measured), f"{measured.mean():.2f}")
    for metric in ("ravd", "mssd"):
        assert class_sheets(study.read_study(folder.parents[3]), metric)  # type: ignore[arg-type]


def means(folder: Path) -> dict[str, Any]:
    """Mean distances of a run's table, as its record would have them."""
    found = mean_distances(read_cases(folder)[1], record_of(folder)["resolved"]["classes"])
    return {key: {name: item.written() for name, item in per_class.items()} for key, per_class in found.items()}


def forge(folder: Path, **changes: Any) -> None:
    """Seals a record again with other values, as somebody does who knows the format."""
    reseal(folder, record_of(folder) | changes)


def replace_in_cases(folder: Path, column: str, change: Callable[[str], Any]) -> str:
    """Changes a cell of the first row; gives its case."""
    rows = rows_of(folder)
    rows[0][column] = str(change(rows[0][column]))
    with (folder / store.CASES).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows[0]["case"]


def test_what_was_changed_is_refused(without_distances: Path, tmp_path: Path) -> None:
    folder = copy(without_distances, tmp_path)
    weights = bytearray((folder / store.WEIGHTS).read_bytes())
    weights[-1] ^= 64
    (folder / store.WEIGHTS).write_bytes(bytes(weights))
    before = snapshot(folder)
    with pytest.raises(InitbenchError, match=r"weights\.safetensors was changed"):
        measure_run(folder)
    forge(folder)
    resealed = snapshot(folder)
    with pytest.raises(InitbenchError, match="not the weights that the record names"):
        measure_run(folder)
    assert snapshot(folder) == resealed != before


def test_other_counts_are_refused_by_the_case(without_distances: Path, tmp_path: Path) -> None:
    folder = copy(without_distances, tmp_path)
    case = replace_in_cases(folder, "tp", lambda tp: int(tp) + 1)
    with pytest.raises(InitbenchError, match=r"cases\.csv"):
        measure_run(folder)
    forge(folder)
    before = snapshot(folder)
    with pytest.raises(InitbenchError, match=rf"weights give other counts than cases\.csv holds: {case};"):
        measure_run(folder)
    assert snapshot(folder) == before


def test_changed_predictions_are_refused_by_the_case(with_distances: Path, tmp_path: Path) -> None:
    folder = copy(with_distances, tmp_path)
    path = sorted((folder / store.PREDICTIONS).iterdir())[1]
    image = nibabel.load(path)
    case = path.name.removesuffix(".nii.gz")
    for array, message in (
        (1 - np.minimum(np.asarray(image.dataobj), 1), f"other counts.*{case}"),
        (np.full(image.shape, 3, np.uint8), f"case {case}: .* no label map of 3 classes"),
        (np.zeros((2, 2, 2), np.uint8), f"case {case}: .* no label map"),
    ):
        nibabel.save(nibabel.Nifti1Image(array, image.affine), path)
        with pytest.raises(InitbenchError, match=message):
            measure_run(folder)
    path.unlink()
    with pytest.raises(InitbenchError, match=f"case {case}: .* cannot be read"):
        measure_run(folder)
    assert record_of(folder)["distances"]["nsd_tolerance_mm"] == 1.0


@pytest.mark.parametrize("column", ["hd95_mm", "ravd_percent", "assd_mm", "mssd_mm"])
def test_verify_finds_forged_distances(with_distances: Path, tmp_path: Path, column: str) -> None:
    folder = copy(with_distances, tmp_path)
    case = replace_in_cases(folder, column, lambda value: float(value) / 2)
    forge(folder)
    wrong = failed(verify(folder, steps=1))
    assert wrong["score"] == f"cases.csv gives another {column}_per_class than the record says"
    assert wrong["Dice"] == f"other distances than in cases.csv: {case}"
    forge(folder, **means(folder))
    assert set(failed(verify(folder, steps=1))) == {"Dice"}
    replace_in_cases(folder, column, lambda value: "")
    forge(folder, **means(folder))
    assert set(failed(verify(folder, steps=1))) == {"Dice"}


def test_a_run_without_a_result_is_refused(without_distances: Path, tmp_path: Path) -> None:
    folder = copy(without_distances, tmp_path)
    forge(folder, status="failed", reason="planted")
    with pytest.raises(UsageError, match="has no result: it failed"):
        measure_run(folder)
    with pytest.raises(UsageError, match="no record"):
        measure_run(tmp_path)


def test_other_data_are_refused(ten_cases: Path, without_distances: Path, tmp_path: Path) -> None:
    folder = copy(without_distances, tmp_path)
    changed = make_msd(tmp_path / ten_cases.name, cases=10, classes=3, seed=7)
    forge(folder, asked=record_of(folder)["asked"] | {"dataset": str(changed)})
    with pytest.raises(InitbenchError, match="data_digest changed"):
        measure_run(folder)


def test_a_run_in_other_hands_is_left_alone(without_distances: Path, tmp_path: Path) -> None:
    folder = copy(without_distances, tmp_path)
    with work.claim(folder) as claim:
        assert claim is not None
        with pytest.raises(InitbenchError, match="another process is at it"):
            measure_run(folder)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


STEPS = 8  # changes of files that `measure` makes
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@FORKS
@pytest.mark.parametrize("at", range(STEPS))
def test_whoever_is_killed_leaves_the_run_whole(without_distances: Path, tmp_path: Path, at: int) -> None:
    """`kill -9` of a child at every thing it does to files."""
    folder = copy(without_distances, tmp_path)
    before, counts = record_of(folder), read_cases(folder)[0]
    assert not killed_at(folder, at)
    record = record_of(folder)
    assert store.problem(folder, store.load_record(folder), thorough=True) == ""
    assert store.is_finished(folder)
    assert (record["dice"], record["weights_digest"]) == (before["dice"], before["weights_digest"])
    assert read_cases(folder)[0] == counts
    assert record["distances"] is None or all(row["nsd"] for row in rows_of(folder))
    assert failed(verify(folder, steps=1)) == {}
    measure_run(folder)
    record = record_of(folder)
    assert "coming" not in record
    assert store.problem(folder, store.load_record(folder), thorough=True) == ""
    assert record["distances"]["nsd_tolerance_mm"] == 2.0
    assert all(row["nsd"] for row in rows_of(folder))
    assert not list(folder.parent.glob(".seed-0-*"))


def killed_at(folder: Path, at: int) -> bool:
    """Measures in a forked process that is killed at its `at`-th change of a file; whether it came to its end."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not (writes or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir")):
                return
            if not str(arguments[0]).startswith(str(folder.parent)):
                return
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        sys.addaudithook(hook)
        try:
            measure_run(folder)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


@FORKS
def test_every_change_of_a_file_is_among_them(without_distances: Path, tmp_path: Path) -> None:
    assert killed_at(copy(without_distances, tmp_path / "whole"), STEPS)
    between = copy(without_distances, tmp_path / "between")
    assert not killed_at(between, STEPS - 3)
    assert "coming" in record_of(between)
    assert all(row["nsd"] for row in rows_of(between))


@FORKS
@pytest.mark.parametrize("at", range(STEPS))
def test_a_record_never_names_the_tolerance_of_other_numbers(with_distances: Path, tmp_path: Path, at: int) -> None:
    folder = copy(with_distances, tmp_path)
    assert not killed_at(folder, at)  # on the way from 1 mm to 2 mm
    record = record_of(folder)
    assert failed(verify(folder, steps=1)) == {}
    if record["distances"]:
        kept = record["distances"]["nsd_tolerance_mm"]
        assert read_cases(folder)[1] == directly(Path(record["asked"]["dataset"]), folder / store.PREDICTIONS, kept)
    measure_run(folder, tolerance_mm=1.0)
    assert read_cases(folder)[1] == read_cases(with_distances)[1]
