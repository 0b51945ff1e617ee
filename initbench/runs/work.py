"""Runs in progress: who holds one, how far it is, and where its checkpoints lie until it is finished.

OUT/.claims/<cell>-seed-<n>/          the claim of the process that works on the run: see `initbench.claims`
OUT/<dataset>/<backbone>/<init>-<cell id>/.seed-<n>.work/
    state.json                        what it is doing, rewritten every few seconds
    machines.json                     environments that it was in hand in
    <stage>-<step>-<digest>.pt        checkpoints
    <stage>.curve                     rows of the learning curve, 8 bytes a value, appended by every checkpoint
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

from initbench import claims, interrupt
from initbench.errors import InitbenchError
from initbench.limits import MAX_STATE, read_regular
from initbench.runs import cancel
from initbench.runs.record import SCHEMA, Count, Name

CLAIMS = ".claims"
STATE = "state.json"
MACHINES = "machines.json"
NOT_BEGUN = "pending"  # the state of a run that somebody holds whose first stage has not begun


def work_folder(folder: Path) -> Path:
    """Returns where a run keeps what it needs until it is finished."""
    return folder.with_name(f".{folder.name}.work")


def claim_place(folder: Path) -> Path:
    """Returns where the claim of a run is."""
    return folder.parents[3] / CLAIMS / f"{folder.parent.name}-{folder.name}"


class State(BaseModel):
    """What a run is doing, as its state file says it.

    Attributes:
        step: of `total` that were done; the stage went on from step `first`.
        began: when this process began the stage, in seconds since 1970; `written` when the state was written.
        info: numbers of the last step, as its loss; NaN where it diverges.
        host: name of the machine.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    state: Name
    step: Count = 0
    total: Count = 0
    first: Count = 0
    began: FiniteFloat = 0.0
    written: FiniteFloat = 0.0
    info: dict[str, float] = {}
    host: Name = ""


def read_state(folder: Path) -> State | None:
    """Reads what a run is doing, or was doing when it stopped; None where it never began or is finished, or nobody can tell."""
    try:
        return State.model_validate_json(read_regular(work_folder(folder) / STATE, MAX_STATE))
    except (OSError, ValueError):
        return None


def is_held(folder: Path) -> bool:
    """Returns whether somebody works on the run, as far as one look tells: a process on another machine may have died."""
    return claims.is_taken(claim_place(folder))


def tidy(folder: Path) -> None:
    """Removes what a finished run no longer needs, where a process died before it could."""
    if work_folder(folder).exists() and not is_held(folder):
        shutil.rmtree(work_folder(folder), ignore_errors=True)


def machines(folder: Path, fingerprint: str) -> list[str]:
    """Notes in the work folder of a run which environments had it in hand, this one the last, and returns them."""
    path = folder / MACHINES
    try:
        found = [str(item) for item in json.loads(read_regular(path, MAX_STATE))]
    except (OSError, ValueError, TypeError, RecursionError):
        found = []
    while fingerprint in found:
        found.remove(fingerprint)
    found.append(fingerprint)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), "utf-8")
    return found


class LostError(InitbenchError):
    """Another process has taken a run over, so this one leaves it: it was paused, or nothing was heard of its machine."""


class Held:
    """A run that this process holds.

    Attributes:
        folder: where its checkpoints go.
        state: what it is doing; `write` puts it on disk.
        claim: of the run.
    """

    claim: claims.Claim

    def __init__(self, folder: Path) -> None:
        self.folder = work_folder(folder)
        self.state: dict[str, Any] = {"state": NOT_BEGUN, "step": 0, "total": 0, "began": time.time()}
        self._writer = {"host": socket.gethostname(), "pid": os.getpid()}
        self._closed = False
        self._guard = threading.Lock()

    def write(self) -> None:
        """Writes the state; a disk that is full costs the state and not the run."""
        with self._guard:
            if self._closed or self.claim.is_lost:
                return
            text = json.dumps({"schema": SCHEMA} | self.state | self._writer | {"written": time.time()})
            temporary = self.folder / f".{STATE}.{self._writer['host']}.{os.getpid()}"
            with contextlib.suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                temporary.write_text(text, "utf-8")
                temporary.replace(self.folder / STATE)

    def check(self) -> None:
        """Looks whether the run is still this process's, before anything is written that others would read.

        Raises:
            LostError: it is not.
        """
        if not self.claim.check():
            raise LostError("another process has taken it over")

    def check_beat(self) -> None:
        """Checks the same by what the last beat knows; it costs no look at the disk.

        Raises:
            LostError: it is not.
        """
        if self.claim.is_lost:
            self.check()

    def finished(self) -> None:
        """Removes what helped to get there, once the run's folder is in its place."""
        if not self.claim.check():  # whoever has it now may be in the middle of it
            return
        with self._guard:
            self._closed = True
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[Held | None]:
    """Holds a run inside the block; None where somebody else does.

    Raises:
        OSError: the output folder cannot be written.
    """
    held = Held(folder)
    out = folder.parents[3]
    mark = cancel.mark(out)

    def at_each_beat(own: claims.Claim) -> None:
        held.write()
        if cancel.mark(out) != mark:
            interrupt.ask()

    with claims.held(claim_place(folder), at_each_beat) as own:
        if own is None:
            yield None
            return
        _clear_leftovers(folder)
        held.claim = own
        yield held


def _clear_leftovers(folder: Path) -> None:
    """Removes half-written results and checkpoints of processes that died."""
    for path in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in work_folder(folder).glob(".*.part"):
        path.unlink(missing_ok=True)
