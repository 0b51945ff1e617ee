"""Checks that a finished run is what it says: its files, its data, its Dice made anew, its first steps trained again."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from initbench import cache, dice, seeding
from initbench.audit.code import check_code
from initbench.audit.rescore import asked, difference, other_counts, read_cases, rescore, source, without_result
from initbench.errors import InitbenchError, UsageError
from initbench.evaluation.distances import CaseDistances, Distances, distances_of_case, mean_distances
from initbench.harness import record as records
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.hardware import environment
from initbench.harness.run import Run
from initbench.limits import MAX_TABLE, read_regular
from initbench.protocols import NoProgress, Progress
from initbench.runs import store
from initbench.runs.record import Record, RecordError
from initbench.tables.words import count
from initbench.validation.checks import BrokenPromiseError, Check, run_check

_ROUNDING = 1e-5  # relative difference of two distances that float32 explains
_NAMED = 5  # damaged cases in a message
_ELSEWHERE = 0.02  # relative difference of a first loss that another machine's arithmetic explains


@dataclass(frozen=True)
class _Written:
    """A run as it lies there."""

    folder: Path
    record: Record


@dataclass(frozen=True)
class _Repeatable:
    """A run that can be made again."""

    folder: Path
    record: Record
    cell: Cell
    steps: int
    progress: Progress


def verify(
    folder: Path,
    *,
    steps: int = 20,
    device: str | None = None,
    data_root: Path | None = None,
    run_code: bool = False,
    progress: Progress | None = None,
) -> list[Check]:
    """Looks at everything that can be made anew without training the whole run again.

    Every file of the data set and every cached array is read. No remembered digest is used.

    Args:
        folder: a run's folder.
        steps: first steps that are trained again.
        device: where, by default as the run was asked for.
        data_root: folder that holds the data sets, likewise.
        run_code: whether Python files that the record names may be run, wherever they lie.
        progress: told of progress.

    Raises:
        UsageError: there is no run, or one without a result.
    """
    try:
        record = store.load_record(folder)
    except RecordError as error:
        if not store.has_record(folder):
            raise UsageError(
                f"{folder} holds no run ({store.RECORD}); name the folder of a run, which is called seed-N"
            ) from None
        return [Check("record", False, f"{store.RECORD} cannot be used: {error}", 0.0)]
    if not record.has_result:
        raise UsageError(without_result(folder, record))
    written = _Written(folder, record)
    checks = [run_check("files", _files, written), run_check("score", _score, written)]
    try:
        with cache.reading_everything():
            check_code(folder, record, consent=run_code)
            cell = resolve_cell(asked(folder, record, device, data_root), progress)
    except Exception as error:  # readers and inits of others raise what they like
        reason = str(error)
        if not isinstance(error, InitbenchError):
            reason = f"{type(error).__name__}: {error}"
        return [*checks, Check("settings", False, f"the run cannot be made again here: {reason}", 0.0)]
    subject = _Repeatable(folder, record, cell, steps, progress or NoProgress())
    checks.append(run_check("settings", _settings, subject))
    if not checks[-1].passed:
        return checks
    checks.append(run_check("data", _data, subject))
    with seeding.deterministic(cell.request.threads):
        return [*checks, run_check("Dice", _dice, subject), run_check("steps", _steps, subject)]


def _files(run: _Written) -> str:
    problem = store.problem(run.folder, run.record, thorough=True)
    if problem:
        raise BrokenPromiseError(problem)
    return f"{', '.join([store.RECORD, *run.record.files])} are as they were written"


def _score(run: _Written) -> str:
    counts, distances = read_cases(run.folder)
    made = dice.run_dice(list(dict(counts).values()))
    record = run.record
    _check_dice(store.CASES, made, record.dice)
    if store.CASES_RESAMPLED in record.files:
        beside, _ = read_cases(run.folder, store.CASES_RESAMPLED)
        _check_dice(store.CASES_RESAMPLED, dice.run_dice(list(dict(beside).values())), record.dice_resampled)
    if record.distances is None:
        return f"the counts of {store.CASES} give the Dice of the record"
    averaged = mean_distances(distances, record.resolved.classes)
    wrong = []
    for measure in record.measures:
        name = f"{measure}_per_class"
        if averaged[name] != getattr(record, name):
            wrong.append(name)
    if wrong:
        raise BrokenPromiseError(f"{store.CASES} gives another {' and '.join(wrong)} than the record says")
    return f"{store.CASES} gives the Dice and the mean distances of the record"


def _check_dice(table: str, made: float, said: float | None) -> None:
    if (said is None) != math.isnan(made) or (said is not None and abs(made - said) > 1e-12):
        raise BrokenPromiseError(f"{table} gives a Dice of {made:.6f}, the record says {said}")


def _settings(subject: _Repeatable) -> str:
    problem = difference(subject.cell, subject.record)
    if problem:
        raise BrokenPromiseError(problem)
    return f"the same request is the same run today ({subject.cell.id[:10]})"


def _data(subject: _Repeatable) -> str:
    """Reads every cached array. That the files have the digest of the record was checked with the settings."""
    prepared = subject.cell.prepared
    mended = sorted(prepared.mend())
    if mended:
        named = ", ".join(mended[:_NAMED])
        if len(mended) > _NAMED:
            named += f" and {len(mended) - _NAMED} more"
        raise BrokenPromiseError(
            f"the cache held damaged arrays of {named}. They were made again from the files, and the "
            "checks below use those; verify the run once more"
        )
    return f"{len(prepared.keys)} cases: files have the digest of the record, cached arrays are as they were written"


def _dice(subject: _Repeatable) -> str:
    """Scores the cases again, and measures distances where the run has some, as `rescore` does."""
    if subject.record.status == "diverged":
        return "not looked at: the run diverged and scores worst"
    counts, distances, resampled = _made_again(subject)
    said, said_distances = read_cases(subject.folder)
    wrong = other_counts(said, counts)
    if wrong:
        raise BrokenPromiseError(f"other counts than in {store.CASES}: {', '.join(wrong)}")
    measures = subject.record.measures
    wrong = sorted(case for case, made in distances.items() if not _alike(made, said_distances[case], measures))
    if wrong:
        raise BrokenPromiseError(f"other distances than in {store.CASES}: {', '.join(wrong)}")
    if resampled:
        wrong = other_counts(read_cases(subject.folder, store.CASES_RESAMPLED)[0], resampled)
        if wrong:
            raise BrokenPromiseError(f"other counts than in {store.CASES_RESAMPLED}: {', '.join(wrong)}")
    same = "counts"
    if distances:
        same = "counts and distances"
    return f"{count(len(counts), 'case')} scored again from the {source(subject.folder, subject.record)}: the same {same}"


def _made_again(
    subject: _Repeatable,
) -> tuple[dict[str, list[dice.Counts]], CaseDistances, dict[str, list[dice.Counts]]]:
    """Returns counts, distances, and counts on the preprocessed grid; none of these where stored predictions, on the native grid,
    are scored.
    """
    measured = subject.record.distances
    counts: dict[str, list[dice.Counts]] = {}
    distances: CaseDistances = {}
    resampled: dict[str, list[dice.Counts]] = {}
    try:
        for scored in rescore(subject.cell, subject.folder, subject.record, subject.progress):
            counts[scored.case.id] = scored.counts
            if scored.resampled is not None:
                resampled[scored.case.id] = scored.resampled
            if measured:
                distances[scored.case.id] = distances_of_case(scored, measured.nsd_tolerance_mm)
    except InitbenchError as error:
        raise BrokenPromiseError(str(error)) from None
    return counts, distances, resampled


def _alike(made: Sequence[Distances], said: Sequence[Distances], measures: Sequence[str]) -> bool:
    """Returns whether the same numbers are there, up to rounding, which may change with MONAI's version."""
    for one, other in zip(made, said, strict=True):
        for name in measures:
            now, then = getattr(one, name), getattr(other, name)
            if now is None or then is None:
                if now is not then:
                    return False
            elif not math.isclose(now, then, rel_tol=_ROUNDING):
                return False
    return True


def _steps(subject: _Repeatable) -> str:
    """Trains the first steps again and compares the bits of every loss; on another machine, the first loss alone and roughly."""
    run = Run(subject.cell, subject.folder, subject.progress)
    made = run.first_steps(subject.steps)
    stage = "train"
    if subject.cell.init_info.learned:
        stage = "pretext"
    said = _curve(subject.folder, stage)
    if records.fingerprint(environment(run.device, subject.cell.request.threads)) != subject.record.environment.fingerprint:
        first, known = made[0]["loss"], said[0]["loss"]
        if not math.isclose(first, known, rel_tol=_ELSEWHERE):
            raise BrokenPromiseError(f"the first loss is {first:.6g} here and {known:.6g} there, more than arithmetic explains")
        why = "another machine or other packages"
        if subject.record.environment.fast:
            why = "plain steps, where the run had --fast"
        return f"{why}: the first loss agrees ({first:.6g}, {known:.6g}), bits are not compared"
    if len(said) < len(made):
        raise BrokenPromiseError(f"{store.CURVE} holds {len(said)} steps of the {stage} stage, the run had {len(made)} or more")
    for ours, theirs in zip(made, said, strict=False):
        differs = [name for name, value in ours.items() if not _same(value, theirs[name])]
        if differs:
            name, step = differs[0], int(ours["step"])
            raise BrokenPromiseError(f"{name} of {stage} step {step} is {ours[name]} here and {theirs[name]} there")
    return f"{len(made)} steps of the {stage} stage trained again: the same bits"


def _curve(folder: Path, stage: str) -> list[dict[str, float]]:
    """Reads the rows of a stage's learning curve with every digit: some versions of pandas round."""
    text = read_regular(folder / store.CURVE, MAX_TABLE).decode("utf-8")
    found = []
    for row in csv.DictReader(io.StringIO(text, newline="")):
        if row.pop("stage") != stage:
            continue
        numbers = {name: float(value or "nan") for name, value in row.items()}
        found.append(numbers)
    return found


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
