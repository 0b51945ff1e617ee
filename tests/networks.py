"""The built-in networks at tiny size, with a small patch each that has no two equal axes where that stays small."""

from __future__ import annotations

from typing import Any

from torch import nn

import initbench
from initbench.protocols import Grid

PATCHES: dict[str, Grid] = {
    "unetr": (32, 48, 16),
    "unetrpp": (32, 64, 32),
    "swin-unetr": (32, 64, 32),
    "nnformer": (32, 64, 96),
    "unet": (16, 24, 32),
    "unet-2d": (1, 24, 32),
    "omnia-net": (1, 64, 32),
    "transunet": (1, 64, 32),
    "swin-unet": (1, 64, 32),
    "missformer": (1, 64, 32),
    "dx-net": (32, 64, 32),
    "ds-net": (128, 32, 32),
    "unetrpp(variant=lung)": (16, 64, 32),
    "nnformer(variant=acdc)": (10, 64, 32),
}
"""By backbone; a variant is listed where it needs another patch than the first one."""


def patch_of(backbone: str) -> Grid:
    """The small patch of a backbone or of one of its variants; of a backbone that is not listed, one that most networks take."""
    return PATCHES.get(backbone) or PATCHES.get(backbone.partition("(")[0], (32, 32, 32))


def tiny(backbone: str, **options: Any) -> nn.Module:
    """Builds a network at tiny size; the name may say a variant, as `unetrpp(variant=lung)`."""
    name, _, variant = backbone.rstrip(")").partition("(variant=")
    settings = {"patch_size": patch_of(backbone), "size": "tiny", "variant": variant or None, **options}
    return initbench.build(name, **{"in_channels": 1, "num_classes": 3, **settings})
