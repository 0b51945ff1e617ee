"""What is known of a component, measured where it can be."""

from __future__ import annotations

import inspect
import typing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from initbench import registry
from initbench.catalog import CATALOG, Kind
from initbench.errors import UsageError
from initbench.protocols import SIZES, BackboneInfo, Grid, Structure, check_variant, structure_of
from initbench.registry import Component
from initbench.spec import Spec

if TYPE_CHECKING:
    from torch import nn


def describe(kind: Kind, spec: Spec) -> dict[str, Any]:
    """Gathers facts of a component: from its declaration, its signature, and for a backbone from building it."""
    component = registry.find(kind, spec)
    entry = CATALOG[kind].get(spec.name)
    table: dict[str, Any] = {kind: str(spec), "origin": component.origin}
    if component.source_digest:
        table["source sha256"] = component.source_digest
    if kind == "initializer":
        table |= asdict(component.info)
        parameters = component.takes | dict(spec.params)
        for key, value in parameters.items():
            if value is registry.REQUIRED:
                parameters[key] = "(required)"
        table["parameters"] = parameters
        table["choices"] = _choices(component.target)
    elif kind == "regimen":
        info, params = component.info, component.params
        table |= {
            "summary": info.summary,
            "paper": info.paper,
            "revision": info.revision,
            "units of a step": info.units_of(params),
        }
        table |= {"parameters": params, "choices": _choices(component.target)}
    elif kind == "executor":
        table["parameters"] = component.params
    elif kind == "backbone":
        table |= _backbone(component)
    if entry is not None:
        table["summary"] = entry.summary
    table["about"] = "\n\n".join(filter(None, map(inspect.getdoc, (component.target, inspect.getmodule(component.target)))))
    return table


def _choices(target: Any) -> dict[str, str]:
    """Says what a parameter may be, where its annotation lists it."""
    try:
        hints = typing.get_type_hints(target)
    except (NameError, TypeError):  # a plug-in may annotate with names that exist for type checkers alone
        return {}
    found = {}
    for key, hint in hints.items():
        values = []
        for part in (hint, *typing.get_args(hint)):
            if typing.get_origin(part) is typing.Literal:
                values += [str(item) for item in typing.get_args(part)]
        if values:
            found[key] = " | ".join(values)
    return found


def _backbone(component: Component[BackboneInfo]) -> dict[str, Any]:
    from initbench.harness.build import construct  # here, so that describing a data set imports no torch

    if not isinstance(component.declared, BackboneInfo):
        return {}
    info = component.info
    try:
        variant = check_variant(component.spec.name, str(component.params["variant"] or info.variants[0]), info)
    except ValueError as error:
        raise UsageError(str(error)) from None
    table = asdict(info)
    del table["patches"]
    patch = info.patches[variant].at_least((48, 96, 96))
    table |= {
        "variant": variant,
        "patch": str(info.patches[variant]),
        "measured at": f"patch {patch}, batch 1, 1 channel, 2 classes",
    }
    for size in SIZES:
        model = construct(
            component, in_channels=1, num_classes=2, patch_size=patch, size=size, variant=variant, deep_supervision=False
        )
        structure = structure_of(model)
        count = 0
        for name, parameter in model.named_parameters():
            if name not in structure.unused:
                count += parameter.numel()
        table[f"{size} parameters"] = f"{count:,}"
        table[f"{size} GMACs"] = _gmacs(model, patch)
        levels = []
        for level in structure.levels:
            levels.append(f"{level.module}: {level.grid} × {level.channels}")
        table[f"{size} levels"] = levels
    return table | {"heads": list(structure.heads), "axes of published weights": _axes(structure)}


def _gmacs(model: nn.Module, patch: Grid) -> str:
    from initbench.tools.flops import multiply_adds

    try:
        return f"{multiply_adds(model, 1, patch) / 1e9:.4g}"
    except (NotImplementedError, RuntimeError) as error:  # a plug-in may do what tensors without data cannot
        return f"not counted: {str(error).splitlines()[0]}"


def _axes(structure: Structure) -> str:
    published = structure.published
    if published.axes == structure.axes:
        return published.axes
    taken = "no variant takes"
    if published.turned:
        taken = f"variant {published.turned} takes"
    return f"{published.axes}, where this network sees {structure.axes}; {taken} them"
