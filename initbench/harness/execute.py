"""One request: looked up, run, and whatever goes wrong in it recorded and said."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from initbench import seeding
from initbench.errors import InitbenchError, UsageError
from initbench.harness.cell import Cell, RunRequest, resolve
from initbench.harness.hardware import environment, resolve_device
from initbench.harness.memory import out_of_memory
from initbench.harness.record import header
from initbench.harness.run import Run
from initbench.protocols import NoProgress, Progress
from initbench.runs import store

State = Literal["ok", "diverged", "failed", "refused", "cached"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `folder` holds its record, except for a refused one, which leaves nothing behind."""

    request: RunRequest
    state: State
    folder: Path | None
    dice: float | None
    message: str = ""


def look_up(request: RunRequest, rehearsed: set[str], progress: Progress | None = None) -> Outcome | None:
    """The outcome of a request that needs no run: its result is there, or it cannot be run. None for one that is to be run.

    An init that brings weights in a file is tried on the network, so that a file that does not fit is said before hours of
    training; `rehearsed` holds the cells that were.
    """
    found = _resolve(request, progress or NoProgress())
    if isinstance(found, Outcome):
        return found
    if not found.init_info.files or found.init_info.learned or found.id in rehearsed:
        return None
    try:
        Run(found, folder_of(found), NoProgress()).rehearse()
    except InitbenchError as error:
        return Outcome(request, "refused" if isinstance(error, UsageError) else "failed", None, None, str(error))
    rehearsed.add(found.id)
    return None


def _resolve(request: RunRequest, progress: Progress) -> Outcome | Cell:
    try:
        cell = resolve(request, progress)
    except InitbenchError as error:
        return Outcome(request, "refused" if isinstance(error, UsageError) else "failed", None, None, str(error))
    folder = folder_of(cell)
    record = store.read_record(folder)
    return Outcome(request, "cached", folder, record["dice"]) if record and store.is_finished(folder) else cell


def execute(request: RunRequest, progress: Progress | None = None) -> Outcome:
    """Runs one request, unless its result is there already. Failures are recorded and returned, not raised.

    Raises:
        KeyboardInterrupt: passed on; nothing half-done stays behind.
    """
    progress = progress or NoProgress()
    cell = _resolve(request, progress)
    if isinstance(cell, Outcome):
        return cell
    folder = folder_of(cell)
    try:
        with seeding.deterministic(request.threads):
            record = Run(cell, folder, progress).execute()
        said = record["coverage"].get("report", {}).get("summary", "")
        return Outcome(request, record["status"], folder, record["dice"], record["reason"] or said)
    except UsageError as error:
        return Outcome(request, "refused", None, None, str(error))
    except Exception as error:
        reason = _reason(error)
        return Outcome(request, "failed", _record_failure(cell, folder, reason), None, reason)


def folder_of(cell: Cell) -> Path:
    """The run directory of a cell's seed."""
    request = cell.request
    return store.run_folder(request.out, cell.prepared.name, cell.backbone_name, cell.init_identity, cell.id, request.seed)


def _reason(error: Exception) -> str:
    if isinstance(error, InitbenchError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error):
        return str(out_of_memory("during the run"))
    if isinstance(error, OSError) and error.errno == 28:
        return f"the disk is full ({error.filename or 'unknown file'}): free space and run the same command again"
    return f"{type(error).__name__}: {error}"


def _record_failure(cell: Cell, folder: Path, reason: str) -> Path | None:
    device = resolve_device(cell.request.device, cell.request.index)
    record = header(cell, "failed", environment(device, cell.request.threads)) | {
        "reason": reason,
        "traceback": store.TRACEBACK,
    }
    try:
        with store.staged(folder) as staging:
            (staging / store.TRACEBACK).write_text(traceback.format_exc(), "utf-8")
            store.write_json(staging / store.RECORD, record)
    except OSError:  # a full disk fails here again; the reason is returned and printed all the same
        return None
    return folder
