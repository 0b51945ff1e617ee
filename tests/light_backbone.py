"""A backbone of a few thousand parameters that imports no MONAI: what a plug-in author writes."""

from __future__ import annotations

import torch
from torch import nn

from initbench.protocols import BackboneInfo, Grid, Level, PatchRule, Structure, Tokens, backbone


class Light(nn.Module):
    """Two strided convolutions down, two transposed ones up, and a connection that skips them."""

    def __init__(self, channels: int, classes: int, patch: Grid) -> None:
        super().__init__()
        self.stem = nn.Conv3d(channels, 8, 2, stride=2)
        self.deep = nn.Conv3d(8, 16, 2, stride=2)
        self.up = nn.ConvTranspose3d(16, 8, 2, stride=2)
        self.full = nn.ConvTranspose3d(8, 8, 2, stride=2)
        self.skip = nn.Conv3d(channels, 8, 3, padding=1)
        self.norm = nn.InstanceNorm3d(8, affine=True)
        self.out = nn.Conv3d(8, classes, 1)
        half: Grid = (patch[0] // 2, patch[1] // 2, patch[2] // 2)
        quarter: Grid = (patch[0] // 4, patch[1] // 4, patch[2] // 4)
        levels = (Level("stem", half, 8), Level("deep", quarter, 16))
        self.structure = Structure(patch, levels, ("out",), tokens=Tokens("stem", half, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = torch.relu(self.stem(x))
        deep = torch.relu(self.deep(fine))
        joined = torch.relu(self.up(deep) + fine)
        return self.out(torch.relu(self.norm(self.full(joined) + self.skip(x))))


INFO = BackboneInfo("none", "tests", "Apache-2.0", ("default",), {"default": PatchRule((4, 4, 4))}, summary="light")


@backbone(INFO)
def light(in_channels: int, num_classes: int, patch_size: Grid, size: str, variant: str, deep_supervision: bool) -> nn.Module:
    """The network as a backbone; variants, sizes and deep supervision change nothing."""
    return Light(in_channels, num_classes, patch_size)


def one(model: nn.Module, ctx: object) -> None:
    """Sets every weight to 0.1: an initializer of three lines."""
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)


def broken(model: nn.Module, ctx: object) -> None:
    """Raises: an initializer that fails."""
    raise RuntimeError("planted")
