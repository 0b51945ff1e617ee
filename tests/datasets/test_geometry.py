"""Axes against nibabel, resampling against torch."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import torch
from torch.nn import functional

from initbench.datasets.geometry import Axes, bind_axes, choose_depth, resample, resampled_shape
from tests.msd_factory import affine_of

ORIENTATIONS = ["".join(codes) for pairs in permutations(("RL", "AP", "SI")) for codes in product(*pairs)]
SHAPE, SPACING = (4, 5, 6), (0.7, 1.1, 2.3)
# Where the axes of the RAS volume (x, y, z) go: D is the chosen one, H and W are what is left in the order z, y, x.
ORDERS = {"z": (2, 1, 0), "y": (1, 2, 0), "x": (0, 2, 1)}


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_axes_agree_with_nibabel_and_invert(codes: str) -> None:
    array = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    affine = affine_of(codes, SPACING, SHAPE)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))
    ras, zooms = np.asarray(canonical.dataobj), canonical.header.get_zooms()
    for depth, order in ORDERS.items():
        axes = bind_axes(affine, depth)
        moved = axes.apply(array)
        assert np.array_equal(moved, ras.transpose(order))
        assert np.array_equal(axes.invert(moved), array)
        assert axes.spacing(affine) == pytest.approx([zooms[axis] for axis in order])


def test_leading_axes_stay() -> None:
    axes = bind_axes(affine_of("PIR", SPACING, SHAPE), "z")
    image = np.random.default_rng(0).random((2, *SHAPE))
    assert np.array_equal(axes.apply(image), np.stack([axes.apply(channel) for channel in image]))


def test_oblique_affine_takes_the_nearest_axes() -> None:
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([2.0, 3.0, 4.0])
    axes = bind_axes(affine, "z")
    assert axes == Axes((2, 1, 0), (False, False, False))
    assert axes.spacing(affine) == pytest.approx((4.0, 3.0, 2.0))


@pytest.mark.parametrize(
    ("spacing", "depth"),
    [
        ((1.0, 1.0, 1.0), "z"),
        ((1.0, 1.0, 5.0), "z"),
        ((2.99, 1.0, 1.0), "z"),
        ((3.0, 1.0, 1.0), "x"),
        ((1.0, 4.0, 1.0), "y"),
        ((1.0, 4.0, 2.0), "z"),  # three times one of the others is not enough
    ],
)
def test_depth_is_superior_or_three_times_coarser(spacing: tuple[float, float, float], depth: str) -> None:
    assert choose_depth(np.array(spacing)) == depth


@pytest.mark.parametrize("shape", [(8, 9, 10), (7, 6, 13), (4, 10, 6), (2, 3, 5)])
def test_linear_is_torch_trilinear(shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(1).random(SHAPE).astype(np.float32)
    expected = functional.interpolate(torch.from_numpy(volume)[None, None], size=shape, mode="trilinear", align_corners=False)
    np.testing.assert_allclose(resample(volume, shape, 1), expected[0, 0].numpy(), atol=2e-6)


@pytest.mark.parametrize("shape", [(8, 9, 10), (7, 6, 13), (2, 3, 4), (1, 15, 3)])
def test_order_0_is_torch_nearest_exact(shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(1).integers(0, 200, SHAPE).astype(np.uint8)
    expected = functional.interpolate(torch.from_numpy(volume)[None, None], size=shape, mode="nearest-exact")
    found = resample(volume, shape, 0)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected[0, 0].numpy())


@pytest.mark.parametrize("order", [0, 1, 3])
def test_same_shape_changes_nothing(order: int) -> None:
    volume = np.random.default_rng(1).random(SHAPE)
    assert np.array_equal(resample(volume, SHAPE, order), volume)


def test_resampled_shape() -> None:
    # 10 x 5 / 2 = 25; 33 x 1 / 2 = 16.5, which Python rounds to even; 1 x 0.1 / 1 = 0.1, at least one
    assert resampled_shape((10, 33, 1), (5.0, 1.0, 0.1), (2.0, 2.0, 1.0)) == (25, 16, 1)
