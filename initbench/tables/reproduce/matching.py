"""Finds the runs of published rows by what their records resolve to, so that no component is imported and no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from initbench import spec
from initbench.choices import BASELINE, REGIMEN
from initbench.errors import UsageError
from initbench.paths import home
from initbench.published import trials
from initbench.published.trials import Overrides, Trial, dataset_names, usual_split
from initbench.recipes.settings import AutoSettings, Recipe
from initbench.runs import store
from initbench.runs.record import Asked, Record, Resolved
from initbench.stats.assembly import SCORED
from initbench.stats.blocks import is_placebo, whole_split

PLACEBO_LABEL = "placebo"
_PART = re.compile(r" \(\d+ of \d+ cases\)$")
_DOCUMENTATION = ("name", "version", "source")
_NOT_OF_THE_CELL = ("steps", "variant")  # a run has one number of steps and one variant


@dataclass(frozen=True)
class Found:
    """The cells of a study that answer the rows of a table under one precision.

    Attributes:
        precision: of all of them.
        cells: by label; a placebo under its own name, where the study has one beside the default.
        other: labels that have runs of other data, code or variants, too.
    """

    precision: str
    cells: Mapping[str, str]
    other: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    """A cell that may answer a row; of a placebo the row is its control.

    Attributes:
        scored: runs of it that have a score.
        asked: when the last of them was asked for.
    """

    label: str
    trial: Trial
    cell: str
    resolved: Resolved
    scored: int
    asked: str

    @property
    def code(self) -> tuple[str, str, str]:
        """What has to be the same for the rows of one setting to be compared: the network and the recipe."""
        return self.resolved.variant, self.resolved.backbone_source, self.resolved.recipe_digest


def find(runs: pd.DataFrame, asked: Sequence[Trial], overrides: Overrides, only: frozenset[str] | None = None) -> list[Found]:
    """Returns the cells of each trial, one set a precision.

    Rows are compared, so the rows of a setting get cells of one state of the data, one variant and one code: of the one in which
    most rows have results, then most runs; of two that are alike, the one that was asked for last.

    Args:
        runs: as `load_runs` gives.
        asked: the rows that could be run.
        overrides: what was asked instead of the published setting.
        only: cells that count; all by default.
    """
    sets: dict[str, list[_Candidate]] = {}
    for cell, own in runs.groupby("cell"):
        record = store.read_record(Path(own["path"].iloc[0]))
        if record is None or (only is not None and cell not in only):
            continue
        scored, last = int(own["status"].isin(SCORED).sum()), str(own["asked"].max())
        candidates = sets.setdefault(str(own["precision"].iloc[0]), [])
        for label, trial in _answered(record, asked, overrides).items():
            candidates.append(_Candidate(label, trial, str(cell), record.resolved, scored, last))
    return [_chosen(precision, found) for precision, found in sorted(sets.items()) if found]


def _chosen(precision: str, found: Sequence[_Candidate]) -> Found:
    """Returns the cells of one precision: of one state of the data, then of one code, then one cell a row."""
    of_data = _of_one_state(
        found, lambda item: (item.trial.dataset, item.trial.train_cases), lambda item: item.resolved.data_digest
    )
    of_code = _of_one_state(of_data, lambda item: item.trial.setting, lambda item: item.code)
    cells = {item.label: item.cell for item in _of_one_state(of_code, lambda item: item.label, lambda item: item.cell)}
    other: dict[str, None] = {}
    for item in found:
        if cells.get(item.label) != item.cell:
            other[item.label] = None
    return Found(precision, cells, tuple(other))


def _of_one_state(
    found: Sequence[_Candidate], group: Callable[[_Candidate], Hashable], state: Callable[[_Candidate], Hashable]
) -> list[_Candidate]:
    """Returns the candidates of one state of every group: of that with most rows, then most runs.

    Args:
        found: candidates of several states.
        group: what candidates share that are of one group.
        state: what candidates of a group share that may stand beside each other.
    """
    groups: dict[Hashable, dict[Hashable, list[_Candidate]]] = {}
    for item in found:
        states = groups.setdefault(group(item), {})
        states.setdefault(state(item), []).append(item)
    chosen: list[_Candidate] = []
    for of_group in groups.values():
        heaviest = max(of_group.values(), key=_weight)
        chosen += heaviest
    return chosen


def _weight(members: Sequence[_Candidate]) -> tuple[int, int, str, str]:
    rows = {item.label for item in members if item.scored}
    scored = sum(item.scored for item in members)
    return len(rows), scored, max(item.asked for item in members), min(item.cell for item in members)


def _answered(record: Record, asked: Sequence[Trial], overrides: Overrides) -> dict[str, Trial]:
    """Returns the rows that a record may answer, by label."""
    resolved = record.resolved
    if resolved.fixed_streams:
        return {}
    placebo = control(asked) if is_placebo(resolved.init) else None
    found = {}
    for trial in asked:
        if not (_same_regimen(resolved, trial) and _same_setting(record, trial, overrides)):
            continue
        if trial == placebo:
            found[PLACEBO_LABEL] = trial
        elif not is_placebo(resolved.init) and _same_init(resolved, trial):
            found[trial.label] = trial
    return found


def control(asked: Sequence[Trial]) -> Trial | None:
    """Returns the row whose placebo is run: the first that takes the network as it is constructed and trains it plainly.

    A row that another init or another regimen stands beside comes first.
    """
    plain: list[Trial] = []
    compared = set()
    for trial in asked:
        if str(trial.init) == BASELINE and str(trial.regimen) == REGIMEN:
            plain.append(trial)
        else:
            compared.add(trial.setting)
    for trial in plain:
        if trial.setting in compared:
            return trial
    return plain[0] if plain else None


def _same_regimen(resolved: Resolved, trial: Trial) -> bool:
    """Returns whether the regimen has the same name, equal steps, and the parameters that the row states."""
    if resolved.regimen_budget == "compute":
        return False
    return _same_component(trial.regimen, spec.parse(resolved.regimen), resolved.regimen_params)


def _same_init(resolved: Resolved, trial: Trial) -> bool:
    """Returns whether name and parameters are the same; of a file its name is compared, as its digest is in no published row."""
    if resolved.learned and resolved.protocol != trial.protocol:
        return False
    return _same_component(trial.init, spec.parse(resolved.init), resolved.init_params)


def _same_component(asked: spec.Spec, shown: spec.Spec, known: Mapping[str, Any]) -> bool:
    """Returns whether a run has the component that a row asks for.

    Args:
        asked: as the row states it.
        shown: as the run shows it, with the parameters that differ from their defaults.
        known: all parameters of the run.
    """
    given, differing = dict(asked.params), dict(shown.params)
    if asked.name != shown.name or set(differing) - set(given):
        return False
    for name, value in given.items():
        if not _same_value(value, known.get(name), differing.get(name)):
            return False
    return True


def _same_value(asked: object, known: object, shown: object) -> bool:
    """Returns whether a parameter is what was asked for; a file is shown as its name, ``@`` and a digest."""
    if isinstance(asked, str) and isinstance(shown, str) and "@" in shown:
        return Path(asked).name == shown.rpartition("@")[0]
    return _plain(known) == _plain(asked)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _same_setting(record: Record, trial: Trial, overrides: Overrides) -> bool:
    resolved = record.resolved
    if (resolved.size, resolved.budget) != (overrides.size, overrides.budget) or not _same_dataset(record, trial):
        return False
    if not _same_split(record, trial, overrides) or not _same_backbone(resolved, trial):
        return False
    return any(_same_recipe(resolved, recipe, trial, overrides) for recipe in _recipes(trial, resolved.dataset, overrides))


def _same_dataset(record: Record, trial: Trial) -> bool:
    """Returns whether the name fits, or the folder that was asked for: what lies there may be a data set of another name."""
    folder = str(home(trial.dataset).absolute())
    return record.resolved.dataset in dataset_names(trial.dataset) or record.asked.dataset == folder


def _same_split(record: Record, trial: Trial, overrides: Overrides) -> bool:
    """Returns whether the split is the row's: a part of its cases still is, fewer training cases and folds are others."""
    resolved = record.resolved
    whole = whole_split(resolved.split)
    name = _PART.sub("", whole)
    if trial.split:
        fits = name == trial.split
    elif overrides.split in (None, "published"):
        fits = _by_default(record.asked) or name == _usual_split(resolved.dataset)
    else:
        fits = name == overrides.split
    if trial.train_cases is not None:
        return fits and len(resolved.train_cases) == trial.train_cases
    return fits and whole == resolved.split


_usual_split = cache(usual_split)


def _by_default(asked: Asked) -> bool:
    """Returns whether a run was asked for without a split, and so has the usual one, which data sets may bring along."""
    return "split" in asked.model_fields_set and asked.split in (None, "published") and asked.fold is None


def _same_backbone(resolved: Resolved, trial: Trial) -> bool:
    name = trial.backbone.name
    if trial.backbone.is_file:
        name = Path(name).name
    variant = dict(trial.backbone.params).get("variant")
    return resolved.backbone.partition("@")[0] == name and variant in (None, resolved.variant)


def _recipes(trial: Trial, dataset: str, overrides: Overrides) -> Iterator[Recipe]:
    """Gives the recipes under which a row may have been run on a data set."""
    for name in trials.recipe_names(dataset, overrides):
        try:
            yield _resolved(trial, name, overrides)
        except UsageError:  # a setting that this recipe does not take
            continue


_resolved = cache(trials.resolved)


def _same_recipe(resolved: Resolved, recipe: Recipe, trial: Trial, overrides: Overrides) -> bool:
    """Returns whether all values of a recorded recipe are these, without documentation; fields that came later have defaults.

    What the recipe leaves to the training cases is numbers in the record, and not compared.
    """
    try:
        recorded = Recipe.model_validate(resolved.recipe.written())
    except ValidationError:
        return False
    by_hand = trials.by_hand(trial.assignments)
    if not trials.counted(recipe, trial, overrides) and resolved.steps != getattr(recipe.steps, resolved.budget):
        return False
    return _written(recorded, recipe.plan, by_hand) == _written(recipe, recipe.plan, by_hand)


def _written(recipe: Recipe, plan: AutoSettings, by_hand: Set[str]) -> dict[str, Any]:
    """Returns the values of a recipe without those that a plan fills in."""
    values = recipe.identity(without=(*_DOCUMENTATION, *_NOT_OF_THE_CELL, "plan"))
    for section, name in (("preprocess", "spacing"), ("patch", "size")):
        if plan.patch and f"{section}.{name}" not in by_hand:
            values[section] = dict(values[section])
            values[section].pop(name, None)
    return values
