"""Runs on a Ray cluster, as its tasks: Ray finds a place for each, and starts it again where a worker or a node is lost.

A run that starts again goes on from its checkpoint. Its claim in the folder of the study lets nobody do it twice, also where the
process on a lost node lives on.

Ray knows no kinds of CPUs. So each node says once what it has, and a task for one kind names the nodes of other kinds, where it
is not to go.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initbench import digest, interrupt
from initbench.errors import InitbenchError, UsageError
from initbench.executors.queue import Queue
from initbench.executors.ray_cluster import (
    Need,
    Nodes,
    check_folder,
    check_need,
    check_shares,
    connect,
    has_gpus,
)
from initbench.protocols import Device, NoProgress, QueuedRun, Reporter, StudyWork, executor
from initbench.runs import work

_LOOK = 2.0  # seconds between looks at what runs do, and at whether somebody wants to stop
_TRIES = 3  # how many times Ray starts a run again whose worker or node was lost
_AHEAD = 2  # runs in Ray's hands for each place: those that wait there show an autoscaler what is missing
_GRACE = 10.0  # seconds in which a run that is cancelled may save
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def _check(out: Path | None, address: str, gpus: float | None, cpus: float) -> None:
    """Refuses a cluster that does not answer, and needs that no node of it can meet; `out` where it is known."""
    check_shares(cpus, gpus)
    connect(address)
    check_need(Need(cpus or 1, gpus or 0))
    if out is not None:
        check_folder(out)


@executor(check=_check)
def on_ray(study: StudyWork, /, *, address: str = "", gpus: float | None = None, cpus: float = 0) -> RaySubmission:
    """Hands the runs of a study to a Ray cluster that this machine is a node of.

    Args:
        study: the runs.
        address: HOST:PORT of the head; "" for the cluster that was started on this machine.
        gpus: share of a GPU that a run takes; None for one divided by the jobs on it, or none where no node has a GPU.
        cpus: cores that a run takes; 0 for as many as it has threads.

    Raises:
        UsageError: no node has what a run takes. InitbenchError: nobody answers at the address.
    """
    connect(address)
    if gpus is None:
        gpus = _share(study)
    need = Need(cpus or study.threads, gpus)
    check_need(need)
    return RaySubmission(study, need)


def _share(study: StudyWork) -> float:
    """Chooses the share of a GPU for each run, where nobody stated one.

    Raises:
        UsageError: runs need a GPU that no node has, their precision is left to a GPU that this machine lacks, or their number on
            each is left to memory, which Ray does not count.
    """
    if study.device == "cpu":
        return 0.0
    if not has_gpus():
        if study.device == "auto":
            return 0.0
        raise UsageError(f"--device {study.device}: no node of the Ray cluster has a GPU")
    if not study.precision_is_stated and study.devices()[0].name == "cpu":
        raise UsageError(
            "the Ray cluster has GPUs and this machine has none, whose precision the runs would take: add --precision bf16 or "
            "float32, or --device cpu"
        )
    if not study.jobs:
        raise UsageError("--jobs auto does not go with Ray, which counts no memory of GPUs: say --jobs 2, or ray(gpus=0.5)")
    return 1 / study.jobs


@dataclass(frozen=True)
class _Task:
    """A run in Ray's hands.

    Attributes:
        answer: Ray's reference to what it will return.
        kind: of the devices that it may go to.
        alone: whether it has a GPU of its own, after memory did not suffice beside others.
    """

    run: int
    answer: Any
    kind: str
    alone: bool


@dataclass(frozen=True)
class _Answer:
    """What a task returns: where it was, and the outcome of its run; `done` is false where it came to another kind of device."""

    node: str
    kind: str
    done: bool
    outcome: Any = None


class RaySubmission:
    """Runs that a Ray cluster does while somebody watches them."""

    def __init__(self, study: StudyWork, need: Need) -> None:
        self._study = study
        self._need = need
        self._environment = dict(_ONE_THREAD)
        if not need.gpus:
            self._environment["CUDA_VISIBLE_DEVICES"] = ""
        self._nodes = Nodes(need, study.devices, self._environment)
        self._tasks: dict[Any, _Task] = {}
        self._is_asked = False

    def watch(self, reporter: Reporter) -> dict[int, Any]:
        """Waits for the runs, as `Submission.watch` says.

        Raises:
            InitbenchError: no node is left that could do them.
        """
        if not self._study.runs:
            return {}
        with contextlib.ExitStack() as around:
            if not self._study.stops_at_once:
                around.enter_context(interrupt.deferred())
            return self._watch(reporter)

    def cancel(self) -> None:
        """Asks the runs to save and end, and kills those that did not."""
        import ray

        self._ask_to_stop()
        waiting = list(self._tasks)
        if waiting:
            _, deaf = ray.wait(waiting, num_returns=len(waiting), timeout=_GRACE)
            for answer in deaf:
                ray.cancel(answer, force=True)
        self._tasks.clear()

    def _watch(self, reporter: Reporter) -> dict[int, Any]:
        import ray

        study, followed = self._study, _Followed(self._study.runs, reporter)
        self._nodes.wait()
        self._queue = Queue([run.pair for run in study.runs], self._nodes.here, study.fix_kind, study.rule, shuffled=True)
        self._perform = ray.put(study.perform)
        # Once for all runs: Ray keeps a queue for each function that it is given, and runs of other queues could pass over one
        # that it starts again.
        self._do = ray.remote(_do)
        outcomes: dict[int, Any] = {}
        while True:
            self._see_nodes(missing=len(study.runs) - len(outcomes))
            if interrupt.asked():
                self._ask_to_stop()
            else:
                self._hand_out()
            if not self._tasks:
                return outcomes
            ended, _ = ray.wait(list(self._tasks), timeout=_LOOK)
            for answer in ended:
                task = self._tasks.pop(answer)
                outcome = self._outcome(task)
                if outcome is not None:
                    outcomes[task.run] = outcome
                    reporter.finish(task.run, outcome)
            followed.tell(task.run for task in self._tasks.values())

    def _see_nodes(self, missing: int) -> None:
        """Takes back the runs for kinds of device that are lost for good."""
        import ray

        self._nodes.look()
        for answer, task in list(self._tasks.items()):
            if task.kind not in self._nodes.here:
                ray.cancel(answer, force=True)
                del self._tasks[answer]
                self._queue.give_back(task.run, self._study.runs[task.run].pair)
        if missing and not self._nodes.here:
            raise InitbenchError(
                f"no node of the Ray cluster is left that has what a run takes ({self._need}); the same command goes on later"
            )

    def _hand_out(self) -> None:
        """Gives Ray the next runs for each kind of device, as many as there are places and some more that wait."""
        for kind, places in self._nodes.room().items():
            in_hand = sum(task.kind == kind for task in self._tasks.values())
            for _ in range(_AHEAD * places - in_hand):
                run, alone = self._queue.take(kind), False
                if run is None:
                    run, alone = self._queue.take_alone(kind), True
                if run is None:
                    break
                self._submit(run, kind, alone=alone)

    def _submit(self, run: int, kind: str, *, alone: bool) -> None:
        queued = self._study.runs[run]
        gpus = self._need.gpus
        if alone:
            gpus = 1
        environment = dict(self._environment)
        if queued.code:  # Ray keeps processes of different environments apart
            environment["INITBENCH_CODE"] = digest.of_json(queued.code)
        task = self._do.options(
            name="initbench",
            num_cpus=self._need.cpus,
            num_gpus=gpus,
            max_retries=_TRIES,
            label_selector=self._nodes.only(kind),
            runtime_env={"env_vars": environment},
        )
        answer = task.remote(self._perform, self._study.devices, queued.request, kind, str(Path.cwd()))
        self._tasks[answer] = _Task(run, answer, kind, alone)

    def _outcome(self, task: _Task) -> Any:
        """Returns how a run ended; None where it did not, and waits for another place or is not begun any more."""
        import ray

        study, queued = self._study, self._study.runs[task.run]
        try:
            answer: _Answer = ray.get(task.answer)
        except ray.exceptions.TaskCancelledError:
            return None
        except ray.exceptions.RayError as error:
            return study.lost(queued.request, _death(error))
        if not answer.done:
            self._nodes.learn(answer.node, answer.kind)
            self._queue.give_back(task.run, queued.pair)
            return None
        if 0 < self._need.gpus < 1 and not task.alone and study.out_of_memory(answer.outcome):
            self._queue.put_back(task.run, queued.pair)
            return None
        return answer.outcome

    def _ask_to_stop(self) -> None:
        """Asks every run once to save and end; those that Ray has not begun are taken back."""
        import ray

        if self._is_asked:
            return
        self._is_asked = True
        for answer in self._tasks:
            ray.cancel(answer)


def _death(error: BaseException) -> str:
    """Says how the task of a run ended that gave no outcome."""
    import ray

    if isinstance(error, ray.exceptions.RayTaskError):
        return f"on Ray: {type(error.cause).__name__}: {' '.join(str(error.cause).split())}"
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return (
            "Ray ended its process for memory of the node: more CPUs or a larger share of a GPU for each run; --set patch.batch=1"
        )
    return (
        f"its process or node was lost {_TRIES + 1} times on Ray ({type(error).__name__}), most likely for memory: a larger "
        "share of a node for each run, or --size tiny; the same command runs what is missing"
    )


class _Followed:
    """Tells a reporter what runs on other nodes do, as their folders say it."""

    def __init__(self, runs: Sequence[QueuedRun], reporter: Reporter) -> None:
        self._runs = runs
        self._reporter = reporter
        self._stage: dict[int, tuple[str, int]] = {}
        self._told = time.monotonic()

    def tell(self, runs: Any) -> None:
        """Looks at the folders of runs, unless it just did."""
        if time.monotonic() - self._told < _LOOK:
            return
        self._told = time.monotonic()
        for run in runs:
            folder = self._runs[run].folder
            if folder is None:
                continue
            state = work.read_state(folder)
            if state is None or not state.total:
                continue
            stage = state.state, state.total
            if self._stage.get(run) != stage:
                self._stage[run] = stage
                self._reporter.start(run, *stage)
            self._reporter.advance(run, state.step, state.info)


# --- on a node --------------------------------------------------------------------------------------------------------


def _do(
    perform: Callable[[Any, str, Any], Any],
    find_devices: Callable[[], Sequence[Device]],
    request: Any,
    kind: str,
    folder: str,
) -> _Answer:
    """Does a run in a task of Ray, unless its device is of another kind.

    Args:
        perform: as in `StudyWork`.
        find_devices: likewise; Ray shows this process the GPU that it may use, and no other one.
        request: the run.
        kind: of the device that it is to be on.
        folder: in which the study was begun; its paths may be relative.
    """
    import ray

    node = ray.get_runtime_context().get_node_id()
    os.chdir(folder)
    device = find_devices()[0]
    if device.kind != kind:
        return _Answer(node, device.kind, done=False)
    with interrupt.handled(worker=True):  # Ray cancels a task by Ctrl-C
        return _Answer(node, kind, done=True, outcome=perform(request, device.name, NoProgress()))
