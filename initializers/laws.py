"""Random laws per layer: U or N with a scale from the layer's fans.

Source: LWI (Madan et al.), section 3.1, eqs. 1-5. Eq. 1 is misprinted there (6·√(2/(fan_in+fan_out)) is 2√3 times too wide);
here it is Glorot's √(6/(fan_in+fan_out)). Fans count what a layer sums (a transposed convolution whose kernel equals its stride
sums its input channels), where torch takes the wrong axis of a transposed convolution.

`scope` says which layers are drawn: ``linear``, ``conv`` or ``linear+conv``. The code left over in the release
(ShahinaKK/LWI-VMS@7f21654:UNETR_PP/unetr_pp/network_architecture/synapse/UNETR_synapse.py) draws linear layers alone; the
equations speak of convolutions. `bias` is ``zero`` or ``keep``. Norms, positional tables, layer scales and temperatures stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.errors import UsageError
from initbench.protocols import InitContext, Role, Site, initializer

Scope = Literal["linear", "conv", "linear+conv"]
Bias = Literal["zero", "keep"]
Mode = Literal["fan_in", "fan_out"]
Draw = Callable[[Tensor, Site, torch.Generator], object]

_ROLES: dict[str, tuple[Role, ...]] = {
    "linear": ("linear", "projection"),
    "conv": ("conv", "transposed-conv"),
    "linear+conv": ("linear", "projection", "conv", "transposed-conv"),
}


def _apply(model: nn.Module, ctx: InitContext, draw: Draw, scope: str, bias: str) -> None:
    if scope not in _ROLES:
        raise UsageError(f"scope is one of {', '.join(_ROLES)}, got {scope!r}")
    if bias not in ("zero", "keep"):
        raise UsageError(f"bias is zero or keep, got {bias!r}")
    roles = _ROLES[scope]
    for site in ctx.sites:
        parameter = model.get_parameter(site.name)
        if site.role in roles:
            draw(parameter.detach(), site, ctx.generator(site.name))
        elif site.role == "bias" and site.owner in roles and bias == "zero":
            parameter.detach().zero_()


def _fan(site: Site, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise UsageError(f"mode is fan_in or fan_out, got {mode!r}")
    return site.fan_in if mode == "fan_in" else site.fan_out


def _uniform(bound: Callable[[Site], float]) -> Draw:
    return lambda tensor, site, generator: tensor.uniform_(-bound(site), bound(site), generator=generator)


def _normal(std: Callable[[Site], float]) -> Draw:
    return lambda tensor, site, generator: tensor.normal_(0.0, std(site), generator=generator)


@initializer(paper="LWI eq. 5")
def uniform(model: nn.Module, ctx: InitContext, /, *, scope: Scope = "linear+conv", bias: Bias = "keep") -> None:
    """Bound 1/√fan_in. (The text calls 1/fan_in the variance; it is three times that of this law.)"""
    _apply(model, ctx, _uniform(lambda site: site.fan_in**-0.5), scope, bias)


@initializer(paper="LWI eq. 1 corrected; Glorot & Bengio 2010")
def xavier_uniform(
    model: nn.Module, ctx: InitContext, /, *, gain: float = 1.0, scope: Scope = "linear+conv", bias: Bias = "zero"
) -> None:
    """Bound gain·√(6/(fan_in+fan_out))."""
    _apply(model, ctx, _uniform(lambda site: gain * math.sqrt(6 / (site.fan_in + site.fan_out))), scope, bias)


@initializer(paper="LWI eq. 2; Glorot & Bengio 2010")
def xavier_normal(
    model: nn.Module, ctx: InitContext, /, *, gain: float = 1.0, scope: Scope = "linear+conv", bias: Bias = "zero"
) -> None:
    """Standard deviation gain·√(2/(fan_in+fan_out))."""
    _apply(model, ctx, _normal(lambda site: gain * math.sqrt(2 / (site.fan_in + site.fan_out))), scope, bias)


@initializer(paper="LWI eq. 3; He et al. 2015")
def kaiming_uniform(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    gain: float = math.sqrt(2),
    mode: Mode = "fan_in",
    scope: Scope = "linear+conv",
    bias: Bias = "zero",
) -> None:
    """Bound gain·√(3/fan); gain √2 as for ReLU."""
    _apply(model, ctx, _uniform(lambda site: gain * math.sqrt(3 / _fan(site, mode))), scope, bias)


@initializer(paper="LWI eq. 4; He et al. 2015")
def kaiming_normal(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    gain: float = math.sqrt(2),
    mode: Mode = "fan_in",
    scope: Scope = "linear+conv",
    bias: Bias = "zero",
) -> None:
    """Standard deviation gain/√fan; gain √2 as for ReLU."""
    _apply(model, ctx, _normal(lambda site: gain / math.sqrt(_fan(site, mode))), scope, bias)


@initializer(paper="LWI figure 1; timm and torch trunc_normal_(std=.02)")
def trunc_normal(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    std: float = 0.02,
    bound: float = 2.0,
    scope: Scope = "linear+conv",
    bias: Bias = "zero",
) -> None:
    """Normal law cut off at ±`bound`, an absolute value as in torch and timm: at std 0.02 it cuts nothing (±100 SD)."""

    def draw(tensor: Tensor, site: Site, generator: torch.Generator) -> None:
        nn.init.trunc_normal_(tensor, 0.0, std, -bound, bound, generator=generator)

    _apply(model, ctx, draw, scope, bias)
