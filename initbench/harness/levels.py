"""Encoder levels by the names of their modules: what a hook sees there, measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from initbench.errors import UsageError
from initbench.harness.snapshot import modes_kept
from initbench.protocols import Grid, Level


def probe_levels(model: nn.Module, names: Sequence[str], patch: Grid, channels: int) -> tuple[Level, ...]:
    """Measures the levels of some modules in one pass over an empty patch ``(1, channels, *patch)``.

    Args:
        model: the network; its modes are left as they were.
        names: dotted names of the modules.
        patch: (D, H, W) of the input.
        channels: of the input.

    Raises:
        UsageError: a module gives nothing, or something in which no grid can be told; a `Level` says what it is then.
    """
    seen: dict[str, object] = {}
    handles = []
    for name in names:
        module = model.get_submodule(name)
        handles.append(module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output})))
    try:
        with modes_kept(model), torch.no_grad():
            model.eval()
            model(torch.zeros(1, channels, *patch))
    finally:
        for handle in handles:
            handle.remove()
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
        found = _grid_of_tokens(output.shape[1], patch)
        if found:
            return Level(name, found, output.shape[2], "NLC")
    given = type(output).__name__
    if isinstance(output, Tensor):
        given = f"a tensor {tuple(output.shape)}"
    raise UsageError(
        f"module {name} gives {given}, in which no grid of the patch {patch} can be told: pass "
        f"Level({name!r}, grid=(D, H, W), channels=C, layout='NCDHW', 'NDHWC' or 'NLC')"
    )


def _grid_of_tokens(tokens: int, patch: Grid) -> Grid | None:
    """Returns the grid of a patch that is cut into `tokens` equal cells; None where more than one grid, or none, is possible.

    A grid of cubes is taken before any other. The other cells are squares in height and width, and flatter in depth.
    """
    d, h, w = patch
    voxels = math.prod(patch) // tokens
    flat = []
    for edge in range(1, voxels + 1):
        depth, rest = divmod(voxels, edge**2)
        if rest or depth > edge:
            continue
        grid = (d // depth, h // edge, w // edge)
        if math.prod(grid) != tokens or not _divides(grid, patch):
            continue
        if depth == edge:
            return grid
        flat.append(grid)
    if len(flat) != 1:
        return None
    return flat[0]


def _grid(sizes: Sequence[int]) -> Grid:
    d, h, w = sizes
    return d, h, w


def _divides(grid: Grid, patch: Grid) -> bool:
    return all(size and whole % size == 0 for size, whole in zip(grid, patch, strict=True))
