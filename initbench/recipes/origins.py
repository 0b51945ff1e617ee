"""Names the place that each setting of a recipe comes from, and the settings in which two recipes differ. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel

from initbench import registry, spec
from initbench.catalog import CATALOG
from initbench.choices import Budget
from initbench.errors import UsageError
from initbench.protocols.basics import SIZES
from initbench.recipes.load import SLICED, Layer, as_slices, layers, load_recipe
from initbench.recipes.settings import Recipe

_DOCUMENTATION = ("name", "version", "source")


@dataclass(frozen=True)
class Selected:
    """A recipe and what decides which of its overrides hold; without a backbone none that names one."""

    name: str
    size: str = "paper"
    backbone: str = ""
    budget: Budget = "paper"
    assignments: tuple[str, ...] = ()

    def __str__(self) -> str:
        chosen = [f"size={self.size}"]
        if self.backbone:
            chosen.append(f"backbone={self.backbone}")
        chosen.append(f"budget={self.budget}")
        return f"{self.name} ({', '.join([*chosen, *self.assignments])})"


@dataclass(frozen=True)
class Setting:
    """A value as plain data; `origin` is a file, with what an override in it asks for; ``--set``; or ``default``."""

    name: str
    value: Any
    origin: str


def select(text: str, otherwise: Selected) -> Selected:
    """Reads ``lung`` or ``lung(backbone=unetrpp, size=tiny)``, and refuses what no override can ask for.

    Args:
        text: the recipe as people write it.
        otherwise: gives what the text does not say; its name does not matter.

    Returns:
        The selection. Its backbone is without a variant, as no override asks for one.

    Raises:
        UsageError: an argument that no override asks for, or an unknown size, budget or backbone.
    """
    name, parenthesis, rest = text.strip().partition("(")
    params: dict[str, Any] = {}
    if parenthesis:
        params.update(spec.parse(f"recipe({rest}").params)
    strange = sorted(set(params) - {"size", "backbone", "budget"})
    if strange:
        raise UsageError(f"{text!r}: overrides ask for size, backbone and budget, not for {', '.join(strange)}; leave that out")
    found = replace(otherwise, name=name.strip(), **params)
    for key, value, known in (("size", found.size, SIZES), ("budget", found.budget, get_args(Budget))):
        if value not in known:
            raise UsageError(f"{text!r}: {key} is one of {', '.join(known)}, got {value!r}")
    return replace(found, backbone=_backbone(found.backbone))


def _backbone(written: Any) -> str:
    """Returns the name of a backbone without its variant; "" for none.

    Raises:
        UsageError: there is no such backbone.
    """
    name = str(written or "").strip()  # (backbone=3) is read as a number, and (backbone=None) as none
    if "(" in name:
        name = spec.parse(name).name
    if name and not spec.Spec(name).is_file:
        registry.check_name("backbone", name)
    return name


def resolve_recipe(selected: Selected) -> Recipe:
    """Resolves the selected recipe; for a network of slices, its patches are one slice deep.

    Raises:
        UsageError: there is none, or a value in it is wrong.
    """
    recipe = _load(selected)
    if _is_of_slices(selected.backbone):
        return as_slices(recipe, selected.assignments)
    return recipe


def _load(selected: Selected) -> Recipe:
    return load_recipe(
        selected.name,
        size=selected.size,
        backbone=selected.backbone,
        budget=selected.budget,
        assignments=selected.assignments,
    )


def _is_of_slices(backbone: str) -> bool:
    """Returns whether a built-in network sees slices; False for a plug-in, whose code would have to run to tell."""
    entry = CATALOG["backbone"].get(backbone)
    return entry is not None and entry.dimension == 2


def settings(selected: Selected) -> list[Setting]:
    """Returns every setting in the order of the sections, with the place it comes from.

    Raises:
        UsageError: as `resolve_recipe`.
    """
    recipe = resolve_recipe(selected)
    found = layers(selected.name, size=selected.size, backbone=selected.backbone, budget=selected.budget)
    places = [(_origin(layer), set(_paths(layer.values))) for layer in found]
    if recipe != _load(selected):
        places.append(("as slices of the recipe's patches", set(SLICED)))
    for text in selected.assignments:
        assigned, _, _ = text.partition("=")
        places.append((f"--set {text}", {assigned.strip()}))
    rows = []
    for name, value in _leaves(recipe):
        if name in _DOCUMENTATION:
            continue
        origin = "default"
        for place, paths in places:  # the last place that sets it wins
            if _touches(name, paths):
                origin = place
        rows.append(Setting(name, value, origin))
    return rows


def differences(first: Selected, second: Selected) -> list[tuple[Setting, Setting]]:
    """Returns the settings whose values differ, as they are in the first recipe and in the second."""
    pairs = zip(settings(first), settings(second), strict=True)
    return [(a, b) for a, b in pairs if a.value != b.value]


def _origin(layer: Layer) -> str:
    file = layer.recipe
    if not file.endswith(".toml"):
        file += ".toml"
    asked = []
    for key, value in layer.when.items():
        names = value
        if isinstance(value, list):
            names = "|".join(map(str, value))
        asked.append(f"{key}={names}")
    if asked:
        return f"{file} [{', '.join(asked)}]"
    return file


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
    """Returns whether one of the paths names this setting, or a section around it (``--set optimizer={...}``)."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in paths for length in range(1, len(parts) + 1))
