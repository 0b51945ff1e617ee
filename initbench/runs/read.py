"""Reading results back as tables. No torch."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from initbench.choices import CountedOn
from initbench.errors import UsageError
from initbench.limits import MAX_SLICE, MAX_TABLE, open_regular, read_regular
from initbench.printable import printable
from initbench.runs import store
from initbench.runs.cases import CASE_KEYS, CSV, CaseTable, parse_cases, split_table
from initbench.runs.patients import Collected, Disagreement, Unsaid
from initbench.runs.record import Git, Head, Record, RecordError
from initbench.runs.status import first_asked

_COLUMNS = (
    "init", "backbone", "dataset", "seed", "status", "dice", "variant", "size", "budget", "steps", "protocol", "precision",
    "split", "training_cases", "recipe", "regimen", "fixed_streams", "dice_policy", "cell", "learned", "external", "origin",
    "changed_share", "init_seconds", "train_seconds", "total_seconds", "init_steps", "train_steps", "peak_memory", "device",
    "environment", "weights_digest", "reason", "path", "gpu", "commit", "labels", "asked", "data_digest", "data_place",
    "taps_left_out", "regimen_budget", "regimen_summary", "units",
)  # fmt: skip

# Where predictions are counted: on the image's own grid, or on the one that networks see, as some released code does.
_FILES: dict[CountedOn, str] = {"native": store.CASES, "resampled": store.CASES_RESAMPLED}
_SCORED = ("ok", "diverged")
UNCOUNTED = "native grid only"  # the status of a run that has no counts on the grid asked for
_FLOATS = ("dice", "changed_share", "init_seconds", "train_seconds", "total_seconds", "units")  # also where no run has any


def load_runs(path: str | Path) -> pd.DataFrame:
    """Reads a row per run below `path`, in the order of their folders.

    `dice` is the run's score as a fraction: mean over scored classes, then over cases; 0 for a diverged run, missing for a failed
    one and for one whose files are not as they were written (status ``invalid``). `recipe` is the digest of the resolved recipe;
    seconds are of the init stage, of training, and of both with evaluation. `training_cases` is how many it trained on, `asked`
    when a command first asked for it, `commit` the commit of the code where it ran from a checkout, `labels` the names of the
    values in its label maps, `data_place` where its data set was, `taps_left_out` the encoder levels that an order prediction
    did not ask, as they leave no two slabs. `units` are passes through the network in both stages, a forward 1 and
    a backward 2; they are missing of runs that are older than this count. `regimen_budget` is ``any`` for plain runs, and
    `regimen_summary` is what a regimen says of itself.

    Raises:
        UsageError: there is no such folder.
    """
    return _frame(path, [_row(run) for run in _runs(path, [])])


def load_cases(path: str | Path) -> pd.DataFrame:
    """Reads a row per run, case and class: ``tp, fp, fn, dice`` and the run's init, backbone, dataset, seed, cell.

    `dice` is missing where the reference lacks the class. Columns of text are categorical.

    Raises:
        UsageError: there is no such folder.
    """
    return read_runs(path).cases


@dataclass(frozen=True)
class Unreadable:
    """A run folder whose record cannot be used, and why."""

    folder: Path
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.folder}: {store.RECORD} is kept off: {self.reason}")


@dataclass(frozen=True)
class Loaded:
    """What lies below a folder: the tables of `load_runs` and `load_cases`, and the runs whose record cannot be used.

    Attributes:
        patients: the patient of each reported case, by cell; of cells of which a finished run's record says it.
        unsaid: the other cells with finished runs, and where their data sets were.
        disagreements: cells whose runs name different patients; the run that finished last says whose its cases are.
    """

    runs: pd.DataFrame
    cases: pd.DataFrame
    unreadable: tuple[Unreadable, ...]
    patients: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unsaid: Mapping[str, Unsaid] = field(default_factory=dict)
    disagreements: Mapping[str, Disagreement] = field(default_factory=dict)


def read_runs(path: str | Path, grid: CountedOn = "native") -> Loaded:
    """Reads everything below `path` once; finished runs without counts on the `grid` have the status `UNCOUNTED` and no Dice.

    Raises:
        UsageError: there is no such folder.
    """
    file = _FILES[grid]
    rows: list[dict[str, Any]] = []
    tables: list[CaseTable] = []
    unreadable: list[Unreadable] = []
    seen = Collected()
    for run in _runs(path, unreadable):
        if not run.problem:
            seen.see(run.folder, run.record)
        row = _row(run, grid)
        if row["status"] in _SCORED:
            try:
                tables.append(_table(run, row, file))
            except OSError as error:
                row |= _invalid(f"{file} cannot be read: {error.strerror}")
        rows.append(row)
    parsed = parse_cases(tables)
    for row in rows:
        problem = parsed.problems.get(Path(row["path"]))
        if problem:
            row.update(_invalid(f"{file}: {problem}"))
    return Loaded(_frame(path, rows), parsed.rows, tuple(unreadable), seen.patients, seen.unsaid, seen.disagreements)


@dataclass(frozen=True)
class _Run:
    """A run with its record, and what is wrong with its files; the latter is empty where nothing is."""

    folder: Path
    record: Record
    problem: str


def _runs(path: str | Path, unreadable: list[Unreadable]) -> Iterator[_Run]:
    """Reads every run with a record that can be used, one at a time: ten thousand records are half a gigabyte.

    Args:
        path: folder of the runs.
        unreadable: gets the others.
    """
    for folder in store.find_runs(_folder(path)):
        try:
            record = store.load_record(folder)
            store.check_place(folder, record)
        except RecordError as error:
            unreadable.append(Unreadable(folder, str(error)))
            continue
        problem = ""
        if record.has_result:
            problem = store.problem(folder, record)
        yield _Run(folder, record, problem)


def _frame(path: str | Path, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    asked = first_asked(Path(path))
    rows = [{**row, "asked": asked.get(Path(row["path"]), "")} for row in rows]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(dict.fromkeys(_FLOATS, float))


def _table(run: _Run, row: Mapping[str, Any], file: str) -> CaseTable:
    keys = {name: row[name] for name in CASE_KEYS}
    data = read_regular(run.folder / file, MAX_TABLE)
    return split_table(run.folder, keys, tuple(run.record.resolved.reported_cases), data)


def cases_of(run: Path, grid: CountedOn = "native") -> pd.DataFrame | None:
    """Reads the table of cases of one run as it stands in its folder.

    Returns:
        None where the run was not counted on the grid, or the table cannot be read.
    """
    file = run / _FILES[grid]
    try:
        data = io.BytesIO(read_regular(file, MAX_TABLE))
    except OSError:
        return None
    found: pd.DataFrame = pd.read_csv(data, **CSV | {"dtype": {"case": str, "class_name": str}})
    return found


def load_slice(run: str | Path, case: str) -> NDArray[np.uint8] | None:
    """Reads image, reference and prediction ``(3, H, W)`` of a case in a slice; None where the run has none."""
    name = store.SLICE_KEY + case
    try:
        with open_regular(Path(run) / store.SLICES) as file, np.load(file, allow_pickle=False) as slices:
            if slices.zip.getinfo(f"{name}.npy").file_size > MAX_SLICE:
                return None
            return np.asarray(slices[name], np.uint8)
    except Exception:  # a file that was changed may be anything; the page says that there is no picture
        return None


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of runs; `initbench run ... --out {folder}` makes one")
    return folder


def _invalid(problem: str) -> dict[str, Any]:
    """Returns what changes in the row of a run that is not what was written."""
    return {"status": "invalid", "reason": printable(problem), "dice": None}


def data_place(record: Head) -> str:
    """Returns where the data set of a run was: its folder, or its name below a data root."""
    name, root = record.asked.dataset, record.asked.data_root
    if root:
        return str(Path(root) / name)
    return name


def _row(run: _Run, grid: CountedOn = "native") -> dict[str, Any]:
    record = run.record
    resolved, environment = record.resolved, record.environment
    row: dict[str, Any] = {
        "init": resolved.init,
        "backbone": resolved.backbone,
        "dataset": resolved.dataset,
        "seed": resolved.seed,
        "status": record.status,
        "variant": resolved.variant,
        "size": resolved.size,
        "budget": resolved.budget,
        "steps": resolved.steps,
        "protocol": resolved.protocol,
        "precision": resolved.precision,
        "split": resolved.split,
        "training_cases": len(resolved.train_cases),
        "recipe": resolved.recipe_digest,
        "regimen": resolved.regimen,
        "regimen_budget": resolved.regimen_budget,
        "regimen_summary": record.regimen_summary,
        "data_digest": resolved.data_digest,
        "data_place": data_place(record),
        "fixed_streams": ", ".join(resolved.fixed_streams),
        "dice_policy": resolved.dice_policy,
        "cell": record.cell,
        "learned": resolved.learned,
        "external": resolved.external,
        "origin": resolved.origin,
        "device": environment.accelerator or environment.cpu,
        "environment": environment.fingerprint,
        "weights_digest": record.weights_digest,
        "reason": record.reason,
        "gpu": bool(environment.accelerator),
        "commit": _commit(environment.git),
    }
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = printable(value)
    row["path"] = str(run.folder)
    row["labels"] = tuple(printable(label) for label in resolved.labels or resolved.classes)
    if record.has_result:
        row |= _measured(record, grid)
    if run.problem:
        row |= _invalid(run.problem)
    return row


def _measured(record: Record, grid: CountedOn) -> dict[str, Any]:
    """Returns the columns of a run with a result."""
    cost = record.cost
    row: dict[str, Any] = {
        "dice": record.dice,
        "changed_share": record.coverage.changed_share,
        "init_seconds": cost.init.seconds,
        "train_seconds": cost.train.seconds,
        "total_seconds": cost.total_seconds,
        "init_steps": cost.init.steps,
        "train_steps": cost.train.steps,
        "peak_memory": cost.peak_memory,
        "units": (cost.init.units + cost.train.units) or None,
        "taps_left_out": _levels(record.coverage.report.get("taps_left_out")),
    }
    if _FILES[grid] not in record.files:
        row |= {"status": UNCOUNTED, "dice": None}
    elif grid == "resampled":
        row["dice"] = record.dice_resampled
    return row


def _levels(found: object) -> str:
    """Writes numbers of levels as a list for people; a report may hold anything."""
    if not isinstance(found, list):
        return ""
    return printable(", ".join(map(str, found)))


def _commit(git: Git | None) -> str:
    if git is None or not git.commit:
        return ""
    if git.dirty:
        return f"{git.commit} (changed)"
    return git.commit
