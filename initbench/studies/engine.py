"""The runs of a study in the hands of an executor: until each has ended, here or in another process that works on the study."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from initbench import claims, interrupt, registry
from initbench.catalog import Kind
from initbench.choices import EXECUTOR
from initbench.errors import UsageError
from initbench.harness.cell import Cells
from initbench.harness.execute import Outcome, execute_on, finished, record_death
from initbench.harness.hardware import devices_here, runs_at_once
from initbench.harness.request import RunRequest
from initbench.protocols import Device, KindRule, Progress, QueuedRun, Reporter, StudyWork, Submission
from initbench.runs import cancel, kinds, store
from initbench.spec import Spec

_POLL = 2.0  # seconds between two looks at runs that other processes have in hand
_GRACE = 0.1  # share of the time limit that is kept for saving,
_MOST_GRACE = 60.0  # and the most seconds of it
_LOCAL = Spec(EXECUTOR)


@dataclass(frozen=True)
class Resources:
    """Who does the runs of a study, and on which devices.

    Attributes:
        executor: hands the runs to whatever does them.
        jobs: runs at a time on each device; 0 for as many as there is memory for.
        devices: numbers of the CUDA devices; all of them without any.
        rule: whether all inits of a block and seed have to be on one kind of device.
    """

    executor: Spec = _LOCAL
    jobs: int = 1
    devices: tuple[int, ...] = ()
    rule: KindRule = "pairs"

    @property
    def queues(self) -> bool:
        """Whether the executor hands the runs to a queue of others, which goes on without this process."""
        component = registry.find("executor", self.executor)
        return bool(component.info.queues)

    def find_devices(self, request: RunRequest) -> list[Device]:
        """Returns the devices of this machine that the runs of a study may use, of which `request` is one.

        Raises:
            UsageError: one of them does not exist.
        """
        return devices_here(request.device, self.devices, request.precision)

    def check(self, request: RunRequest) -> None:
        """Refuses what cannot be had, before anything is prepared.

        Raises:
            UsageError: there is no such executor, it takes no such parameter, it does not take this kind of study, or a
                device does not exist.
        """
        if self.queues:
            raise UsageError(
                f"{self.executor.name} takes studies of `initbench run` and `retry` alone; here take --executor local"
            )
        if self.executor.name == EXECUTOR:
            self.find_devices(request)
        elif self.devices:
            raise UsageError(f"--devices is for the GPUs of this machine, and --executor {self.executor.name} chooses its own")
        registry.check_executor(self.executor, request.out)

    def submit(self, work: StudyWork) -> Submission:
        """Hands runs to the executor."""
        executor = registry.find("executor", self.executor)
        submission: Submission = executor.target(work, **executor.params)
        return submission


@dataclass(frozen=True)
class TimeLimit:
    """How long a process may work.

    Attributes:
        seconds: from its begin.
        until: its end, on the clock `time.monotonic`, which the processes of a machine share.
    """

    seconds: float
    until: float

    @classmethod
    def of(cls, seconds: float, begun: float) -> TimeLimit:
        """Returns the limit of a process that has `seconds` in all. A tenth of them, a minute at most, is kept for saving.

        Args:
            seconds: of the limit.
            begun: when the process began, on the clock `time.monotonic`.
        """
        usable = seconds - min(_GRACE * seconds, _MOST_GRACE)
        return cls(usable, begun + usable)

    @property
    def is_over(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() >= self.until

    def refusal(self, expected: float | None) -> str:
        """Says why a run is not begun; empty where it may be.

        A run that is longer than the whole limit is begun: it goes on from checkpoint to checkpoint, in as many processes as it
        takes.

        Args:
            expected: seconds that the run takes; None where nobody knows.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            return "not begun: the time limit is reached"
        if expected is None or expected <= left or expected > self.seconds:
            return ""
        return f"not begun: it takes about {expected / 60:.0f} min, and {left / 60:.0f} min are left"


@contextlib.contextmanager
def limited(limit: TimeLimit | None) -> Iterator[None]:
    """Inside the block the runs in hand are asked to save and stop when the time is over."""
    if limit is None:
        yield
        return
    timer = threading.Timer(limit.until - time.monotonic(), interrupt.ask)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class Turn:
    """Does a run of the study when its turn comes, unless something speaks against it by then. It travels to worker processes.

    Attributes:
        cells: those that were resolved already.
        expected: seconds that each run takes, where that is known.
        folders: of the runs whose failure in the hands of another process counts; others are tried again.
        limit: how long this process works.
        mark: of the study when this process began.
    """

    cells: Cells
    expected: Mapping[RunRequest, float] = field(default_factory=dict)
    folders: Mapping[RunRequest, Path] = field(default_factory=dict)
    limit: TimeLimit | None = None
    mark: str = ""

    def __call__(self, request: RunRequest, device: str, progress: Progress) -> Outcome:
        """Does the run on a device."""
        refusal = self.refusal(request)
        if refusal:
            return Outcome(request, "interrupted", None, None, refusal)
        folder = self.folders.get(request)
        if folder is not None:
            record = store.read_record(folder)
            if record is not None and not record.has_result:
                return Outcome(request, "failed", folder, None, record.reason or "it failed in another process")
        return execute_on(request, device, progress, self.cells)

    def refusal(self, request: RunRequest) -> str:
        """Says why a run is not begun any more; empty where it may be."""
        if cancel.mark(request.out) != self.mark:
            return "not begun: the study was cancelled"
        if self.limit is None:
            return ""
        return self.limit.refusal(self.expected.get(request))


def code_of_others(request: RunRequest) -> tuple[str, ...]:
    """Returns the components of a request that are not this package's own."""
    asked: list[tuple[Kind, Spec]] = [
        ("initializer", request.init),
        ("backbone", request.backbone),
        ("dataset", request.dataset),
        ("regimen", request.regimen),
    ]
    return tuple(str(item) for kind, item in asked if not registry.is_built_in(kind, item))


def run_queued(
    runs: Mapping[int, QueuedRun],
    resources: Resources,
    reporter: Reporter,
    cells: Cells,
    *,
    turn: Turn | None = None,
    isolated: bool = True,
    waits: bool = True,
    clock: claims.Clock = time,
) -> dict[int, Outcome]:
    """Hands runs to the executor until each has ended, here or in the hands of another process.

    Runs that others have in hand are asked for again when all the rest is done: their processes may die and leave them. While
    this one waits, it has no worker, so it holds no device.

    Args:
        runs: of one study, by their numbers.
        resources: who does them, and on which devices.
        reporter: told of progress, with the numbers of the runs.
        cells: those that were resolved already.
        turn: does a run; by default whatever became of it before.
        isolated: whether each run has a process of its own.
        waits: whether to wait for runs that others have in hand; without, they are ``busy``.
        clock: by which this process waits for others and knows that one is silent.
    """
    if not runs:
        return {}
    missing = list(runs)
    outcomes: dict[int, Outcome] = {}
    watch = claims.Watch(clock)
    turn = turn or Turn(cells, mark=cancel.mark(runs[missing[0]].request.out))
    while missing:
        asked = [runs[number] for number in missing]
        first = asked[0].request
        work = StudyWork(
            out=first.out,
            runs=asked,
            perform=turn,
            lost=functools.partial(record_death, cells=cells),
            devices=functools.partial(resources.find_devices, first),
            fix_kind=functools.partial(kinds.fix_kind, first.out),
            rule=resources.rule,
            jobs=resources.jobs,
            device=first.device,
            threads=first.threads,
            precision_is_stated=first.precision != "auto",
            room=functools.partial(_room, threads=first.threads),
            out_of_memory=_has_no_memory,
            isolated=isolated,
        )
        ran = watched(resources.submit(work), Renumbered(reporter, missing))
        for place, number in enumerate(missing):
            outcomes[number] = ran.get(place) or _left(runs[number])
        if not waits:
            break
        busy = [number for number in missing if outcomes[number].state == "busy"]
        missing = _until_free(busy, runs, outcomes, reporter, watch, turn, clock)
    return outcomes


def _room(device: Device, outcome: Outcome, threads: int) -> int:
    """Returns how many runs like one that ended fit on a device; one, where it did not say what it took."""
    if not outcome.peak_memory:
        return 1
    return runs_at_once(device, outcome.peak_memory, threads)


def _has_no_memory(outcome: Outcome) -> bool:
    return outcome.no_memory


def watched(submission: Submission, reporter: Reporter) -> Mapping[int, Outcome]:
    """Waits for the end of a submission. Where somebody wants to stop at once, it is cancelled."""
    try:
        return submission.watch(reporter)
    except KeyboardInterrupt:
        submission.cancel()
        raise


def _left(run: QueuedRun) -> Outcome:
    """Returns the outcome of a run that no device here may do, or that was not begun as somebody asked to stop."""
    if interrupt.asked():
        return Outcome(run.request, "interrupted", None, None, "not begun")
    kind = kinds.fixed_kind(run.request.out, run.pair)
    message = f"the runs of its block and seed are on {kind}, and no such device is here; without --same-kind it is run here"
    return Outcome(run.request, "busy", None, None, message)


def _until_free(
    busy: Sequence[int],
    runs: Mapping[int, QueuedRun],
    outcomes: dict[int, Outcome],
    reporter: Reporter,
    watch: claims.Watch,
    turn: Turn,
    clock: claims.Clock,
) -> list[int]:
    """Waits until some of the runs that others have in hand can be taken, and returns those; none when all have ended."""
    waiting = list(busy)
    while waiting:
        for number in list(waiting):
            ended = _ended_elsewhere(runs[number], turn)
            if ended is not None:
                outcomes[number] = ended
                reporter.finish(number, ended)
                waiting.remove(number)
        if any(_is_free(outcomes[number], watch) for number in waiting):
            return waiting  # which of them can be had is seen when they are asked for
        if waiting:
            clock.sleep(_POLL)
    return []


def _ended_elsewhere(run: QueuedRun, turn: Turn) -> Outcome | None:
    """Returns how a run ended that this process waited for, done by another or cancelled; None until then."""
    refusal = turn.refusal(run.request)
    if refusal:
        return Outcome(run.request, "interrupted", None, None, refusal)
    if run.folder is None:
        return None
    return finished(run.request, run.folder)


def _is_free(outcome: Outcome, watch: claims.Watch) -> bool:
    return outcome.waits_for is not None and watch.is_free(outcome.waits_for)


class Renumbered:
    """Passes progress on under the numbers of the whole plan."""

    def __init__(self, reporter: Reporter, numbers: Sequence[int]) -> None:
        self._reporter = reporter
        self._numbers = numbers

    def start(self, run: int, stage: str, total: int) -> None:
        """Says that run number `run` begins a stage."""
        self._reporter.start(self._numbers[run], stage, total)

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        """Says that `done` steps of the stage are finished."""
        self._reporter.advance(self._numbers[run], done, info)

    def finish(self, run: int, outcome: Outcome) -> None:
        """Says that a run ended, but for one that others have in hand."""
        if outcome.state != "busy":
            self._reporter.finish(self._numbers[run], outcome)
