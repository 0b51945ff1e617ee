"""Brings weights into another form that means the same: positions of another patch, a patch embedding of another layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from initbench.protocols import Grid, Structure


@dataclass(frozen=True)
class Grids:
    """Brings weights of a file into the network's form, also where they belong to another grid of tokens.

    Attributes:
        structure: of the network.
        patch: ``(D, H, W)`` that the weights were trained on, None where nobody says it.
    """

    structure: Structure
    patch: Grid | None = None

    def fit(self, key: str, value: Tensor, shape: torch.Size) -> tuple[Tensor | None, str]:
        """Brings a weight of a file into the shape of the network's parameter.

        Args:
            key: of the network.
            value: as stored.
            shape: of the network's parameter.

        Returns:
            The weight and ""; or None, and why it has no such form.
        """
        published = self.structure.published
        grid, tokens = published.grid_of(key), published.tokens_of(key)
        if grid is not None:
            return self._positions(value, shape, grid)
        if tokens is not None and self._trained_on(tokens) not in (None, tokens):
            return None, f"made for a grid of {self._trained_on(tokens)} tokens, the network has {tokens}"
        if value.shape == shape:
            return value, ""
        fitted = patch_embedding(value, shape)
        if fitted is None:
            return None, f"shape {tuple(value.shape)}, the network has {tuple(shape)}"
        return fitted, ""

    def _positions(self, table: Tensor, shape: torch.Size, grid: Grid) -> tuple[Tensor | None, str]:
        """Brings a table of positions into the shape of the network's: equal shapes mean the same only on equal grids.

        Args:
            table: as stored.
            shape: of the network's table.
            grid: of the network's tokens.

        Returns:
            As `fit`.
        """
        theirs = self._trained_on(grid)
        if theirs is None and table.shape == shape:
            theirs = grid
        if theirs is None:
            theirs = _cube(table)
        if theirs == grid and table.shape == shape:
            return table, ""
        resampled = None
        if theirs is not None:
            resampled = resample(table, theirs, grid)
        if resampled is None or resampled.shape != shape:
            said = f"shape {tuple(table.shape)}, the network has {tuple(shape)}"
            return None, f"{said}; --set init.patch=D,H,W says on which patch they were trained"
        return resampled, ""

    def _trained_on(self, grid: Grid) -> Grid | None:
        """Returns the grid that the weights were trained on, in the order of `grid`; None where it is not known or not whole."""
        if self.patch is None:
            return None
        ours, theirs = self.structure.patch_size, self.patch
        if self.structure.axes == "WHD":
            ours, theirs = ours[::-1], theirs[::-1]
        found = []
        for cells, edge, trained in zip(grid, ours, theirs, strict=True):
            if (trained * cells) % edge:
                return None
            found.append(trained * cells // edge)
        return found[0], found[1], found[2]


def _cube(table: Tensor) -> Grid | None:
    """Returns the grid of a table ``(1, N, C)`` where N is a cube: most networks are trained on cubic patches."""
    if table.ndim != 3 or not table.shape[1]:
        return None
    edge = round(table.shape[1] ** (1 / 3))
    if edge**3 != table.shape[1]:
        return None
    return edge, edge, edge


def resample(table: Tensor, theirs: Grid, grid: Grid) -> Tensor | None:
    """Resamples a table of positions in three dimensions by trilinear interpolation, as is done for ViTs.

    Args:
        table: ``(1, N, C)``.
        theirs: grid of the table.
        grid: grid of the result.

    Returns:
        The table; None where it has another number of positions than `theirs`.
    """
    if table.ndim != 3 or table.shape[:2] != (1, math.prod(theirs)):
        return None
    volume = table.float().reshape(1, *theirs, -1).movedim(-1, 1)
    return functional.interpolate(volume, grid, mode="trilinear").flatten(2).transpose(1, 2)


def patch_embedding(weight: Tensor, shape: torch.Size) -> Tensor | None:
    """Turns a patch embedding from a linear layer ``(out, p1·p2·p3·C)`` into a convolution ``(out, C, p1, p2, p3)``, or back.

    Source: monai==1.6.1:monai.networks.blocks.PatchEmbeddingBlock flattens patches in the order (p1 p2 p3 c).

    Returns:
        The weight in `shape`; None where the two are not one patch embedding.
    """
    if weight.numel() != shape.numel() or {weight.ndim, len(shape)} != {2, 5} or weight.shape[0] != shape[0]:
        return None
    if weight.ndim == 5:
        return weight.movedim(1, -1).flatten(1)
    out, channels, *patch = shape
    return weight.reshape(out, *patch, channels).movedim(-1, 1)
