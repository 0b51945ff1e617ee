"""Turns published rows into trials: an init, a network, a data set, and settings over the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from initbench.choices import REGIMEN, Budget, Protocol
from initbench.datasets import split_tables
from initbench.datasets.known import SHORT_NAMES, prescribed
from initbench.errors import UsageError
from initbench.published.tables import Row, Table
from initbench.recipes import files as recipe_files
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.spec import Spec, parse, value


@dataclass(frozen=True)
class Overrides:
    """The settings that a user asks for in place of the published ones.

    Attributes:
        recipe: name or file; by default the data set's.
        assignments: ``section.field=value`` over it; ``init.path=...`` for rows that need it.
        split: `auto`, `published` or the name of a published one; by default the published one where there is one.
        elsewhere: whether `dataset` is the published one, by another name or in a folder.
    """

    dataset: str | None = None
    backbone: str | None = None
    size: str = "paper"
    budget: Budget = "paper"
    recipe: str | None = None
    assignments: tuple[str, ...] = ()
    split: str | None = None
    elsewhere: bool = False

    @property
    def own_data(self) -> bool:
        """Returns whether the data are the published ones."""
        return self.dataset is None or self.elsewhere

    def words(self) -> tuple[str, ...]:
        """Says each setting that differs from the published one."""
        found = []
        if not self.own_data:
            found.append(f"data set {self.dataset}")
        if self.backbone:
            found.append(f"network {self.backbone}")
        if self.size != "paper":
            found.append(f"{self.size} size")
        if self.budget != "paper":
            found.append(f"{self.budget} budget")
        if self.recipe:
            found.append(f"recipe {self.recipe}")
        found += self.recipe_assignments()
        if self.split not in (None, "published"):
            found.append(f"split {self.split}")
        return tuple(found)

    def recipe_assignments(self) -> list[str]:
        """Returns the assignments to the recipe: those that are not to inits."""
        return [text for text in self.assignments if not text.startswith("init.")]


@dataclass(frozen=True)
class Trial:
    """A row as it is to be run.

    Attributes:
        regimen: how the supervised stage is run.
        assignments: over the recipe, without the number of steps.
        length: times the steps of the recipe.
        train_cases: number of training cases; None for all of the split.
        split: the published split that the row states; the usual one where empty.
    """

    label: str
    init: Spec
    backbone: Spec
    dataset: str
    protocol: Protocol
    assignments: tuple[str, ...] = ()
    length: float = 1.0
    train_cases: int | None = None
    regimen: Spec = field(default_factory=lambda: Spec(REGIMEN))
    split: str = ""

    @property
    def setting(self) -> tuple[object, ...]:
        """Returns all that two rows have in common which differ in nothing but the init, its protocol and the regimen."""
        return self.backbone, self.dataset, self.assignments, self.length, self.train_cases, self.split


@dataclass(frozen=True)
class Mapped:
    """The rows of a table that can run, and why the others cannot, by label."""

    trials: tuple[Trial, ...]
    reasons: Mapping[str, str]


def trials(table: Table, overrides: Overrides) -> Mapped:
    """Turns the rows of a table into trials, and says of each other row why it cannot run.

    Raises:
        UsageError: an assignment to inits that no row needs: a row states its init.
    """
    needed: set[str] = set()
    for row in table.row:
        needed.update(_keys_of_need(row, overrides))
    given = {}
    for text in overrides.assignments:
        if text.startswith("init."):
            key, asked = _pair(text)
            given[key] = asked
    strange = sorted(set(given) - needed)
    if strange:
        said = f"the rows of {table.full_name} need {', '.join(sorted(needed)) or 'none'}"
        raise UsageError(f"--set {strange[0]}=...: a published row states its init with its parameters; {said}")
    found, reasons = [], {}
    for row in table.row:
        if row.unmapped:
            reasons[row.label] = row.unmapped
            continue
        backbone = parse(overrides.backbone or row.backbone)
        reason = _reason(row, backbone, overrides, given)
        if reason:
            reasons[row.label] = reason
        else:
            found.append(_trial(row, backbone, overrides, given))
    return Mapped(tuple(found), reasons)


def against(table: Table, overrides: Overrides) -> Overrides:
    """Returns the overrides without those that ask for what the rows of the table state themselves."""
    published = set()
    backbones = set()
    for row in table.row:
        if row.init:
            published.add(row.dataset)
            backbones.add(row.backbone)
    if overrides.dataset and published <= {overrides.dataset}:
        overrides = replace(overrides, dataset=None)
    if overrides.dataset and published <= dataset_names(overrides.dataset):
        overrides = replace(overrides, elsewhere=True)
    if overrides.backbone and backbones <= {overrides.backbone}:
        overrides = replace(overrides, backbone=None)
    if overrides.own_data and published <= {overrides.recipe}:
        overrides = replace(overrides, recipe=None)
    if overrides.own_data and {usual_split(name) for name in published} <= {overrides.split}:
        overrides = replace(overrides, split=None)
    return overrides


def dataset_names(text: str) -> set[str]:
    """Returns the names that records may have for the data set that `text` asks for: folders of tasks have short names."""
    folder = Path(text).name or Path(text).absolute().name
    names = {text, folder, SHORT_NAMES.get(folder, folder)}
    known = prescribed(folder)
    if known:
        names.add(known.dataset)
    return names


def usual_split(dataset: str) -> str:
    """Returns the name of the first published split of a data set; ``auto`` where it has none."""
    for table in split_tables.published(dataset):
        return str(table["name"])
    return "auto"


def by_hand(assignments: Iterable[str]) -> set[str]:
    """Returns the settings that assignments set."""
    return {_pair(text)[0] for text in assignments}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: an assignment is section.field=value")
    return key.strip(), value.strip()


def _keys_of_need(row: Row, overrides: Overrides) -> list[str]:
    """Returns the settings that give a row what it needs, first the one for its network alone; none where it needs nothing."""
    if not row.needs:
        return []
    return [f"{row.needs}.{parse(overrides.backbone or row.backbone).name}", row.needs]


def _reason(row: Row, backbone: Spec, overrides: Overrides, given: Mapping[str, str]) -> str:
    """Says why a row cannot run; "" where it can."""
    if row.only and backbone.name not in row.only:
        return f"means something on {' and '.join(row.only)} alone"
    keys = _keys_of_need(row, overrides)
    if not keys or given.keys() & keys:
        return ""
    own, common = keys
    key = common
    if row.starts_from:
        key = own
    return f"needs the weights that it starts from: --set {key}=FILE"


def _trial(row: Row, backbone: Spec, overrides: Overrides, given: Mapping[str, str]) -> Trial:
    init = parse(row.init)
    for key in _keys_of_need(row, overrides):
        if key in given:
            init = init.with_param(row.needs.partition(".")[2], value(given[key]))
            break
    split, train_cases = _training_cases(row, overrides)
    return Trial(
        label=row.label,
        init=init,
        backbone=backbone,
        dataset=overrides.dataset or row.dataset,
        protocol=row.protocol,
        assignments=(*row.set, *overrides.recipe_assignments()),
        length=row.length,
        train_cases=train_cases,
        regimen=parse(row.regimen),
        split=split,
    )


def _training_cases(row: Row, overrides: Overrides) -> tuple[str, int | None]:
    """Returns the split and the number of training cases of a row.

    A list of cases of a paper means something on the paper's data alone. On others, and under another split, the row takes as
    many cases as the list has.
    """
    if not row.split:
        return "", row.train_cases
    if overrides.own_data and overrides.split in (None, "published"):
        return row.split, row.train_cases
    lists = {table["name"]: table["train"] for table in split_tables.published(row.dataset)}
    return "", len(lists[row.split])


def recipe_names(dataset: str, overrides: Overrides) -> tuple[str, ...]:
    """Returns the recipes that a data set of this name may have: its own, or the generic ones of both modalities."""
    if overrides.recipe:
        return (overrides.recipe,)
    of_ct, of_mr = recipe_files.default_name(dataset, "CT"), recipe_files.default_name(dataset, "MR")
    if of_ct == of_mr:
        return (of_ct,)
    return (of_ct, of_mr)


def assignments(trial: Trial, recipe: str, overrides: Overrides) -> tuple[str, ...]:
    """Returns the assignments that a trial makes over a recipe, with its number of steps.

    Args:
        trial: the row as it is to be run.
        recipe: name of a packaged recipe, or a path to a TOML file.
        overrides: the user's settings.

    Raises:
        UsageError: a row is trained longer than others by a factor, and the training cases decide how long the others are.
    """
    if trial.length == 1.0:
        return trial.assignments
    found = _load(recipe, trial, overrides, trial.assignments)
    if counted(found, trial, overrides):
        raise UsageError(
            f"{trial.label}: recipe {recipe} takes its steps from the training cases; say how many with --set steps.paper=N"
        )
    steps = int(getattr(found.steps, overrides.budget))
    return (*trial.assignments, f"steps.{overrides.budget}={round(trial.length * steps)}")


def counted(recipe: Recipe, trial: Trial, overrides: Overrides) -> bool:
    """Returns whether the training cases decide the number of steps, and neither the `recipe`, the `trial` nor the user does."""
    return bool(recipe.plan.epochs) and overrides.budget == "paper" and "steps.paper" not in by_hand(trial.assignments)


def check(asked: Iterable[Trial], overrides: Overrides) -> None:
    """Refuses a trial whose settings none of its possible recipes takes.

    Raises:
        UsageError: the refusal of the first recipe.
    """
    for trial in asked:
        reasons = []
        names = recipe_names(trial.dataset, overrides)
        for name in names:
            try:
                resolved(trial, name, overrides)
            except UsageError as error:
                reasons.append(error)
        if len(reasons) == len(names):
            raise reasons[0]


def resolved(trial: Trial, recipe: str, overrides: Overrides) -> Recipe:
    """Resolves the recipe of a trial.

    Args:
        trial: the row as it is to be run.
        recipe: name of a packaged recipe, or a path to a TOML file.
        overrides: the user's settings.

    Raises:
        UsageError: there is no such recipe, or a setting is not valid.
    """
    return _load(recipe, trial, overrides, assignments(trial, recipe, overrides))


def _load(recipe: str, trial: Trial, overrides: Overrides, over: Sequence[str]) -> Recipe:
    return load_recipe(recipe, size=overrides.size, backbone=trial.backbone.name, budget=overrides.budget, assignments=over)
