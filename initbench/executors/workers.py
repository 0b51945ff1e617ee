"""Worker processes of this machine: how one is started, told what to do and heard, and what it does with requests."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

from initbench import interrupt
from initbench.protocols import OneRun, Progress

Perform = Callable[[Any, str, Progress], Any]

LOOK = 0.5  # seconds between looks at whether somebody wants to stop
_PATIENCE = 5.0  # seconds in which a worker without a run ends by itself
_working = threading.Event()  # whether this worker has a run in hand
_KILLED = (
    "its process was killed, most likely for memory: fewer --jobs, --size tiny, or --set patch.batch=1; "
    "the same command runs what is missing"
)
# What workers import, once for all of them: torch and the rest take seconds, and so does what torch's deterministic mode imports.
_PRELOADED = ["initbench.harness.execute", "torch._inductor.config"]
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_KEPT_BLOCK = 2**27  # bytes; larger blocks go back to the system at once, so that they leave no holes
_MOST_KEPT = 2**31 - 1  # bytes, the most that mallopt takes


class Worker:
    """A process that does one request at a time, on one device.

    Attributes:
        code: what code of others it has run.
        run: number of the request that it has in hand.
    """

    def __init__(self, perform: Perform, code: Hashable, device: str) -> None:
        context = _context()
        self.code = code
        self.run: int | None = None
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, perform, device, dict(os.environ)))
        with _signals_blocked(), _without_main():
            self._process.start()
        there.close()

    @property
    def ends(self) -> list[Any]:
        """What becomes readable when the worker says something or dies."""
        if self._connection.closed:
            return [self._process.sentinel]
        return [self._connection, self._process.sentinel]

    def begin(self, run: int, request: Any) -> None:
        """Hands it a request. Where it has died, `messages` says so."""
        self.run = run
        with contextlib.suppress(OSError):
            self._connection.send((run, request))

    def messages(self) -> Iterator[tuple[Any, ...]]:
        """Yields what it said since the last look; where it died with a run in hand, ``death``, the run and a message."""
        dead = not self.is_alive()
        try:
            while self._connection.poll():
                message = self._connection.recv()
                if message[0] == "finish":
                    self.run = None
                yield message
        # It died in the middle of a message, or code of others closed the pipe.
        except (EOFError, OSError, pickle.UnpicklingError):
            self.signal(signal.SIGKILL)
            self._process.join()
            dead = True
        if dead and self.run is not None:
            run, self.run = self.run, None
            self._process.join()
            yield "death", run, _death(self._process.exitcode)

    def is_alive(self) -> bool:
        """Returns whether the process has not ended."""
        return bool(self._process.is_alive())

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        if self._process.pid is not None and self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def dismiss(self) -> None:
        """Ends it; one that has a run in hand was killed before."""
        self._connection.close()
        self._process.join(_PATIENCE)
        if self._process.is_alive():  # threads of others, say, do not let it go
            self._process.kill()
            self._process.join()
        self._process.close()


def _death(code: int | None) -> str:
    """Says how a worker ended that did not finish its run."""
    if code == -signal.SIGKILL:
        return _KILLED
    if code is not None and code < 0:
        return f"its process crashed ({signal.Signals(-code).name}), as a fault in compiled code does; the other runs go on"
    return f"its process ended by itself with exit code {code}, as code that calls os._exit does; the other runs go on"


def _context() -> Any:
    """Returns how processes are started: on Linux they are forked from one that has imported torch and not touched CUDA.

    A process forked from this one could not use CUDA. Elsewhere the libraries do not survive a fork at all.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Inside the block a process that starts does not import the script of this one, which would run its study again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Inside the block a process that starts gets no signal, until it knows what a signal means to it.

    The process that workers are forked from never learns it. A scheduler that ends a job signals every process of it.
    """
    resource_tracker.ensure_running()  # multiprocessing starts it beside the first worker, and lets signals through then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- in the worker ----------------------------------------------------------------------------------------------------


class _Sent:
    """Reporter of a worker process: sends what it is told."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(self, run: int, stage: str, total: int) -> None:
        """Sends that run number `run` begins a stage."""
        self.send("start", run, stage, total)

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        """Sends that `done` steps of the stage are finished."""
        self.send("advance", run, done, dict(info))

    def send(self, *message: Any) -> None:
        """Sends a message, unless nobody is there to read it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent was killed: `_follow_parent` sees to it
            self._connection.send(message)


def _serve(connection: Connection, perform: Perform, device: str, environment: dict[str, str]) -> None:
    """Does the requests that come until the other end is closed."""
    os.environ.clear()  # the process that this one was forked from has the environment of when it started
    os.environ.update(environment)
    interrupt.install(worker=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt.SIGNALS)
    threading.Thread(target=_follow_parent, daemon=True).start()
    _keep_freed_memory()
    reporter = _Sent(connection)
    while True:
        try:
            run, request = connection.recv()
        except (EOFError, ConnectionResetError):  # the latter where the parent was killed with a message unread
            return
        _working.set()
        try:
            outcome = perform(request, device, OneRun(reporter, run))
            reporter.send("finish", run, outcome)
        finally:
            _working.clear()
        # Libraries and prepared data stay for the next run. The garbage collector would look through all of their objects again
        # after each run, which takes a quarter of a second.
        gc.freeze()
        _give_memory_back()


def _keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, where it has the C library of GNU.

    Each step of training on the CPU takes the same tensors again, and the system would clear their pages each time.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEPT_BLOCK)
        mallopt(_TRIM_THRESHOLD, _MOST_KEPT)


def _give_memory_back() -> None:
    """Gives the memory that nothing uses to the system: other workers may need it before the next run does."""
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _of_glibc(name: str) -> Any:
    """Returns a function of the C library; None where another library than glibc is in use."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), name, None)


def _follow_parent() -> None:
    """Stops this process when its parent was killed: nobody would hear of its runs. A run in hand is saved first."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    interrupt.ask()
    while _working.is_set():
        time.sleep(LOOK)
    os._exit(1)
