"""What a sweep would be, without a run: its cells resolved as `run` resolves them, the work that is left, and bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from initbench.errors import InitbenchError, UsageError
from initbench.harness import regimens, reuse
from initbench.harness.build import build_for
from initbench.harness.cell import Cell, Cells
from initbench.harness.execute import Outcome, look_up
from initbench.harness.hardware import devices_here, environment, resolve_device
from initbench.harness.record import header
from initbench.harness.rehearsal import Rehearsals
from initbench.harness.request import RunRequest
from initbench.harness.trained import find_trained
from initbench.protocols import OneRun, Reporter
from initbench.runs import costs, store, work
from initbench.runs.costs import Costs, Expected, Sample, StudyPlan
from initbench.runs.record import Head
from initbench.studies.pace import time_steps
from initbench.studies.sweep import Silent

_MOMENTS = {"adamw": 2, "sgd": 1}  # tensors an optimizer keeps per weight
_STAGE_COPIES = 2  # checkpoints that a finished stage leaves until the run ends
_COPIES = 3  # of the stage in hand: two, and the one being written


def as_if_here(request: RunRequest) -> RunRequest:
    """The request with a device of this machine, where a GPU is asked for and only others have one."""
    try:
        resolve_device(request.device)
    except UsageError:
        return replace(request, device="cpu")
    return request


def plan_study(
    requests: Sequence[RunRequest], protocol: str, jobs: int = 1, *, measure: bool = False, reporter: Reporter | None = None
) -> StudyPlan:
    """What `run_planned` would do with these requests. Preprocesses the data where the cache lacks them, as a run does.

    Args:
        requests: as `plan` gives.
        protocol: for people.
        jobs: runs at a time on each device; 0 for as many as there is memory for, which is taken to be one on each.
        measure: whether a few steps are timed where no run says how long one takes.
        reporter: told of the preprocessing.
    """
    return plan_surveyed(Survey(requests, reporter), protocol, jobs, measure=measure)


def plan_surveyed(survey: Survey, protocol: str, jobs: int = 1, *, measure: bool = False) -> StudyPlan:
    """What `plan_study` gives, of runs that were looked up before.

    Args:
        survey: of the runs.
        protocol: as for `plan_study`.
        jobs: likewise.
        measure: likewise.
    """
    requests, planned = survey.requests, survey.planned
    out, device = requests[0].out, resolve_device(requests[0].device)
    lanes = _lanes(requests[0])
    at_once = jobs * len(devices_here(requests[0].device)) or lanes
    measured = costs.read_costs(out)
    new = [item for item in planned if item.state == "new" and item.cell is not None]
    if measure:
        measured = measured.with_samples(_timed(new, measured))
    weights = _Weights(measured)
    return StudyPlan(
        runs=tuple(_expected(item, weights) for item in planned),
        measured=measured,
        protocol=protocol,
        jobs=at_once,
        lanes=lanes,
        accelerated=device.type == "cuda",
        free=_free(out),
        remarks=_remarks(planned),
    )


@dataclass(frozen=True)
class _Planned:
    """A request and what is known of it; `shared`: an earlier run of the plan does its init stage."""

    request: RunRequest
    state: costs.ExpectedState
    message: str
    folder: Path | None
    cell: Cell | None = None
    shared: bool = False


def _remarks(planned: Sequence[_Planned]) -> tuple[str, ...]:
    """What should be known of the data of the runs, each once."""
    found: dict[str, None] = {}
    for item in planned:
        if item.cell is not None:
            for remark in item.cell.prepared.remarks:
                found[f"{item.cell.prepared.name}: {remark}"] = None
    return tuple(found)


class Survey:
    """The requests of a study, looked up one after another.

    Attributes:
        requests: as `cross_requests` gives them.
        outcomes: what is known of each, by its number.
        planned: what becomes of each.
    """

    def __init__(self, requests: Sequence[RunRequest], reporter: Reporter | None = None) -> None:
        self._cells = Cells()
        self._coming: set[Path] = set()  # results that earlier requests will leave
        self._stages: set[Path] = set()
        self.requests = requests
        self.outcomes: dict[int, Outcome] = {}
        self.planned: list[_Planned] = []
        rehearsals = Rehearsals()
        for number, request in enumerate(requests):
            known = look_up(request, self._cells, rehearsals, OneRun(reporter or Silent(), number))
            self.outcomes[number] = known
            self.planned.append(self._plan(request, known))

    def _plan(self, request: RunRequest, known: Outcome) -> _Planned:
        if known.state != "pending" or known.folder is None:
            return _Planned(request, _state(known), known.message, known.folder)
        cell = self._cells.resolve(request)
        if known.folder in self._coming:
            return _Planned(request, "cached", "another run of this plan is the same", known.folder, cell)
        self._coming.add(known.folder)
        return _Planned(request, "new", "", known.folder, cell, self._has_stage(cell))

    def _has_stage(self, cell: Cell) -> bool:
        if not cell.init_info.learned:
            return False
        folder = reuse.folder_of(cell)
        known = folder in self._stages or (folder / store.WEIGHTS).is_file()
        self._stages.add(folder)
        return known


def _state(outcome: Outcome) -> costs.ExpectedState:
    return "cached" if outcome.state == "cached" else "refused" if outcome.state == "refused" else "failed"


def _expected(item: _Planned, weights: _Weights) -> Expected:
    cell = item.cell
    if cell is None:
        record = store.read_record(item.folder) if item.folder else None
        return Expected(item.request.label, item.state, item.message, record, item.folder)
    head = _head(cell)
    size = weights.of(cell, head)
    init, train, begun = _left(cell, item.folder)
    learned = cell.init_info.learned
    return Expected(
        label=item.request.label,
        state=item.state,
        message=item.message,
        record=head,
        folder=item.folder,
        init_stage=init is not None and not item.shared,
        init_steps=0 if init is None or item.shared else init,
        train_steps=train,
        keeps=learned and not item.shared,
        weights=size,
        checkpoints=_checkpoints(cell, size),
        begun=begun,
    )


def _head(cell: Cell) -> Head:
    request = cell.request
    return header(cell, _environment(str(resolve_device(request.device)), request.threads))


@cache
def _environment(device: str, threads: int) -> dict[str, Any]:
    return environment(torch.device(device), threads)


def _left(cell: Cell, folder: Path | None) -> tuple[int | None, int, bool]:
    """Steps that are left of the init stage (None where it is done) and of training, and whether any were done.

    A stage says that those before it are done, also at its own step 0. None are left where the run takes the weights of another.
    """
    if folder is not None and find_trained(cell, folder) is not None:
        return None, 0, False
    state = work.read_state(folder) if folder else None
    stage, done = (state.state, state.step) if state else ("", 0)
    whole = cell.pretext_steps, cell.train_steps
    if stage == "evaluating":
        return None, 0, True
    if stage == "training":
        return None, max(0, whole[1] - done), done > 0 or cell.init_info.learned
    if stage == "pretraining":
        return max(0, whole[0] - done), whole[1], done > 0
    return *whole, False


def _checkpoints(cell: Cell, weights: int) -> int:
    """Bytes of the checkpoints of a run while it trains.

    Args:
        cell: the run.
        weights: bytes of its network.
    """
    tensors = 1 + _MOMENTS.get(cell.recipe.optimizer.name, 2)
    of_init_stage = _STAGE_COPIES * tensors if cell.init_info.learned else 0
    of_training = _COPIES * (tensors + regimens.copies_of(cell.regimen))
    return weights * (of_init_stage + of_training)


class _Weights:
    """Bytes of networks: as runs left them, else counted on a network that is built once."""

    def __init__(self, measured: Costs) -> None:
        self._known = dict(measured.weights)

    def of(self, cell: Cell, head: Head) -> int:
        key = costs.network_of(head.resolved)
        if key not in self._known:
            self._known[key] = _count(cell)
        return self._known[key]


def _count(cell: Cell) -> int:
    try:
        model = build_for(cell)
    except InitbenchError:  # the run will say so
        return 0
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in model.state_dict().values()}
    return sum(storages.values())


def _timed(items: Iterable[_Planned], measured: Costs) -> dict[str, tuple[Sample, ...]]:
    """Steps of what no run below the folder says the pace of, each kind timed once."""
    found: dict[str, tuple[Sample, ...]] = {}
    for item in items:
        if item.cell is None:
            continue
        head = _head(item.cell)
        key, init = costs.pace_of(head), costs.init_of(head.resolved)
        known = measured.samples.get(key, ()) + found.get(key, ())
        paced = any(sample.train is not None for sample in known)
        staged = not item.cell.init_info.learned or any(sample.init == init for sample in known)
        if not (paced and staged):
            found[key] = (*found.get(key, ()), time_steps(item.cell, init, train=not paced, stage=not staged))
    return found


def _lanes(request: RunRequest) -> int:
    if resolve_device(request.device).type == "cuda":
        return 1 if ":" in request.device else torch.cuda.device_count()
    return max(1, (os.cpu_count() or 1) // request.threads)


def _free(out: Path) -> int:
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free
