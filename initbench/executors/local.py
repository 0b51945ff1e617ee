"""Runs on this machine, each in a worker process, so that a run that dies takes nothing with it.

A worker owns a device. All workers draw from one queue.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Hashable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from initbench import interrupt
from initbench.executors.queue import Queue
from initbench.executors.workers import LOOK, Perform, Worker
from initbench.protocols import Device, OneRun, Reporter, StudyWork


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
        self.workers: list[Worker] = []
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

    def _free(self, code: Hashable) -> Worker | None:
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

    def _hire(self, code: Hashable, perform: Perform) -> Worker:
        worker = Worker(perform, code, self.device.name)
        self.workers.append(worker)
        return worker

    def _dismiss(self, worker: Worker) -> None:
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

    def _hired(self) -> list[Worker]:
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
        ends: dict[Any, tuple[_Place, Worker]] = {}
        for place in self._places:
            for worker in place.workers:
                if worker.run is not None:
                    ends |= dict.fromkeys(worker.ends, (place, worker))
        for end in wait(list(ends), timeout=LOOK):
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
