"""Whether a finished run is what it says: its files, its Dice made anew, its first steps trained again."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from safetensors.torch import load_model

from initbench import dice, seeding
from initbench.errors import InitbenchError, UsageError
from initbench.evaluation.evaluate import Evaluator, score_cases
from initbench.evaluation.metrics import count
from initbench.harness import record as records
from initbench.harness.cell import Cell, from_json, resolve
from initbench.harness.coverage import state_digest
from initbench.harness.execute import folder_of
from initbench.harness.hardware import environment
from initbench.harness.run import Run
from initbench.protocols import NoProgress, Progress
from initbench.runs import store
from initbench.validation.checks import BrokenPromiseError, Check, run_check

_ELSEWHERE = 0.02  # relative difference of a first loss that another machine's arithmetic explains


@dataclass(frozen=True)
class _Written:
    """A run as it lies there."""

    folder: Path
    record: dict[str, Any]


@dataclass(frozen=True)
class _Repeatable:
    """A run that can be made again."""

    folder: Path
    record: dict[str, Any]
    cell: Cell
    steps: int
    progress: Progress


def verify(folder: Path, *, steps: int = 20, device: str | None = None, progress: Progress | None = None) -> list[Check]:
    """Looks at everything that can be made anew without training the whole run again.

    Args:
        folder: a run's folder.
        steps: first steps that are trained again.
        device: where, by default as the run was asked for.
        progress: told of progress.

    Raises:
        UsageError: there is no run, or one without a result.
    """
    record = store.read_record(folder)
    if record is None:
        raise UsageError(f"{folder} holds no record of a run that can be read ({store.RECORD})")
    if record["status"] not in store.FINISHED:
        raise UsageError(f"{folder} has no result: it {record['status']} ({record['reason']})")
    written = _Written(folder, record)
    checks = [run_check("files", _files, written), run_check("score", _score, written)]
    try:
        changes: dict[str, Any] = {"out": folder.parents[3], **({"device": device} if device else {})}
        cell = resolve(from_json(record["asked"], **changes), progress)
    except InitbenchError as error:
        return [*checks, Check("settings", False, f"the run cannot be made again here: {error}", 0.0)]
    subject = _Repeatable(folder, record, cell, steps, progress or NoProgress())
    checks.append(run_check("settings", _settings, subject))
    if not checks[-1].passed:
        return checks
    with seeding.deterministic(cell.request.threads):
        return [*checks, run_check("Dice", _dice, subject), run_check("steps", _steps, subject)]


def _files(run: _Written) -> str:
    problem = store.problem(run.folder, run.record, thorough=True)
    if problem:
        raise BrokenPromiseError(problem)
    return f"{', '.join([store.RECORD, *run.record['files']])} are as they were written"


def _counts(folder: Path) -> records.CaseCounts:
    table = pd.read_csv(folder / store.CASES, dtype={"case": str}, keep_default_na=False).sort_values("class", kind="stable")
    found: dict[str, list[dice.Counts]] = {}
    for case, tp, fp, fn in zip(table["case"], table["tp"], table["fp"], table["fn"], strict=True):
        found.setdefault(str(case), []).append(dice.Counts(int(tp), int(fp), int(fn)))
    return list(found.items())


def _score(run: _Written) -> str:
    made = dice.run_dice([counts for _, counts in _counts(run.folder)])
    said = run.record["dice"]
    if (said is None) != math.isnan(made) or (said is not None and abs(made - said) > 1e-12):
        raise BrokenPromiseError(f"{store.CASES} gives a Dice of {made:.6f}, the record says {said}")
    return f"the counts of {store.CASES} give the Dice of the record"


def _settings(subject: _Repeatable) -> str:
    cell, record = subject.cell, subject.record
    if cell.id != record["cell"]:
        changed = [key for key in ("data_digest", "init_source", "backbone_source") if _now(cell, key) != record["resolved"][key]]
        what = ", ".join(changed) or "the recipe, or initbench itself"
        raise BrokenPromiseError(f"the same request is another run today ({folder_of(cell).parent.name}): {what} changed")
    return f"the same request is the same run today ({cell.id[:10]})"


def _now(cell: Cell, key: str) -> Any:
    return cell.prepared.digest if key == "data_digest" else cell.identity[key]


def _dice(subject: _Repeatable) -> str:
    """Counts from the stored predictions where there are some, else from the weights."""
    if subject.record["status"] == "diverged":
        return "not looked at: the run diverged and scores worst"
    said = dict(_counts(subject.folder))
    stored = subject.folder / store.PREDICTIONS
    made = _from_predictions(subject, stored) if stored.is_dir() else _from_weights(subject)
    wrong = sorted(case for case in said.keys() | made.keys() if said.get(case) != made.get(case))
    if wrong:
        raise BrokenPromiseError(f"other counts than in {store.CASES}: {', '.join(wrong)}")
    return f"{len(made)} cases scored again from the {'predictions' if stored.is_dir() else 'weights'}: the same counts"


def _from_predictions(subject: _Repeatable, stored: Path) -> dict[str, list[dice.Counts]]:
    prepared = subject.cell.prepared
    found = {}
    for case_id in prepared.split.test:
        reference = np.asarray(prepared.case(case_id).reference)
        prediction = np.asarray(nibabel.load(stored / f"{case_id}.nii.gz").dataobj)
        found[case_id] = count(reference, prediction, len(prepared.classes))
    return found


def _from_weights(subject: _Repeatable) -> dict[str, list[dice.Counts]]:
    cell = subject.cell
    run = Run(cell, subject.folder, subject.progress)
    model = run.construct()
    load_model(model, subject.folder / store.WEIGHTS)
    if state_digest(model) != subject.record["weights_digest"]:
        raise BrokenPromiseError(f"{store.WEIGHTS} are not the weights that the record names")
    evaluator = Evaluator(model.to(run.device), cell.recipe.patch.size, cell.recipe.inference, cell.precision, run.device)
    subject.progress.start("evaluate", len(cell.prepared.split.test))
    found = {}
    for done, scored in enumerate(score_cases(evaluator, cell.prepared), start=1):
        found[scored.case.id] = scored.counts
        subject.progress.advance(done, {})
    return found


def _steps(subject: _Repeatable) -> str:
    """Losses of the first steps, bit for bit where machine and packages are the same, else roughly and of the first alone."""
    run = Run(subject.cell, subject.folder, subject.progress)
    made = run.first_steps(subject.steps)
    stage = "pretext" if subject.cell.init_info.learned else "train"
    said = _curve(subject.folder, stage)
    if records.fingerprint(environment(run.device, subject.cell.request.threads)) != subject.record["environment"]["fingerprint"]:
        first, known = made[0]["loss"], said[0]["loss"]
        if not math.isclose(first, known, rel_tol=_ELSEWHERE):
            raise BrokenPromiseError(f"the first loss is {first:.6g} here and {known:.6g} there, more than arithmetic explains")
        return f"another machine or other packages: the first loss agrees ({first:.6g}, {known:.6g}), bits are not compared"
    if len(said) < len(made):
        raise BrokenPromiseError(f"{store.CURVE} holds {len(said)} steps of the {stage} stage, the run had {len(made)} or more")
    for ours, theirs in zip(made, said, strict=False):
        differs = [name for name, value in ours.items() if value != theirs.get(name)]
        if differs:
            name, step = differs[0], int(ours["step"])
            raise BrokenPromiseError(f"{name} of {stage} step {step} is {ours[name]} here and {theirs.get(name)} there")
    return f"{len(made)} steps of the {stage} stage trained again: the same bits"


def _curve(folder: Path, stage: str) -> list[dict[str, float]]:
    """Rows of a stage's learning curve, every digit of them: pandas rounds in some of its versions."""
    with (folder / store.CURVE).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == stage]
    return [{name: float(value) for name, value in row.items() if name != "stage" and value} for row in rows]
