"""Random laws per layer: U or N with a scale from the layer's fans.

Source: LWI (Kunhimon et al.), section 3.1, eqs. 1-5. Eq. 1 is misprinted there (6·√(2/(fan_in+fan_out)) is 2√3 times too wide);
here it is Glorot's √(6/(fan_in+fan_out)). Fans count what a layer sums (a transposed convolution whose kernel equals its stride
sums its input channels), where torch takes the wrong axis of a transposed convolution.

`scope` says which layers are drawn: ``linear``, ``conv`` or ``linear+conv``. The code left over in the release
(ShahinaKK/LWI-VMS@7f21654:UNETR_PP/unetr_pp/network_architecture/synapse/UNETR_synapse.py) draws linear layers alone; the
equations speak of convolutions. `bias` is ``zero`` or ``keep``. Norms, positional tables, layer scales and temperatures stay.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from initbench.initializers._layers import Bias, Draw, Scope, check_number, draw_layers
from initbench.protocols import InitContext, Site, initializer

Mode = Literal["fan_in", "fan_out"]


def _fan(mode: Mode) -> Callable[[Site], int]:
    """Returns what reads the fan of a site, ``fan_in`` or ``fan_out``."""
    if mode == "fan_in":
        return operator.attrgetter("fan_in")
    return operator.attrgetter("fan_out")


def _uniform(bound: Callable[[Site], float]) -> Draw:
    """Draws from U(-bound, bound), where the bound follows from the site."""
    return lambda tensor, site, generator: tensor.uniform_(-bound(site), bound(site), generator=generator)


def _normal(std: Callable[[Site], float]) -> Draw:
    """Draws from N(0, std²), where the standard deviation follows from the site."""
    return lambda tensor, site, generator: tensor.normal_(0.0, std(site), generator=generator)


@initializer(paper="LWI eq. 5")
def uniform(model: nn.Module, ctx: InitContext, /, *, scope: Scope = "linear+conv", bias: Bias = "keep") -> None:
    """Bound 1/√fan_in. (The text calls 1/fan_in the variance; this law's variance is a third of it.)

    `scope` and `bias` are as the module says.
    """
    draw_layers(model, ctx, _uniform(lambda site: site.fan_in**-0.5), scope, bias)


@initializer(paper="LWI eq. 1 corrected; Glorot & Bengio 2010")
def xavier_uniform(
    model: nn.Module, ctx: InitContext, /, *, gain: float = 1.0, scope: Scope = "linear+conv", bias: Bias = "zero"
) -> None:
    """Bound gain·√(6/(fan_in+fan_out)).

    `gain` is above 0; `scope` and `bias` are as the module says.
    """
    scale = check_number("gain", gain)
    draw_layers(model, ctx, _uniform(lambda site: scale * math.sqrt(6 / (site.fan_in + site.fan_out))), scope, bias)


@initializer(paper="LWI eq. 2; Glorot & Bengio 2010")
def xavier_normal(
    model: nn.Module, ctx: InitContext, /, *, gain: float = 1.0, scope: Scope = "linear+conv", bias: Bias = "zero"
) -> None:
    """Standard deviation gain·√(2/(fan_in+fan_out)).

    `gain` is above 0; `scope` and `bias` are as the module says.
    """
    scale = check_number("gain", gain)
    draw_layers(model, ctx, _normal(lambda site: scale * math.sqrt(2 / (site.fan_in + site.fan_out))), scope, bias)


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
    """Bound gain·√(3/fan); gain √2 as for ReLU.

    `mode` says which fan it is, ``fan_in`` or ``fan_out``; `scope` and `bias` are as the module says.
    """
    scale, fan = check_number("gain", gain), _fan(mode)
    draw_layers(model, ctx, _uniform(lambda site: scale * math.sqrt(3 / fan(site))), scope, bias)


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
    """Standard deviation gain/√fan; gain √2 as for ReLU.

    `mode` says which fan it is, ``fan_in`` or ``fan_out``; `scope` and `bias` are as the module says.
    """
    scale, fan = check_number("gain", gain), _fan(mode)
    draw_layers(model, ctx, _normal(lambda site: scale / math.sqrt(fan(site))), scope, bias)


@initializer(paper="He et al. 2015, arXiv:1502.01852, eq. 15; Isensee et al. 2021, nnU-Net")
def he_leaky(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    slope: float = 0.01,
    mode: Mode = "fan_in",
    scope: Scope = "conv",
    bias: Bias = "zero",
) -> None:
    """Standard deviation √(2/((1+slope²)·fan)): Kaiming's law before a leaky ReLU, as nnU-Net draws its convolutions.

    MIC-DKFZ/nnUNet:nnunetv2/utilities/network_initialization.py:InitWeights_He(1e-2) calls `torch.nn.init.kaiming_normal_`, which
    counts the outputs of a transposed convolution as its inputs: with in = 2·out and kernel = stride = 2 a fourth of the variance
    that it gets here. Plain convolutions have nnU-Net's law exactly; linear layers stay unless `scope` names them.
    """
    gain, fan = math.sqrt(2 / (1 + check_number("slope", slope, above=-math.inf) ** 2)), _fan(mode)
    draw_layers(model, ctx, _normal(lambda site: gain / math.sqrt(fan(site))), scope, bias)


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
    scale, limit = check_number("std", std), check_number("bound", bound)

    def draw(tensor: Tensor, _: Site, generator: torch.Generator) -> None:
        """Fills a `tensor` from the law."""
        nn.init.trunc_normal_(tensor, 0.0, scale, -limit, limit, generator=generator)

    draw_layers(model, ctx, draw, scope, bias)
