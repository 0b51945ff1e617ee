"""Builds backbones at tiny size for the tests of backbones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from initbench.backbones.dx_net import dx_net
from initbench.backbones.nnformer import nnformer
from initbench.backbones.omnia_net import omnia_net
from initbench.backbones.swin_unetr import swin_unetr
from initbench.backbones.unet import unet
from initbench.backbones.unet_2d import unet_2d
from initbench.backbones.unetr import unetr
from initbench.backbones.unetrpp import unetrpp
from initbench.protocols import Backbone, Grid

BACKBONES: dict[str, Backbone] = {
    "unetrpp": unetrpp,
    "unetr": unetr,
    "swin_unetr": swin_unetr,
    "unet": unet,
    "nnformer": nnformer,
    "unet_2d": unet_2d,
    "omnia_net": omnia_net,
    "dx_net": dx_net,
}
CHANNELS, CLASSES = 2, 5


def build(name: str, variant: str, patch: Grid, *, deep_supervision: bool = False, seed: int = 0) -> nn.Module:
    """A backbone of `CHANNELS` channels and `CLASSES` classes at tiny size, drawn from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BACKBONES[name](
            in_channels=CHANNELS,
            num_classes=CLASSES,
            patch_size=patch,
            size="tiny",
            variant=variant,
            deep_supervision=deep_supervision,
        )


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Normal numbers of a shape, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spread(tensor: Tensor, sd: float) -> bool:
    """Whether the standard deviation of a tensor is `sd`, to five of its own standard errors."""
    return abs(float(tensor.detach().std()) / sd - 1) < 5 / math.sqrt(2 * tensor.numel())
