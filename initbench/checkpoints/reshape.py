"""Weights of another form that mean the same: positions of another patch, a patch embedding as linear layer or convolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from initbench.protocols import Grid


def reshape(value: Tensor, shape: torch.Size, grid: Grid | None) -> Tensor | None:
    """A weight of a file in the shape of the network's parameter.

    Args:
        value: as stored.
        shape: of the network's parameter.
        grid: of a table of positions, None for everything else.

    Returns:
        None where it has no such form.
    """
    if value.shape == shape:
        return value
    found = patch_embedding(value, shape) if grid is None else resample(value, grid)
    return found if found is not None and found.shape == shape else None


def resample(table: Tensor, grid: Grid) -> Tensor | None:
    """Positions ``(1, N, C)`` of a cubic patch resampled to `grid`, trilinear, as is done for ViTs.

    Returns:
        None where N is no cube, so that the arrangement of the positions is not known.
    """
    edge = round(table.shape[1] ** (1 / 3)) if table.ndim == 3 else 0
    if edge == 0 or edge**3 != table.shape[1]:
        return None
    volume = table.float().reshape(1, edge, edge, edge, -1).movedim(-1, 1)
    return functional.interpolate(volume, grid, mode="trilinear").flatten(2).transpose(1, 2)


def patch_embedding(weight: Tensor, shape: torch.Size) -> Tensor | None:
    """A patch embedding as linear layer ``(out, p1·p2·p3·C)`` or as convolution ``(out, C, p1, p2, p3)``, turned into the other.

    Source: monai==1.6.1:monai.networks.blocks.PatchEmbeddingBlock flattens patches in the order (p1 p2 p3 c).

    Returns:
        None where the two are not one patch embedding.
    """
    if weight.numel() != shape.numel() or {weight.ndim, len(shape)} != {2, 5} or weight.shape[0] != shape[0]:
        return None
    if weight.ndim == 5:
        return weight.movedim(1, -1).flatten(1)
    out, channels, *patch = shape
    return weight.reshape(out, *patch, channels).movedim(-1, 1)
