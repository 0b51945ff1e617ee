"""What a sweep would be, without a run: its cells resolved as `run` resolves them, the work that is left, and bytes."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from initbench.errors import InitbenchError, UsageError
from initbench.harness import regimens, reuse
from initbench.harness.build import build_for
from initbench.harness.cell import Cell, Cells, resolve_cell
from initbench.harness.execute import Outcome, look_up
from initbench.harness.hardware import devices_here, environment, resolve_device
from initbench.harness.record import header
from initbench.harness.rehearsal import Rehearsals
from initbench.harness.request import RunRequest
from initbench.harness.trained import find_trained
from initbench.protocols import OneRun, Progress, Reporter
from initbench.runs import costs, store, work
from initbench.runs.costs import Costs, Expected, Sample, StudyPlan
from initbench.runs.record import Head
from initbench.studies.engine import code_of_others
from initbench.studies.operations import Operations, multiply_adds_per_second, operations_of
from initbench.studies.pace import STEPS, time_steps
from initbench.studies.sweep import LookedUp, Silent
from initbench.tools.flops import multiply_adds

_MOMENTS = {"adamw": 2, "sgd": 1}  # tensors an optimizer keeps per weight
_STAGE_COPIES = 2  # checkpoints that a finished stage leaves until the run ends
_COPIES = 3  # of the stage in hand: two, and the one being written

Timing = Literal["recorded", "estimated", "quick", "measured"]
"""Where the seconds of runs come from: from finished runs below the folder, and where there are none, from a range that their
operations tell, from a few of their steps where timing these takes less than a minute, or from a few of their steps anyway."""
_QUICK = 30.0  # seconds after which no more steps are begun to be timed, and that timing the steps of one run may take


def as_if_here(request: RunRequest) -> RunRequest:
    """The request with a device of this machine, where a GPU is asked for and only others have one."""
    try:
        resolve_device(request.device)
    except UsageError:
        return replace(request, device="cpu")
    return request


def plan_study(
    requests: Sequence[RunRequest],
    protocol: str,
    jobs: int = 1,
    *,
    timing: Timing = "estimated",
    reporter: Reporter | None = None,
) -> StudyPlan:
    """What `run_planned` would do with these requests. Preprocesses the data where the cache lacks them, as a run does.

    Args:
        requests: as `plan` gives.
        protocol: for people.
        jobs: runs at a time on each device; 0 for as many as there is memory for, which is taken to be one on each.
        timing: where the seconds of runs come from.
        reporter: told of the preprocessing.
    """
    return plan_surveyed(Survey(requests, reporter), protocol, jobs, timing=timing)


def plan_looked_up(study: LookedUp, protocol: str, jobs: int = 1) -> StudyPlan | None:
    """What `plan_study` gives, of runs that `run` looked up; None where nothing can be said of any of them.

    Runs with code of others are left out: it runs in workers alone.

    Args:
        study: the runs, and what is known of them.
        protocol: as for `plan_study`.
        jobs: likewise.
    """
    survey = Survey((), cells=study.cells)
    for number, request in enumerate(study.requests):
        if not (study.isolated and code_of_others(request)):
            survey.add(request, study.outcomes[number])
    if not survey.requests:
        return None
    return plan_surveyed(survey, protocol, jobs)


def plan_surveyed(survey: Survey, protocol: str, jobs: int = 1, *, timing: Timing = "estimated") -> StudyPlan:
    """What `plan_study` gives, of runs that were looked up before.

    Args:
        survey: of the runs.
        protocol: as for `plan_study`.
        jobs: likewise.
        timing: likewise.
    """
    requests, planned = survey.requests, survey.planned
    out, device = requests[0].out, resolve_device(requests[0].device)
    lanes = _lanes(requests[0])
    at_once = jobs * len(devices_here(requests[0].device)) or lanes
    measured = costs.read_costs(out)
    networks = _Networks(measured)
    cells = [item.cell for item in planned if item.state == "new" and item.cell is not None]
    unknown = [cell for cell in cells if not _is_timed(cell, measured)]
    if unknown and timing != "recorded":
        measured = replace(measured, rate=multiply_adds_per_second(unknown[0]))
    if timing in ("quick", "measured"):
        measured = measured.with_samples(_timed(unknown, measured, networks, quick=timing == "quick"))
    return StudyPlan(
        runs=tuple(_expected(item, networks, counted=not math.isnan(measured.rate)) for item in planned),
        measured=measured,
        protocol=protocol,
        jobs=at_once,
        lanes=lanes,
        accelerated=device.type == "cuda",
        free=_free(out),
        remarks=_remarks(planned),
    )


def init_stage_seconds(request: RunRequest, progress: Progress) -> float:
    """Seconds of a convolution of as many multiply-adds as an init stage on a CPU has; 0 for an init that learns nothing.

    Args:
        request: the run.
        progress: told of the preprocessing.

    Raises:
        InitbenchError: as a run says it.
    """
    cell = resolve_cell(request, progress, check=Rehearsals().check_draft)
    if not cell.pretext_steps or resolve_device(request.device).type != "cpu":
        return 0.0
    _, forward = _look_at_network(cell)
    return operations_of(cell, forward).pretext * cell.pretext_steps / multiply_adds_per_second(cell)


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

    def __init__(self, requests: Sequence[RunRequest], reporter: Reporter | None = None, cells: Cells | None = None) -> None:
        """Looks requests up.

        Args:
            requests: as `cross_requests` gives them.
            reporter: told of the preprocessing.
            cells: keeps what was resolved before.
        """
        self._cells = cells or Cells()
        self._coming: set[Path] = set()  # results that earlier requests will leave
        self._stages: set[Path] = set()
        self.requests: list[RunRequest] = []
        self.outcomes: dict[int, Outcome] = {}
        self.planned: list[_Planned] = []
        rehearsals = Rehearsals()
        for number, request in enumerate(requests):
            self.add(request, look_up(request, self._cells, rehearsals, OneRun(reporter or Silent(), number)))

    def add(self, request: RunRequest, known: Outcome) -> None:
        """Adds a request of which is known what `look_up` says."""
        self.outcomes[len(self.requests)] = known
        self.requests.append(request)
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


def _expected(item: _Planned, networks: _Networks, *, counted: bool) -> Expected:
    """What is expected of a run.

    Args:
        item: the run.
        networks: of the study.
        counted: whether the multiply-adds of a run are wanted.
    """
    cell = item.cell
    if cell is None:
        record = store.read_record(item.folder) if item.folder else None
        return Expected(item.request.label, item.state, item.message, record, item.folder)
    head = head_of(cell)
    size = networks.bytes_of(cell)
    init, train, begun = steps_left(cell, item.folder)
    learned = cell.init_info.learned
    init_steps = 0 if init is None or item.shared else init
    operations = math.nan
    if counted:
        parts = networks.operations_of(cell)
        operations = parts.pretext * init_steps + parts.step * train + parts.case * len(cell.prepared.split.test)
    return Expected(
        label=item.request.label,
        state=item.state,
        message=item.message,
        record=head,
        folder=item.folder,
        init_stage=init is not None and not item.shared,
        init_steps=init_steps,
        train_steps=train,
        keeps=learned and not item.shared,
        weights=size,
        checkpoints=_checkpoints(cell, size),
        begun=begun,
        operations=operations,
    )


def head_of(cell: Cell) -> Head:
    """The head of the record that a run would leave here."""
    request = cell.request
    return header(cell, _environment(str(resolve_device(request.device)), request.threads))


@cache
def _environment(device: str, threads: int) -> dict[str, Any]:
    return environment(torch.device(device), threads)


def steps_left(cell: Cell, folder: Path | None) -> tuple[int | None, int, bool]:
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


class _Networks:
    """What is known of networks, each of which is built once at most."""

    def __init__(self, measured: Costs) -> None:
        self._recorded = measured.weights
        self._built: dict[str, tuple[int, float]] = {}  # bytes of the weights, multiply-adds of a patch

    def bytes_of(self, cell: Cell) -> int:
        """Bytes of the network: as runs left it, else counted."""
        key = costs.network_of(head_of(cell).resolved)
        if key in self._recorded:
            return self._recorded[key]
        return self._look(key, cell)[0]

    def operations_of(self, cell: Cell) -> Operations:
        """Multiply-adds of a run; NaN where the network reads values, so that nobody can count them."""
        _, forward = self._look(costs.network_of(head_of(cell).resolved), cell)
        return operations_of(cell, forward)

    def _look(self, key: str, cell: Cell) -> tuple[int, float]:
        if key not in self._built:
            self._built[key] = _look_at_network(cell)
        return self._built[key]


def _look_at_network(cell: Cell) -> tuple[int, float]:
    """Bytes of the weights of a network, and the multiply-adds of a patch."""
    try:
        model = build_for(cell)
    except InitbenchError:  # the run will say so
        return 0, math.nan
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in model.state_dict().values()}
    try:
        forward = float(multiply_adds(model, cell.in_channels, cell.recipe.patch.size))
    except Exception:  # networks of others raise what they like without values
        forward = math.nan
    return sum(storages.values()), forward


def _is_timed(cell: Cell, measured: Costs) -> bool:
    """Whether runs below the folder say how long all parts of a run take."""
    train, stage = _missing(cell, measured.samples.get(costs.pace_of(head_of(cell)), ()))
    return not (train or stage)


def _missing(cell: Cell, known: Sequence[Sample]) -> tuple[bool, bool]:
    """Whether nobody knows how long a training step of a run takes, and whether nobody knows it of its init stage."""
    init = costs.init_of(head_of(cell).resolved)
    paced = any(sample.train is not None for sample in known)
    staged = not cell.init_info.learned or any(sample.init == init for sample in known)
    return not paced, not staged


def _timed(cells: Iterable[Cell], measured: Costs, networks: _Networks, *, quick: bool) -> dict[str, tuple[Sample, ...]]:
    """Steps of what no run below the folder says the pace of, each kind timed once.

    Args:
        cells: the runs.
        measured: what is known.
        networks: of the study.
        quick: whether to leave out what takes long.
    """
    found: dict[str, tuple[Sample, ...]] = {}
    started = time.monotonic()
    for cell in cells:
        head = head_of(cell)
        key = costs.pace_of(head)
        train, stage = _missing(cell, measured.samples.get(key, ()) + found.get(key, ()))
        if not (train or stage):
            continue
        if quick and (time.monotonic() - started > _QUICK or _seconds_to_time(networks.operations_of(cell), measured) > _QUICK):
            continue
        found[key] = (*found.get(key, ()), time_steps(cell, costs.init_of(head.resolved), train=train, stage=stage))
    return found


def _seconds_to_time(parts: Operations, measured: Costs) -> float:
    """How long it takes about to time the steps and the case of a run; infinite where nobody knows."""
    operations = STEPS * (parts.step + parts.pretext) + parts.case
    if math.isnan(operations):
        return math.inf
    return math.sqrt(costs.SLOWEST) * operations / measured.rate  # the middle of the range, as ratios go


def _lanes(request: RunRequest) -> int:
    if resolve_device(request.device).type == "cuda":
        return 1 if ":" in request.device else torch.cuda.device_count()
    return max(1, (os.cpu_count() or 1) // request.threads)


def _free(out: Path) -> int:
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free
