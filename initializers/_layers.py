"""Which layers the data-independent schemes draw, and the checks of what they are told."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.errors import UsageError
from initbench.protocols import InitContext, Role, Site

Scope = Literal["linear", "conv", "linear+conv"]
Bias = Literal["zero", "keep"]
Draw = Callable[[Tensor, Site, torch.Generator], object]
"""Fills one weight from the generator of its own."""

_ROLES: dict[Scope, tuple[Role, ...]] = {
    "linear": ("linear", "projection"),
    "conv": ("conv", "transposed-conv"),
    "linear+conv": ("linear", "projection", "conv", "transposed-conv"),
}


def drawn_roles(scope: Scope) -> tuple[Role, ...]:
    """The layers that `scope` means."""
    return _ROLES[scope]


def check_number(name: str, value: float, *, above: float = 0.0) -> float:
    """The number itself.

    Raises:
        UsageError: it is not finite, or not above `above`: a scale of zero makes every layer blind to its input.
    """
    if not math.isfinite(value) or value <= above:
        bound = f" above {above:g}" if math.isfinite(above) else ""
        raise UsageError(f"{name} is a finite number{bound}, got {value!r}")
    return float(value)


def draw_layers(model: nn.Module, ctx: InitContext, draw: Draw, scope: Scope, bias: Bias) -> None:
    """Draws the weights in `scope` in place, each from its own generator; sets their biases to zero where `bias` says so."""
    roles = drawn_roles(scope)
    for site in ctx.sites:
        parameter = model.get_parameter(site.name)
        if site.role in roles:
            draw(parameter.detach(), site, ctx.generator(site.name))
        elif site.role == "bias" and site.owner in roles and bias == "zero":
            parameter.detach().zero_()
