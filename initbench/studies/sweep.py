"""Inits x regimens x backbones x data sets x seeds, as a list of runs."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, TypedDict, Unpack

from initbench import registry
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
from initbench.datasets.open import open_dataset
from initbench.datasets.splits import SplitName, parse_fold
from initbench.errors import MissingDataError, UsageError
from initbench.harness import compose
from initbench.harness.cell import Cells
from initbench.harness.execute import Outcome, look_up
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
from initbench.protocols import Device, OneRun, Progress, QueuedRun, Reporter, Size, StudyWork
from initbench.runs import kinds
from initbench.runs.status import AskedRun, write_asked
from initbench.spec import Spec, parse
from initbench.stats.blocks import PLACEBO, is_placebo
from initbench.studies.engine import Renumbered, Resources, code_of_others, run_queued, watched


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
        device_memory: GiB of the device that training volumes may take together.
        validation: whether Dice is measured while runs train.
        fast: whether steps are compiled, and kernels chosen by timing them.
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
    device_memory: float | None
    validation: bool
    fast: bool
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
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if placebo:
        inits = _with_placebo(inits, len(regimens), len(numbers))
    for item in backbones:
        registry.find("backbone", item).check()
    for item in regimens:
        registry.find("regimen", item).check()
    if not numbers or min(numbers) < 0:
        raise UsageError(f"seeds are whole numbers from 0, at least one of them; got {numbers}")
    protocols: list[Protocol] = ["equal-total", "equal-finetune"]
    if protocol != "both":
        protocols = [protocol]
    paid: list[tuple[Spec, Protocol]] = []
    for item in inits:
        own = protocols
        if not learned(item):  # it has the same run under every protocol
            own = protocols[:1]
        for chosen in own:
            paid.append((item, chosen))
    check_streams(options.get("fixed", ()))
    values = _values(options) | {"assignments": tuple(assignments)}
    base = RunRequest(inits[0], backbones[0], datasets[0], numbers[0], **values)
    check_tolerance(base.nsd_tolerance)
    parts = _parts(folds, train_cases, base.split)
    requests: list[RunRequest] = []
    for seed, (fold, cases), data, net, way, (item, chosen) in product(numbers, parts, datasets, backbones, regimens, paid):
        part: dict[str, Any] = {"fold": fold, "train_cases": cases}
        requests.append(replace(base, init=item, backbone=net, dataset=data, regimen=way, seed=seed, protocol=chosen, **part))
    return requests


def check_some_data(requests: Sequence[RunRequest]) -> None:
    """Refuses a study none of whose data sets is here, in one sentence in place of a failed run for each request.

    Raises:
        MissingDataError: says where data sets were looked for, and how to get them.
    """
    lacking: list[str] = []
    tried: set[tuple[str, Path | None]] = set()
    for request in requests:
        name, root = request.dataset.name, request.data_root
        if (name, root) in tried:
            continue
        tried.add((name, root))
        try:
            open_dataset(name, root)
        except MissingDataError as error:
            lacking.append(str(error))
        except (Exception, SystemExit):  # readers of others raise what they like, and the run says so
            return
        else:
            return
    raise MissingDataError(" ".join(lacking))


def _parts(folds: Sequence[str], train_cases: Sequence[int], split: str | None) -> list[tuple[str | None, int | None]]:
    """Folds crossed with numbers of training cases, each once and written one way: a request is kept as it is written."""
    if folds and split is not None:
        raise UsageError(f"--split {split} and --fold {folds[0]} exclude each other: folds divide all cases anew")
    for number in train_cases:
        if number < 1:
            raise UsageError(f"--train-cases {number}: a run trains on one case or more")
    wanted: dict[str, None] = {}
    for text in folds:
        fold, count = parse_fold(text)
        wanted[f"{fold}/{count}"] = None
    return list(product(wanted or [None], dict.fromkeys(train_cases) or [None]))


def _with_placebo(inits: list[Spec], regimens: int, seeds: int) -> list[Spec]:
    """Returns the inits, and the default drawn again where others are compared with it: what luck alone does in this study.

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
    """Returns the options as fields of a request."""
    values: dict[str, Any] = {**options}
    for key in ("data_root", "out"):
        if values.get(key) is not None:
            values[key] = Path(values[key])
    return values


def learned(init: Spec) -> bool:
    """Returns whether an initializer takes steps.

    Raises:
        UsageError: nobody offers it, it takes no such parameter, or a file that it needs is missing.
    """
    component = registry.find("initializer", init)
    component.check()
    return compose.info(component).learned


IN_PROCESS = "INITBENCH_IN_PROCESS"
"""The environment variable under which a single job runs in the process that asks for it, where a debugger sees it."""


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

    @property
    def here(self) -> list[int]:
        """The numbers of the runs whose code may run in this process: where there are workers, code of others runs in them."""
        if not self.isolated:
            return list(range(len(self.requests)))
        return [number for number, request in enumerate(self.requests) if not code_of_others(request)]

    @property
    def has_refused(self) -> bool:
        """Whether some run is refused."""
        return any(outcome.state == "refused" for outcome in self.outcomes.values())

    def in_order(self) -> list[Outcome]:
        """Returns what is known of each run, in the order of the requests."""
        return [self.outcomes[number] for number in range(len(self.requests))]


def look_up_study(requests: Sequence[RunRequest], reporter: Reporter, resources: Resources | None = None) -> LookedUp:
    """Looks every run of a study up before any of them begins; the data are prepared for those that can be.

    Args:
        requests: the runs, as `cross_requests` gives them.
        reporter: told of the preprocessing.
        resources: who does the runs.

    Raises:
        UsageError: the executor or a device does not exist.
    """
    (resources or Resources()).check(requests[0])
    cells = Cells()
    isolated = IN_PROCESS not in os.environ
    outcomes = dict(_look_up_all(requests, cells, reporter, isolated=isolated))
    return LookedUp(requests, outcomes, cells, isolated)


def look_up_here(requests: Sequence[RunRequest]) -> LookedUp:
    """Looks every run of a study up in this process, also those with code of others; the data are prepared.

    Args:
        requests: the runs, as `cross_requests` gives them.
    """
    cells = Cells()
    outcomes = dict(_look_up_all(requests, cells, Silent(), isolated=False))
    return LookedUp(requests, outcomes, cells, isolated=False)


def run_planned(
    requests: Sequence[RunRequest],
    resources: Resources | None = None,
    reporter: Reporter | None = None,
    *,
    skip_refused: bool = False,
) -> list[Outcome]:
    """Runs what is missing of a study.

    Args:
        requests: the runs, as `cross_requests` gives them.
        resources: who does the runs, and on which devices; by default this machine, with one run at a time on each device.
        reporter: told of progress.
        skip_refused: whether the others are run where some cannot be; by default none is then.

    Returns:
        One outcome a request, in their order; those that wait for a decision on others are ``pending``.

    Raises:
        UsageError: the executor or a device does not exist.
    """
    resources, reporter = resources or Resources(), reporter or Silent()
    return run_looked_up(look_up_study(requests, reporter, resources), resources, reporter, skip_refused=skip_refused)


def run_looked_up(study: LookedUp, resources: Resources, reporter: Reporter, *, skip_refused: bool) -> list[Outcome]:
    """Runs what is missing of a study that was looked up, and returns what `run_planned` returns.

    Args:
        study: as `look_up_study` gives it.
        resources: who does the runs, and on which devices.
        reporter: told of progress.
        skip_refused: whether the others are run where some cannot be.
    """
    requests = study.requests
    outcomes = dict(study.outcomes)
    missing: list[int] = []
    for number, known in outcomes.items():
        if known.state == "pending":
            missing.append(number)
            _tell(reporter, number, known)
        else:
            reporter.finish(number, known)
    if study.has_refused and not skip_refused:
        return study.in_order()
    note_study(requests, outcomes, study.outcomes)
    _fix_kinds_of_results(requests[0].out, outcomes, missing)
    runs = {number: _queued(requests[number], outcomes[number]) for number in missing}
    outcomes |= run_queued(runs, resources, reporter, study.cells, isolated=study.isolated)
    done = replace(study, outcomes=outcomes)
    if done.has_refused:  # some show it only when they begin
        note_study(requests, outcomes, study.outcomes)
    return done.in_order()


def _queued(request: RunRequest, known: Outcome) -> QueuedRun:
    return QueuedRun(request, known.folder, known.pair, code_of_others(request))


def _fix_kinds_of_results(out: Path, outcomes: Mapping[int, Outcome], missing: Sequence[int]) -> None:
    """Fixes the kind of device of the pairs that have results, for the runs of them that are missing."""
    wanted = set()
    for number in missing:
        wanted.add(outcomes[number].pair)
    for known in outcomes.values():
        if known.kind and known.pair in wanted:
            kinds.fix_kind(out, known.pair, known.kind)
            wanted.discard(known.pair)


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
    if not foreign:
        return
    foreign.sort(key=lambda number: code_of_others(requests[number]))  # a worker looks up all requests of the same code
    runs = []
    for number in foreign:
        runs.append(QueuedRun(requests[number], code=code_of_others(requests[number])))
    work = StudyWork(
        out=requests[0].out,
        runs=runs,
        perform=functools.partial(_look_up_there, cells=Cells(), rehearsals=Rehearsals()),
        lost=_lost,
        devices=lambda: [Device("cpu", "")],
        stops_at_once=True,
    )
    found = watched(Resources().submit(work), _Unfinished(reporter, foreign))
    for place, number in enumerate(foreign):
        yield number, found[place]


def _look_up_there(request: RunRequest, device: str, progress: Progress, cells: Cells, rehearsals: Rehearsals) -> Outcome:
    """Does what `look_up` does, as a worker process calls it."""
    return look_up(request, cells, rehearsals, progress)


def _tell(reporter: Reporter, number: int, known: Outcome) -> None:
    """Says what should be known of a run's data; a reporter of others need not have a `note`."""
    note = getattr(reporter, "note", None)
    if note is not None:
        for remark in known.remarks:
            note(number, remark)


def note_study(requests: Sequence[RunRequest], outcomes: Mapping[int, Outcome], looked_up: Mapping[int, Outcome]) -> None:
    """Leaves the plan for `initbench status` and `work`; where it cannot be written, the runs themselves will say so.

    Args:
        requests: the runs.
        outcomes: what became of them.
        looked_up: what was known of them before the first began, the places of their results among it.
    """
    if all(outcome.state == "refused" for outcome in outcomes.values()):
        return
    planned = []
    for number, request in enumerate(requests):
        state, folder, pair = outcomes[number].state, looked_up[number].folder, looked_up[number].pair
        asked, code = as_json(request), code_digests(request)
        if state == "refused" or folder is None:  # its data cannot be read, so it has no place yet
            planned.append(AskedRun(request.label, asked, None, state, outcomes[number].message, code))
        else:
            planned.append(AskedRun(request.label, asked, folder, code=code, pair=pair))
    with contextlib.suppress(OSError):
        write_asked(requests[0].out, planned)


class _Unfinished(Renumbered):
    """Passes the progress of look-ups on. The end of a look-up is not the end of a run."""

    def finish(self, run: int, outcome: Outcome) -> None:
        """Ignored."""


def _lost(request: RunRequest, message: str) -> Outcome:
    code = ", ".join(code_of_others(request))
    return Outcome(request, "failed", None, None, f"when it was tried before the first run, with code of {code}: {message}")
