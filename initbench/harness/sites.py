"""The fan table: what each parameter is and how many values it sums, read off what the layer computes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from initbench.protocols import Role, Site

_Fans = tuple[Role, int, int]


def find_sites(model: nn.Module, projections: Sequence[str] = ()) -> tuple[Site, ...]:
    """Lists every parameter once, in the order of ``named_parameters``.

    Args:
        model: the network.
        projections: bare ``(inputs, outputs)`` matrices that are linear maps.
    """
    layers = dict(model.named_modules())
    sites = []
    for name, parameter in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        role, fan_in, fan_out = _layer(layers[owner])
        if name in projections:
            site = Site(name, "projection", parameter.shape[0], parameter.shape[1], "projection")
        elif leaf == "weight" and role != "other":
            site = Site(name, role, fan_in, fan_out, role)
        elif leaf == "bias" and role == "norm":
            site = Site(name, "norm", fan_in, fan_out, role)
        elif leaf == "bias" and role != "other":
            site = Site(name, "bias", fan_in, fan_out, role)
        else:
            site = Site(name, "other", 0, 0, "other")
        sites.append(site)
    return tuple(sites)


def _layer(module: nn.Module) -> _Fans:
    if isinstance(module, nn.Linear):
        return "linear", module.in_features, module.out_features
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return "transposed-conv", *_transposed(module)
    if isinstance(module, nn.modules.conv._ConvNd):
        kernel = math.prod(module.kernel_size)
        return "conv", module.in_channels // module.groups * kernel, module.out_channels // module.groups * kernel
    if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._NormBase):
        return "norm", 0, 0
    return "other", 0, 0


def _transposed(module: nn.modules.conv._ConvTransposeNd) -> tuple[int, int]:
    """Returns fan-in and fan-out of a transposed convolution.

    An output voxel sums kernel/stride taps per axis on average; an input feeds the whole kernel.

    torch takes fan_in from axis 1 of the weight (in, out/groups, ...), the outputs: with in = 2·out, kernel = stride = 2 its
    variance is four times too small.
    """
    taps = math.prod(max(1.0, k / s) for k, s in zip(module.kernel_size, module.stride, strict=True))
    fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
    return round(module.in_channels // module.groups * taps), fan_out
