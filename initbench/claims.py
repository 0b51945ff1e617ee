"""Claims: who does what several processes, maybe on several machines, would each do alone.

PLACE/<generation>/owner.json     who has it, and how many times they have said that they live

A claim is a folder that is written beside its place and renamed into it. No folder can be renamed over one that holds a file. So
of two who want the same generation, the one who renamed first has it. Whoever takes a claim over takes the next generation. A
process that was paused meanwhile sees the later generation when it wakes, and leaves what it did.

An owner counts up (beats) while it lives. On its own machine it is asked for by the number of its process and the time when that
started, so a dead one is seen at once. From other machines its beats are watched: no two clocks are compared.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from initbench import interrupt
from initbench.errors import InterruptedRunError
from initbench.limits import MAX_STATE, read_regular

BEAT = 5.0  # seconds between two beats
# Seconds without a beat after which an owner counts as gone. Libraries may keep its other threads waiting for many seconds, and
# network file systems may show a file as it was some seconds ago.
PATIENCE = 12 * BEAT
LOOK = 0.5  # seconds between two looks at a claim that somebody waits for
OWNER = "owner.json"
_SIZE = 1024  # bytes of an owner's file. Each beat overwrites it in place: a full disk takes that, too
# How the system refuses to rename a folder over another one; or somebody who was first has removed ours as a leftover.
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT)
_GENERATION = re.compile(r"\d{6}")


class Clock(Protocol):
    """Measures time and waits. It is the module `time`; a simulation brings its own, in which days of a cluster take minutes."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float, /) -> None:
        """Waits."""


class Owner(BaseModel):
    """Who has a claim.

    Attributes:
        host: name of the machine, for people.
        machine: what tells machines and containers apart that have one name.
        pid: of the process; `started` when it started, as its machine counts.
        beats: how many times it has said that it lives.
        released: whether it has given the claim back.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    host: str
    machine: str
    pid: int
    started: str
    beats: int = 0
    released: bool = False

    def is_here(self) -> bool:
        """Returns whether the process is, or was, one of this machine."""
        return self.machine == this_machine()

    def is_dead(self) -> bool:
        """Returns whether the process is known to have ended."""
        return self.is_here() and started(self.pid) != self.started

    def is_awake(self) -> bool:
        """Returns whether the process is one of this machine that lives and was not paused: it need not show its beats."""
        if not self.is_here():
            return False
        when, is_stopped = _process(self.pid)
        return when == self.started and not is_stopped


@functools.cache
def this_machine() -> str:
    """Returns what tells this machine, and this container on it, from others of the same name."""
    found = [socket.gethostname()]
    try:
        found += [Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(), os.readlink("/proc/self/ns/pid")]
    except OSError:  # no Linux
        found.append(f"{uuid.getnode():x}")
    return " ".join(found)


def started(pid: int) -> str:
    """Looks when a process of this machine started, in its own units; "" where it has ended."""
    return _process(pid)[0]


def _process(pid: int) -> tuple[str, bool]:
    """Looks when a process started, "" where it has ended, and whether it is stopped."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return "", False
        return _process_elsewhere(pid)
    state, ticks = values[0], values[19]
    if state in "ZX":
        return "", False
    return ticks, state == "T"


def _process_elsewhere(pid: int) -> tuple[str, bool]:
    """Does what `_process` does on systems without /proc."""
    import psutil  # not needed on Linux, and not quickly imported

    try:
        process = psutil.Process(pid)
        status, when = process.status(), str(process.create_time())
    except psutil.Error:
        return "", False
    if status == psutil.STATUS_ZOMBIE:
        return "", False
    return when, status == psutil.STATUS_STOPPED


class Claim:
    """A claim that this process has.

    Attributes:
        is_lost: whether somebody else has taken it over; then whatever was done under it is to be left.
    """

    def __init__(self, folder: Path, owner: Owner) -> None:
        self._folder = folder
        self._owner = owner
        self._guard = threading.Lock()
        self.is_lost = False

    def check(self) -> bool:
        """Looks whether the claim is still this process's."""
        if not self.is_lost and _newest(self._folder.parent) != int(self._folder.name):
            self.is_lost = True
        return not self.is_lost

    def beat(self) -> None:
        """Says that this process lives."""
        with self._guard:
            if self.check() and not self._owner.released:
                self._owner = self._owner.model_copy(update={"beats": self._owner.beats + 1})
                self._write()

    def release(self) -> None:
        """Gives the claim back. Its folder stays, so that no generation comes twice."""
        with self._guard:
            self._owner = self._owner.model_copy(update={"released": True})
            self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError), (self._folder / OWNER).open("r+b") as file:
            file.write(_written(self._owner))


def this_process() -> Owner:
    """This process as the owner of a claim."""
    pid = os.getpid()
    return Owner(host=socket.gethostname(), machine=this_machine(), pid=pid, started=started(pid))


def take(place: Path, owner: Owner | None = None) -> Claim | None:
    """Takes a claim that nobody has, or whose owner is known to be dead; None where somebody has it.

    Args:
        place: of the claim.
        owner: who takes it; by default this process. A simulation has processes of many machines in one.

    Raises:
        OSError: the place cannot be written.
    """
    place.mkdir(parents=True, exist_ok=True)
    newest = _newest(place)
    if newest and not _is_free(_read(place, newest)):
        return None
    return _take_next(place, newest, owner or this_process())


def is_taken(place: Path) -> bool:
    """Returns whether somebody has a claim, as far as one look tells: an owner on another machine may be dead."""
    newest = _newest(place)
    return newest > 0 and not _is_free(_read(place, newest))


class Watch:
    """Watches claims of others, and takes those from their owners that give no beat any more."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or time
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        self._alive: set[Path] = set()

    def is_alive(self, place: Path) -> bool:
        """Returns whether the owner of a claim that was not free was seen to live: here, or by a beat between two looks."""
        return place in self._alive

    def is_free(self, place: Path) -> bool:
        """Returns whether a claim can be taken now. To be asked again and again: whoever is silent for `PATIENCE` loses it.

        Raises:
            OSError: the place cannot be written.
        """
        newest = _newest(place)
        if newest == 0:
            return True
        owner = _read(place, newest)
        if _is_free(owner):
            return True
        if owner is not None and owner.is_awake():
            self._seen.pop(place, None)
            self._alive.add(place)
            return False
        # An owner's file that cannot be read has no beats either: it was cut short when its machine stopped.
        beats = -1
        if owner is not None:
            beats = owner.beats
        seen = newest, beats
        before, since = self._seen.get(place, (None, 0.0))
        if seen != before:
            if before is not None:
                self._alive.add(place)
            self._seen[place] = seen, self._clock.monotonic()
            return False
        if self._clock.monotonic() - since < PATIENCE:
            return False
        taken = _take_next(place, newest, this_process())
        if taken is not None:
            taken.release()
        return taken is not None


@contextlib.contextmanager
def held(place: Path, at_each_beat: Callable[[Claim], object] = lambda claim: None) -> Iterator[Claim | None]:
    """Has a claim inside the block, and gives its beats; None where somebody else has it.

    Args:
        place: of the claim.
        at_each_beat: called after each beat, from another thread.

    Raises:
        OSError: the place cannot be written.
    """
    claim = take(place)
    if claim is None:
        yield None
        return
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            claim.beat()
            at_each_beat(claim)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        done.set()
        thread.join()
        claim.release()


@contextlib.contextmanager
def awaited(place: Path, at_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Has a claim inside the block, and waits before it as long as somebody else has it.

    Args:
        place: of the claim.
        at_wait: called once, when the wait begins.

    Raises:
        InterruptedRunError: somebody asked this process to stop while it waited.
        OSError: the place cannot be written.
    """
    watch = Watch()
    is_told = False
    while True:
        with held(place) as claim:
            if claim is not None:
                yield
                return
        if not is_told:
            at_wait()
            is_told = True
        while not watch.is_free(place):
            if interrupt.asked():
                raise InterruptedRunError(f"stopped while another process had {place} in hand; the same command goes on")
            time.sleep(LOOK)


def _is_free(owner: Owner | None) -> bool:
    return owner is not None and (owner.released or owner.is_dead())


def _newest(place: Path) -> int:
    """Returns the latest generation of a claim; 0 where there was none."""
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return 0
    newest = 0
    for name in names:
        if _GENERATION.fullmatch(name):
            newest = max(newest, int(name))
    return newest


def _read(place: Path, generation: int) -> Owner | None:
    """Reads who has a generation; None where that cannot be read."""
    try:
        return Owner.model_validate_json(read_regular(place / f"{generation:06d}" / OWNER, MAX_STATE))
    except (OSError, ValidationError):
        return None


def _take_next(place: Path, before: int, owner: Owner) -> Claim | None:
    """Takes the generation after `before`; None where somebody else was first."""
    own = Path(tempfile.mkdtemp(prefix=".", dir=place))
    folder = place / f"{before + 1:06d}"
    try:
        (own / OWNER).write_bytes(_written(owner))
        own.chmod(0o755)
        own.rename(folder)
    except OSError as error:
        shutil.rmtree(own, ignore_errors=True)
        if error.errno in _TAKEN:
            return None
        raise
    for name in os.listdir(place):
        if name != folder.name and not (_GENERATION.fullmatch(name) and int(name) > before):
            shutil.rmtree(place / name, ignore_errors=True)
    return Claim(folder, owner)


def _written(owner: Owner) -> bytes:
    return owner.model_dump_json().encode().ljust(_SIZE)
