"""Encoder levels by the names of their modules: what a hook sees there, measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from initbench.errors import UsageError
from initbench.protocols import Grid, Level


def probe_levels(model: nn.Module, names: Sequence[str], patch: Grid, channels: int) -> tuple[Level, ...]:
    """Levels of the modules `names`, from one pass over an empty patch ``(1, channels, *patch)``.

    Raises:
        UsageError: a module gives nothing, or something in which no grid can be told; a `Level` says what it is then.
    """
    seen: dict[str, object] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output}))
        for name in names
    ]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            model(torch.zeros(1, channels, *patch))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return tuple(_level(name, seen.get(name), patch) for name in names)


def _level(name: str, output: object, patch: Grid) -> Level:
    if isinstance(output, Tensor) and output.ndim == 5:
        first, last = _grid(output.shape[2:]), _grid(output.shape[1:4])
        if _divides(first, patch):
            return Level(name, first, output.shape[1])
        if _divides(last, patch):
            return Level(name, last, output.shape[4], "NDHWC")
    if isinstance(output, Tensor) and output.ndim == 4 and len(output) == patch[0]:
        grid = (patch[0], output.shape[2], output.shape[3])
        if _divides(grid, patch):
            return Level(name, grid, output.shape[1], "NCHW")
    if isinstance(output, Tensor) and output.ndim == 3:
        found = _grids_of(output.shape[1], patch)
        if found:
            return Level(name, found, output.shape[2], "NLC")
    given = f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise UsageError(
        f"module {name} gives {given}, in which no grid of the patch {patch} can be told: pass "
        f"Level({name!r}, grid=(D, H, W), channels=C, layout='NCDHW', 'NDHWC' or 'NLC')"
    )


def _grids_of(tokens: int, patch: Grid) -> Grid | None:
    """The grid of so many tokens: cells with equal edges, or the one grid of cells flatter in depth; None where that is open."""
    voxels = math.prod(patch) // tokens
    edges = [(voxels // edge**2, edge, edge) for edge in range(1, voxels + 1) if voxels % edge**2 == 0 and voxels <= edge**3]
    grids = [_grid([size // step for size, step in zip(patch, cell, strict=True)]) for cell in edges]
    fitting = {cell: grid for cell, grid in zip(edges, grids, strict=True) if math.prod(grid) == tokens and _divides(grid, patch)}
    cubes = [grid for cell, grid in fitting.items() if len(set(cell)) == 1]
    return cubes[0] if cubes else next(iter(fitting.values())) if len(fitting) == 1 else None


def _grid(sizes: Sequence[int]) -> Grid:
    d, h, w = sizes
    return d, h, w


def _divides(grid: Grid, patch: Grid) -> bool:
    return all(size and whole % size == 0 for size, whole in zip(grid, patch, strict=True))
