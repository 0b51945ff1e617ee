"""Initializers that work on another one, as ``shuffled(lwi)`` does: called, described and identified with what is inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from initbench import registry
from initbench.harness.context import Context
from initbench.protocols import InitializerInfo
from initbench.registry import Component


def info(component: Component) -> InitializerInfo:
    """What the harness has to know of an initializer: learned and external where one inside it is."""
    own: InitializerInfo = getattr(component.target, "info", InitializerInfo())
    inner = [info(item) for item in registry.nested(component).values()]
    return replace(
        own,
        learned=own.learned or any(item.learned for item in inner),
        external=own.external or any(item.external for item in inner),
        files=own.files + tuple(name for item in inner for name in item.files),
    )


def apply(component: Component, model: nn.Module, ctx: Context) -> None:
    """Initializes `model`. An initializer inside gets the numbers that it has on its own."""
    params = registry.resolve_params(component, skip=2)
    inner = {key: _bound(item, ctx) for key, item in registry.nested(component).items()}
    component.target(model, ctx, **(params | inner))


def _bound(component: Component, ctx: Context) -> Callable[[nn.Module], None]:
    own = replace(ctx, identity=str(registry.canonical(component, skip=2)))
    return lambda model: apply(component, model, own)


def identity(component: Component) -> dict[str, Any]:
    """Name, parameters and source, of which the cell's id is a digest; JSON values."""
    files = registry.file_digests(component)
    inner = registry.nested(component)
    params = registry.resolve_params(component, skip=2) | {key: value for key, value in files.items() if "." not in key}
    return {
        "init": registry.display_name(component),
        "init_params": {
            key: identity(inner[key]) if key in inner else list(value) if isinstance(value, tuple) else value
            for key, value in params.items()
        },
        "init_source": component.source_digest or f"revision {getattr(component.target, 'info', InitializerInfo()).revision}",
    }
