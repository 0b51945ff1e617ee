"""Chooses the layers that data-independent schemes draw, and checks their parameters."""

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
"""Fills the weight of a site in place, from a generator that is the site's own."""

_ROLES: dict[Scope, tuple[Role, ...]] = {
    "linear": ("linear", "projection"),
    "conv": ("conv", "transposed-conv"),
    "linear+conv": ("linear", "projection", "conv", "transposed-conv"),
}


def drawn_roles(scope: Scope) -> tuple[Role, ...]:
    """Returns the roles of the weights that `scope` means."""
    return _ROLES[scope]


def check_number(name: str, value: float, *, above: float = 0.0) -> float:
    """Returns a number that a user gave, once it is finite and above a bound.

    Args:
        name: of the parameter, for the message.
        value: what the user gave.
        above: the bound. It is 0 for scales: a scale of zero makes every layer blind to its input.

    Raises:
        UsageError: the number is not finite, or not above the bound.
    """
    if not math.isfinite(value) or value <= above:
        bound = ""
        if math.isfinite(above):
            bound = f" above {above:g}"
        raise UsageError(f"{name} is a finite number{bound}, got {value!r}")
    return float(value)


def draw_layers(model: nn.Module, ctx: InitContext, draw: Draw, scope: Scope, bias: Bias) -> None:
    """Draws the weights in scope in place, each from its own generator.

    Args:
        model: the network.
        ctx: gives the sites and their generators.
        draw: fills one weight.
        scope: which layers are drawn.
        bias: ``zero`` sets the biases of drawn layers to zero, ``keep`` leaves them.
    """
    roles = drawn_roles(scope)
    for site in ctx.sites:
        parameter = model.get_parameter(site.name)
        if site.role in roles:
            draw(parameter.detach(), site, ctx.generator(site.name))
        elif site.role == "bias" and site.owner in roles and bias == "zero":
            parameter.detach().zero_()
