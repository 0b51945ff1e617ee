"""Runs in progress: who holds one, how far it is, and where its checkpoints lie until it is finished.

OUT/.locks/<cell>-seed-<n>.lock       held while a process works on the run; the system frees it when the process dies
OUT/<dataset>/<backbone>/<init>-<cell id>/.seed-<n>.work/
    state.json                        what it is doing, rewritten every few seconds
    machines.json                     environments that it was in hand in
    <stage>-<step>-<digest>.pt        checkpoints

A lock may mean nothing between machines that share a folder, so the state is looked at as well: it counts up while its writer
lives. Clocks of two machines are not compared.
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

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, FiniteFloat

from initbench.errors import NO_LOCKS, InitbenchError, of_the_system
from initbench.limits import MAX_STATE, read_regular
from initbench.runs.record import SCHEMA, Count, Name

BEAT = 5.0  # seconds between two states
# Seconds that the state of another machine is watched: three of its beats fall into them, wherever they begin.
PATIENCE = 3.5 * BEAT
STATE = "state.json"
MACHINES = "machines.json"


def work_folder(folder: Path) -> Path:
    """Where a run keeps what it needs until it is finished."""
    return folder.with_name(f".{folder.name}.work")


def lock_file(folder: Path) -> Path:
    """The lock of a run. It stays for ever: a lock on a file that another process may remove is none."""
    return folder.parents[3] / ".locks" / f"{folder.parent.name}-{folder.name}.lock"


class State(BaseModel):
    """What a run is doing, as its state file says it.

    Attributes:
        step: of `total` that were done; the stage went on from step `first`.
        began: when this process began the stage, in seconds since 1970; `written` when the state was written.
        info: numbers of the last step, as its loss; NaN where it diverges.
        host: name of the machine.
        beats: how many states the process has written.
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
    beats: Count = 0


def read_state(folder: Path) -> State | None:
    """What a run is doing or was doing when it stopped; None where it never began or is finished, or nobody can tell."""
    try:
        return State.model_validate_json(read_regular(work_folder(folder) / STATE, MAX_STATE))
    except (OSError, ValueError):
        return None


def try_lock(path: Path) -> FileLock | None:
    """Takes the lock on a file, whose folder is made; None where another process holds it.

    Raises:
        InitbenchError: the file system gives no locks.
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        error.filename = str(path)
        raise InitbenchError(of_the_system(error)) from None
    return lock


def is_held(folder: Path) -> bool:
    """Whether a process of this machine works on the run; taken to be so where we may not ask, as in a colleague's folder."""
    try:
        with FileLock(lock_file(folder), blocking=False):
            return False
    except (Timeout, OSError):
        return True


def tidy(folder: Path) -> None:
    """Removes what a finished run no longer needs, where a process died before it could."""
    if work_folder(folder).exists() and not is_held(folder):
        shutil.rmtree(work_folder(folder), ignore_errors=True)


def machines(folder: Path, fingerprint: str) -> list[str]:
    """Environments that a run was in hand in, this one the last; noted in its work folder."""
    path = folder / MACHINES
    try:
        known = [str(item) for item in json.loads(read_regular(path, MAX_STATE))]
    except (OSError, ValueError, TypeError, RecursionError):
        known = []
    found = [*(item for item in known if item != fingerprint), fingerprint]
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), "utf-8")
    return found


class Held:
    """A run that this process holds.

    Attributes:
        folder: where its checkpoints go.
        state: what it is doing; `write` puts it on disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = work_folder(folder)
        self.state: dict[str, Any] = {"state": "pending", "step": 0, "total": 0, "began": time.time()}
        self._writer = {"host": socket.gethostname(), "pid": os.getpid()}
        self._beats = 0
        self._closed = False
        self._guard = threading.Lock()

    def write(self) -> None:
        """Writes the state; a disk that is full costs the state and not the run."""
        with self._guard:
            if self._closed:
                return
            self._beats += 1
            text = json.dumps({"schema": SCHEMA} | self.state | self._writer | {"beats": self._beats, "written": time.time()})
            temporary = self.folder / f".{STATE}.{self._writer['host']}.{os.getpid()}"
            with contextlib.suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                temporary.write_text(text, "utf-8")
                temporary.replace(self.folder / STATE)

    def finished(self) -> None:
        """The run's folder is in its place: what helped to get there goes."""
        with self._guard:
            self._closed = True
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[Held | None]:
    """Holds a run inside the block; None where somebody else does.

    Raises:
        InitbenchError: the file system gives no locks.
        OSError: the output folder cannot be written.
    """
    lock = try_lock(lock_file(folder))
    if lock is None:
        yield None
        return
    try:
        if _alive_elsewhere(folder):
            yield None
            return
        _clear_leftovers(folder)
        held = Held(folder)
        with _beating(held):
            yield held
    finally:
        lock.release()


def _alive_elsewhere(folder: Path) -> bool:
    """Whether another machine, which our lock may not reach, is at it: its state goes on while we watch."""
    state = read_state(folder)
    if state is None or state.host == socket.gethostname():
        return False
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(BEAT / 10)  # the first beat that is seen ends the wait
        now = read_state(folder)
        if now is None or now.beats != state.beats:
            return True
    return False


def _clear_leftovers(folder: Path) -> None:
    """Removes half-written results and checkpoints of processes that died."""
    for path in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in work_folder(folder).glob(".*.part"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _beating(held: Held) -> Iterator[None]:
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            held.write()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
