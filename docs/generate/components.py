"""The reference of all kinds of components, made from the registry and what each component says of itself."""

from __future__ import annotations

from typing import Any

from docs.generate.text import code, docstring, plain, table
from initbench import registry
from initbench.catalog import CATALOG, Kind
from initbench.datasets.known import REGISTERED
from initbench.datasets.splits import published_splits
from initbench.spec import Spec

TITLES: dict[Kind, str] = {
    "initializer": "Initializers",
    "backbone": "Backbones",
    "dataset": "Data sets",
    "regimen": "Regimens",
    "executor": "Executors",
}

INTRODUCTION = """# Components

This page is made from the registry: what is built in, and what each component says of itself. `initbench list` also shows what
plug-ins add, and `initbench describe NAME` shows one component with the counts that it measures."""


def page() -> str:
    """Returns the page of all built-in components."""
    parts = [INTRODUCTION]
    for kind, title in TITLES.items():
        rows, sections = [], []
        for name, entry in CATALOG[kind].items():
            rows.append((f"[`{name}`](#{kind}-{name})", plain(entry.summary)))
            sections.append(_component(kind, name))
        parts += [f"## {title}", table(("name", "what it is"), rows), *sections]
    return "\n\n".join(parts) + "\n"


def _component(kind: Kind, name: str) -> str:
    component = registry.find(kind, Spec(name))
    parts = [f"### `{name}` {{ #{kind}-{name} }}", plain(CATALOG[kind][name].summary)]
    if kind == "initializer":
        parts += _initializer(component)
    elif kind == "backbone":
        parts += _backbone(component)
    elif kind == "regimen":
        parts += _regimen(component)
    elif kind == "executor":
        parts += _with_parameters(component, [])
    else:
        parts += _dataset(name)
    return "\n\n".join(filter(None, parts))


def _initializer(component: registry.Component[Any]) -> list[str]:
    info = component.info
    facts = []
    if info.paper:
        facts.append(f"Source: {info.paper}.")
    if info.learned:
        facts.append("It trains on unlabelled patches of the training cases, so it costs steps.")
    if info.external:
        facts.append("It brings in data from outside the study, in one draw that all seeds share.")
    return _with_parameters(component, facts)


def _regimen(component: registry.Component[Any]) -> list[str]:
    info = component.info
    facts = [f"Source: {info.paper}."] if info.paper else []
    facts.append(f"A step costs {info.units_of(component.params)} passes: a forward is 1, a backward 2.")
    return _with_parameters(component, facts)


def _with_parameters(component: registry.Component[Any], facts: list[str]) -> list[str]:
    """What a component says of itself, some facts, and its parameters."""
    rows = []
    for name, default in component.takes.items():
        shown = code(repr(default))
        if default is registry.REQUIRED:
            shown = "has to be given"
        rows.append((code(name), shown))
    if not rows:
        facts.append("It takes no parameters.")
        return [docstring(component.target), " ".join(facts)]
    return [docstring(component.target), " ".join(facts), table(("parameter", "default"), rows)]


def _backbone(component: registry.Component[Any]) -> list[str]:
    info = component.info
    facts = table(("fact", "value"), [("paper", info.paper), ("equals", code(info.source)), ("licence", info.licence)])
    rows = [(code(variant), info.patches.get(variant, "any")) for variant in info.variants]
    return [docstring(component.target), facts, table(("variant", "patches that it takes"), rows)]


def _dataset(name: str) -> list[str]:
    known: Any = REGISTERED.get(name)
    rows = []
    if known is not None:
        rows = [("folders", ", ".join(map(code, known.folders))), ("how to get it", known.how), ("licence", known.licence)]
    splits = [code(split.name) for split in published_splits(name)]
    rows.append(("published splits", ", ".join(splits) or "none: `auto` reports a fifth of the cases"))
    return [table(("fact", "value"), rows)]
