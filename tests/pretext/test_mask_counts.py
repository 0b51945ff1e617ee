"""How many cells a mask hides: as many whole cells as fit the ratio, as the released code counts them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from initbench.pretext.transforms import Mask

# ratio, cells along each axis, masked cells: products whose fraction is below, at and above one half
BY_HAND = [
    (0.4, (2, 2, 1), 1),  # 1.6
    (0.4, (3, 1, 1), 1),  # 1.2
    (0.5, (3, 1, 1), 1),  # 1.5
    (0.75, (5, 1, 1), 3),  # 3.75
    (0.6, (3, 3, 3), 16),  # 16.2
    (0.9, (3, 3, 3), 24),  # 24.3
    (0.99, (2, 2, 2), 7),  # 7.92
]


@pytest.mark.parametrize(("ratio", "grid", "masked"), BY_HAND)
def test_the_number_of_hidden_cells_is_rounded_down(ratio: float, grid: tuple[int, int, int], masked: int) -> None:
    assert hidden(Mask(ratio, 1), grid) == masked
    assert hidden(Mask(ratio, 2), (2 * grid[0], 2 * grid[1], 2 * grid[2])) == 8 * masked, "cells of 8 voxels"


@pytest.mark.parametrize(("ratio", "grid", "masked"), [(0.4, (3, 2, 2), 1), (0.5, (2, 3, 1), 1), (0.75, (4, 5, 1), 3)])
def test_a_tube_rounds_the_cells_of_a_slice(ratio: float, grid: tuple[int, int, int], masked: int) -> None:
    assert hidden(Mask(ratio, 1, tube=True), grid) == masked * grid[0]


@settings(max_examples=50, deadline=None)
@given(ratio=st.floats(0.01, 0.99), grid=st.tuples(*[st.integers(1, 5)] * 3))
def test_never_more_than_the_ratio_and_never_a_whole_cell_less(ratio: float, grid: tuple[int, int, int]) -> None:
    cells = int(np.prod(grid))
    assert hidden(Mask(ratio, 1), grid) <= ratio * cells < hidden(Mask(ratio, 1), grid) + 1


def hidden(mask: Mask, grid: tuple[int, int, int]) -> int:
    return int(mask(torch.ones(1, 1, *grid), np.random.default_rng(0))[1].sum())
