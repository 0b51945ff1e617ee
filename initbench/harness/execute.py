"""One request: looked up, run, and whatever goes wrong in it recorded and said."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from initbench import digest, interrupt, seeding
from initbench.errors import InitbenchError, InterruptedRunError, UsageError, of_the_system
from initbench.harness import reuse
from initbench.harness.cell import Cell, Cells, Draft
from initbench.harness.hardware import environment, own_device, resolve_device
from initbench.harness.memory import NoMemoryError, out_of_memory
from initbench.harness.process_state import kept
from initbench.harness.record import block_digest, failed_record
from initbench.harness.rehearsal import Rehearsals
from initbench.harness.request import RunRequest, as_json
from initbench.harness.run import Run
from initbench.protocols import NoProgress, Progress
from initbench.runs import store, work
from initbench.runs.record import Record, Where
from initbench.runs.run_log import RunLog, in_words
from initbench.runs.time_left import TimeLeft, Workload
from initbench.sampling.volumes import VolumeShelf
from initbench.units import duration

_STATES = {"pretext": "pretraining", "train": "training", "evaluate": "evaluating"}
_NO_MEMORY = ("not enough memory", "can't allocate memory")  # how torch tells it, with and without a limit of the shell
State = Literal["pending", "ok", "diverged", "failed", "refused", "cached", "interrupted", "busy"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `folder` holds its record where it has one.

    ``pending`` is yet to be run, ``refused`` leaves nothing behind, ``interrupted`` its checkpoints; ``busy`` is in the hands of
    another process.

    Attributes:
        remarks: what should be known of the data of a run that is pending.
        pair: block and seed, as a digest, of a run that is pending or has a result.
        kind: model of the device of a run that has a result.
        peak_memory: bytes that a run took at its peak.
        no_memory: whether it failed for want of memory.
        waits_for: place of the claim of whoever has in hand what a busy run needs.
    """

    request: RunRequest
    state: State
    folder: Path | None
    dice: float | None
    message: str = ""
    remarks: tuple[str, ...] = ()
    pair: str = ""
    kind: str = ""
    peak_memory: int = 0
    no_memory: bool = False
    waits_for: Path | None = None


def look_up(request: RunRequest, cells: Cells, rehearsals: Rehearsals, progress: Progress | None = None) -> Outcome:
    """Looks a request up without running it: its result is there, or it cannot be run, or it is pending.

    Args:
        request: the run.
        cells: keeps what was resolved, for `execute`.
        rehearsals: tries the init in the cell, so that what cannot be is said before hours of preprocessing or training.
        progress: told of the preprocessing.
    """
    found = _resolve(request, cells, progress, rehearsals.check_draft)
    if isinstance(found, Outcome):
        return found
    try:
        rehearsals.check(found)
    except (Exception, SystemExit) as error:
        return _not_begun(request, error)
    return Outcome(request, "pending", folder_of(found), None, remarks=found.prepared.remarks, pair=_pair_of(found))


def _resolve(
    request: RunRequest, cells: Cells, progress: Progress | None, check: Callable[[Draft], None] | None = None
) -> Outcome | Cell:
    try:
        with kept():
            cell = cells.resolve(request, progress, check)
    # Readers and inits of others raise what they like, and other runs do not depend on them.
    except (Exception, SystemExit) as error:
        return _not_begun(request, error)
    folder = folder_of(cell)
    record = store.read_record(folder)
    if record is None or not store.is_whole(folder, record):
        return cell
    work.tidy(folder)
    return _cached(cell, folder, record)


def _not_begun(request: RunRequest, error: BaseException) -> Outcome:
    """Returns the outcome of a request that has no run folder yet; keeps the traceback of an unforeseen error in a file."""
    if isinstance(error, InterruptedRunError):
        return Outcome(request, "interrupted", None, None, str(error))
    if isinstance(error, UsageError):
        return Outcome(request, "refused", None, None, str(error))
    if isinstance(error, InitbenchError):
        return Outcome(request, "failed", None, None, str(error))
    kept = request.out / store.SWEEPS / f"{digest.of_json(request.label)[:16]}.{store.TRACEBACK}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text("".join(traceback.format_exception(error)), "utf-8")
    except OSError:  # a full disk, which the reason then says
        return Outcome(request, "failed", None, None, _reason(error))
    return Outcome(request, "failed", None, None, f"{_reason(error)} ({kept})")


def execute_on(request: RunRequest, device: str, progress: Progress, cells: Cells) -> Outcome:
    """Does what `execute` does in a process that keeps nothing on the device but what the next run may use, too.

    Args:
        request: the run.
        device: name of the device that the run has where its request leaves the choice.
        progress: told of progress.
        cells: those that were resolved already.
    """
    own_device(device)
    try:
        return execute(request, progress, cells)
    finally:
        gc.collect()  # networks and optimizers refer to themselves
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def execute(request: RunRequest, progress: Progress | None = None, cells: Cells | None = None) -> Outcome:
    """Runs one request, or goes on with it, unless its result is there or another process is at it.

    Failures are recorded and returned, not raised.

    Args:
        request: the run.
        progress: told of progress.
        cells: those that were resolved already.

    Raises:
        KeyboardInterrupt: passed on; checkpoints stay, and nothing else that is half-done.
    """
    progress = progress or NoProgress()
    if interrupt.asked():
        return Outcome(request, "interrupted", None, None, "not begun")
    cells = cells or Cells()
    cell = _resolve(request, cells, progress)
    if isinstance(cell, Outcome):
        return cell
    folder = folder_of(cell)
    try:
        with work.claim(folder) as claim:
            if claim is None:
                return _busy(cell, "another process is at it")
            return _go_on(cell, folder, claim, progress, cells.shelf)
    except work.LostError as error:
        return _busy(cell, str(error))
    except (OSError, InitbenchError) as error:  # the folder cannot be written
        return Outcome(request, "failed", None, None, _reason(error))


def record_death(request: RunRequest, message: str, cells: Cells) -> Outcome:
    """Records that the process of a run died, unless another process has taken the run over.

    Args:
        request: the run, which was looked up before.
        message: how its process ended.
        cells: as for `execute`.
    """
    folder = None
    with contextlib.suppress(InitbenchError, OSError):  # the message is returned and printed all the same
        cell = cells.resolve(request)
        state = work.read_state(folder_of(cell))
        with work.claim(folder_of(cell)) as claim:
            if claim is not None:
                if state:
                    claim.state |= state.model_dump()
                folder = _record_failure(cell, claim, message, message)
    return Outcome(request, "failed", folder, None, message)


class _Told:
    """Progress that is written down as well as passed on: as the state of the run, and in its log."""

    def __init__(self, claim: work.Held, progress: Progress, log: RunLog, workload: Workload) -> None:
        self._claim = claim
        self._progress = progress
        self._log = log
        self._left = TimeLeft()
        self._left.expect({0: workload})

    def start(self, stage: str, total: int) -> None:
        self._left.start(0, stage, total)
        counted = "steps"
        if stage == "evaluate":
            counted = "cases"
        self._log.write(f"{_STATES.get(stage, stage)} begins, {total} {counted}")
        self._claim.state |= {
            "state": _STATES.get(stage, stage),
            "step": 0,
            "first": 0,
            "total": total,
            "began": time.time(),
            "info": {},
        }
        self._claim.write()
        self._progress.start(stage, total)

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        self._claim.check_beat()
        if not info:  # a stage that goes on from a checkpoint says so first
            self._claim.state |= {"first": done}
        self._claim.state |= {"step": done, "info": dict(info)}
        self._left.advance(0, done, info)
        self._write_line(done, info)
        self._progress.advance(done, info)

    def _write_line(self, done: int, info: Mapping[str, float]) -> None:
        state = self._claim.state
        if not (self._log.is_due() or done == state["total"]):
            return
        line = [f"{state['state']} {done}/{state['total']}", *in_words(info)]
        left = self._left.of_run(0)
        if left is not None:
            line.append(f"about {duration(left)} left")
        self._log.write("  ".join(line))


def workload_of(cell: Cell, paces: Mapping[str, float] | None = None) -> Workload:
    """Returns what a run has to do from its begin.

    Args:
        cell: the run.
        paces: as of `Workload`.
    """
    steps = {"pretext": cell.pretext_steps, "train": cell.train_steps, "evaluate": len(cell.prepared.split.test)}
    return Workload(cell.id, steps, paces or {})


def _settings_of(cell: Cell) -> str:
    """Writes what a log says of a run before its first step, in several lines."""
    request, device = cell.request, resolve_device(cell.request.device)
    patch = " × ".join(map(str, cell.recipe.patch.size))
    stages = f"{cell.train_steps} steps of training"
    if cell.pretext_steps:
        stages = f"{cell.pretext_steps} steps of the init stage, {stages}"
    asked = json.dumps(as_json(request), sort_keys=True)
    lines = [
        f"{request.label}, cell {cell.id}",
        f"on {device} in {cell.precision}, {request.threads} threads; {stages} on {cell.recipe.patch.batch} patches of {patch}",
        f"asked: {asked}",
    ]
    return "\n".join(lines)


def _go_on(cell: Cell, folder: Path, claim: work.Held, progress: Progress, shelf: VolumeShelf) -> Outcome:
    request = cell.request
    record = store.read_record(folder)
    if record and store.is_whole(folder, record):  # since it was looked up
        return _cached(cell, folder, record)
    with contextlib.closing(RunLog(claim.folder / store.LOG)) as log:
        log.write(_settings_of(cell))
        told = _Told(claim, progress, log, workload_of(cell))
        run = Run(cell, folder, told, claim.folder, claim.check, shelf, log.write)
        try:
            with kept(), seeding.deterministic(request.threads), interrupt.deferred():
                record = run.execute()
        except KeyboardInterrupt:
            log.write("stopped at once")
            raise
        except BaseException as error:  # code of others may want to end the process, also in the middle of training
            log.write(_reason(error))
            return _ended_by(error, cell, claim)
    claim.finished()
    said = [record.reason or record.coverage.summary, record.regimen_summary, *run.notes]
    return _with_result(cell, record.status, folder, record, "; ".join(filter(None, said)))


def _ended_by(error: BaseException, cell: Cell, claim: work.Held) -> Outcome:
    """Returns the outcome of a run that ended with an error."""
    request = cell.request
    if isinstance(error, reuse.ElsewhereError):
        return _busy(cell, str(error), error.place)
    if isinstance(error, InterruptedRunError):
        claim.write()  # `status` shows then where the checkpoint is
        return Outcome(request, "interrupted", None, None, str(error))
    if isinstance(error, UsageError):
        claim.finished()
        return Outcome(request, "refused", None, None, str(error))
    if not claim.claim.check():  # whoever has the run now removed what this process was writing
        return _busy(cell, "another process has taken it over")
    reason = _reason(error)
    written = _record_failure(cell, claim, reason, "".join(traceback.format_exception(error)))
    return Outcome(request, "failed", written, None, reason, no_memory=_lacks_memory(error))


def _busy(cell: Cell, message: str, place: Path | None = None) -> Outcome:
    """Returns the outcome of a run that waits for another process. Its claim is at `place`, or it is the claim of the run."""
    waits_for = place or work.claim_place(folder_of(cell))
    return Outcome(cell.request, "busy", None, None, message, pair=_pair_of(cell), waits_for=waits_for)


def _pair_of(cell: Cell) -> str:
    """Returns what the runs have in common that are compared with each other, on whichever machine they are: block and seed."""
    return digest.of_json([block_digest(cell), cell.backbone_name, cell.prepared.name, cell.request.seed])[:16]


def _with_result(cell: Cell, state: State, folder: Path, record: Record, message: str) -> Outcome:
    kind = record.environment.accelerator or record.environment.cpu or ""
    peak = record.cost.peak_memory
    return Outcome(cell.request, state, folder, record.dice, message, pair=_pair_of(cell), kind=kind, peak_memory=peak)


def _cached(cell: Cell, folder: Path, record: Record) -> Outcome:
    """Returns the outcome of a run that is there; says what adds the distances that were asked for and that it lacks."""
    request, message = cell.request, ""
    if request.distances and not record.has_distances(request.nsd_tolerance):
        at = f"--nsd-tolerance {request.nsd_tolerance:g}"
        message = f"without some distances at this tolerance; `initbench measure {request.out} {at}` adds them"
    return _with_result(cell, "cached", folder, record, message)


def finished(request: RunRequest, folder: Path) -> Outcome | None:
    """Returns the outcome of a run whose result another process left; None where there is none. Resolves nothing."""
    record = store.read_record(folder)
    if record is None or not store.is_whole(folder, record):
        return None
    return Outcome(request, "cached", folder, record.dice)


def folder_of(cell: Cell) -> Path:
    """Returns the run directory of a cell's seed."""
    request = cell.request
    return store.run_folder(request.out, cell.prepared.name, cell.backbone_name, cell.init_identity, cell.id, request.seed)


def _reason(error: BaseException) -> str:
    if isinstance(error, InitbenchError):
        return str(error)
    if _lacks_memory(error):
        return str(out_of_memory("during the run"))
    return of_the_system(error) or f"{type(error).__name__}: {error}"


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError | NoMemoryError):
        return True
    return not isinstance(error, InitbenchError) and any(words in str(error) for words in _NO_MEMORY)


def _record_failure(cell: Cell, claim: work.Held, reason: str, trace: str) -> Path | None:
    folder, where = folder_of(cell), claim.state
    device = resolve_device(cell.request.device)
    at = Where(state=where["state"], step=where["step"], total=where["total"])
    record = failed_record(cell, environment(device, cell.request.threads, fast=cell.request.fast), reason, at)
    try:
        with store.staged(folder, check=claim.check) as staging:
            (staging / store.TRACEBACK).write_text(trace, "utf-8")
            log = claim.folder / store.LOG
            if log.is_file():
                shutil.copyfile(log, staging / store.LOG)
            store.write_record(staging, record)
    except OSError:  # a full disk fails here again; the reason is returned and printed all the same
        return None
    return folder
