"""Published rows as runs: one sweep for each setting that they share, without a run of its own that the sweep would not do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initbench.datasets.open import open_dataset
from initbench.errors import DataError, UsageError
from initbench.harness.cell import Steps, steps_of
from initbench.harness.request import PLAIN, RunRequest
from initbench.protocols import Dataset
from initbench.published import trials
from initbench.published.trials import Overrides, Trial
from initbench.recipes.files import default_name
from initbench.spec import Spec
from initbench.stats.blocks import is_placebo
from initbench.studies.sweep import cross_requests, learned

# Backbone, data set, protocol, assignments, number of training cases, split.
_Setting = tuple[Spec, str, str, tuple[str, ...], int | None, str]


def missing(asked: Iterable[Trial], overrides: Overrides, data_root: Path | None) -> dict[str, str]:
    """Returns the published data sets that are not here or not usable, with what to do about it.

    Args:
        asked: rows of a table.
        overrides: what is asked instead of the published setting.
        data_root: folder that holds the data sets.

    Raises:
        UsageError, DataError: what was asked for in their place is no data set or not here.
    """
    found = {}
    tried: set[str] = set()
    for trial in asked:
        name = trial.dataset
        if name in tried:
            continue
        tried.add(name)
        try:
            open_dataset(name, data_root)
        except (DataError, UsageError) as error:
            if overrides.dataset:
                raise
            found[name] = str(error)
    return found


def trial_requests(
    asked: Sequence[Trial], overrides: Overrides, seeds: Sequence[int], control: Trial | None, options: dict[str, Any]
) -> list[RunRequest]:
    """Returns the runs behind the rows, each once, seeds slowest.

    Args:
        asked: rows whose data are here.
        overrides: what is asked instead of the published setting.
        seeds: of every row.
        control: the row whose placebo is run with the others of its setting; none without one.
        options: of every run, as `cross_requests` takes them.

    Raises:
        UsageError: an init, network or setting is not valid.
    """
    datasets: dict[str, Dataset] = {}
    groups: dict[_Setting, list[Trial]] = {}
    for trial in asked:
        if trial.dataset not in datasets:
            datasets[trial.dataset] = open_dataset(trial.dataset, options.get("data_root"))
        groups.setdefault(_setting(trial, datasets[trial.dataset], overrides), []).append(trial)
    found: dict[RunRequest, None] = {}
    for (backbone, dataset, protocol, assignments, cases, split), members in groups.items():
        inits: dict[Spec, None] = {}
        regimens: dict[Spec, None] = {}
        for trial in members:
            inits[trial.init] = None
            regimens[trial.regimen] = None
        own = {**options, "assignments": assignments, "train_cases": []}
        if cases is not None:
            own["train_cases"] = [cases]
        if split:
            own["split"] = split
        made = cross_requests(
            list(inits),
            backbone,
            Spec(dataset),
            regimen=list(regimens),
            seeds=seeds,
            protocol=protocol,  # type: ignore[arg-type]
            placebo=control in members,
            **own,
        )
        for request in made:
            if _is_asked(request, members):
                found[request] = None
    return sorted(found, key=lambda request: request.seed)


@dataclass(frozen=True)
class Workload:
    """How much all runs of a table are: cells, runs, and steps; None where training cases decide about the steps of any."""

    cells: int
    runs: int
    steps: int | None


def workload_of(asked: Sequence[Trial], overrides: Overrides, seeds: int, control: Trial | None) -> Workload:
    """Returns what all rows come to, whether their data are here or not; rows that are one cell count once.

    Args:
        asked: the rows.
        overrides: as for `trial_requests`.
        seeds: how many.
        control: as for `trial_requests`; a sweep of one init or one seed has no placebo.

    Raises:
        UsageError: an init or setting is not valid.
    """
    cells: dict[object, Trial] = {}
    for trial in asked:
        protocol = trial.protocol if learned(trial.init) else None
        cells.setdefault((trial.init, trial.regimen, protocol, trial.setting), trial)
    rows = list(cells.values())
    if control is not None and seeds > 1 and any(_beside(trial, control) for trial in asked):
        rows.append(control)
    runs = len(rows) * seeds
    total, is_known = 0, True
    for trial in rows:  # all of them: each may have a setting that is not valid
        own = steps(trial, overrides)
        if own is None:
            is_known = False
        else:
            total += own.total
    if not is_known:
        return Workload(len(rows), runs, None)
    return Workload(len(rows), runs, total * seeds)


def steps(trial: Trial, overrides: Overrides) -> Steps | None:
    """Returns the steps of a row, whose data need not be here; None where the recipe leaves them to the training cases.

    Raises:
        UsageError: an init or setting is not valid.
    """
    recipe = trials.resolved(trial, trials.recipe_names(trial.dataset, overrides)[0], overrides)
    if trials.counted(recipe, trial, overrides):
        return None
    return steps_of(recipe, overrides.budget, trial.protocol, learned=learned(trial.init))


def _beside(trial: Trial, control: Trial) -> bool:
    """Returns whether a row is of the control's sweep, with another init or another regimen."""
    same_setting = (trial.setting, trial.protocol) == (control.setting, control.protocol)
    return same_setting and (trial.init, trial.regimen) != (control.init, control.regimen)


def _is_asked(request: RunRequest, members: Sequence[Trial]) -> bool:
    """Returns whether a run is of a row. A sweep crosses inits and regimens, and a table may have some of the pairs alone.

    The placebo is a row that a reproduction adds, and is trained plainly as its control is.
    """
    if is_placebo(str(request.init)):
        return request.regimen == PLAIN
    return any((request.init, request.regimen) == (trial.init, trial.regimen) for trial in members)


def _setting(trial: Trial, dataset: Dataset, overrides: Overrides) -> _Setting:
    recipe = overrides.recipe or default_name(dataset.name, dataset.modality)
    assignments = trials.assignments(trial, recipe, overrides)
    return trial.backbone, trial.dataset, trial.protocol, assignments, trial.train_cases, trial.split
