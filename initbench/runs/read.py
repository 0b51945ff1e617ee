"""Reading results back as tables. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from initbench.errors import UsageError
from initbench.runs import store

_COLUMNS = (
    "init", "backbone", "dataset", "seed", "status", "dice", "variant", "size", "budget", "steps", "protocol", "precision",
    "split", "recipe", "regimen", "fixed_streams", "dice_policy", "cell", "learned", "external", "origin", "changed_share",
    "init_seconds", "train_seconds", "total_seconds", "init_steps", "train_steps", "peak_memory", "device", "environment",
    "weights_digest", "reason", "path",
)  # fmt: skip
_FLOATS = ("dice", "changed_share", "init_seconds", "train_seconds", "total_seconds")  # also where no run has any

# A case or class may be called "NA": only an empty number is a missing one.
_CSV: dict[str, Any] = {
    "dtype": {"case": str, "class_name": str},
    "keep_default_na": False,
    "na_values": dict.fromkeys(("dice", "hd95_mm", "nsd"), ""),
}


def load_runs(path: str | Path) -> pd.DataFrame:
    """A row per run below `path`, in the order of their folders.

    `dice` is the run's score as a fraction: mean over scored classes, then over cases; 0 for a diverged run, missing for a failed
    one and for one whose files are not as they were written (status ``invalid``). `recipe` is the digest of the resolved recipe;
    seconds are of the init stage, of training, and of both with evaluation.

    Raises:
        UsageError: there is no such folder.
    """
    rows = []
    for folder in store.find_runs(_folder(path)):
        record = store.read_record(folder)
        if record is not None:
            rows.append(_row(folder, _checked(folder, record)))
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(dict.fromkeys(_FLOATS, float))


def unreadable(path: str | Path) -> list[Path]:
    """Folders below `path` whose record cannot be read, so that they are in no table."""
    return [folder for folder in store.find_runs(_folder(path)) if store.read_record(folder) is None]


def load_cases(path: str | Path) -> pd.DataFrame:
    """A row per run, case and class: ``tp, fp, fn, dice`` and the run's init, backbone, dataset, seed, cell.

    `dice` is missing where the reference lacks the class.

    Raises:
        UsageError: there is no such folder.
    """
    frames = []
    for folder in store.find_runs(_folder(path)):
        record = store.read_record(folder)
        if record is None or _checked(folder, record)["status"] not in store.FINISHED:
            continue
        frame = pd.read_csv(folder / store.CASES, **_CSV)
        keys = {key: record["resolved"][key] for key in ("init", "backbone", "dataset", "seed", "protocol")}
        frame = frame.assign(**keys, status=record["status"], cell=record["cell"])
        frames.append(
            frame[[*keys, "status", "cell", *(c for c in frame.columns if c not in keys and c not in ("status", "cell"))]]
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


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
    return record | {"status": "invalid", "dice": None, "reason": problem} if problem else record


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of runs; `initbench run ... --out {folder}` makes one")
    return folder


def _row(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    resolved, cost = record["resolved"], record.get("cost") or {}
    environment = record["environment"]
    return {
        **{key: resolved.get(key) for key in _COLUMNS if key in resolved},
        "recipe": resolved["recipe_digest"],
        "fixed_streams": ", ".join(resolved.get("fixed_streams", ())),
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
    }
