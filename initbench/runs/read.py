"""Reading results back as tables. No torch."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from initbench.choices import CountedOn
from initbench.errors import UsageError
from initbench.runs import store
from initbench.runs.patients import Collected, Disagreement, Unsaid
from initbench.runs.status import first_asked

_COLUMNS = (
    "init", "backbone", "dataset", "seed", "status", "dice", "variant", "size", "budget", "steps", "protocol", "precision",
    "split", "training_cases", "recipe", "regimen", "fixed_streams", "dice_policy", "cell", "learned", "external", "origin",
    "changed_share", "init_seconds", "train_seconds", "total_seconds", "init_steps", "train_steps", "peak_memory", "device",
    "environment", "weights_digest", "reason", "path", "gpu", "commit", "labels", "asked",
)  # fmt: skip

# Where predictions are counted: on the image's own grid, or on the one that networks see, as some released code does.
_COUNTS: dict[CountedOn, tuple[str, str]] = {
    "native": (store.CASES, "dice"),
    "resampled": (store.CASES_RESAMPLED, "dice_resampled"),
}
_SCORES = tuple(key for _, key in _COUNTS.values())
UNCOUNTED = "native grid only"  # the status of a run that has no counts on the grid asked for
_CASE_KEYS = ("init", "backbone", "dataset", "seed", "protocol")
_COUNTED = ("case", "class", "class_name", "tp", "fp", "fn", "dice", "hd95_mm", "nsd")  # columns of a table of cases
_FLOATS = ("dice", "changed_share", "init_seconds", "train_seconds", "total_seconds")  # also where no run has any

# A case or class may be called "NA": only an empty number is a missing one.
_CSV: dict[str, Any] = {
    "dtype": {"case": "category", "class_name": "category"},
    "keep_default_na": False,
    "na_values": dict.fromkeys(("dice", "hd95_mm", "nsd"), ""),
}


def load_runs(path: str | Path) -> pd.DataFrame:
    """A row per run below `path`, in the order of their folders.

    `dice` is the run's score as a fraction: mean over scored classes, then over cases; 0 for a diverged run, missing for a failed
    one and for one whose files are not as they were written (status ``invalid``). `recipe` is the digest of the resolved recipe;
    seconds are of the init stage, of training, and of both with evaluation. `training_cases` is how many it trained on, `asked`
    when a command first asked for it, `commit` that of the code where it was a checkout, `labels` the names of the values in its
    label maps.

    Raises:
        UsageError: there is no such folder.
    """
    return _runs(path, [_row(folder, record) for folder, record in _recorded(path)])


def load_cases(path: str | Path) -> pd.DataFrame:
    """A row per run, case and class: ``tp, fp, fn, dice`` and the run's init, backbone, dataset, seed, cell.

    `dice` is missing where the reference lacks the class. Columns of text are categorical.

    Raises:
        UsageError: there is no such folder.
    """
    return _cases(
        [_text(folder, record, store.CASES) for folder, record in _recorded(path) if record["status"] in store.FINISHED]
    )


@dataclass(frozen=True)
class Loaded:
    """What lies below a folder: the tables of `load_runs` and `load_cases`, and the runs whose record cannot be read.

    Attributes:
        patients: the patient of each reported case, by cell; of cells of which a finished run's record says it.
        unsaid: the other cells with finished runs, and where their data sets were.
        disagreements: cells whose runs name different patients; the run that finished last says whose its cases are.
    """

    runs: pd.DataFrame
    cases: pd.DataFrame
    unreadable: tuple[Path, ...]
    patients: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unsaid: Mapping[str, Unsaid] = field(default_factory=dict)
    disagreements: Mapping[str, Disagreement] = field(default_factory=dict)


def read_runs(path: str | Path, grid: CountedOn = "native") -> Loaded:
    """Everything below `path`, read once; finished runs without counts on the `grid` have the status `UNCOUNTED` and no Dice.

    Raises:
        UsageError: there is no such folder.
    """
    file, key = _COUNTS[grid]
    rows, texts, unreadable, seen = [], [], [], Collected()
    for folder, record in _found(path):
        if record is None:
            unreadable.append(folder)
            continue
        seen.see(folder, record)
        if record["status"] in store.FINISHED and file not in record["files"]:
            record |= {"status": UNCOUNTED}
        rows.append(_row(folder, record | {"dice": record.get(key)}))
        if record["status"] in store.FINISHED:
            texts.append(_text(folder, record, file))
    tables = _runs(path, rows), _cases(texts)
    return Loaded(*tables, tuple(unreadable), seen.patients, seen.unsaid, seen.disagreements)


def _found(path: str | Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Every run with its record, None where that cannot be read; one at a time: ten thousand records are half a gigabyte."""
    for folder in store.find_runs(_folder(path)):
        record = store.read_record(folder)
        yield folder, None if record is None else _checked(folder, record)


def _recorded(path: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    return ((folder, record) for folder, record in _found(path) if record is not None)


def _runs(path: str | Path, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    asked = first_asked(Path(path))
    rows = [{**row, "asked": asked.get(Path(row["path"]), "")} for row in rows]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(dict.fromkeys(_FLOATS, float))


@dataclass(frozen=True)
class _Text:
    """A run's keys, with the header and the lines of its table of cases."""

    keys: dict[str, Any]
    header: bytes
    lines: bytes


def _text(folder: Path, record: dict[str, Any], file: str) -> _Text:
    keys = {name: record["resolved"][name] for name in _CASE_KEYS} | {name: record[name] for name in ("status", "cell")}
    header, _, lines = (folder / file).read_bytes().partition(b"\n")
    return _Text(keys, header, lines if lines.endswith(b"\n") or not lines else lines + b"\n")


def _cases(texts: Sequence[_Text]) -> pd.DataFrame:
    frames = [_parsed(header, list(group)) for header, group in groupby(texts, key=lambda item: item.header)]
    if not frames:
        return pd.DataFrame(columns=[*_CASE_KEYS, "status", "cell", *_COUNTED])
    return frames[0] if len(frames) == 1 else _joined(frames)


def _parsed(header: bytes, texts: Sequence[_Text]) -> pd.DataFrame:
    """The cases of runs of one header, parsed at once: ten thousand small files take ten times as long one by one."""
    frame: pd.DataFrame = pd.read_csv(io.BytesIO(b"\n".join((header, b"".join(item.lines for item in texts)))), **_CSV)
    counts = [item.lines.count(b"\n") for item in texts]
    columns: dict[str, Any] = {}
    for name in texts[0].keys:
        values = [item.keys[name] for item in texts]
        columns[name] = np.repeat(np.array(values), counts) if name == "seed" else pd.Categorical(values).repeat(counts)
    own = [name for name in frame.columns if name not in columns]
    return pd.concat([pd.DataFrame(columns), frame[own]], axis=1)


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of several headers below one another; categories are united."""
    joined = pd.concat([frame.astype(dict.fromkeys(_categorical(frame), object)) for frame in frames], ignore_index=True)
    return joined.astype(dict.fromkeys(_categorical(frames[0]), "category"))


def _categorical(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name, kind in frame.dtypes.items() if isinstance(kind, pd.CategoricalDtype)]


def cases_of(run: Path, grid: CountedOn = "native") -> pd.DataFrame | None:
    """The table of cases of one run as it stands in its folder; None where the run was not counted on the grid."""
    file = run / _COUNTS[grid][0]
    return pd.read_csv(file, **_CSV | {"dtype": {"case": str, "class_name": str}}) if file.is_file() else None


def load_slice(run: str | Path, case: str) -> NDArray[np.uint8] | None:
    """Image, reference and prediction ``(3, H, W)`` of a case in a slice; None where the run has none."""
    try:
        with np.load(Path(run) / store.SLICES, allow_pickle=False) as slices:
            return np.asarray(slices[store.SLICE_KEY + case], np.uint8)
    except (OSError, KeyError, ValueError, BadZipFile):
        return None


def _checked(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record; without a score, and as ``invalid``, where the run is not what was written."""
    problem = store.problem(folder, record) if record["status"] in store.FINISHED else ""
    return record | {"status": "invalid", "reason": problem, **dict.fromkeys(_SCORES)} if problem else record


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of runs; `initbench run ... --out {folder}` makes one")
    return folder


def _row(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    resolved, cost = record["resolved"], record.get("cost") or {}
    environment = record["environment"]
    git = environment.get("git") or {}
    return {
        **{key: resolved.get(key) for key in _COLUMNS if key in resolved},
        "recipe": resolved["recipe_digest"],
        "fixed_streams": ", ".join(resolved.get("fixed_streams", ())),
        "training_cases": len(resolved["train_cases"]),
        "labels": tuple(resolved.get("labels", resolved["classes"])),
        "status": record["status"],
        "dice": record.get("dice"),
        "cell": record["cell"],
        "changed_share": (record.get("coverage") or {}).get("changed_share"),
        "init_seconds": cost.get("init", {}).get("seconds"),
        "train_seconds": cost.get("train", {}).get("seconds"),
        "total_seconds": cost.get("total_seconds"),
        "init_steps": cost.get("init", {}).get("steps"),
        "train_steps": cost.get("train", {}).get("steps"),
        "peak_memory": cost.get("peak_memory"),
        "device": environment.get("accelerator") or environment.get("cpu"),
        "environment": environment.get("fingerprint"),
        "weights_digest": record.get("weights_digest"),
        "reason": record.get("reason"),
        "path": str(folder),
        "gpu": bool(environment.get("accelerator")),
        "commit": f"{git['commit']}{' (changed)' if git.get('dirty') else ''}" if git.get("commit") else "",
    }
