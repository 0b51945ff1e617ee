"""The settings of a recipe one by one, each with the place it comes from; and where two recipes differ. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel

from initbench import spec
from initbench.choices import Budget
from initbench.errors import UsageError
from initbench.recipes.load import Layer, layers, load_recipe
from initbench.recipes.settings import Recipe

_DOCUMENTATION = ("name", "version", "source")
_SIZES = ("paper", "tiny")


@dataclass(frozen=True)
class Selected:
    """A recipe and what decides which of its overrides hold; without a backbone none that names one."""

    name: str
    size: str = "paper"
    backbone: str = ""
    budget: Budget = "paper"
    assignments: tuple[str, ...] = ()

    def __str__(self) -> str:
        chosen = [f"size={self.size}", *([f"backbone={self.backbone}"] if self.backbone else []), f"budget={self.budget}"]
        return f"{self.name} ({', '.join([*chosen, *self.assignments])})"


@dataclass(frozen=True)
class Setting:
    """A value as plain data; `origin` is a file, with what an override in it asks for; ``--set``; or ``default``."""

    name: str
    value: Any
    origin: str


def select(text: str, otherwise: Selected) -> Selected:
    """``lung`` or ``lung(backbone=unetrpp, size=tiny)``; what is not said is as in `otherwise`, whose name does not matter.

    Raises:
        UsageError: an argument that no override asks for, or a value that there is not.
    """
    name, parenthesis, rest = text.strip().partition("(")
    params = dict(spec.parse(f"recipe({rest}").params) if parenthesis else {}
    strange = sorted(set(params) - {"size", "backbone", "budget"})
    if strange:
        raise UsageError(f"{text!r}: overrides ask for size, backbone and budget, not for {', '.join(strange)}")
    found = replace(otherwise, name=name.strip(), **params)
    for key, value, known in (("size", found.size, _SIZES), ("budget", found.budget, get_args(Budget))):
        if value not in known:
            raise UsageError(f"{text!r}: {key} is one of {', '.join(known)}, got {value!r}")
    return found


def resolve_recipe(selected: Selected) -> Recipe:
    """The recipe itself.

    Raises:
        UsageError: there is none, or a value in it is wrong.
    """
    return load_recipe(
        selected.name,
        size=selected.size,
        backbone=selected.backbone,
        budget=selected.budget,
        assignments=selected.assignments,
    )


def settings(selected: Selected) -> list[Setting]:
    """Every setting in the order of the sections.

    Raises:
        UsageError: as `resolve`.
    """
    recipe = resolve_recipe(selected)
    found = layers(selected.name, size=selected.size, backbone=selected.backbone, budget=selected.budget)
    places = [(_origin(layer), set(_paths(layer.values))) for layer in found]
    places += [(f"--set {text}", {text.partition("=")[0].strip()}) for text in selected.assignments]
    return [
        Setting(name, value, next((origin for origin, paths in reversed(places) if _touches(name, paths)), "default"))
        for name, value in _leaves(recipe)
        if name not in _DOCUMENTATION
    ]


def differences(first: Selected, second: Selected) -> list[tuple[Setting, Setting]]:
    """The settings whose values differ."""
    pairs = zip(settings(first), settings(second), strict=True)
    return [(a, b) for a, b in pairs if a.value != b.value]


def _origin(layer: Layer) -> str:
    file = layer.recipe if layer.recipe.endswith(".toml") else f"{layer.recipe}.toml"
    when = ", ".join(f"{key}={_words(value)}" for key, value in layer.when.items())
    return f"{file} [{when}]" if when else file


def _words(value: Any) -> str:
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    plain = model.model_dump(mode="json")
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain[name]


def _paths(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _touches(name: str, paths: set[str]) -> bool:
    """Whether one of the paths is of this setting, or of a section around it (``--set optimizer={...}``)."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in paths for length in range(1, len(parts) + 1))
