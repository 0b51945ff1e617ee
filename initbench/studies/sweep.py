"""Inits x regimens x backbones x data sets x seeds, as a list of runs."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, TypedDict, Unpack

from initbench import registry
from initbench.catalog import Kind
from initbench.choices import (
    BASELINE,
    DATASET,
    REGIMEN,
    Budget,
    PrecisionChoice,
    Protocol,
    RegimenBudget,
    Stream,
    SweepProtocol,
)
from initbench.datasets.splits import SplitName, parse_fold
from initbench.errors import UsageError
from initbench.executors.local import OneRun, Reporter, run_all
from initbench.harness import compose
from initbench.harness.cell import Cells
from initbench.harness.execute import Outcome, execute, look_up, record_death
from initbench.harness.rehearsal import Rehearsals
from initbench.harness.request import (
    Components,
    RunRequest,
    as_json,
    assign,
    check_streams,
    check_tolerance,
    code_digests,
    read_components,
)
from initbench.protocols import Progress, Size
from initbench.runs.status import AskedRun, write_asked
from initbench.spec import Spec, parse
from initbench.stats.blocks import PLACEBO, is_placebo


class RunOptions(TypedDict, total=False):
    """Options of every run of a sweep, with the defaults of `RunRequest`.

    Attributes:
        budget: smoke, short or paper: the recipe states how many steps it has.
        size: of the networks, tiny or paper.
        device: auto, cpu, cuda or cuda:i.
        precision: auto takes bf16 where the device is fast at it.
        data_root: the folder that holds the data sets.
        out: the folder of the runs.
        split: auto, or the name of a published split; by default the usual published one where the data set has one.
        recipe: a name or a TOML file; by default the recipe of the data set.
        assignments: ``section.field=value`` over the recipe.
        threads: of torch, for a run on the CPU.
        fixed: streams that every seed draws as seed 0 does.
        save_predictions: whether the label maps of the reported cases are kept.
        distances: whether distances between surfaces are measured, which takes seconds a case for large CT.
        nsd_tolerance: of the surface Dice, in mm.
        checkpoint_every: in seconds.
        regimen_budget: what runs of two regimens have in common, the steps or the compute.
    """

    budget: Budget
    size: Size
    device: str
    precision: PrecisionChoice
    data_root: str | Path | None
    out: str | Path
    split: SplitName | None
    recipe: str | None
    assignments: Sequence[str]
    threads: int
    fixed: tuple[Stream, ...]
    save_predictions: bool
    distances: bool
    nsd_tolerance: float
    checkpoint_every: float
    regimen_budget: RegimenBudget


class PartOptions(RunOptions, total=False):
    """Options of every run, and the parts of the data that a sweep crosses.

    Attributes:
        folds: ``k/K``, in place of a split.
        train_cases: numbers of training cases to use; smaller subsets lie within larger ones.
    """

    folds: Sequence[str]
    train_cases: Sequence[int]


class Options(PartOptions, total=False):
    """Options of a sweep.

    Attributes:
        regimen: the ways in which the supervised stage is run.
        seeds: a number (0 to n-1), or the seeds themselves.
        protocol: who pays for the steps of a pretext.
        placebo: whether a study of ``default`` and others under two or more seeds gets ``default`` drawn again.
    """

    regimen: Components
    seeds: int | Sequence[int]
    protocol: SweepProtocol
    placebo: bool


def cross_requests(
    init: Components,
    backbone: Components,
    dataset: Components = DATASET,
    *,
    regimen: Components = REGIMEN,
    seeds: int | Sequence[int] = 1,
    protocol: SweepProtocol = "equal-total",
    folds: Sequence[str] = (),
    train_cases: Sequence[int] = (),
    placebo: bool = True,
    **options: Unpack[RunOptions],
) -> list[RunRequest]:
    """Crosses the lists of a sweep, seeds slowest, so that an interrupted one holds whole comparisons.

    Args:
        init: as for `run`.
        backbone: as for `run`.
        dataset: as for `run`.
        regimen: how the supervised stage is run, written as inits are.
        seeds: a number (0 to n-1) or the seeds themselves.
        protocol: who pays for the steps of a pretext.
        folds: ``k/K``, in place of a split.
        train_cases: numbers of training cases to use.
        placebo: whether ``default`` is drawn again in a study of it and others under two or more seeds.
        **options: of every run, see `RunOptions`.

    Raises:
        UsageError: an unknown or malformed component or parameter, no seed, no such fold.
    """
    inits, assignments = assign(read_components("initializer", init), options.get("assignments", ()))
    backbones, datasets = read_components("backbone", backbone), read_components("dataset", dataset)
    regimens = read_components("regimen", regimen)
    if placebo:
        inits = _with_placebo(inits, len(regimens), seeds if isinstance(seeds, int) else len(seeds))
    for item in backbones:
        registry.find("backbone", item).check()
    for item in regimens:
        registry.find("regimen", item).check()
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not numbers or min(numbers) < 0:
        raise UsageError(f"seeds are whole numbers from 0, at least one of them; got {numbers}")
    protocols: list[Protocol] = ["equal-total", "equal-finetune"] if protocol == "both" else [protocol]
    paid: list[tuple[Spec, Protocol]] = []
    for item in inits:
        # An init that learns nothing has the same run under every protocol.
        paid += [(item, chosen) for chosen in (protocols if learned(item) else protocols[:1])]
    check_streams(options.get("fixed", ()))
    values = _values(options) | {"assignments": tuple(assignments)}
    base = RunRequest(inits[0], backbones[0], datasets[0], numbers[0], **values)
    check_tolerance(base.nsd_tolerance)
    parts = _parts(folds, train_cases, base.split)
    requests: list[RunRequest] = []
    for seed, (fold, cases), data, net, way, (item, chosen) in product(numbers, parts, datasets, backbones, regimens, paid):
        part: dict[str, Any] = {"fold": fold, "train_cases": cases, "index": len(requests)}
        requests.append(replace(base, init=item, backbone=net, dataset=data, regimen=way, seed=seed, protocol=chosen, **part))
    return requests


def _parts(folds: Sequence[str], train_cases: Sequence[int], split: str | None) -> list[tuple[str | None, int | None]]:
    """Folds crossed with numbers of training cases, each once and written one way: a request is kept as it is written."""
    if folds and split is not None:
        raise UsageError(f"--split {split} and --fold {folds[0]} exclude each other: folds divide all cases anew")
    strange = [number for number in train_cases if number < 1]
    if strange:
        raise UsageError(f"--train-cases {strange[0]}: a run trains on one case or more")
    wanted = ["{}/{}".format(*parse_fold(text)) for text in folds]
    return list(product(dict.fromkeys(wanted) or [None], dict.fromkeys(train_cases) or [None]))


def _with_placebo(inits: list[Spec], regimens: int, seeds: int) -> list[Spec]:
    """The inits, and the default drawn again where others are compared with it: what luck alone does in this study.

    Args:
        inits: of the study.
        regimens: how many it has; each gets a placebo of its own.
        seeds: how many it has.
    """
    is_compared = Spec(BASELINE) in inits and len(inits) * regimens > 1 and seeds > 1
    if not is_compared or any(is_placebo(str(init)) for init in inits):
        return inits
    return [*inits, parse(PLACEBO)]


def _values(options: RunOptions) -> dict[str, Any]:
    """The options as fields of a request."""
    values: dict[str, Any] = {**options}
    for key in ("data_root", "out"):
        if values.get(key) is not None:
            values[key] = Path(values[key])
    return values


def learned(init: Spec) -> bool:
    """Whether an initializer takes steps.

    Raises:
        UsageError: nobody offers it, it takes no such parameter, or a file that it needs is missing.
    """
    component = registry.find("initializer", init)
    component.check()
    return compose.info(component).learned


IN_PROCESS = "INITBENCH_IN_PROCESS"
"""The environment variable under which a single job runs in the process that asks for it, where a debugger sees it."""
_POLL = 2.0  # seconds between two looks at runs that other processes have in hand


class Silent:
    """A reporter that shows nothing."""

    def start(self, run: int, stage: str, total: int) -> None:
        """Ignored."""

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        """Ignored."""

    def finish(self, run: int, outcome: Outcome) -> None:
        """Ignored."""


@dataclass(frozen=True)
class LookedUp:
    """The runs of a study, and what is known of each before the first of them.

    Attributes:
        cells: what was resolved here, for the runs.
        isolated: whether runs have worker processes.
    """

    requests: Sequence[RunRequest]
    outcomes: Mapping[int, Outcome]
    cells: Cells
    isolated: bool


def look_up_study(requests: Sequence[RunRequest], reporter: Reporter) -> LookedUp:
    """Looks every run of a study up before any of them begins; the data are prepared for those that can be.

    Args:
        requests: the runs, as `cross_requests` gives them.
        reporter: told of the preprocessing.
    """
    cells = Cells()
    isolated = IN_PROCESS not in os.environ
    outcomes = dict(_look_up_all(requests, cells, reporter, isolated=isolated))
    return LookedUp(requests, outcomes, cells, isolated)


def run_planned(
    requests: Sequence[RunRequest], jobs: int = 1, reporter: Reporter | None = None, *, skip_refused: bool = False
) -> list[Outcome]:
    """Runs what is missing of a study.

    Args:
        requests: the runs, as `cross_requests` gives them.
        jobs: processes at a time.
        reporter: told of progress.
        skip_refused: whether the others are run where some cannot be; by default none is then.

    Returns:
        One outcome a request, in their order; those that wait for a decision on others are ``pending``.
    """
    reporter = reporter or Silent()
    return run_looked_up(look_up_study(requests, reporter), jobs, reporter, skip_refused=skip_refused)


def run_looked_up(study: LookedUp, jobs: int, reporter: Reporter, *, skip_refused: bool) -> list[Outcome]:
    """Runs what is missing of a study that was looked up, and returns what `run_planned` returns.

    Args:
        study: as `look_up_study` gives it.
        jobs: processes at a time.
        reporter: told of progress.
        skip_refused: whether the others are run where some cannot be.
    """
    requests, cells, isolated = study.requests, study.cells, study.isolated
    outcomes = dict(study.outcomes)
    missing: list[int] = []
    for number, known in outcomes.items():
        if known.state == "pending":
            missing.append(number)
            _tell(reporter, number, known)
        else:
            reporter.finish(number, known)
    refused = any(outcome.state == "refused" for outcome in outcomes.values())
    if refused and not skip_refused:
        return [outcomes[number] for number in range(len(requests))]
    folders = {number: outcome.folder for number, outcome in outcomes.items()}
    _note(requests, outcomes, folders)
    work = functools.partial(execute, cells=cells)
    lost = functools.partial(record_death, cells=cells)
    while missing:
        # Runs that another process has in hand are asked for again when all others are done: it may die and leave them.
        asked, renumbered = [requests[number] for number in missing], _Renumbered(reporter, missing)
        ran = run_all(asked, work, lost, jobs, renumbered, isolated=isolated, code=code_of_others)
        outcomes |= dict(zip(missing, ran, strict=True))
        busy = [number for number in missing if outcomes[number].state == "busy"]
        if busy and len(busy) == len(missing):
            time.sleep(_POLL)
        missing = busy
    if any(outcome.state == "refused" for outcome in outcomes.values()):  # some show it only when they begin
        _note(requests, outcomes, folders)
    return [outcomes[number] for number in range(len(requests))]


def _look_up_all(
    requests: Sequence[RunRequest], cells: Cells, reporter: Reporter, *, isolated: bool
) -> Iterator[tuple[int, Outcome]]:
    """Looks every request up before any run. Requests that bring code of others are looked up in worker processes.

    A finished study of built-ins returns at once, and the data are prepared once.

    Args:
        requests: the runs.
        cells: keeps what is resolved here.
        reporter: told of the preprocessing.
        isolated: whether there are workers; without, all is done here.
    """
    rehearsals = Rehearsals()
    foreign: list[int] = []
    for number, request in enumerate(requests):
        if isolated and code_of_others(request):
            foreign.append(number)
        else:
            yield number, look_up(request, cells, rehearsals, OneRun(reporter, number))
    foreign.sort(key=lambda number: code_of_others(requests[number]))  # a worker looks up all requests of the same code
    work = functools.partial(_look_up_there, cells=Cells(), rehearsals=Rehearsals())
    asked, renumbered = [requests[number] for number in foreign], _Unfinished(reporter, foreign)
    yield from zip(foreign, run_all(asked, work, _lost, 1, renumbered, code=code_of_others, stops_at_once=True), strict=True)


def _look_up_there(request: RunRequest, progress: Progress, cells: Cells, rehearsals: Rehearsals) -> Outcome:
    """`look_up` as a worker process calls it."""
    return look_up(request, cells, rehearsals, progress)


def code_of_others(request: RunRequest) -> tuple[str, ...]:
    """The components of a request that are not this package's own."""
    asked: list[tuple[Kind, Spec]] = [
        ("initializer", request.init),
        ("backbone", request.backbone),
        ("dataset", request.dataset),
        ("regimen", request.regimen),
    ]
    return tuple(str(item) for kind, item in asked if not registry.is_built_in(kind, item))


def _tell(reporter: Reporter, number: int, known: Outcome) -> None:
    """Says what should be known of a run's data; a reporter of others need not have a `note`."""
    note = getattr(reporter, "note", None)
    if note is not None:
        for remark in known.remarks:
            note(number, remark)


def _note(requests: Sequence[RunRequest], outcomes: Mapping[int, Outcome], folders: Mapping[int, Path | None]) -> None:
    """Leaves the plan for `initbench status`; where it cannot be written, the runs themselves will say so."""
    if all(outcome.state == "refused" for outcome in outcomes.values()):
        return
    planned = []
    for number, request in enumerate(requests):
        state, folder = outcomes[number].state, folders[number]
        asked, code = as_json(request), code_digests(request)
        if state == "refused" or folder is None:  # its data cannot be read, so it has no place yet
            planned.append(AskedRun(request.label, asked, None, state, outcomes[number].message, code))
        else:
            planned.append(AskedRun(request.label, asked, folder, code=code))
    with contextlib.suppress(OSError):
        write_asked(requests[0].out, planned)


class _Renumbered:
    """Passes progress on under the numbers of the whole plan."""

    def __init__(self, reporter: Reporter, numbers: Sequence[int]) -> None:
        self._reporter = reporter
        self._numbers = numbers

    def start(self, run: int, stage: str, total: int) -> None:
        self._reporter.start(self._numbers[run], stage, total)

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        self._reporter.advance(self._numbers[run], done, info)

    def finish(self, run: int, outcome: Outcome) -> None:
        if outcome.state != "busy":
            self._reporter.finish(self._numbers[run], outcome)


class _Unfinished(_Renumbered):
    """Passes the progress of look-ups on. The end of a look-up is not the end of a run."""

    def finish(self, run: int, outcome: Outcome) -> None:
        """Ignored."""


def run(
    init: Components,
    backbone: Components,
    dataset: Components = DATASET,
    *,
    jobs: int = 1,
    reporter: Reporter | None = None,
    skip_refused: bool = False,
    **options: Unpack[Options],
) -> list[Outcome]:
    """Runs what is missing of a sweep; the same as the command ``initbench run``.

    Every run is looked at before the first step. Where some cannot be run as they are asked for, none is.

    Args:
        init: initializers, as a name, a comma list, a sequence or specs; parameters inline: ``lwi(mask_ratio=0.6)``.
        backbone: backbones, likewise.
        dataset: data sets, likewise, or paths of Decathlon folders.
        jobs: processes at a time.
        reporter: told of progress.
        skip_refused: runs the others where some cannot be run.
        **options: the command's options, see `Options`.

    Returns:
        One outcome a run, in the order seeds x datasets x backbones x regimens x inits.

    Raises:
        UsageError: the request itself is wrong. What goes wrong in a run is in its outcome.
    """
    return run_planned(cross_requests(init, backbone, dataset, **options), jobs, reporter, skip_refused=skip_refused)


def _lost(request: RunRequest, message: str) -> Outcome:
    code = ", ".join(code_of_others(request))
    return Outcome(request, "failed", None, None, f"when it was tried before the first run, with code of {code}: {message}")
