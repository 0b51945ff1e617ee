"""The reported cases of a finished run once more: as its tables have them, and made again from its predictions or weights."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_model

from initbench import dice
from initbench.datasets.files.nifti import opened
from initbench.errors import InitbenchError, UsageError
from initbench.evaluation.distances import CaseDistances, Distances
from initbench.evaluation.evaluate import Scored, score_cases, score_empty, scored
from initbench.harness.cell import Cell
from initbench.harness.coverage import state_digest
from initbench.harness.execute import folder_of
from initbench.harness.record import CaseCounts, resolved
from initbench.harness.request import RunRequest, data_below, from_json
from initbench.harness.run import Run
from initbench.limits import MAX_TABLE, read_regular
from initbench.printable import printable
from initbench.protocols import Progress
from initbench.runs import store
from initbench.runs.record import MEASURES, Record, RecordError

_PUT_BACK = "put it back as the run wrote it, or run the run again"


def finished_record(folder: Path) -> Record:
    """Reads the record of a run that has a result.

    Raises:
        UsageError: there is no run, or one without a result.
    """
    try:
        record = store.load_record(folder)
    except RecordError as error:
        raise UsageError(
            f"{folder} holds no record of a run that can be used: {store.RECORD}: {error}; name the folder of a finished run"
        ) from None
    if not record.has_result:
        raise UsageError(without_result(folder, record))
    return record


def without_result(folder: Path, record: Record) -> str:
    """Says that a run has no result, and why."""
    return f"{folder} has no result: it {record.status} ({printable(record.reason or 'nobody knows why')})"


def asked(folder: Path, record: Record, device: str | None = None, data_root: Path | None = None) -> RunRequest:
    """Returns the request of a run, so that it can be made again from wherever the run lies now.

    Args:
        folder: the run's.
        record: the run's.
        device: where to run; by default where the run was asked for.
        data_root: folder that holds the data sets now, by default as the run was asked for.
    """
    above = folder.resolve().parents
    # A run may have been copied out of its study. What --fast made is looked at with plain steps.
    changes: dict[str, Any] = {"out": above[min(3, len(above) - 1)], "fast": False}
    if device:
        changes["device"] = device
    if data_root:
        changes |= data_below(data_root, record.asked.dataset)
    return from_json(record.asked.written(), **changes)


def difference(cell: Cell, record: Record) -> str:
    """Says why the request of a record is another run today; empty where it is the same run."""
    if cell.id == record.cell:
        return ""
    now, then = resolved(cell), record.resolved
    sources = ("data_digest", "init_source", "backbone_source")
    changed = [key for key in sources if getattr(now, key) != getattr(then, key)]
    what = ", ".join(changed) or "the recipe, or initbench itself"
    return f"the same request is another run today ({folder_of(cell).parent.name}): {what} changed"


def read_cases(folder: Path, table: str = store.CASES) -> tuple[CaseCounts, CaseDistances]:
    """Reads the counts and distances of cases.csv, or of another table, with every digit: some versions of pandas round."""
    text = read_regular(folder / table, MAX_TABLE).decode("utf-8")
    rows = sorted(csv.DictReader(io.StringIO(text, newline="")), key=lambda row: int(row["class"]))
    counts: dict[str, list[dice.Counts]] = {}
    distances: CaseDistances = {}
    for row in rows:
        counts.setdefault(row["case"], []).append(dice.Counts(int(row["tp"]), int(row["fp"]), int(row["fn"])))
        measured: dict[str, float | None] = dict.fromkeys(MEASURES)
        for name in MEASURES:
            if row.get(name):  # tables of older versions lack the later columns
                measured[name] = float(row[name])
        distances.setdefault(row["case"], []).append(Distances(**measured))
    return list(counts.items()), distances


def other_counts(said: CaseCounts, made: Mapping[str, Sequence[dice.Counts]]) -> list[str]:
    """Returns the cases whose counts differ, or that only one of both has, sorted."""
    known = dict(said)
    return sorted(case for case in known.keys() | made.keys() if known.get(case) != made.get(case))


def source(folder: Path, record: Record) -> str:
    """Returns what `rescore` scores: ``predictions``, ``weights``, or ``empty predictions`` of a run that diverged."""
    if record.status == "diverged":
        return "empty predictions"
    if (folder / store.PREDICTIONS).is_dir():
        return "predictions"
    return "weights"


def rescore(cell: Cell, folder: Path, record: Record, progress: Progress) -> Iterator[Scored]:
    """Scores the reported cases again: stored predictions where the run kept them, else predictions made with its weights.

    Of a run that diverged it scores empty predictions.

    Args:
        cell: of the run, as it is resolved today.
        folder: the run's.
        record: the run's.
        progress: told of progress.

    Raises:
        InitbenchError: a prediction cannot be used, or the record names other weights.
    """
    kind = source(folder, record)
    if kind == "empty predictions":
        found = score_empty(cell.prepared, cell.recipe.inference)
    elif kind == "predictions":
        found = _from_predictions(cell, folder / store.PREDICTIONS)
    else:
        found = _from_weights(cell, folder, record, progress)
    progress.start("evaluate", len(cell.prepared.split.test))
    for done, item in enumerate(found, start=1):
        yield item
        progress.advance(done, {})


def read_prediction(case_id: str, path: Path) -> NDArray[Any]:
    """Reads a stored prediction to the file's end.

    Raises:
        InitbenchError: it cannot be read, or is damaged.
    """
    if not path.is_file():  # to open a pipe would take for ever
        raise InitbenchError(f"case {case_id}: {path} cannot be read (there is no such file); {_PUT_BACK}")
    try:
        with opened(path) as file:
            return np.asarray(file.dataobj)
    except Exception as error:  # a damaged header may be anything, and so is what nibabel and numpy raise on it
        raise InitbenchError(f"case {case_id}: {path} cannot be read ({error}); {_PUT_BACK}") from None


def _from_predictions(cell: Cell, stored: Path) -> Iterator[Scored]:
    classes = len(cell.prepared.classes)
    for case_id in cell.prepared.split.test:
        case = cell.prepared.case(case_id)
        path = stored / f"{case_id}.nii.gz"
        prediction = read_prediction(case_id, path)
        if prediction.shape != case.reference.shape or prediction.dtype != np.uint8 or prediction.max(initial=0) >= classes:
            raise InitbenchError(f"case {case_id}: {path} is no label map of {classes} classes on the case's grid; {_PUT_BACK}")
        yield scored(cell.prepared, case, prediction)


def _from_weights(cell: Cell, folder: Path, record: Record, progress: Progress) -> Iterator[Scored]:
    weights = folder / store.WEIGHTS
    if not weights.is_file():  # to open a pipe would take for ever
        raise InitbenchError(f"there is no file {store.WEIGHTS}; {_PUT_BACK}")
    run = Run(cell, folder, progress)
    model = run.construct()
    load_model(model, weights)
    if state_digest(model) != record.weights_digest:
        raise InitbenchError(f"{store.WEIGHTS} are not the weights that the record names; {_PUT_BACK}")
    yield from score_cases(run.evaluator(model.to(run.device)), cell.prepared)
