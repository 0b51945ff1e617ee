"""How the runs of a study get to the devices they are done on: what an executor is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from initbench.protocols.basics import Progress

KindRule = Literal["pairs", "same", "mix"]
"""On which kinds of device the runs of a pair may be.

``pairs``: all on one kind, unless no device of that kind is here. ``same``: on one kind in any case; other runs wait. ``mix``: on
any.
"""


@dataclass(frozen=True)
class Device:
    """A device of this machine.

    Attributes:
        name: as torch calls it, ``cpu`` or ``cuda:0``.
        kind: its model. Two devices of one kind give the same numbers.
    """

    name: str
    kind: str


@dataclass(frozen=True)
class QueuedRun:
    """A run that is to be done.

    Attributes:
        request: what `StudyWork.perform` takes; it travels to other processes.
        folder: where the result goes; None where that is not known yet.
        pair: what the runs have in common that are compared with each other: block and seed, as a digest.
        number: of the run in its study, as `initbench status` shows it; None where the study was not noted.
        code: the components that are not this package's own. A worker process does runs of the same code alone.
    """

    request: Any
    folder: Path | None = None
    pair: str = ""
    code: tuple[str, ...] = ()
    number: int | None = None


def _fix_nothing(pair: str, kind: str) -> str:
    return kind


def _no(outcome: Any) -> bool:
    return False


def _one(device: Device, outcome: Any) -> int:
    return 1


@dataclass(frozen=True)
class StudyWork:
    """The missing runs of a study, and the function that does one.

    Attributes:
        out: the folder of the study. Every machine that works on the study sees it.
        runs: in the order in which they are to begin.
        perform: does a request on the device of a name and returns its outcome. It returns failures and does not raise them. It
            travels to other processes.
        lost: the outcome of a request whose process died, from the request and a message.
        devices: finds the devices of this machine that were asked for; whoever does the runs elsewhere need not ask.
        fix_kind: says on which kind of device the runs of a pair are, from the pair and the kind that would take the first of
            them. The first answer stays, for all processes that work on the study.
        rule: whether that has to be kept.
        jobs: runs at a time on each device; 0 for as many as there is memory for.
        device: as it was asked for: auto, cpu, cuda or cuda:i.
        threads: of torch, for a run on the CPU.
        precision_is_stated: whether the runs have the same ids on every machine; else this one's device chose their precision.
        room: how many runs like one that ended fit on a device at a time.
        out_of_memory: whether a run ended for want of memory; then it is tried once more, alone on its device.
        isolated: whether each run has to be in a process of its own.
        stops_at_once: whether the first signal stops the runs; by default it asks them to save and stop, and the second one stops
            them.
        skip_refused: whether the others are run where some cannot be, for executors that look runs up elsewhere.
        run_code: whether Python files outside of the current folder were asked for, for executors whose tasks look again.
    """

    out: Path
    runs: Sequence[QueuedRun]
    perform: Callable[[Any, str, Progress], Any]
    lost: Callable[[Any, str], Any]
    devices: Callable[[], Sequence[Device]]
    fix_kind: Callable[[str, str], str] = _fix_nothing
    rule: KindRule = "pairs"
    jobs: int = 1
    device: str = "auto"
    threads: int = 1
    precision_is_stated: bool = False
    room: Callable[[Device, Any], int] = _one
    out_of_memory: Callable[[Any], bool] = _no
    isolated: bool = True
    stops_at_once: bool = False
    skip_refused: bool = False
    run_code: bool = False


class StageReporter(Protocol):
    """Progress of the stages of many runs, by their numbers."""

    def start(self, run: int, stage: str, total: int) -> None:
        """Run number `run` begins a stage of `total` steps."""

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        """`done` steps of the stage are finished."""


class Reporter(StageReporter, Protocol):
    """Progress of many runs: what an executor tells whoever shows it. Runs are told by their places in `StudyWork.runs`."""

    def finish(self, run: int, outcome: Any) -> None:
        """The run ended."""


class OneRun:
    """The progress of one run, passed on with its number."""

    def __init__(self, reporter: StageReporter, run: int) -> None:
        self._reporter = reporter
        self._run = run

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins."""
        self._reporter.start(self._run, stage, total)

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        """`done` steps of the stage are finished."""
        self._reporter.advance(self._run, done, info)


class Submission(Protocol):
    """Runs that were handed to an executor."""

    def watch(self, reporter: Reporter) -> Mapping[int, Any]:
        """Waits until all runs have ended, and tells `reporter` of their progress.

        Returns:
            The outcomes by the places of the runs in `StudyWork.runs`. A run without an outcome was left to others, as no device
            of its kind is here, or was not begun, as somebody asked to stop.

        Raises:
            KeyboardInterrupt: somebody wants to stop at once.
        """

    def cancel(self) -> None:
        """Ends what still runs, at once. Checkpoints stay, and the same study goes on from them later."""


class QueuedSubmission(Submission, Protocol):
    """Runs that a queue of others has. They go on when the process ends that handed them over.

    Attributes:
        jobs: what the queue calls them; empty where they were written down and not handed over.
        folder: where the scripts of the jobs are.
    """

    jobs: Sequence[str]
    folder: Path


class Executor(Protocol):
    """Hands the runs of a study to whatever does them. It is reached by name: ``--executor NAME`` or ``NAME(key=value)``."""

    def __call__(self, study: StudyWork, /, **params: Any) -> Submission:
        """Begins with the runs and returns at once.

        Raises:
            UsageError: what was asked for cannot be had, as a partition or an address that does not exist.
        """


@dataclass(frozen=True)
class ExecutorInfo:
    """What an author declares of an executor.

    Attributes:
        check: refuses at once what cannot be had, before torch is loaded and data are prepared. It takes the folder of the study,
            None as long as that is not known, and the parameters of the executor by their names.
        queues: whether it hands the runs to a queue of others and is done. It returns a `QueuedSubmission`. The data are then
            prepared by a job of the queue, and `initbench work` does the runs.
    """

    check: Callable[..., None] | None = None
    queues: bool = False


Submit = TypeVar("Submit", bound=Callable[..., Submission])


def executor(*, check: Callable[..., None] | None = None, queues: bool = False) -> Callable[[Submit], Submit]:
    """Decorates an executor with what `ExecutorInfo` declares."""

    def declare(function: Submit) -> Submit:
        function.info = ExecutorInfo(check, queues)  # type: ignore[attr-defined]
        return function

    return declare
