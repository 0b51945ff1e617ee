"""From TOML files to the settings of a run: overrides by size, backbone and budget, then ``--set``.

Later layers win: first ``base.toml``, then its overrides whose `when` matches (in file order), then the data set's recipe, then
the matching overrides of that recipe, and last the user's assignments. A recipe that `extends` another one lies over that one
with its overrides. A recipe is data and no code: it holds values and no expressions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from initbench import registry, spec
from initbench.choices import Budget
from initbench.errors import UsageError, did_you_mean
from initbench.protocols.basics import SIZES
from initbench.recipes.files import read_recipe_file
from initbench.recipes.settings import Recipe

_SECTIONS_WITH_BATCH: Final = ("patch", "pretext", "inference")
SLICED: Final = ("patch.size", *(f"{section}.batch" for section in _SECTIONS_WITH_BATCH))
"""The settings that `as_slices` changes."""
_SELECTABLE: Final[Mapping[str, tuple[str, ...]]] = {"size": SIZES, "budget": get_args(Budget)}


def load_recipe(name: str, *, size: str, backbone: str, budget: Budget, assignments: Iterable[str] = ()) -> Recipe:
    """Resolves a recipe.

    Args:
        name: of a packaged recipe, or a path to a TOML file.
        size: ``tiny`` or ``paper``, matched by overrides.
        backbone: name, matched by overrides.
        budget: matched by overrides.
        assignments: ``section.field=value``, over everything else.

    Raises:
        UsageError: unknown recipe, key or value; says which and what is allowed.
    """
    values: dict[str, Any] = {}
    for layer in layers(name, size=size, backbone=backbone, budget=budget):
        _merge(values, layer.values)
    for assignment in assignments:
        _assign(values, assignment)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"recipe {name}: {_explain(error)}") from None


def as_slices(recipe: Recipe, assignments: Iterable[str] = ()) -> Recipe:
    """Turns a recipe of volumes into one for a network of slices: patches are one slice deep, and a batch holds more of them.

    A batch then holds as many voxels as a batch of the volumes does, in training, in a pretext and in the sliding window.

    Args:
        recipe: with patches of any depth.
        assignments: ``section.field=value`` that were given by hand; what they set stays.
    """
    depth, height, width = recipe.patch.size
    assigned = set()
    for assignment in assignments:
        setting, _, _ = assignment.partition("=")
        assigned.add(setting.strip())
    if depth == 1 or assigned & {"patch", "patch.size"}:
        return recipe
    changed: dict[str, BaseModel] = {"patch": recipe.patch.model_copy(update={"size": (1, height, width)})}
    for name in _SECTIONS_WITH_BATCH:
        section = changed.get(name, getattr(recipe, name))
        if not assigned & {name, f"{name}.batch"}:
            changed[name] = section.model_copy(update={"batch": section.batch * depth})
    return recipe.model_copy(update=changed)


@dataclass(frozen=True)
class Layer:
    """Settings of one place: a recipe, or an override in it whose `when` matches."""

    recipe: str
    when: Mapping[str, Any]
    values: Mapping[str, Any]


def layers(name: str, *, size: str, backbone: str, budget: str) -> Iterator[Layer]:
    """Gives the layers that `load_recipe` lays over one another, in their order; it applies the assignments after them.

    Args:
        name: of a packaged recipe, or a path to a TOML file.
        size: ``tiny`` or ``paper``, matched by overrides.
        backbone: name, matched by overrides.
        budget: matched by overrides.

    Raises:
        UsageError: unknown recipe, an override that is none, or recipes that extend one another in a circle.
    """
    selectors = {"size": size, "backbone": backbone, "budget": budget}
    for recipe, table in (("base", read_recipe_file("base")), *_lineage(name)):
        own = dict(table)
        own.pop("override", None)
        own.pop("extends", None)
        yield Layer(recipe, {}, own)
        for override in _overrides(recipe, table):
            set_here = dict(override)
            when = set_here.pop("when", {})
            if _matches(recipe, when, selectors):
                yield Layer(recipe, when, set_here)


def _lineage(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the tables of a recipe and of all that it extends, each after the one that it extends; the recipe is the last.

    Raises:
        UsageError: unknown recipe, or a recipe extends one that extends it.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    wanted: Any = name
    while wanted is not None:
        if not isinstance(wanted, str):
            raise UsageError(f"recipe {found[0][0]}: extends names a recipe, got {wanted!r:.200}")
        if wanted in dict(found):
            raise UsageError(f"recipe {wanted} extends {found[0][0]}, which extends {wanted}; take one of the two lines out")
        table = read_recipe_file(wanted)
        found.insert(0, (wanted, table))
        wanted = table.get("extends")
    return found


def _overrides(name: str, table: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = table.get("override", [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise UsageError(f"recipe {name}: override must be a list of tables, as in [[override]], got {found!r:.200}")
    return found


def _matches(name: str, when: Any, selectors: Mapping[str, str]) -> bool:
    if not isinstance(when, dict) or set(when) - set(selectors):
        raise UsageError(f"recipe {name}: an override's `when` may name {', '.join(selectors)}, got {when!r}")
    matches = True
    for key, value in when.items():  # to the end, so that a misspelt value of any key is refused
        wanted = {_without_place(item) for item in _wanted(name, key, value)}
        if _without_place(selectors[key]) not in wanted:
            matches = False
    return matches


def _wanted(name: str, key: str, value: Any) -> list[str]:
    """Returns the values that an override asks for. An unknown value is refused: a misspelt override would never apply.

    Raises:
        UsageError: a value is unknown, or is no name.
    """
    values: list[str] = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) for item in values):
        raise UsageError(f"recipe {name}: an override's `when` asks for {key} = {value!r:.200}; write a name, or a list of names")
    for item in values:
        if key == "backbone":
            _check_backbone(name, item)
        elif item not in _SELECTABLE[key]:
            raise UsageError(
                f"recipe {name}: an override asks for {key} = {item!r:.200}; there are {', '.join(_SELECTABLE[key])}"
            )
    return values


def _check_backbone(name: str, backbone: str) -> None:
    if spec.Spec(backbone).is_file:
        return
    try:
        registry.check_name("backbone", backbone)
    except UsageError as error:
        raise UsageError(f"recipe {name}: an override's `when`: {error}") from None


def _without_place(selector: str) -> str:
    """Returns the name of the file of a backbone in a file, because the same run may be asked for from another folder."""
    if spec.Spec(selector).is_file:
        return Path(selector).name
    return selector


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {assignment!r}: write --set section.field=value, as in --set optimizer.lr=0.001")
    *sections, name = key.strip().split(".")
    table = values
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {assignment!r}: {section} is a value, not a section")
    table[name] = spec.value(text.strip())


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            lines.append(f"there is no setting {where}; {did_you_mean(where, _names_of(Recipe))}")
            continue
        line = f"{where}: {item['msg']}"
        if item["type"] != "missing":
            line += f" (got {_short(item['input'])})"
        lines.append(line)
    return "; ".join(lines)


def _names_of(section: type[BaseModel], before: str = "") -> Iterator[str]:
    """Gives the dotted names of all settings."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names_of(field.annotation, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _short(value: Any) -> str:
    text = repr(value)
    if len(text) <= 200:
        return text
    return f"{text[:100]} and {len(text) - 100} more characters"
