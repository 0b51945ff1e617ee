"""Inits x backbones x data sets x seeds, as a list of runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, TypedDict, Unpack

from initbench import registry, spec
from initbench.choices import BASELINE, DATASET, Budget, PrecisionChoice, Protocol, Stream, SweepProtocol
from initbench.datasets.splits import SplitName, parse_fold
from initbench.errors import UsageError
from initbench.executors.local import OneRun, Reporter, run_all
from initbench.harness import compose
from initbench.harness.execute import Outcome, execute, look_up
from initbench.harness.request import RunRequest, as_json, assign, check_streams, check_tolerance, items
from initbench.protocols import Size
from initbench.runs.status import AskedRun, write_asked
from initbench.stats.blocks import PLACEBO, is_placebo


class RunOptions(TypedDict, total=False):
    """Options of every run of a sweep; their defaults are those of `RunRequest`.

    `budget` is the steps a recipe states for it; `size` that of the networks; `device` auto, cpu, cuda or cuda:i; `precision`
    auto is bf16 where the device is fast at it; `data_root` the folder that holds the data sets; `out` that of the run
    directories; `split` auto or a published one's name, by default the usual published one where there is one; `recipe` a name
    or TOML file, by default the data set's; `assignments` are ``section.field=value`` over it; `threads` are torch threads of a
    run on the CPU; `fixed` are streams that every seed draws as seed 0 does; `save_predictions` keeps label maps of the reported
    cases; `distances` measures HD95 and surface Dice at `nsd_tolerance` mm, seconds a case for large CT;
    `checkpoint_every` is in seconds.
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


class PartOptions(RunOptions, total=False):
    """Also `folds` are ``k/K``, in place of a split; `train_cases` are numbers of training cases to use, nested subsets."""

    folds: Sequence[str]
    train_cases: Sequence[int]


class Options(PartOptions, total=False):
    """Options of a sweep: `seeds` is a number (0 to n-1) or the seeds themselves; `protocol` who pays for a pretext's steps;
    `placebo` adds ``default`` drawn again to a study of it and others under two or more seeds.
    """

    seeds: int | Sequence[int]
    protocol: SweepProtocol
    placebo: bool


def cross_requests(
    init: str | Sequence[str],
    backbone: str | Sequence[str],
    dataset: str | Sequence[str] = DATASET,
    *,
    seeds: int | Sequence[int] = 1,
    protocol: SweepProtocol = "equal-total",
    folds: Sequence[str] = (),
    train_cases: Sequence[int] = (),
    placebo: bool = True,
    **options: Unpack[RunOptions],
) -> list[RunRequest]:
    """Crosses the lists of a sweep, seeds slowest, so that an interrupted one holds whole comparisons.

    `init` and the other arguments are as for `run`.

    Raises:
        UsageError: an unknown or malformed component or parameter, no seed, no such fold.
    """
    inits, backbones, datasets = (items(values) for values in (init, backbone, dataset))
    inits, assignments = assign(inits, options.get("assignments", ()))
    if placebo:
        inits = _with_placebo(inits, seeds if isinstance(seeds, int) else len(seeds))
    pays = {text: learned(text) for text in inits}
    for text in backbones:
        registry.get("backbone", spec.parse(text))
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not numbers or min(numbers) < 0:
        raise UsageError(f"seeds are whole numbers from 0, at least one of them; got {numbers}")
    protocols: list[Protocol] = ["equal-total", "equal-finetune"] if protocol == "both" else [protocol]
    check_streams(options.get("fixed", ()))
    base = replace(_base(options), assignments=tuple(assignments))
    check_tolerance(base.nsd_tolerance)
    parts = _parts(folds, train_cases, base.split)
    return [
        replace(
            base, init=text, backbone=net, dataset=data, seed=seed, protocol=chosen, fold=fold, train_cases=cases, index=index
        )
        for index, (seed, (fold, cases), data, net, (text, chosen)) in enumerate(
            product(
                numbers,
                parts,
                datasets,
                backbones,
                # An init that learns nothing has the same run under every protocol.
                [(text, chosen) for text in inits for chosen in (protocols if pays[text] else protocols[:1])],
            )
        )
    ]


def _parts(folds: Sequence[str], train_cases: Sequence[int], split: str | None) -> list[tuple[str | None, int | None]]:
    """Folds crossed with numbers of training cases, each once and written one way: a request is kept as it is written."""
    if folds and split is not None:
        raise UsageError(f"--split {split} and --fold {folds[0]} exclude each other: folds divide all cases anew")
    strange = [number for number in train_cases if number < 1]
    if strange:
        raise UsageError(f"--train-cases {strange[0]}: a run trains on one case or more")
    wanted = ["{}/{}".format(*parse_fold(text)) for text in folds]
    return list(product(dict.fromkeys(wanted) or [None], dict.fromkeys(train_cases) or [None]))


def _with_placebo(inits: Sequence[str], seeds: int) -> list[str]:
    """The inits, and the default drawn again where others are compared with it: what luck alone does in this study."""
    compared = BASELINE in inits and len(inits) > 1 and seeds > 1
    return [*inits, PLACEBO] if compared and not any(is_placebo(str(spec.parse(text))) for text in inits) else list(inits)


def _base(options: RunOptions) -> RunRequest:
    values: dict[str, Any] = {key: value for key, value in options.items() if key != "assignments"}
    for key in ("data_root", "out"):
        if values.get(key) is not None:
            values[key] = Path(values[key])
    return RunRequest(init="", backbone="", dataset="", seed=0, **values)


def learned(text: str) -> bool:
    """Whether an initializer takes steps.

    Raises:
        UsageError: there is none, or it takes no such parameter.
    """
    component = registry.get("initializer", spec.parse(text))
    component.check()
    return compose.info(component).learned


_POLL = 2.0  # seconds between two looks at runs that other processes have in hand


class Silent:
    """A reporter that shows nothing."""

    def start(self, run: int, stage: str, total: int) -> None:
        """Ignored."""

    def advance(self, run: int, done: int, info: Mapping[str, float]) -> None:
        """Ignored."""

    def finish(self, run: int, outcome: Outcome) -> None:
        """Ignored."""


def run_planned(requests: Sequence[RunRequest], jobs: int = 1, reporter: Reporter | None = None) -> list[Outcome]:
    """Runs what is missing of a plan; outcomes in its order."""
    reporter = reporter or Silent()
    outcomes: dict[int, Outcome] = {}
    missing: list[int] = []
    rehearsed: set[str] = set()
    for number, request in enumerate(requests):
        # Looked up here, before any worker starts: a finished sweep returns at once, and the data are prepared once.
        outcomes[number] = known = look_up(request, rehearsed, OneRun(reporter, number))
        if known.state == "pending":
            missing.append(number)
        else:
            reporter.finish(number, known)
    folders = {number: outcome.folder for number, outcome in outcomes.items()}
    _note(requests, outcomes, folders)
    while missing:
        # Runs that another process has in hand are asked for again when all others are done: it may die and leave them.
        ran = run_all([requests[number] for number in missing], execute, _lost, jobs, _Renumbered(reporter, missing))
        outcomes |= dict(zip(missing, ran, strict=True))
        busy = [number for number in missing if outcomes[number].state == "busy"]
        if busy and len(busy) == len(missing):
            time.sleep(_POLL)
        missing = busy
    if any(outcome.state == "refused" for outcome in outcomes.values()):  # some show it only when they begin
        _note(requests, outcomes, folders)
    return [outcomes[number] for number in range(len(requests))]


def _note(requests: Sequence[RunRequest], outcomes: Mapping[int, Outcome], folders: Mapping[int, Path | None]) -> None:
    """Leaves the plan for `initbench status`; where it cannot be written, the runs themselves will say so."""
    if all(outcome.state == "refused" for outcome in outcomes.values()):
        return
    planned = []
    for number, request in enumerate(requests):
        state, folder = outcomes[number].state, folders[number]
        if state == "refused" or folder is None:  # its data cannot be read, so it has no place yet
            planned.append(AskedRun(request.label, as_json(request), None, state, outcomes[number].message))
        else:
            planned.append(AskedRun(request.label, as_json(request), folder))
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


def run(
    init: str | Sequence[str],
    backbone: str | Sequence[str],
    dataset: str | Sequence[str] = DATASET,
    *,
    jobs: int = 1,
    reporter: Reporter | None = None,
    **options: Unpack[Options],
) -> list[Outcome]:
    """Runs what is missing of a sweep; the same as the command ``initbench run``.

    Args:
        init: initializers, as a name, a comma list or a sequence; parameters inline: ``lwi(mask_ratio=0.6)``.
        backbone: backbones, likewise.
        dataset: data sets, likewise, or paths of Decathlon folders.
        jobs: processes at a time.
        reporter: told of progress.
        **options: the command's options, see `Options`.

    Returns:
        One outcome a run, in the order seeds x datasets x backbones x inits.

    Raises:
        UsageError: the request itself is wrong. What goes wrong in a run is in its outcome.
    """
    return run_planned(cross_requests(init, backbone, dataset, **options), jobs, reporter)


def _lost(request: RunRequest, message: str) -> Outcome:
    return Outcome(request, "failed", None, None, message)
