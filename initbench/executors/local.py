"""Runs on this machine, each in a worker process, so that a run that dies takes nothing with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from initbench import interrupt
from initbench.protocols import Progress

Request = TypeVar("Request")
Outcome = TypeVar("Outcome")
Work = Callable[[Request, Progress], Outcome]


class Reporter(Protocol):
    """Progress of many runs: what an executor tells whoever shows it."""

    def start(self, run: int, stage: str, total: int) -> None:
        """Run number `run` begins a stage of `total` steps."""

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        """`done` steps of the stage are finished."""

    def finish(self, run: int, outcome: Any) -> None:
        """The run ended."""


class OneRun:
    """The progress of one run, passed on with its number."""

    def __init__(self, reporter: Any, run: int) -> None:
        self._reporter = reporter
        self._run = run

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins."""
        self._reporter.start(self._run, stage, total)

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        """`done` steps of the stage are finished."""
        self._reporter.advance(self._run, done, info)


_LOOK = 0.5  # seconds between looks at whether somebody wants to stop
_PATIENCE = 5.0  # seconds in which a worker without a run ends by itself
_working = threading.Event()  # whether this worker has a run in hand
_KILLED = (
    "its process was killed, most likely for memory: fewer --jobs, --size tiny, or --set patch.batch=1; "
    "the same command runs what is missing"
)
# What workers import, once for all of them: torch and the rest take seconds, and so does what torch's deterministic mode imports.
_PRELOADED = ["initbench.harness.execute", "torch._inductor.config"]


def run_all(
    requests: Sequence[Request],
    work: Work[Request, Outcome],
    lost: Callable[[Request, str], Outcome],
    jobs: int,
    reporter: Reporter,
    *,
    isolated: bool = True,
    code: Callable[[Request], Hashable] = lambda request: None,
    stops_at_once: bool = False,
) -> list[Outcome]:
    """Runs every request and returns the outcomes in the same order. A failure stops no other run.

    Args:
        requests: what to run; they and `work` travel to other processes.
        work: runs one request; returns failures instead of raising them.
        lost: the outcome of a request whose process died, from the request and a message.
        jobs: processes at a time.
        reporter: told of progress.
        isolated: whether a single job has a worker process, too.
        code: what code of others a request brings. A worker process does requests of the same code alone.
        stops_at_once: whether the first signal stops the workers; by default it asks them to save and stop, and the second does.

    Raises:
        KeyboardInterrupt: asked to stop; the workers were killed.
    """
    if not requests:
        return []
    if not isolated and (jobs <= 1 or len(requests) <= 1):
        return _one_by_one(requests, work, reporter)
    deferred = contextlib.nullcontext() if stops_at_once else interrupt.deferred()
    with _one_thread_each(), deferred:
        return _Crew(work, code, min(jobs, len(requests))).run(requests, lost, reporter)


def _one_by_one(requests: Sequence[Request], work: Work[Request, Outcome], reporter: Reporter) -> list[Outcome]:
    outcomes = []
    for run, request in enumerate(requests):
        outcome = work(request, OneRun(reporter, run))
        reporter.finish(run, outcome)
        outcomes.append(outcome)
    return outcomes


class _Crew(Generic[Request, Outcome]):
    """Workers that share a list of requests, as many as there are jobs."""

    def __init__(self, work: Work[Request, Outcome], code: Callable[[Request], Hashable], jobs: int) -> None:
        self._work = work
        self._code = code
        self._workers: list[_Worker | None] = [None] * jobs

    def run(self, requests: Sequence[Request], lost: Callable[[Request, str], Outcome], reporter: Reporter) -> list[Outcome]:
        """Hands the `requests` out in their order, and returns the outcomes in it. `lost` makes the outcome of a dead worker.

        Raises:
            KeyboardInterrupt: asked to stop; the workers were killed.
        """
        waiting = deque(enumerate(requests))
        outcomes: dict[int, Outcome] = {}
        try:
            while len(outcomes) < len(requests):
                self._hand_out(waiting)
                if interrupt.asked():
                    for worker in self._hired():
                        worker.signal(signal.SIGTERM)
                for run, outcome, death in self._listen(reporter):
                    outcomes[run] = lost(requests[run], death) if death else outcome
                    reporter.finish(run, outcomes[run])
        except BaseException:
            for worker in self._hired():
                worker.signal(signal.SIGKILL)
            raise
        finally:
            for worker in self._hired():
                worker.dismiss()
        return [outcomes[run] for run in range(len(requests))]

    def _hired(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker is not None]

    def _hand_out(self, waiting: deque[tuple[int, Request]]) -> None:
        """Gives each worker that has nothing to do the next request."""
        for place, worker in enumerate(self._workers):
            if not waiting or (worker is not None and worker.run is not None):
                continue
            run, request = waiting.popleft()
            code = self._code(request)
            if worker is not None and (worker.code != code or not worker.is_alive()):
                self._workers[place] = None
                worker.dismiss()
            hired = self._workers[place] or _Worker(self._work, code)
            self._workers[place] = hired
            hired.begin(run, request)

    def _listen(self, reporter: Reporter) -> Iterator[tuple[int, Any, str]]:
        """Waits for what workers say and passes progress on; gives a run that ended, its outcome, and how its worker died."""
        ends: dict[Any, _Worker] = {}
        for worker in self._hired():
            if worker.run is not None:
                ends |= dict.fromkeys(worker.ends, worker)
        for end in wait(list(ends), timeout=_LOOK):
            for kind, run, *values in ends[end].messages():
                if kind == "finish":
                    yield run, values[0], ""
                elif kind == "death":
                    yield run, None, values[0]
                else:
                    getattr(reporter, kind)(run, *values)


class _Worker:
    """A process that does one request at a time.

    Attributes:
        code: what code of others it has run.
        run: number of the request that it has in hand.
    """

    def __init__(self, work: Work[Any, Any], code: Hashable) -> None:
        context = _context()
        self.code = code
        self.run: int | None = None
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, work, dict(os.environ)))
        with _signals_blocked(), _without_main():
            self._process.start()
        there.close()

    @property
    def ends(self) -> list[Any]:
        """What becomes readable when the worker says something or dies."""
        return [self._process.sentinel] if self._connection.closed else [self._connection, self._process.sentinel]

    def begin(self, run: int, request: Any) -> None:
        """Hands it a request. Where it has died, `messages` says so."""
        self.run = run
        with contextlib.suppress(OSError):
            self._connection.send((run, request))

    def messages(self) -> Iterator[tuple[Any, ...]]:
        """What it said since the last look; where it died with a run in hand, ``death``, the run and a message."""
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
        """Whether the process has not ended."""
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
    """How processes are started: on Linux they are forked from one that has imported torch and has not touched CUDA.

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
    """Inside the block a process that starts gets no signal, until it knows what a signal means to it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Children inherit one thread per math library: two pools on two cores are several times slower than one thread each.

    A run asks torch for as many as its --threads.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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


def _serve(connection: Connection, work: Work[Any, Any], environment: dict[str, str]) -> None:
    """Does the requests that come until the other end is closed."""
    os.environ.clear()  # the process that this one was forked from has the environment of when it started
    os.environ.update(environment)
    interrupt.install(worker=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt.SIGNALS)
    threading.Thread(target=_follow_parent, daemon=True).start()
    reporter = _Sent(connection)
    while True:
        try:
            run, request = connection.recv()
        except EOFError:
            return
        _working.set()
        try:
            outcome = work(request, OneRun(reporter, run))
            reporter.send("finish", run, outcome)
        finally:
            _working.clear()


def _follow_parent() -> None:
    """Stops this process when its parent was killed: nobody would hear of its runs. A run in hand is saved first."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    interrupt.ask()
    while _working.is_set():
        time.sleep(_LOOK)
    os._exit(1)
