"""How long a study takes on a cluster whose nodes fail, beside the shortest time that there could be: a simulation, as a plot.

    python -m benchmarks.cluster_simulation --runs 10000 --nodes 64 --plot docs/images/cluster-simulation.png

Every node has a process of ``initbench work``, here a thread. Which run a process takes, who has it, and when one that is silent
loses it, is decided by the code that decides it in a study, on real folders: the queue, the kinds of device of the pairs, the
claims with their beats, and the loop of `initbench.studies.turns`. Made up are the time, how long runs take, and the failures;
and which runs have ended is looked up in memory, because a million looks into run folders would take most of an hour.

A node that fails is gone at once, and comes back as another machine would: nobody sees its death but by its silence. The time to
the end is compared with two bounds: all nodes are busy all the time, and all nodes that are up are.
"""

from __future__ import annotations

import argparse
import heapq
import math
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import brentq

from initbench import claims, digest
from initbench.executors.local import local
from initbench.harness.execute import Outcome
from initbench.harness.request import RunRequest, as_json
from initbench.plots import COLOURS
from initbench.protocols import Device, Progress, StudyWork, Submission
from initbench.runs import store, work
from initbench.runs.status import AskedRun, write_asked
from initbench.studies import engine
from initbench.studies.engine import Resources
from initbench.studies.sweep import Silent
from initbench.studies.turns import take_turns

HOUR = 3600.0
CHECKPOINT = 300.0  # seconds, as by default
BEGIN = 30.0  # seconds until a process that starts takes its first run
LOOK = 20.0  # seconds between looks of a process that waits for others, and not two, so that a simulation takes minutes
INITS = ("default", "kaiming-normal", "xavier-normal", "trunc-normal", "orthogonal", "lsuv", "lwi", "mae", "order", "tube")
DATASETS = ("phantom-lung", "lung", "hippocampus", "spleen")
_ONE_AFTER_ANOTHER = 5.0  # times the time of all runs one after the other; a study that is not over by then never is
_SPREAD = 0.5  # of the logarithm of how long the runs of a block take
BACKBONES = ("unet", "unetr", "unetrpp", "nnformer", "swin-unetr")


@dataclass(frozen=True)
class Cluster:
    """A cluster and a study on it.

    Attributes:
        runs: of the study; ten inits of a block and seed are compared, and on one kind of device.
        nodes: with a device each.
        slow: share of the nodes that are of another kind, which takes `slowness` times as long.
        between_failures: hours that a node is up, on average; infinite where none fails.
        repair: hours until it is back.
        run: hours of a run on a fast node, on average.
        key: of the random numbers.
    """

    runs: int = 10_000
    nodes: int = 64
    slow: float = 0.25
    slowness: float = 1.6
    between_failures: float = math.inf
    repair: float = 1.0
    run: float = 1.0
    key: int = 0


@dataclass
class Course:
    """What came of a study.

    Attributes:
        ends: when each run ended, in hours, in the order of the ends.
        ended: how many times each run ended; once, where nothing is done twice.
        kinds: of device that the runs of each pair were on.
        bound: hours, if all nodes were busy and up all the time.
        bound_up: hours, if all nodes that were up were busy.
        failures: of nodes, until the end.
        lost: hours of work that failures cost since the last checkpoints.
    """

    ends: list[float] = field(default_factory=list)
    ended: dict[int, int] = field(default_factory=dict)
    kinds: dict[str, set[str]] = field(default_factory=dict)
    bound: float = 0.0
    bound_up: float = 0.0
    failures: int = 0
    lost: float = 0.0

    @property
    def hours(self) -> float:
        """Until the last run ended."""
        return self.ends[-1]


class _FailedError(BaseException):
    """The node of a process failed; its thread ends with the simulation. No code catches it as an error of a run."""


class MadeUpTime:
    """A clock for threads of which one is awake at a time. When it sleeps, the next event comes, and time is at once as late."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._paused = threading.Semaphore(0)
        self._problem: BaseException | None = None
        self._own = threading.local()
        self.processes: list[Process] = []

    def monotonic(self) -> float:
        """Seconds since the begin."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Lets the process that calls it sleep."""
        process: Process = self._own.process
        self.at(self.now + seconds, process.wake)
        process.pause()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Has something done at a time."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, action))

    def run(self, is_over: Callable[[], bool], until: float) -> None:
        """Lets the events happen until all is over, and ends the threads that are left.

        Raises:
            RuntimeError: it is not over at the time `until`: somebody waits for ever.
        """
        while not is_over():
            self.now, _, action = heapq.heappop(self._events)
            if self.now > until:
                raise RuntimeError(f"not over after {self.now / HOUR:.0f} hours")
            action()
            if self._problem is not None:
                raise self._problem
        for process in self.processes:
            process.end()

    def begin(self, function: Callable[[], None]) -> Process:
        """Begins a process, which runs until it sleeps for the first time."""
        process = Process(self, function)
        self.processes.append(process)
        process.thread.start()
        self._paused.acquire()
        return process


class Process:
    """A thread that is awake when its turn comes."""

    def __init__(self, clock: MadeUpTime, function: Callable[[], None]) -> None:
        self._clock = clock
        self._function = function
        self._turn = threading.Semaphore(0)
        self.is_dead = False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def pause(self) -> None:
        """Waits for the next turn of this process."""
        self._clock._paused.release()
        self._turn.acquire()
        if self.is_dead:
            raise _FailedError

    def wake(self) -> None:
        """Lets it run until it sleeps again or ends; a dead one stays where it was."""
        if not self.is_dead:
            self._turn.release()
            self._clock._paused.acquire()

    def end(self) -> None:
        """Ends the thread of a process that died."""
        self.is_dead = True
        self._turn.release()
        self.thread.join()

    def _run(self) -> None:
        self._clock._own.process = self
        try:
            self._function()
        except _FailedError:
            pass
        except BaseException as error:
            self._clock._problem = error
        finally:
            self.is_dead = True
            self._clock._paused.release()


@dataclass(frozen=True)
class NodeResources(Resources):
    """The one device of a node. Runs are done in the process, one after the other, as the executor `local` does them."""

    device: Device = field(default_factory=lambda: Device("cpu", ""))
    perform: Callable[[Any, str, Progress], Any] = lambda request, device, progress: None

    def find_devices(self, request: RunRequest) -> list[Device]:
        """The device."""
        return [self.device]

    def submit(self, work: StudyWork) -> Submission:
        """Has the runs done in this process."""
        return local(replace(work, perform=self.perform, isolated=False))


class Simulation:
    """A study on a cluster. It is the clock by which processes wait for each other."""

    def __init__(self, cluster: Cluster, out: Path) -> None:
        self._cluster = cluster
        self._out = out
        self._clock = MadeUpTime()
        self._random = np.random.default_rng(cluster.key)
        self._asked, self._seconds = _study(cluster, out, self._random)
        self._numbers: dict[Any, int] = {}
        self._saved = dict.fromkeys(range(len(self._asked)), 0.0)
        self._in_hand: dict[str, claims.Claim] = {}
        self._begun: dict[str, tuple[int, float]] = {}
        self._watched = -math.inf
        self._beats = False
        self._up = [0.0] * cluster.nodes
        self._down: list[tuple[int, float, float]] = []
        self._lives = [0] * cluster.nodes
        self.course = Course()

    def run(self) -> Course:
        """Does the study until every run has ended and every process knows it."""
        write_asked(self._out, self._asked)
        with mock.patch.object(engine, "finished", self._finished):
            for node in range(self._cluster.nodes):
                self._begin(node)
            self._clock.run(self._is_over, until=_ONE_AFTER_ANOTHER * sum(self._seconds))
        self.course.ends.sort()
        self._bound()
        return self.course

    def monotonic(self) -> float:
        """Seconds since the begin."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Lets a process wait for others. Owners give their beats while somebody watches; nothing depends on the others."""
        self._watched = self._clock.now
        if not self._beats:
            self._beats = True
            self._clock.at(self._clock.now + claims.BEAT, self._beat)
        self._clock.sleep(max(seconds, LOOK))

    def _beat(self) -> None:
        for claim in self._in_hand.values():
            claim.beat()
        self._beats = self._clock.now - self._watched <= LOOK
        if self._beats:
            self._clock.at(self._clock.now + claims.BEAT, self._beat)

    def _is_over(self) -> bool:
        return len(self.course.ended) == len(self._asked) and all(process.is_dead for process in self._clock.processes)

    def _slowness(self, node: int) -> float:
        return self._cluster.slowness if node < self._cluster.slow * self._cluster.nodes else 1.0

    def _kind(self, node: int) -> str:
        return "slow" if self._slowness(node) > 1 else "fast"

    def _begin(self, node: int) -> None:
        """Begins the process of a node, and says when the node fails."""
        self._lives[node] += 1
        self._up[node] = self._clock.now
        process = self._clock.begin(partial(self._live, node, f"node {node} life {self._lives[node]}"))
        if math.isfinite(self._cluster.between_failures):
            until = float(self._random.exponential(HOUR * self._cluster.between_failures))
            self._clock.at(self._clock.now + until, partial(self._fail, node, process))

    def _fail(self, node: int, process: Process) -> None:
        """Ends the process of a node without a word, and has the node come back later."""
        owner = f"node {node} life {self._lives[node]}"
        process.is_dead = True
        self._in_hand.pop(owner, None)
        self.course.failures += len(self.course.ended) < len(self._asked)
        if owner in self._begun:
            run, when = self._begun.pop(owner)
            done = (self._clock.now - when) / self._slowness(node)
            kept = CHECKPOINT * math.floor(done / CHECKPOINT)
            self._saved[run] += kept
            self.course.lost += (done - kept) / HOUR
        back = self._clock.now + HOUR * self._cluster.repair
        self._down.append((node, self._clock.now, back))
        self._clock.at(back, partial(self._begin, node))

    def _live(self, node: int, owner: str) -> None:
        """The life of a process: what ``initbench work`` does."""
        self._clock.sleep(BEGIN)
        runs = {number: run for number, run in enumerate(self._asked) if number not in self.course.ended}
        device = Device("cpu", self._kind(node))
        resources = NodeResources(rule="same", device=device, perform=partial(self._perform, node=node, owner=owner))
        if runs:
            take_turns(runs, self._out, resources, Silent(), clock=self)

    def _perform(self, request: RunRequest, device: str, progress: Progress, *, node: int, owner: str) -> Outcome:
        """A run that does nothing but last, in the place of `initbench.harness.execute.execute`."""
        number = self._number(request)
        run = self._asked[number]
        assert run.folder is not None
        if number in self.course.ended:
            return Outcome(request, "cached", run.folder, None)
        place = work.claim_place(run.folder)
        claim = claims.take(place, claims.Owner(host=f"node {node}", machine=owner, pid=1, started="1"))
        if claim is None:
            return Outcome(request, "busy", None, None, pair=run.pair, waits_for=place)
        self._in_hand[owner], self._begun[owner] = claim, (number, self._clock.now)
        self._clock.sleep((self._seconds[number] - self._saved[number]) * self._slowness(node))
        del self._in_hand[owner], self._begun[owner]
        if not claim.check():
            return Outcome(request, "busy", None, None, pair=run.pair, waits_for=place)
        claim.release()
        self.course.ends.append(self._clock.now / HOUR)
        self.course.ended[number] = self.course.ended.get(number, 0) + 1
        self.course.kinds.setdefault(run.pair, set()).add(self._kind(node))
        return Outcome(request, "ok", run.folder, None)

    def _finished(self, request: RunRequest, folder: Path) -> Outcome | None:
        """In the place of `initbench.harness.execute.finished`."""
        return Outcome(request, "cached", folder, None) if self._number(request) in self.course.ended else None

    def _number(self, request: RunRequest) -> int:
        if not self._numbers:
            for number, run in enumerate(self._asked):
                self._numbers[run.label] = number
        return self._numbers[request.label]

    def _bound(self) -> None:
        """Notes the hours that the study takes at least, with all nodes, and with those that were up."""
        amount = sum(self._seconds) / HOUR
        speeds = [1 / self._slowness(node) for node in range(self._cluster.nodes)]

        def missing(hours: float) -> float:
            """What is left of the work, in hours of a fast node, when the nodes that were up did all they could."""
            done = sum(speeds) * hours
            for node, begin, end in self._down:
                done -= speeds[node] * max(0.0, min(end / HOUR, hours) - begin / HOUR)
            return amount - done

        self.course.bound = amount / sum(speeds)
        self.course.bound_up = float(brentq(missing, 0.0, self.course.hours))


def _study(cluster: Cluster, out: Path, random: np.random.Generator) -> tuple[list[AskedRun], list[float]]:
    """The runs of a study, ten inits for each block and seed, and the seconds that each takes on a fast node."""
    asked: list[AskedRun] = []
    lengths: dict[tuple[str, str], float] = {}
    seconds = []
    pairs = math.ceil(cluster.runs / len(INITS))
    for number in range(pairs):
        seed, block = divmod(number, len(BACKBONES) * len(DATASETS))
        dataset, backbone = DATASETS[block % len(DATASETS)], BACKBONES[block // len(DATASETS)]
        length = lengths.setdefault((dataset, backbone), float(random.lognormal(-(_SPREAD**2) / 2, _SPREAD)))
        pair = digest.of_json([dataset, backbone, seed])[:16]
        for init in INITS:
            request = RunRequest.of(init, backbone, dataset, seed, out=out)
            cell = digest.of_json([dataset, backbone, init])
            folder = store.run_folder(out, dataset, backbone, init, cell, seed)
            asked.append(AskedRun(request.label, as_json(request), folder, pair=pair))
            seconds.append(HOUR * cluster.run * length * float(random.normal(1.0, 0.05)))
    return asked[: cluster.runs], seconds[: cluster.runs]


def simulate(cluster: Cluster, folder: Path | None = None) -> Course:
    """Returns the course of a study on a cluster.

    Args:
        cluster: and the study.
        folder: below which files are written; by default in memory, where the system has such a folder.
    """
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=folder or (memory if memory.is_dir() else None)) as temporary:
        return Simulation(cluster, Path(temporary) / "runs").run()


def draw(courses: dict[str, Course], path: Path) -> None:
    """Draws how many runs had ended at which time, beside what is possible, and the end of the study once more."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    whole, last = figure.subplots(1, 2)
    runs = len(next(iter(courses.values())).ends)
    for (name, course), colour in zip(courses.items(), COLOURS[4:] + COLOURS[:4], strict=False):
        times = [0.0, *course.ends]
        label = f"{name}: {course.hours:.0f} h, {course.hours / course.bound_up:.3f} × bound"
        for axis in (whole, last):
            axis.step(times, range(len(times)), where="post", color=colour, label=label)
            axis.axvline(course.bound_up, color=colour, linestyle=":", linewidth=1)
    whole.plot([0, courses_bound(courses)], [0, runs], color="0.5", linewidth=1, linestyle="--", label="all nodes always busy")
    whole.set_ylabel("runs that ended")
    whole.legend(loc="upper left", fontsize=7)
    last.set_ylim(0.97 * runs, 1.002 * runs)
    last.set_xlim(0.97 * courses_bound(courses), 1.01 * max(course.hours for course in courses.values()))
    last.set_title("the end (dotted: all nodes that are up are busy)", fontsize=8)
    for axis in (whole, last):
        axis.set_xlabel("hours")
    figure.savefig(path, dpi=150)


def courses_bound(courses: dict[str, Course]) -> float:
    """The hours of the study on nodes that never fail; the same for all courses."""
    return next(iter(courses.values())).bound


def main() -> None:
    """Simulates a study without failures and with them, and draws both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    standard = Cluster()
    parser.add_argument("--runs", type=int, default=standard.runs)
    parser.add_argument("--nodes", type=int, default=standard.nodes)
    parser.add_argument("--between-failures", type=float, nargs="+", default=[math.inf, 168.0], help="hours, of each node")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    courses = {}
    for hours in given.between_failures:
        begun = time.perf_counter()
        course = simulate(replace(standard, runs=given.runs, nodes=given.nodes, between_failures=hours))
        name = f"each node fails every {hours:g} h" if math.isfinite(hours) else "no node fails"
        courses[name] = course
        twice = sum(count > 1 for count in course.ended.values())
        print(
            f"{name}: {len(course.ended)} runs, {twice} twice, {course.failures} failures, {course.lost:.1f} h of work lost; "
            f"{course.hours:.1f} h, {course.hours / course.bound_up:.3f} of the bound of {course.bound_up:.1f} h "
            f"({course.bound:.1f} h without failures); took {time.perf_counter() - begun:.0f} s",
            flush=True,
        )
    if given.plot:
        draw(courses, given.plot)


if __name__ == "__main__":
    main()
