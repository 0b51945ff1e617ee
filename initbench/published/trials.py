"""What a published row asks of this registry: an init, a network, data, and settings over the recipe."""

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
    """What is asked instead of the published setting.

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
        """Whether the data are the published ones."""
        return self.dataset is None or self.elsewhere

    def words(self) -> tuple[str, ...]:
        """What differs from the published setting."""
        found = [] if self.own_data else [f"data set {self.dataset}"]
        found += [f"network {self.backbone}"] if self.backbone else []
        found += [f"{self.size} size"] if self.size != "paper" else []
        found += [f"{self.budget} budget"] if self.budget != "paper" else []
        found += [f"recipe {self.recipe}"] if self.recipe else []
        found += [text for text in self.assignments if not text.startswith("init.")]
        return (*found, *([f"split {self.split}"] if self.split not in (None, "published") else []))


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
        """What rows share that differ in the init, in who pays for it, and in the regimen alone."""
        return self.backbone, self.dataset, self.assignments, self.length, self.train_cases, self.split


@dataclass(frozen=True)
class Mapped:
    """The rows of a table that can run, and why the others cannot, by label."""

    trials: tuple[Trial, ...]
    reasons: Mapping[str, str]


def trials(table: Table, overrides: Overrides) -> Mapped:
    """What the rows of a table ask for.

    Raises:
        UsageError: an assignment to inits that no row needs: a row states its init.
    """
    needed = {key for row in table.row for key in _keys_of_need(row, overrides)}
    given = dict(_pair(text) for text in overrides.assignments if text.startswith("init."))
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
    """The overrides without those that say what the rows of the table say themselves."""
    rows = [row for row in table.row if row.init]
    published = {row.dataset for row in rows}
    if overrides.dataset and published <= {overrides.dataset}:
        overrides = replace(overrides, dataset=None)
    if overrides.dataset and published <= dataset_names(overrides.dataset):
        overrides = replace(overrides, elsewhere=True)
    if overrides.backbone and all(row.backbone == overrides.backbone for row in rows):
        overrides = replace(overrides, backbone=None)
    if overrides.own_data and published <= {overrides.recipe}:
        overrides = replace(overrides, recipe=None)
    if overrides.own_data and all(usual_split(name) == overrides.split for name in published):
        overrides = replace(overrides, split=None)
    return overrides


def dataset_names(text: str) -> set[str]:
    """What a data set that is asked for by this text may be called in records: folders of tasks have short names."""
    folder = Path(text).name or Path(text).absolute().name
    known = prescribed(folder)
    return {text, folder, SHORT_NAMES.get(folder, folder), *([known.dataset] if known else [])}


def usual_split(dataset: str) -> str:
    """The name of the first published split of a data set's name, else of the automatic one."""
    return next((str(table["name"]) for table in split_tables.published(dataset)), "auto")


def by_hand(assignments: Iterable[str]) -> set[str]:
    """The settings that assignments are about."""
    return {_pair(text)[0] for text in assignments}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: an assignment is section.field=value")
    return key.strip(), value.strip()


def _keys_of_need(row: Row, overrides: Overrides) -> list[str]:
    """The assignments that give a row what it needs, the one for its network alone first; none where it needs nothing."""
    if not row.needs:
        return []
    return [f"{row.needs}.{parse(overrides.backbone or row.backbone).name}", row.needs]


def _reason(row: Row, backbone: Spec, overrides: Overrides, given: Mapping[str, str]) -> str:
    """Why a row cannot run, "" where it can."""
    if row.only and backbone.name not in row.only:
        return f"means something on {' and '.join(row.only)} alone"
    keys = _keys_of_need(row, overrides)
    if not keys or given.keys() & keys:
        return ""
    own, common = keys
    return f"needs the weights that it starts from: --set {own if row.starts_from else common}=FILE"


def _trial(row: Row, backbone: Spec, overrides: Overrides, given: Mapping[str, str]) -> Trial:
    init = parse(row.init)
    for key in _keys_of_need(row, overrides):
        if key in given:
            init = init.with_param(row.needs.partition(".")[2], value(given[key]))
            break
    own = tuple(text for text in overrides.assignments if not text.startswith("init."))
    split, train_cases = _training_cases(row, overrides)
    return Trial(
        label=row.label,
        init=init,
        backbone=backbone,
        dataset=overrides.dataset or row.dataset,
        protocol=row.protocol,
        assignments=(*row.set, *own),
        length=row.length,
        train_cases=train_cases,
        regimen=parse(row.regimen),
        split=split,
    )


def _training_cases(row: Row, overrides: Overrides) -> tuple[str, int | None]:
    """The split and the number of training cases of a row.

    A list of cases of a paper means something on the paper's data alone. On others, and under another split, the row takes as
    many cases as the list has.
    """
    if not row.split:
        return "", row.train_cases
    if overrides.own_data and overrides.split in (None, "published"):
        return row.split, row.train_cases
    listed = {table["name"]: len(table["train"]) for table in split_tables.published(row.dataset)}
    return "", listed[row.split]


def recipe_names(dataset: str, overrides: Overrides) -> tuple[str, ...]:
    """The recipes that a data set of this name may have: its own, or a generic one by its modality."""
    if overrides.recipe:
        return (overrides.recipe,)
    return tuple(dict.fromkeys(recipe_files.default_name(dataset, modality) for modality in ("CT", "MR")))


def assignments(trial: Trial, recipe: str, overrides: Overrides) -> tuple[str, ...]:
    """What is set over a recipe for a trial, with its number of steps.

    Raises:
        UsageError: a row is trained so many times longer than others, and how long these are is left to the training cases.
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
    """Whether the recipe leaves the number of steps to the training cases."""
    return bool(recipe.plan.epochs) and overrides.budget == "paper" and "steps.paper" not in by_hand(trial.assignments)


def check(asked: Iterable[Trial], overrides: Overrides) -> None:
    """Refuses settings that no recipe takes which a trial may have.

    Raises:
        UsageError: what the first recipe says.
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
    """The recipe of a trial.

    Raises:
        UsageError: there is no such recipe, or a setting is not valid.
    """
    return _load(recipe, trial, overrides, assignments(trial, recipe, overrides))


def _load(recipe: str, trial: Trial, overrides: Overrides, over: Sequence[str]) -> Recipe:
    return load_recipe(recipe, size=overrides.size, backbone=trial.backbone.name, budget=overrides.budget, assignments=over)
