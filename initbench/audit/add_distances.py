"""Measures the distances of finished runs without training, and adds them to the records and tables of the runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from initbench import seeding
from initbench.audit.code import check_code
from initbench.audit.rescore import asked, difference, finished_record, other_counts, read_cases, rescore, source
from initbench.errors import InitbenchError
from initbench.evaluation.distances import CaseDistances, distances_of_case, record_distances
from initbench.harness import record as records
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.request import check_tolerance
from initbench.protocols import NoProgress, Progress
from initbench.runs import store, work
from initbench.runs.record import Record


@dataclass(frozen=True)
class AddedDistances:
    """What was done for a run: `cases` measured in `seconds` from `source`; no cases where the run had the distances."""

    folder: Path
    cases: int
    seconds: float
    source: str


def add_distances(
    folder: Path,
    *,
    tolerance_mm: float = 2.0,
    device: str | None = None,
    data_root: Path | None = None,
    run_code: bool = False,
    progress: Progress | None = None,
) -> AddedDistances:
    """Adds distances to a finished run. It replaces distances of another tolerance, and completes what older versions measured.

    The reported cases are predicted again from the weights, or read where predictions were kept, and have to give the counts
    that the run has. A call that is stopped leaves the run whole, with the result it had.

    Args:
        folder: a run's folder.
        tolerance_mm: of the surface Dice.
        device: where to predict; by default where the run was asked for.
        data_root: folder that holds the data sets, likewise.
        run_code: whether Python files that the record names may be run, wherever they lie.
        progress: told of progress.

    Raises:
        UsageError: there is no run with a result, no such tolerance, or the code may not be run. InitbenchError: the run is not
            as it was written, is another one today, gives other counts (names the cases), or is in the hands of another process.
        OSError: the folder cannot be written.
    """
    check_tolerance(tolerance_mm)
    folder = folder.resolve()
    record = finished_record(folder)
    check_code(folder, record, consent=run_code)
    cell = resolve_cell(asked(folder, record, device, data_root), progress)
    with work.claim(folder) as claim:
        if claim is None:
            raise InitbenchError(f"{folder}: another process is at it; wait until it is done")
        claim.state |= {"state": "evaluating"}
        try:
            return _measure(cell, folder, tolerance_mm, progress or NoProgress())
        finally:
            claim.finished()


def _measure(cell: Cell, folder: Path, tolerance_mm: float, progress: Progress) -> AddedDistances:
    record = finished_record(folder)
    problem = store.problem(folder, record, thorough=True) or difference(cell, record)
    if problem:
        raise InitbenchError(
            f"{folder}: {problem}; nothing is measured on it. Put the run back as it was written, or run it again"
        )
    if record.has_distances(tolerance_mm):
        return AddedDistances(folder, 0, 0.0, "")
    said, _ = read_cases(folder)
    made, distances, seconds = _made_again(cell, folder, record, tolerance_mm, progress)
    wrong = other_counts(said, made)
    if wrong:
        raise InitbenchError(
            f"{folder}: its {source(folder, record)} give other counts than {store.CASES} holds: {', '.join(wrong)}; "
            "nothing is measured. Another device or other packages may do that: see `initbench verify`"
        )
    classes = cell.prepared.reported
    write = partial(records.write_cases, scored=said, classes=classes, distances=distances, first=cell.prepared.first)
    # Until both files are replaced the record speaks of no distances, so it never names a tolerance that cases.csv is not of.
    before = record.changed(**record_distances(None, classes, tolerance_mm))
    cost = record.cost.model_copy(update={"distance_seconds": seconds})
    after = record.changed(**record_distances(distances, classes, tolerance_mm), cost=cost)
    store.amend(folder, before, write, after)
    return AddedDistances(folder, len(said), seconds, source(folder, record))


def _made_again(
    cell: Cell, folder: Path, record: Record, tolerance_mm: float, progress: Progress
) -> tuple[dict[str, Any], CaseDistances, float]:
    counts: dict[str, Any] = {}
    distances: CaseDistances = {}
    seconds = 0.0
    with seeding.deterministic(cell.request.threads):
        for scored in rescore(cell, folder, record, progress):
            counts[scored.case.id] = scored.counts
            started = time.perf_counter()
            distances[scored.case.id] = distances_of_case(scored, tolerance_mm)
            seconds += time.perf_counter() - started
    return counts, distances, seconds
