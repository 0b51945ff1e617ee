"""Runs on this machine: one after another, or several processes over the devices."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

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


class _Queued:
    """Reporter of a worker process: puts what it is told on a queue."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def start(self, run: int, stage: str, total: int) -> None:
        self._queue.put(("start", run, stage, total))

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        self._queue.put(("advance", run, done, dict(info)))


_LOOK = 0.5  # seconds between looks at whether somebody wants to stop
_PATIENCE = 5.0  # seconds for the last progress of the workers to arrive
_worker_queue: Any = None
_working = threading.Event()  # whether this worker has a run in hand
_KILLED = (
    "its process was killed, most likely for memory: fewer --jobs, --size tiny, or --set patch.batch=1; "
    "the same command runs what is missing"
)


def _start_worker(queue: Any) -> None:
    global _worker_queue  # noqa: PLW0603  (set once per process, by the pool)
    _worker_queue = queue
    interrupt.install(worker=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt.SIGNALS)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """Stops this process when its parent was killed: it would wait for work for ever. A run in hand is saved first."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    interrupt.ask()
    while _working.is_set():
        time.sleep(_LOOK)
    os._exit(1)


def _in_worker(work: Work[Request, Outcome], run: int, request: Request) -> Outcome:
    _working.set()
    try:
        return work(request, OneRun(_Queued(_worker_queue), run))
    finally:
        _working.clear()


def run_all(
    requests: Sequence[Request],
    work: Work[Request, Outcome],
    lost: Callable[[Request, str], Outcome],
    jobs: int,
    reporter: Reporter,
) -> list[Outcome]:
    """Runs every request and returns the outcomes in the same order. A failure stops no other run.

    Args:
        requests: what to run; they and `work` travel to other processes when `jobs` > 1.
        work: runs one request; returns failures instead of raising them.
        lost: the outcome of a request whose process was killed, from the request and a message.
        jobs: processes at a time.
        reporter: told of progress.

    Raises:
        KeyboardInterrupt: asked to stop twice; the workers were killed.
    """
    if jobs <= 1 or len(requests) <= 1:
        return _one_by_one(requests, work, reporter)
    return _in_processes(requests, work, lost, min(jobs, len(requests)), reporter)


def _one_by_one(requests: Sequence[Request], work: Work[Request, Outcome], reporter: Reporter) -> list[Outcome]:
    outcomes = []
    for run, request in enumerate(requests):
        outcome = work(request, OneRun(reporter, run))
        reporter.finish(run, outcome)
        outcomes.append(outcome)
    return outcomes


def _in_processes(
    requests: Sequence[Request],
    work: Work[Request, Outcome],
    lost: Callable[[Request, str], Outcome],
    jobs: int,
    reporter: Reporter,
) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    queue: Any = context.Queue()
    outcomes: dict[int, Outcome] = {}
    with _listening(queue, reporter), _one_thread_each(), interrupt.deferred():
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(queue,))
        try:
            with _signals_blocked():  # workers inherit that, until they know what a signal means to them
                futures: dict[Future[Outcome], int] = {
                    pool.submit(_in_worker, work, run, request): run for run, request in enumerate(requests)
                }
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
                if interrupt.asked():
                    _tell_workers(pool, signal.SIGTERM)
                for future in done:
                    run = futures[future]
                    try:
                        outcomes[run] = future.result()
                    except BrokenProcessPool:
                        # The pool asks the others to terminate, which they take for a request to save and go on waiting.
                        _tell_workers(pool, signal.SIGKILL)
                        outcomes[run] = lost(requests[run], _KILLED)
                    reporter.finish(run, outcomes[run])
        except KeyboardInterrupt:
            _tell_workers(pool, signal.SIGKILL)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return [outcomes[run] for run in range(len(requests))]


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tell_workers(pool: ProcessPoolExecutor, number: signal.Signals) -> None:
    """Signals every worker. What waits in the queue comes back at once, as a worker that is to stop begins nothing."""
    for process in list((pool._processes or {}).values()):
        if process.pid is not None and process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


@contextlib.contextmanager
def _listening(queue: Any, reporter: Reporter) -> Iterator[None]:
    """Passes what the workers put on the queue to the reporter."""

    def listen() -> None:
        for kind, *values in iter(queue.get, None):
            getattr(reporter, kind)(*values)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        queue.put(None)
        thread.join(timeout=_PATIENCE)
        if thread.is_alive():  # a worker was killed in the middle of a write, and the queue's lock died with it
            queue.cancel_join_thread()
        else:
            queue.close()
            queue.join_thread()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Children inherit one thread per math library: two pools on two cores are several times slower than one thread each."""
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
