"""Says what a sweep would be without doing it: its runs resolved as `run` resolves them, the work that is left, and bytes."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from initbench.errors import InitbenchError, UsageError
from initbench.harness import regimens, reuse
from initbench.harness.build import build_for
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.execute import Outcome
from initbench.harness.hardware import devices_here, environment, resolve_device
from initbench.harness.record import header
from initbench.harness.rehearsal import Rehearsals
from initbench.harness.request import RunRequest
from initbench.harness.trained import find_trained
from initbench.paths import nearest_existing
from initbench.protocols import Progress
from initbench.runs import costs, store, work
from initbench.runs.costs import Costs, Expected, Seconds, StudyPlan, init_of, network_of, seconds_of, timed_for
from initbench.runs.record import Head
from initbench.studies.operations import Operations, multiply_adds_per_second, operations_of
from initbench.studies.pace import STEPS, time_steps
from initbench.studies.sweep import LookedUp, look_up_here
from initbench.tools.flops import multiply_adds

_MOMENTS = {"adamw": 2, "sgd": 1}  # tensors an optimizer keeps per weight
_STAGE_COPIES = 2  # checkpoints that a finished stage leaves until the run ends
_COPIES = 3  # of the stage in hand: two, and the one being written

Timing = Literal["recorded", "estimated", "quick", "measured"]
"""Where the seconds of runs come from: from finished runs below the folder, and where there are none, from a range that their
operations tell, from a few of their steps where timing these takes less than a minute, or from a few of their steps anyway."""
_QUICK = 30.0  # seconds after which no more steps are begun to be timed, and that timing the steps of one run may take


def as_if_here(request: RunRequest) -> RunRequest:
    """Returns a request with a device of this machine, where a GPU is asked for and only other machines have one."""
    try:
        resolve_device(request.device)
    except UsageError:
        return replace(request, device="cpu")
    return request


def plan_study(requests: Sequence[RunRequest], protocol: str, jobs: int = 1, *, timing: Timing = "estimated") -> StudyPlan:
    """Returns what `run_planned` would do with these requests. Preprocesses the data where the cache lacks them, as a run does.

    Args:
        requests: the runs, as `cross_requests` gives them.
        protocol: who pays for the steps of a pretext, as people read it.
        jobs: runs at a time on each device; 0 for as many as there is memory for, which is taken to be one on each.
        timing: where the seconds of runs come from.
    """
    return plan_looked_up(look_up_here(requests), protocol, jobs, timing=timing)


def plan_looked_up(study: LookedUp, protocol: str, jobs: int = 1, *, timing: Timing = "estimated") -> StudyPlan:
    """Returns what `plan_study` gives, of the runs of a study whose code may run in this process.

    Args:
        study: the runs, and what is known of them.
        protocol: as for `plan_study`.
        jobs: likewise.
        timing: likewise.
    """
    first = study.requests[0]
    if not study.here:  # nobody here may have the device that the runs ask for
        return StudyPlan((), Costs(), protocol, jobs=1, lanes=1, accelerated=False, free=_free(first.out))
    planner = _Planner(costs.read_costs(first.out), timing)
    runs: list[Expected] = []
    remarks: dict[str, None] = {}
    for number in study.here:
        known = study.outcomes[number]
        if known.state != "pending" or known.folder is None:
            runs.append(_ended(known))
            continue
        cell = study.cells.resolve(known.request)
        for remark in cell.prepared.remarks:
            remarks[f"{cell.prepared.name}: {remark}"] = None
        runs.append(planner.plan(cell, known.folder))
    lanes = _lanes(first)
    return StudyPlan(
        runs=tuple(runs),
        measured=planner.measured,
        protocol=protocol,
        jobs=jobs * len(devices_here(first.device)) or lanes,
        lanes=lanes,
        accelerated=resolve_device(first.device).type == "cuda",
        free=_free(first.out),
        remarks=tuple(remarks),
    )


def init_stage_seconds(request: RunRequest, progress: Progress) -> float:
    """Returns the seconds of a convolution of as many multiply-adds as an init stage on a CPU has.

    It is 0 for an init that learns nothing, and for a run on a GPU.

    Args:
        request: the run.
        progress: told of the preprocessing.

    Raises:
        InitbenchError: the run cannot be, as a run says it.
    """
    cell = resolve_cell(request, progress, check=Rehearsals().check_draft)
    if not cell.pretext_steps or resolve_device(request.device).type != "cpu":
        return 0.0
    _, forward = _look_at_network(cell)
    return operations_of(cell, forward).pretext * cell.pretext_steps / multiply_adds_per_second(cell)


def _ended(known: Outcome) -> Expected:
    """Returns what a plan says of a run that has a result already, or that cannot be."""
    record = None
    if known.folder is not None:
        record = store.read_record(known.folder)
    state: costs.ExpectedState = "failed"
    if known.state in ("cached", "refused"):
        state = known.state
    return Expected(known.request.label, state, known.message, record, known.folder)


class _Planner:
    """Says what is expected of runs, one after another: an earlier one may leave what a later one needs.

    Attributes:
        measured: what finished runs cost, and the steps that were timed.
    """

    def __init__(self, measured: Costs, timing: Timing) -> None:
        self.measured = measured
        self._timing = timing
        self._seconds_of_timing = 0.0
        self._results: set[Path] = set()  # that earlier runs will leave
        self._stages: set[Path] = set()
        self._networks: dict[str, tuple[int, float]] = {}  # each is built once: bytes of its weights, multiply-adds of a patch
        self._rate = math.nan  # multiply-adds a second of this device, once somebody asks

    def plan(self, cell: Cell, folder: Path) -> Expected:
        """Returns what is expected of a run that has no result.

        Args:
            cell: the run.
            folder: where its result goes.
        """
        if folder in self._results:
            run = self._expected(cell, folder, is_shared=False)
            return replace(run, state="cached", message="another run of this plan is the same")
        self._results.add(folder)
        run = self._expected(cell, folder, is_shared=self._takes_stage_of_another(cell))
        seconds = seconds_of(run, self.measured.of_pace(run))
        if seconds is None and self._timing != "recorded":
            seconds = self._estimated(run, cell)
        return replace(run, seconds=seconds)

    def _estimated(self, run: Expected, cell: Cell) -> Seconds | None:
        """Returns the seconds of a run that no finished run tells: from a few of its steps, or from its operations.

        Args:
            run: of the plan.
            cell: the same.
        """
        if math.isnan(self._rate):
            self._rate = multiply_adds_per_second(cell)
        _, forward = self._look_at_network(cell)
        parts = operations_of(cell, forward)
        if self._may_time(parts):
            self._time(run, cell)
        least = {stage: operations / self._rate for stage, operations in asdict(parts).items()}
        return seconds_of(run, self.measured.of_pace(run), least)

    def _expected(self, cell: Cell, folder: Path, *, is_shared: bool) -> Expected:
        """Returns what is expected of a run, without its seconds; `is_shared` says whether another run does its init stage."""
        init, train, begun = _steps_left(cell, folder)
        if is_shared:
            init = None
        head = _head_of(cell)
        weights = self.measured.weights.get(network_of(head.resolved))
        if weights is None:
            weights, _ = self._look_at_network(cell)
        return Expected(
            label=cell.request.label,
            state="new",
            record=head,
            folder=folder,
            init_stage=init is not None,
            init_steps=init or 0,
            train_steps=train,
            keeps=cell.init_info.learned and not is_shared,
            weights=weights,
            checkpoints=_checkpoints(cell, weights),
            begun=begun,
        )

    def _takes_stage_of_another(self, cell: Cell) -> bool:
        """Returns whether the init stage of a run is done already or by an earlier run; if not, notes that this run does it."""
        if not cell.init_info.learned:
            return False
        folder = reuse.folder_of(cell)
        is_known = folder in self._stages or (folder / store.WEIGHTS).is_file()
        self._stages.add(folder)
        return is_known

    def _look_at_network(self, cell: Cell) -> tuple[int, float]:
        key = network_of(_head_of(cell).resolved)
        if key not in self._networks:
            self._networks[key] = _look_at_network(cell)
        return self._networks[key]

    def _may_time(self, parts: Operations) -> bool:
        """Returns whether a few steps may be timed: where that is asked for, or where it is expected to take little time."""
        if self._timing != "quick":
            return self._timing == "measured"
        operations = STEPS * (parts.train + parts.pretext) + parts.evaluate
        expected = math.sqrt(costs.SLOWEST) * operations / self._rate  # the middle of the range, as ratios go
        return expected <= _QUICK and self._seconds_of_timing <= _QUICK  # NaN is no little time

    def _time(self, run: Expected, cell: Cell) -> None:
        """Times those steps of a run whose pace is in no sample.

        Args:
            run: of the plan.
            cell: the same.
        """
        samples = self.measured.of_pace(run)
        started = time.monotonic()
        train = not timed_for(run, "train", samples)
        stage = run.init_steps > 0 and not timed_for(run, "pretext", samples)
        if not (train or stage):
            return
        sample = time_steps(cell, init_of(run.resolved), train=train, stage=stage)
        self._seconds_of_timing += time.monotonic() - started
        self.measured = self.measured.with_sample(run, sample)


def _head_of(cell: Cell) -> Head:
    """Returns the head of the record that a run would leave here."""
    request = cell.request
    return header(cell, _environment(str(resolve_device(request.device)), request.threads))


@cache
def _environment(device: str, threads: int) -> dict[str, Any]:
    return environment(torch.device(device), threads)


def _steps_left(cell: Cell, folder: Path) -> tuple[int | None, int, bool]:
    """Returns the steps left of the init stage (None where it is done) and of training, and whether any were done.

    A stage says that those before it are done, also at its own step 0. None are left where the run takes the weights of another.

    Args:
        cell: the run.
        folder: where its result goes.
    """
    if find_trained(cell, folder) is not None:
        return None, 0, False
    pretext, train = cell.pretext_steps, cell.train_steps
    state = work.read_state(folder)
    if state is None or state.state not in ("pretraining", "training", "evaluating"):
        return pretext, train, False
    if state.state == "evaluating":
        return None, 0, True
    if state.state == "training":
        return None, max(0, train - state.step), state.step > 0 or cell.init_info.learned
    return max(0, pretext - state.step), train, state.step > 0


def _checkpoints(cell: Cell, weights: int) -> int:
    """Returns the bytes of the checkpoints of a run while it trains.

    Args:
        cell: the run.
        weights: bytes of its network.
    """
    tensors = 1 + _MOMENTS.get(cell.recipe.optimizer.name, 2)
    copies = _COPIES * (tensors + regimens.copies_of(cell.regimen))
    if cell.init_info.learned:
        copies += _STAGE_COPIES * tensors
    return weights * copies


def _look_at_network(cell: Cell) -> tuple[int, float]:
    """Returns the bytes of the weights of a network, and the multiply-adds of a patch; NaN where nobody can count them."""
    try:
        model = build_for(cell)
    except InitbenchError:  # the run will say so
        return 0, math.nan
    storages: dict[int, int] = {}  # tensors may share one
    for value in model.state_dict().values():
        storage = value.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    try:
        forward = float(multiply_adds(model, cell.in_channels, cell.recipe.patch.size))
    except Exception:  # networks of others raise what they like without values
        forward = math.nan
    return sum(storages.values()), forward


def _lanes(request: RunRequest) -> int:
    """Returns how many runs like one this machine does at a time without sharing a device or a core."""
    if resolve_device(request.device).type != "cuda":
        return max(1, (os.cpu_count() or 1) // request.threads)
    return 1 if ":" in request.device else torch.cuda.device_count()


def _free(out: Path) -> int:
    """Returns the bytes that are free where a folder is or will be."""
    return shutil.disk_usage(nearest_existing(out)).free
