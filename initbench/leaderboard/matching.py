"""Which runs are of which published row: by what their records resolve to, so that no component is imported and no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from initbench import spec
from initbench.data.known import SHORT_NAMES
from initbench.errors import UsageError
from initbench.paths import is_file
from initbench.published import trials
from initbench.published.trials import Overrides, Trial
from initbench.recipe import Plan, Recipe
from initbench.runs import store
from initbench.stats.blocks import BASELINE, is_placebo

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
        other: labels that have more than one cell, as of two states of the data: the one with most runs is taken.
    """

    precision: str
    cells: Mapping[str, str]
    other: tuple[str, ...]


def find(runs: pd.DataFrame, asked: Sequence[Trial], overrides: Overrides, only: frozenset[str] | None = None) -> list[Found]:
    """The cells of each trial, one set a precision.

    Args:
        runs: as `load_runs` gives.
        asked: the rows that could be run.
        overrides: what was asked instead of the published setting.
        only: cells that count; all by default.
    """
    counted = runs.groupby("cell").agg(path=("path", "first"), precision=("precision", "first"), runs=("seed", "size"))
    sets: dict[str, dict[str, list[tuple[int, str]]]] = {}
    for cell, path, precision, number in counted.reset_index().itertuples(index=False):
        record = store.read_record(Path(path))
        if record is None or (only is not None and cell not in only):
            continue
        for label in _labels(record["resolved"], asked, overrides):
            sets.setdefault(str(precision), {}).setdefault(label, []).append((int(number), str(cell)))
    return [_chosen(precision, cells) for precision, cells in sorted(sets.items())]


def _chosen(precision: str, cells: Mapping[str, list[tuple[int, str]]]) -> Found:
    most = {label: max(found)[1] for label, found in cells.items()}
    return Found(precision, most, tuple(label for label, found in cells.items() if len(found) > 1))


def _labels(resolved: Mapping[str, Any], asked: Sequence[Trial], overrides: Overrides) -> list[str]:
    if resolved.get("regimen", "plain") != "plain" or resolved.get("fixed_streams"):
        return []
    fits = [trial for trial in asked if _same_setting(resolved, trial, overrides)]
    if is_placebo(resolved["init"]):
        return [PLACEBO_LABEL] if control(asked) in fits else []
    return [trial.label for trial in fits if _same_init(resolved, trial)]


def control(asked: Sequence[Trial]) -> Trial | None:
    """The row whose placebo is run: the first that takes the network as it is constructed."""
    return next((trial for trial in asked if trial.init == BASELINE), None)


def _same_init(resolved: Mapping[str, Any], trial: Trial) -> bool:
    """The same name and parameters; of a file its name is compared, as its digest is in no published row."""
    asked, shown = spec.parse(trial.init), spec.parse(resolved["init"])
    given, known = dict(asked.params), dict(resolved.get("init_params") or {})
    if asked.name != shown.name or set(dict(shown.params)) - set(given):
        return False
    if resolved["learned"] and resolved["protocol"] != trial.protocol:
        return False
    return all(_plain(known.get(key)) == _plain(value) or resolved.get("external", False) for key, value in given.items())


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _same_setting(resolved: Mapping[str, Any], trial: Trial, overrides: Overrides) -> bool:
    return (
        resolved["dataset"] in dataset_names(trial.dataset)
        and resolved["size"] == overrides.size
        and resolved["budget"] == overrides.budget
        and _same_split(resolved, trial, overrides)
        and _same_backbone(resolved, trial)
        and any(_same_recipe(resolved, recipe, trial) for recipe in _recipes(trial, resolved["dataset"], overrides))
    )


def _same_split(resolved: Mapping[str, Any], trial: Trial, overrides: Overrides) -> bool:
    """The split as `data.splits` names it: a part of its cases stays it, fewer training cases and folds are others."""
    wanted = _usual_split(resolved["dataset"]) if overrides.split in (None, "published") else overrides.split
    whole, _, fewer = str(resolved["split"]).partition(", trained on ")
    if _PART.sub("", whole) != wanted:
        return False
    return not fewer if trial.train_cases is None else len(resolved["train_cases"]) == trial.train_cases


@cache
def _usual_split(dataset: str) -> str:
    """The first of its published splits, else the automatic one; from the file, as the room that reads it knows torch."""
    file = resources.files("initbench.data") / "published_splits" / f"{dataset}.json"
    return str(json.loads(file.read_text("utf-8"))["splits"][0]["name"]) if is_file(file) else "auto"


def _same_backbone(resolved: Mapping[str, Any], trial: Trial) -> bool:
    asked = spec.parse(trial.backbone)
    name = Path(asked.name).name if asked.is_file else asked.name
    variant = dict(asked.params).get("variant")
    return resolved["backbone"].partition("@")[0] == name and variant in (None, resolved["variant"])


def dataset_names(text: str) -> set[str]:
    """What a data set that is asked for by this text may be called in records: folders of tasks have short names."""
    folder = Path(text).name or Path(text).absolute().name
    return {text, folder, SHORT_NAMES.get(folder, folder)}


def _recipes(trial: Trial, dataset: str, overrides: Overrides) -> Iterable[Recipe]:
    for name in trials.recipe_names(dataset, overrides):
        try:
            yield _resolved(trial, name, overrides)
        except UsageError:  # a setting that this recipe does not take
            continue


_resolved = cache(trials.resolved)


def _same_recipe(resolved: Mapping[str, Any], recipe: Recipe, trial: Trial) -> bool:
    """Whether a record's recipe is this one: all values but documentation; fields that came later have their defaults.

    What the recipe leaves to the training cases is numbers in the record, and not compared.
    """
    try:
        recorded = Recipe.model_validate(resolved["recipe"])
    except ValidationError:
        return False
    by_hand = {text.partition("=")[0].strip() for text in trial.assignments}
    counted = recipe.plan.epochs and resolved["budget"] == "paper" and "steps.paper" not in by_hand
    if not counted and resolved["steps"] != getattr(recipe.steps, resolved["budget"]):
        return False
    return _written(recorded, recipe.plan, by_hand) == _written(recipe, recipe.plan, by_hand)


def _written(recipe: Recipe, plan: Plan, by_hand: Set[str]) -> dict[str, Any]:
    """The values of a recipe without those that a plan fills in."""
    values = recipe.identity(without=(*_DOCUMENTATION, *_NOT_OF_THE_CELL, "plan"))
    for section, name in (("preprocess", "spacing"), ("patch", "size")):
        if plan.patch and f"{section}.{name}" not in by_hand:
            values[section] = {key: value for key, value in values[section].items() if key != name}
    return values
