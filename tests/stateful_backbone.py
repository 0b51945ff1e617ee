"""A plug-in backbone whose forward pass keeps and changes whatever a network can: for tests that a look at it changes nothing."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from initbench.protocols import BackboneInfo, Grid, Level, PatchRule, Structure, backbone

INFO = BackboneInfo("none", "tests", "Apache-2.0", ("default",), {"default": PatchRule((4, 4, 4))}, summary="stateful")


class Stateful(nn.Module):
    """Every output depends on all passes before it: by a count, the statistics of a norm and the mask of the last window."""

    seen: torch.Tensor

    def __init__(self, channels: int, classes: int, patch: Grid) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm3d(8)
        self.frozen = nn.BatchNorm3d(8)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Conv3d(8, classes, 1)
        self.register_buffer("seen", torch.zeros(()))
        self.mask: torch.Tensor | None = None
        self.structure = Structure(patch, (Level("first", patch, 8),), ("out",))

    def train(self, mode: bool = True) -> Stateful:
        """As of any network, but one norm keeps its statistics while the others are trained."""
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        if self.mask is None or self.mask.shape[0] != x.shape[0]:
            self.mask = torch.full((x.shape[0], 1, 1, 1, 1), 1 + 0.1 * x.shape[0], device=x.device)
        hidden = self.drop(torch.relu(self.frozen(self.norm(self.first(x)))))
        return self.out(hidden * self.mask * (1 + 0.001 * self.seen))


class Drawing(Stateful):
    """Draws from the generators of the whole process, also while it predicts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        drawn = random.random() + np.random.rand() + torch.rand((), device=x.device)  # noqa: S311
        return super().forward(x * (1 + 0.01 * drawn))


@backbone(INFO)
def stateful(in_channels: int, num_classes: int, patch_size: Grid, size: str, variant: str, deep_supervision: bool) -> nn.Module:
    """A network that keeps things from pass to pass."""
    return Stateful(in_channels, num_classes, patch_size)


@backbone(INFO)
def drawing(in_channels: int, num_classes: int, patch_size: Grid, size: str, variant: str, deep_supervision: bool) -> nn.Module:
    """The same, with numbers of the process's generators."""
    return Drawing(in_channels, num_classes, patch_size)
