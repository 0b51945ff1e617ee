"""``probe``: a network of a few thousand parameters, made of what initializers meet in networks and few networks hold at once.

Grouped and transposed convolutions, a weight under two names, a bare projection, batch and layer norms, a positional table,
a layer scale, a temperature, a frozen parameter, a buffer that is no statistic, dropout, and a head for deep supervision.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from initbench.protocols import BackboneInfo, Grid, Level, PatchRule, Size, Structure, backbone

WIDTH = 8
RANK = 4
INFO = BackboneInfo("none", "initbench", "Apache-2.0", patches={"default": PatchRule((4, 4, 4))})


class Attention(nn.Module):
    """Attention of channels whose tokens go through one bare projection; keys and values share their matrix."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(1))
        self.EF = nn.Parameter(torch.empty(tokens, RANK).uniform_(-(tokens**-0.5), tokens**-0.5))
        self.queries = nn.Linear(WIDTH, WIDTH)
        self.keys = nn.Linear(WIDTH, WIDTH)
        self.values = nn.Linear(WIDTH, WIDTH)
        self.values.weight = self.keys.weight
        self.exit = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens ``(N, L, C)`` to the same shape."""
        keys = self.keys(tokens).mT @ self.EF
        values = self.values(tokens).mT @ self.EF
        weights = torch.softmax(self.queries(tokens) @ keys * self.temperature, dim=-1)
        found: Tensor = self.exit(weights @ values.mT)
        return found


class Probe(nn.Module):
    """An encoder of two levels with attention in the deeper one, and its decoder."""

    order: Tensor

    def __init__(self, channels: int, classes: int, patch: Grid, *, deep: bool) -> None:
        super().__init__()
        d, h, w = patch
        half, quarter = (d // 2, h // 2, w // 2), (d // 4, h // 4, w // 4)
        unused: tuple[str, ...] = ("frozen",)
        if not deep:
            unused += ("aux.weight", "aux.bias")
        tokens = prod(quarter)
        self.deep = deep
        self.stem = nn.Conv3d(channels, WIDTH, 2, stride=2)
        self.norm = nn.BatchNorm3d(WIDTH)
        self.grouped = nn.Conv3d(WIDTH, WIDTH, 3, padding=1, groups=2)
        self.down = nn.Conv3d(WIDTH, WIDTH, 2, stride=2)
        self.position = nn.Parameter(torch.zeros(1, tokens, WIDTH))
        self.register_buffer("order", torch.arange(tokens))
        self.layer_norm = nn.LayerNorm(WIDTH)
        self.attention = Attention(tokens)
        self.scale = nn.Parameter(torch.full((WIDTH,), 0.1))
        self.drop = nn.Dropout(0.1)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.deepest = nn.Identity()
        self.up = nn.ConvTranspose3d(WIDTH, WIDTH, 2, stride=2)
        self.full = nn.ConvTranspose3d(WIDTH, RANK, 2, stride=2, groups=2)
        self.out = nn.Sequential(nn.GELU(), nn.Conv3d(RANK, classes, 1))
        self.aux = nn.Conv3d(WIDTH, classes, 1)
        self.structure = Structure(
            patch_size=patch,
            levels=(Level("grouped", half, WIDTH), Level("deepest", quarter, WIDTH)),
            heads=("out", "aux"),
            unused=unused,
            projections=("attention.EF",),
            residual_exits=("attention.exit.weight", "attention.exit.bias"),
        )

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Returns logits ``(N, K, D, H, W)``; with deep supervision a list of logits, finest first."""
        fine = self.grouped(gelu(self.norm(self.stem(image))))
        coarse = self.down(gelu(fine))
        tokens = coarse.flatten(2).mT + self.position[:, self.order]
        tokens = tokens + self.drop(self.scale * self.attention(self.layer_norm(tokens)))
        deepest = self.deepest(tokens.mT.reshape(coarse.shape)) * self.frozen
        joined = self.up(gelu(deepest)) + fine
        logits: Tensor = self.out(self.full(gelu(joined)))
        if not self.deep:
            return logits
        return [logits, self.aux(joined)]


@backbone(INFO)
def probe(
    in_channels: int,
    num_classes: int,
    patch_size: Grid,
    size: Size = "tiny",
    variant: str | None = None,
    deep_supervision: bool = False,
) -> nn.Module:
    """Returns the network, which is the same at every `size` and in its only variant.

    Args:
        in_channels: of the image.
        num_classes: classes with the background.
        patch_size: (D, H, W) in voxels, multiples of 4.
        size: ``paper`` or ``tiny``.
        variant: None or ``default``.
        deep_supervision: whether to give a list of logits.
    """
    return Probe(in_channels, num_classes, patch_size, deep=deep_supervision)
