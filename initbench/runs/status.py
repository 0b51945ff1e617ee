"""How far a study is: every run that was asked for, and what became of it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from initbench import digest
from initbench.runs import store, work

SWEEPS = ".sweeps"
ENDED = ("done", "diverged", "failed", "refused", "invalid")
_STATES = {"ok": "done"}


@dataclass(frozen=True)
class AskedRun:
    """A run of a study.

    Attributes:
        folder: where it goes; None where that was not found out, as it was refused or its data cannot be read.
        state: ``refused`` or ``failed`` then, for the reason in `problem`.
    """

    label: str
    request: dict[str, Any]
    folder: Path | None
    state: str = "pending"
    problem: str = ""


@dataclass(frozen=True)
class RunStatus:
    """What a run is doing.

    Attributes:
        state: ``pending``, ``pretraining``, ``training``, ``evaluating``, ``interrupted``, or how it ended: ``done``,
            ``diverged``, ``failed``, ``refused``, ``invalid``.
        step: of `total` in the stage at hand.
        seconds_left: of this stage, None where nothing is known.
        detail: Dice of a finished run, else the reason.
    """

    planned: AskedRun
    state: str
    step: int = 0
    total: int = 0
    seconds_left: float | None = None
    seconds: float | None = None
    detail: str = ""


def write_asked(out: Path, planned: Sequence[AskedRun]) -> None:
    """Notes what a study consists of, for `status` and `retry`, and when it was first asked for; the same study is one note.

    Another's loss costs nothing.
    """
    rows = [{**asdict(run), "folder": str(run.folder.relative_to(out)) if run.folder else None} for run in planned]
    name = digest.of_json([run.request for run in planned])[:16]
    folder = out / SWEEPS
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / f"{name}.json", folder / f".{name}.{os.getpid()}"
    asked = (_note(path) or {}).get("asked") or datetime.now(UTC).isoformat(timespec="seconds")
    try:
        temporary.write_text(json.dumps({"schema": store.SCHEMA, "asked": asked, "runs": rows}), "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_asked(out: Path) -> list[AskedRun]:
    """Every run that a command asked for below `out`, each once."""
    found: dict[str, AskedRun] = {}
    for path in sorted((out / SWEEPS).glob("*.json"), key=lambda path: path.stat().st_mtime):
        for row in (_note(path) or {"runs": ()})["runs"]:
            folder = out / row["folder"] if row["folder"] else None
            found.pop(_asked(row), None)  # it had no place yet, and has one now
            found[row["folder"] or _asked(row)] = AskedRun(row["label"], row["request"], folder, row["state"], row["problem"])
    return list(found.values())


def _asked(row: dict[str, Any]) -> str:
    """What a run is called that has no folder: its label, with the places of files, which a label may have as they were typed."""
    keys = ("init", "backbone", "dataset", "fold", "train_cases", "seed", "protocol")
    return json.dumps([row["request"].get(key) for key in keys])


def first_asked(out: Path) -> dict[Path, str]:
    """When the run of every planned folder was first asked for, UTC in ISO form."""
    found: dict[Path, str] = {}
    for note in filter(None, map(_note, (out / SWEEPS).glob("*.json"))):
        for row in note["runs"] if note.get("asked") else ():
            if row["folder"]:
                folder = out / row["folder"]
                found[folder] = min(found.get(folder, note["asked"]), note["asked"])
    return found


def _note(path: Path) -> dict[str, Any] | None:
    """A plan's note; None where it is cut short, or of an earlier version: the next run notes it again."""
    try:
        note = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    keys = {"label", "request", "folder", "state", "problem"}
    rows = note.get("runs") if isinstance(note, dict) else None
    whole = isinstance(rows, list) and all(
        isinstance(row, dict) and keys <= set(row) and isinstance(row["request"], dict) for row in rows
    )
    return note if whole else None


def status(planned: AskedRun) -> RunStatus:
    """What a run is doing now."""
    if planned.folder is None:
        return RunStatus(planned, planned.state, detail=planned.problem)
    record, state = store.read_record(planned.folder), work.read_state(planned.folder)
    if state is not None and (state.get("host") != socket.gethostname() or work.is_held(planned.folder)):
        return _running(planned, state)
    if record is not None and record["status"] in store.FINISHED:
        return _ended(planned, record)
    if state is not None and record is None:
        return RunStatus(planned, "interrupted", int(state["step"]), int(state["total"]), detail=f"in {state['state']}")
    if record is not None:
        where = record.get("where") or {}
        at = f"{where['state']} {where['step']}/{where['total']}: " if where else ""
        return RunStatus(planned, "failed", detail=f"{at}{record['reason']} ({planned.folder / store.TRACEBACK})")
    return RunStatus(planned, "pending")


def _ended(planned: AskedRun, record: dict[str, Any]) -> RunStatus:
    assert planned.folder is not None  # noqa: S101
    problem = store.problem(planned.folder, record)
    if problem:
        return RunStatus(planned, "invalid", detail=problem)
    score = "" if record["dice"] is None else f"Dice {100 * record['dice']:.1f}"
    seconds = float(record["cost"]["total_seconds"])
    return RunStatus(planned, _STATES.get(record["status"], record["status"]), seconds=seconds, detail=record["reason"] or score)


def _running(planned: AskedRun, state: dict[str, Any]) -> RunStatus:
    step, total, first = int(state["step"]), int(state["total"]), int(state.get("first", 0))
    elapsed = float(state["written"]) - float(state["began"])
    left = (total - step) * elapsed / (step - first) if step > first and elapsed > 0 else None
    here = (
        ""
        if state["host"] == socket.gethostname()
        else f"on {state['host']}, last seen {time.time() - state['written']:.0f} s ago"
    )
    loss = f"loss {state['info']['loss']:.3g}" if "loss" in state.get("info", {}) else ""
    return RunStatus(planned, str(state["state"]), step, total, left, detail="  ".join(filter(None, (loss, here))))


def time_left(rows: Sequence[RunStatus]) -> float | None:
    """Seconds until the last run ends, as those that ended took on average; None where nothing ended or nothing runs."""
    took = [row.seconds for row in rows if row.seconds is not None]
    waiting = sum(row.state in ("pending", "interrupted") for row in rows)
    running = [row for row in rows if row.state not in (*ENDED, "pending", "interrupted")]
    if not running or (waiting and not took):
        return None
    own = [row.seconds_left or 0.0 for row in running]
    return (sum(own) + (waiting * sum(took) / len(took) if waiting else 0.0)) / len(running)
