"""Runs on this machine, each in a worker process, so that a run that dies takes nothing with it.

A worker owns a device. All workers draw from one queue.
"""

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
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

from initbench import interrupt
from initbench.executors.queue import Queue
from initbench.protocols import Device, OneRun, Progress, Reporter, StudyWork

Perform = Callable[[Any, str, Progress], Any]

_LOOK = 0.5  # seconds between looks at whether somebody wants to stop
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


def local(study: StudyWork, /) -> LocalSubmission:
    """Runs a study on this machine. Every device that is free takes the next run.

    A run that fails stops no other one. A run for which memory did not suffice beside others is tried once more, alone.

    Args:
        study: the runs.
    """
    return LocalSubmission(study)


class LocalSubmission:
    """Runs that are done while somebody watches them: this process hands them to its workers."""

    def __init__(self, study: StudyWork) -> None:
        self._study = study
        self._crew: _Crew | None = None

    def watch(self, reporter: Reporter) -> dict[int, Any]:
        """Does the runs, as `Submission.watch` says."""
        study = self._study
        if not study.runs:
            return {}
        devices = study.devices()
        one_at_a_time = len(study.runs) == 1 or (study.jobs == 1 and len(devices) == 1)
        if not study.isolated and one_at_a_time:
            return self._one_by_one(devices[0], reporter)
        with contextlib.ExitStack() as around:
            around.enter_context(_one_thread_each())
            if not study.stops_at_once:
                around.enter_context(interrupt.deferred())
            self._crew = _Crew(study, devices)
            return self._crew.run(reporter)

    def cancel(self) -> None:
        """Ends what still runs, at once."""
        if self._crew is not None:
            self._crew.kill()

    def _one_by_one(self, device: Device, reporter: Reporter) -> dict[int, Any]:
        """Does the runs in this process."""
        study, outcomes = self._study, {}
        queue = _queue(study, [device])
        run = queue.take(device.kind)
        while run is not None:
            outcomes[run] = study.perform(study.runs[run].request, device.name, OneRun(reporter, run))
            reporter.finish(run, outcomes[run])
            run = queue.take(device.kind)
        return outcomes


def _queue(study: StudyWork, devices: Sequence[Device]) -> Queue:
    pairs = [run.pair for run in study.runs]
    kinds = {device.kind for device in devices}
    return Queue(pairs, kinds, study.fix_kind, study.rule, shuffled=len(devices) > 1)


class _Place:
    """A device and its workers.

    Attributes:
        device: that the workers own.
        workers: that have a run in hand, or had one until now.
        jobs: how many runs the device does at a time.
        crowded: runs in hand that were not alone on the device all the time.
        alone: whether the run in hand is tried alone.
    """

    def __init__(self, device: Device, jobs: int) -> None:
        self.device = device
        self.workers: list[_Worker] = []
        self.jobs = jobs
        self.crowded: set[int] = set()
        self.alone = False

    def in_hand(self) -> list[int]:
        """Returns the runs that the device does now."""
        return [worker.run for worker in self.workers if worker.run is not None]

    def has_room(self) -> bool:
        """Returns whether the device may begin another run."""
        return len(self.in_hand()) < self.jobs and not self.alone

    def begin(self, run: int, request: Any, code: Hashable, perform: Perform) -> None:
        """Gives a run to a worker, to one that is warm where there is one for the code.

        Args:
            run: its place in the study.
            request: of the run.
            code: what code of others it brings.
            perform: what a new worker does with requests.
        """
        worker = self._free(code) or self._hire(code, perform)
        worker.begin(run, request)
        running = self.in_hand()
        if len(running) > 1:
            self.crowded.update(running)

    def dismiss_idle(self) -> None:
        """Ends the workers that have nothing to do: they would keep memory of the device from others."""
        for worker in list(self.workers):
            if worker.run is None:
                self._dismiss(worker)

    def _free(self, code: Hashable) -> _Worker | None:
        """Returns a worker that waits for a run of the code, and ends all other workers that have no run."""
        found = None
        for worker in list(self.workers):
            if worker.run is not None:
                continue
            if worker.code == code and worker.is_alive():
                found = worker
            else:
                self._dismiss(worker)
        return found

    def _hire(self, code: Hashable, perform: Perform) -> _Worker:
        worker = _Worker(perform, code, self.device.name)
        self.workers.append(worker)
        return worker

    def _dismiss(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.dismiss()


class _Crew:
    """The workers of all devices, which share one queue."""

    def __init__(self, study: StudyWork, devices: Sequence[Device]) -> None:
        self._study = study
        self._queue = _queue(study, devices)
        self._places = [_Place(device, study.jobs or 1) for device in devices]
        self._room: dict[str, int] = {}

    def run(self, reporter: Reporter) -> dict[int, Any]:
        """Hands the runs out until none is left that a device here may do, and returns the outcomes.

        Raises:
            KeyboardInterrupt: asked to stop at once; the workers were killed.
        """
        outcomes: dict[int, Any] = {}
        try:
            self._hand_out()
            while any(place.in_hand() for place in self._places):
                if interrupt.asked():
                    for worker in self._hired():
                        worker.signal(signal.SIGTERM)
                for place, run, outcome in self._listen(reporter):
                    if self._is_tried_again(place, run, outcome):
                        continue
                    outcomes[run] = outcome
                    reporter.finish(run, outcome)
                    self._make_room(place, outcome)
                self._hand_out()
        except BaseException:
            self.kill()
            raise
        finally:
            for worker in self._hired():
                worker.dismiss()
        return outcomes

    def kill(self) -> None:
        """Kills all workers."""
        for worker in self._hired():
            worker.signal(signal.SIGKILL)

    def _hired(self) -> list[_Worker]:
        hired = []
        for place in self._places:
            hired += place.workers
        return hired

    def _hand_out(self) -> None:
        """Gives every device that has room the next runs. Devices take turns, so that a short queue fills all of them."""
        given = True
        while given:
            given = False
            for place in self._places:
                given = (place.has_room() and self._give(place)) or given
        for place in self._places:
            place.dismiss_idle()

    def _give(self, place: _Place) -> bool:
        """Gives a device one run; says whether there was one for it."""
        run = self._queue.take(place.device.kind)
        if run is None and not place.in_hand():
            run = self._queue.take_alone(place.device.kind)
            place.alone = run is not None
        if run is None:
            return False
        queued = self._study.runs[run]
        place.begin(run, queued.request, queued.code, self._study.perform)
        return True

    def _listen(self, reporter: Reporter) -> Iterator[tuple[_Place, int, Any]]:
        """Waits for what workers say and passes progress on; gives each run that ended, where it was, and its outcome."""
        ends: dict[Any, tuple[_Place, _Worker]] = {}
        for place in self._places:
            for worker in place.workers:
                if worker.run is not None:
                    ends |= dict.fromkeys(worker.ends, (place, worker))
        for end in wait(list(ends), timeout=_LOOK):
            place, worker = ends[end]
            for kind, run, *values in worker.messages():
                if kind == "finish":
                    yield place, run, values[0]
                elif kind == "death":
                    yield place, run, self._study.lost(self._study.runs[run].request, values[0])
                else:
                    getattr(reporter, kind)(run, *values)

    def _is_tried_again(self, place: _Place, run: int, outcome: Any) -> bool:
        """Puts a run back that lacked memory beside others: alone it may fit."""
        was_crowded = run in place.crowded
        place.crowded.discard(run)
        place.alone = False
        if not (was_crowded and self._study.out_of_memory(outcome)):
            return False
        self._queue.put_back(run, self._study.runs[run].pair)
        return True

    def _make_room(self, place: _Place, outcome: Any) -> None:
        """Sets how many runs a device does at a time by the largest of those that ended, where that was left to memory."""
        if self._study.jobs:
            return
        kind = place.device.kind
        room = max(1, self._study.room(place.device, outcome))
        self._room[kind] = min(room, self._room.get(kind, room))
        for other in self._places:
            if other.device.kind == kind:
                other.jobs = self._room[kind]


class _Worker:
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


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Lets children have one thread per math library: two pools on two cores are several times slower than one thread each.

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
        time.sleep(_LOOK)
    os._exit(1)
