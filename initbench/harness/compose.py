"""Initializers that work on another one, as ``shuffled(lwi)`` does: called, described and identified with what is inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from initbench import registry
from initbench.harness.context import Context
from initbench.harness.process_state import contained
from initbench.protocols import InitializerInfo
from initbench.registry import Component

Initializer = Component[InitializerInfo]


def info(component: Initializer) -> InitializerInfo:
    """Returns what the harness has to know of an initializer: it is learned or external where one inside it is."""
    found = component.info
    for inner in component.inner.values():
        own = info(inner)
        found = replace(
            found, learned=found.learned or own.learned, external=found.external or own.external, files=found.files + own.files
        )
    return found


def apply(component: Initializer, model: nn.Module, ctx: Context) -> None:
    """Initializes `model`. An initializer inside gets the numbers that it has on its own.

    Raises:
        MisbehavedError: an initializer that is not built in wants to end the process, or changed its settings.
    """
    if registry.is_built_in(component.kind, component.spec):
        call(component, model, ctx)
    else:
        with contained(f"initializer {registry.canonical(component, shown=True)}", ctx.note):
            call(component, model, ctx)


def call(component: Initializer, model: nn.Module, ctx: Context) -> None:
    """Initializes `model`, whatever that does to the process."""
    inner = {key: _bound(item, ctx) for key, item in component.inner.items()}
    component.target(model, ctx, **(component.params | inner))


def _bound(component: Initializer, ctx: Context) -> Callable[[nn.Module], None]:
    own = replace(ctx, identity=str(registry.canonical(component)))
    return lambda model: call(component, model, own)


def identity(component: Initializer) -> dict[str, Any]:
    """Returns name, parameters and source, of which the cell's id is a digest; JSON values.

    Parameters that came later are left out at their defaults, permissions always.
    """
    files = registry.file_digests(component)
    params: dict[str, Any] = {}
    for key, value in component.params.items():
        if key in component.info.permissions:
            continue
        if key in component.info.later and value == component.takes[key]:
            continue
        if key in component.inner:
            params[key] = identity(component.inner[key])
        elif key in files:  # what a file holds counts, not where it lies
            params[key] = files[key]
        elif isinstance(value, tuple):
            params[key] = list(value)
        else:
            params[key] = value
    return {
        "init": registry.display_name(component),
        "init_params": params,
        "init_source": component.source_digest or f"revision {component.info.revision}",
    }
