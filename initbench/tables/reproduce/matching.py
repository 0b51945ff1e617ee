"""Which runs are of which published row: by what their records resolve to, so that no component is imported and no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
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
    """A cell that may answer a row, the placebo's being that of its control.

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


def find(runs: pd.DataFrame, asked: Sequence[Trial], overrides: Overrides, only: frozenset[str] | None = None) -> list[Found]:
    """The cells of each trial, one set a precision.

    Rows are compared, so those of a setting are of one state of the data, one variant and one code: of that in which most rows
    have results, then most runs; of two that are alike, the one that was asked for last.

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
        sets.setdefault(str(own["precision"].iloc[0]), []).extend(
            _Candidate(label, trial, str(cell), record.resolved, scored, last)
            for label, trial in _answered(record, asked, overrides).items()
        )
    return [_chosen(precision, found) for precision, found in sorted(sets.items()) if found]


def _chosen(precision: str, found: Sequence[_Candidate]) -> Found:
    of_data = _of_one_state(
        found, lambda item: (item.trial.dataset, item.trial.train_cases), lambda item: item.resolved.data_digest
    )
    of_code = _of_one_state(of_data, lambda item: item.trial.setting, _code)
    kept = {item.label: item.cell for item in _of_one_state(of_code, lambda item: item.label, lambda item: item.cell)}
    return Found(precision, kept, tuple(dict.fromkeys(item.label for item in found if kept.get(item.label) != item.cell)))


def _of_one_state(
    found: Sequence[_Candidate], group: Callable[[_Candidate], Hashable], state: Callable[[_Candidate], Hashable]
) -> list[_Candidate]:
    """Of every group the candidates of one state."""
    states: dict[Hashable, dict[Hashable, list[_Candidate]]] = {}
    for item in found:
        states.setdefault(group(item), {}).setdefault(state(item), []).append(item)
    return [item for of_group in states.values() for item in max(of_group.values(), key=_weight)]


def _weight(members: Sequence[_Candidate]) -> tuple[int, int, str, str]:
    rows = {item.label for item in members if item.scored}
    return (
        len(rows),
        sum(item.scored for item in members),
        max(item.asked for item in members),
        min(item.cell for item in members),
    )


def _code(item: _Candidate) -> Hashable:
    return item.resolved.variant, item.resolved.backbone_source, item.resolved.recipe_digest


def _answered(record: Record, asked: Sequence[Trial], overrides: Overrides) -> dict[str, Trial]:
    """The rows that a record may answer, by label."""
    resolved = record.resolved
    if resolved.fixed_streams:
        return {}
    fits = [trial for trial in asked if _same_regimen(resolved, trial) and _same_setting(record, trial, overrides)]
    if is_placebo(resolved.init):
        own = control(asked)
        return {PLACEBO_LABEL: own} if own is not None and own in fits else {}
    return {trial.label: trial for trial in fits if _same_init(resolved, trial)}


def control(asked: Sequence[Trial]) -> Trial | None:
    """The row whose placebo is run: the first that takes the network as it is constructed and trains it plainly.

    A row that another init or another regimen stands beside comes first.
    """
    plain = [trial for trial in asked if _is_baseline(trial)]
    compared = {trial.setting for trial in asked if not _is_baseline(trial)}
    return next((trial for trial in plain if trial.setting in compared), plain[0] if plain else None)


def _is_baseline(trial: Trial) -> bool:
    return str(trial.init) == BASELINE and str(trial.regimen) == REGIMEN


def _same_regimen(resolved: Resolved, trial: Trial) -> bool:
    """Whether the regimen has the same name, equal steps, and the parameters that the row states."""
    asked, shown = trial.regimen, spec.parse(resolved.regimen)
    given, known = dict(asked.params), resolved.regimen_params
    if asked.name != shown.name or resolved.regimen_budget == "compute" or set(dict(shown.params)) - set(given):
        return False
    return all(_plain(known.get(key)) == _plain(value) for key, value in given.items())


def _same_init(resolved: Resolved, trial: Trial) -> bool:
    """The same name and parameters; of a file its name is compared, as its digest is in no published row."""
    asked, shown = trial.init, spec.parse(resolved.init)
    given, known = dict(asked.params), resolved.init_params
    if asked.name != shown.name or set(dict(shown.params)) - set(given):
        return False
    if resolved.learned and resolved.protocol != trial.protocol:
        return False
    return all(_same_value(value, known.get(key), dict(shown.params).get(key)) for key, value in given.items())


def _same_value(asked: object, known: object, shown: object) -> bool:
    """Whether a parameter is what was asked for; that of a file is shown as its name, ``@`` and a digest."""
    if isinstance(asked, str) and isinstance(shown, str) and "@" in shown:
        return Path(asked).name == shown.rpartition("@")[0]
    return _plain(known) == _plain(asked)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _same_setting(record: Record, trial: Trial, overrides: Overrides) -> bool:
    resolved = record.resolved
    return (
        _same_dataset(record, trial)
        and resolved.size == overrides.size
        and resolved.budget == overrides.budget
        and _same_split(record, trial, overrides)
        and _same_backbone(resolved, trial)
        and any(_same_recipe(resolved, recipe, trial, overrides) for recipe in _recipes(trial, resolved.dataset, overrides))
    )


def _same_dataset(record: Record, trial: Trial) -> bool:
    """By its name, or by the folder that was asked for: what lies there may be a data set of another name."""
    folder = str(home(trial.dataset).absolute())
    return record.resolved.dataset in dataset_names(trial.dataset) or record.asked.dataset == folder


def _same_split(record: Record, trial: Trial, overrides: Overrides) -> bool:
    """The split as `data.splits` names it: a part of its cases stays it, fewer training cases and folds are others."""
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
    """Whether a run was asked for without a split, and so has the usual one, which data sets may bring along."""
    return "split" in asked.model_fields_set and asked.split in (None, "published") and asked.fold is None


def _same_backbone(resolved: Resolved, trial: Trial) -> bool:
    asked = trial.backbone
    name = Path(asked.name).name if asked.is_file else asked.name
    variant = dict(asked.params).get("variant")
    return resolved.backbone.partition("@")[0] == name and variant in (None, resolved.variant)


def _recipes(trial: Trial, dataset: str, overrides: Overrides) -> Iterable[Recipe]:
    for name in trials.recipe_names(dataset, overrides):
        try:
            yield _resolved(trial, name, overrides)
        except UsageError:  # a setting that this recipe does not take
            continue


_resolved = cache(trials.resolved)


def _same_recipe(resolved: Resolved, recipe: Recipe, trial: Trial, overrides: Overrides) -> bool:
    """Whether a record's recipe is this one: all values but documentation; fields that came later have their defaults.

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
    """The values of a recipe without those that a plan fills in."""
    values = recipe.identity(without=(*_DOCUMENTATION, *_NOT_OF_THE_CELL, "plan"))
    for section, name in (("preprocess", "spacing"), ("patch", "size")):
        if plan.patch and f"{section}.{name}" not in by_hand:
            values[section] = {key: value for key, value in values[section].items() if key != name}
    return values
