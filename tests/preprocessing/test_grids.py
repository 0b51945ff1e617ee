"""Preprocessing as the papers' code does it: MONAI's transforms voxel by voxel, nnU-Net's rules by spline formulas of our own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Orientationd, ScaleIntensityRanged, Spacingd
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from initbench.datasets.geometry import bind_axes, resampled_shape, shape_along
from initbench.datasets.msd import MsdDataset
from initbench.errors import UsageError
from initbench.evaluation.inference import to_native
from initbench.preprocessing.grids import CornerGrid, NnunetGrid, coarse_axis
from initbench.preprocessing.parameters import CaseScan, Parameters, resolve_parameters, scan
from initbench.preprocessing.preprocess import Placement, preprocess
from initbench.protocols import Case, Spacing
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Preprocess
from tests.msd_factory import affine_of
from tests.shared_data import shared

WINDOW = (-175.0, 250.0)


def settings(**values: Any) -> Preprocess:
    fixed = {"spacing": [2.0, 1.5, 1.5], "intensity": "window", "image_order": 1, "crop": True, "resampling": "monai"}
    return Preprocess.model_validate(fixed | values)


def made(case: Case, chosen: Preprocess, modality: str = "CT") -> Any:
    return preprocess(case, resolve_parameters(chosen, modality, [scan(case)]))


def tilted(codes: str, spacing: Spacing, degrees: tuple[float, float, float], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """An affine turned about all three axes."""
    affine = affine_of(codes, spacing, shape)
    turn = np.eye(3)
    for angle, (i, j) in zip(np.deg2rad(degrees), ((0, 1), (0, 2), (1, 2)), strict=True):
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    affine[:3] = turn @ affine[:3]
    return affine


def body(shape: tuple[int, int, int], seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Air around smooth tissue with labelled blobs."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    image = (60 + 900 * smooth).astype(np.float32)
    margins = [slice(n // 6, n - n // 5) for n in shape]
    air = np.full(shape, -1000, np.float32)
    air[tuple(margins)] = image[tuple(margins)]
    label = np.digitize(ndimage.gaussian_filter(rng.normal(size=shape), 2), (0.03, 0.06, 0.09)).astype(np.uint8)
    return air, label


def by_monai(case: Case, spacing_xyz: Spacing, window: tuple[float, float] = WINDOW) -> tuple[NDArray[Any], NDArray[Any]]:
    """The transforms of LWI's UNETR, turned to (D, H, W)."""
    keys = ["image", "label"]
    pipeline = Compose(
        [
            Orientationd(keys, axcodes="RAS", labels=None),
            Spacingd(keys, pixdim=spacing_xyz, mode=("bilinear", "nearest")),
            ScaleIntensityRanged("image", *window, 0.0, 1.0, clip=True),
            CropForegroundd(keys, source_key="image", allow_smaller=True),
        ]
    )
    affine = torch.from_numpy(case.affine)
    tensors = {"image": case.image, "label": case.label[None].astype(np.float32)}
    done = pipeline({key: MetaTensor(torch.from_numpy(value.copy()), affine=affine) for key, value in tensors.items()})
    image, label = done["image"].numpy(), done["label"].numpy()
    return image.transpose(0, 3, 2, 1), label[0].transpose(2, 1, 0)


def ties(where: Placement) -> NDArray[np.bool_]:
    """Voxels half-way between two native ones: which of the two they take is MONAI's float error; ours is the even one."""
    assert isinstance(where.grid, CornerGrid)
    tied = np.zeros(where.shape, bool)
    for axis, (step, first) in enumerate(zip(where.grid.steps, where.grid.first, strict=True)):
        position = (np.arange(where.shape[axis]) + first) * step
        tied |= (np.abs(position % 1 - 0.5) < 1e-6).reshape([-1 if a == axis else 1 for a in range(3)])
    return tied


MADE = [
    ("RAS", (0.8, 0.8, 3.0), (0.0, 0.0, 0.0), (40, 36, 21)),
    ("LPS", (0.73, 0.81, 2.5), (0.0, 0.0, 0.0), (41, 37, 23)),
    ("PIR", (2.1, 0.9, 1.1), (0.0, 0.0, 0.0), (20, 33, 29)),
    ("LAS", (0.8, 0.9, 2.7), (7.0, -5.0, 11.0), (40, 38, 17)),
    ("SRA", (1.9, 0.7, 1.3), (-12.0, 4.0, 6.0), (22, 41, 27)),
    ("RAS", (1.5, 1.5, 2.0), (3.0, 0.0, 2.0), (26, 25, 20)),
    ("LPI", (1.5004, 3.1, 5.0), (0.0, 8.0, 0.0), (26, 15, 9)),
    ("RAS", (3.0, 1.5, 2.5), (0.0, 0.0, 0.0), (20, 22, 13)),  # every second voxel along x lies half-way
]


@pytest.mark.parametrize(("codes", "spacing", "degrees", "shape"), MADE)
def test_monai_voxel_by_voxel(codes: str, spacing: Spacing, degrees: Spacing, shape: tuple[int, int, int]) -> None:
    image, label = body(shape)
    case = Case("made", image[None], label, tilted(codes, spacing, degrees, shape))
    expected, expected_label = by_monai(case, (1.5, 1.5, 2.0))
    found = made(case, settings())
    assert found.image.shape == expected.shape
    assert min(found.image.shape[1:]) < max(found.image.shape[1:]), "something was cut"
    np.testing.assert_allclose(found.image, expected, atol=2e-6)
    tied = ties(found.placement)
    assert np.array_equal(found.label[~tied], expected_label[~tied])
    assert tied.mean() < 0.8


@pytest.mark.parametrize("folder", ["OpenKBP_HN5", "STS_CT", "TotalSegmentator_examples"])
def test_monai_on_real_volumes(folder: str) -> None:
    dataset = MsdDataset(shared("data", folder))
    case = dataset.load(dataset.case_ids()[0])
    low = float(case.image.min())
    window = WINDOW if low < -175 else (0.0, 250.0)
    expected, expected_label = by_monai(case, (3.0, 3.0, 4.0), window)
    found = made(case, settings(spacing=[4.0, 3.0, 3.0], window=window))
    assert found.image.shape == expected.shape
    np.testing.assert_allclose(found.image, expected, atol=2e-5)
    tied = ties(found.placement)
    assert np.array_equal(found.label[~tied], expected_label[~tied])
    assert tied.mean() < 0.8


def blended_as_a_whole(volume: NDArray[np.float32], grid: CornerGrid) -> NDArray[np.float32]:
    """What `CornerGrid.image` does slice by slice, on whole volumes in float64, one axis after the other."""
    values: NDArray[Any] = volume
    for axis, (count, step) in enumerate(zip(grid.shape, grid.steps, strict=True)):
        if step == 1.0 and count == volume.shape[axis]:
            continue
        last = volume.shape[axis] - 1
        position = np.clip(np.arange(count) * step, 0, last)
        low = np.floor(position).astype(np.int64)
        part = (position - low).reshape(shape_along(axis))
        values = values.take(low, axis) * (1 - part) + values.take(np.minimum(low + 1, last), axis) * part
    return values.astype(np.float32)


def test_slices_by_themselves_give_the_bits_of_whole_volumes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        shape, spacing, target = tuple(rng.integers(1, 12, 3)), rng.uniform(0.5, 3, 3), rng.uniform(0.5, 3, 3)
        native = rng.random(3) < 0.4
        grid = CornerGrid.by_spacing(shape, tuple(spacing), tuple(np.where(native, spacing, target)))
        volume = rng.normal(size=shape).astype(np.float32)
        volume[rng.random(shape) < 0.3] = -0.0
        found, expected = grid.image(volume, 1), blended_as_a_whole(volume, grid)
        assert np.array_equal(found.view(np.int32), expected.view(np.int32))


def test_half_pixel_grid_is_another_one() -> None:
    """What the setting decides: at 0.8 mm to 1.5 mm the grids lie up to a third of a voxel apart."""
    image, label = body((40, 36, 21))
    case = Case("made", image[None], label, affine_of("RAS", (0.8, 0.8, 3.0), (40, 36, 21)))
    ours = made(case, settings(resampling="half-pixel", crop=False))
    theirs = made(case, settings(crop=False))
    common = tuple(slice(0, min(a, b)) for a, b in zip(ours.image.shape, theirs.image.shape, strict=True))
    assert np.abs(ours.image[common] - theirs.image[common]).mean() > 0.01


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_way_back_from_monai_grid(codes: str) -> None:
    """A smooth ramp survives the round trip, and what the crop left out is background."""
    shape = (30, 28, 20)
    image, label = body(shape)
    case = Case("made", image[None], label, affine_of(codes, (1.0, 1.1, 1.7), shape))
    found = made(case, settings())
    where = found.placement
    assert Placement.from_json(where.to_json()) == where
    inside = torch.ones(2, *where.shape)
    inside[0] = 0
    back = where.axes.apply(to_native(inside, where))
    steps, first = where.grid.steps, where.grid.first
    for axis in range(3):
        lines = np.flatnonzero(back.any(axis=tuple(a for a in range(3) if a != axis)))
        centre = np.arange(back.shape[axis]) / steps[axis] - first[axis]
        reached = np.flatnonzero((centre >= -0.5) & (centre <= where.shape[axis] - 0.5))
        assert np.array_equal(lines, reached)
    restored = where.axes.apply(
        to_native(functional.one_hot(torch.from_numpy(found.label).long(), 4).movedim(-1, 0).float(), where)
    )
    oriented = where.axes.apply(label)
    box = tuple(slice(int(np.ceil(f * s)), int((f + n - 1) * s)) for f, s, n in zip(first, steps, where.shape, strict=True))
    assert np.mean(restored[box] == oriented[box]) > 0.8


# --------------------------------------------------------------------------------------------------------------------
# nnU-Net


def spline_at(volume: NDArray[Any], shape: tuple[int, ...], order: int) -> NDArray[Any]:
    """A spline evaluated point by point at the half-pixel positions: another path through scipy than the code takes."""
    axes = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(shape, volume.shape, strict=True)]
    points = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(volume.astype(np.float64), points, order=order, mode="nearest")


def kept(volume: NDArray[Any], shape: tuple[int, ...], order: int) -> NDArray[Any]:
    return np.clip(spline_at(volume, shape, order), volume.min(), volume.max())


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), None),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),  # 3 is not above 3
        ((3.1, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 5.0, 1.2), (1.0, 1.0, 1.0), 1),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 6.0), 2),
        ((5.0, 1.0, 1.0), (1.0, 6.0, 1.0), 0),  # the file's own comes first
        ((5.0, 5.0, 1.0), (6.0, 1.0, 1.0), None),  # two coarse axes: none is apart
    ],
)
def test_axis_that_is_not_interpolated(spacing: Spacing, target: Spacing, axis: int | None) -> None:
    assert coarse_axis(spacing, target) == axis


def test_nnunet_image_and_label() -> None:
    image, label = body((17, 21, 19))
    shape = (24, 16, 27)
    grid = NnunetGrid((17, 21, 19), shape, None)
    np.testing.assert_allclose(grid.image(image, 3), kept(image, shape, 3), atol=1e-3)
    expected = np.zeros(shape, np.uint8)
    for value in np.unique(label):
        expected[spline_at(label == value, shape, 1) >= 0.5] = value
    assert np.mean(grid.label(label) != expected) < 1e-3, "halves"


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nnunet_along_a_coarse_axis(axis: int) -> None:
    image, label = body((11, 12, 13))
    shape = tuple(5 * n // 3 for n in image.shape)
    grid = NnunetGrid((11, 12, 13), (shape[0], shape[1], shape[2]), axis)
    found = grid.image(image, 3)
    labels = grid.label(label)
    source = np.floor((np.arange(shape[axis]) + 0.5) * image.shape[axis] / shape[axis]).astype(int)
    flat = tuple(np.delete(shape, axis))
    for k, slice_index in enumerate(source):
        plane = image.take(slice_index, axis)
        np.testing.assert_allclose(found.take(k, axis), kept(plane, flat, 3), atol=1e-3)
        assert set(np.unique(labels.take(k, axis))) <= {0, *np.unique(label.take(slice_index, axis))}


def test_nnunet_ct_pipeline() -> None:
    """Crop to nonzero, spline, clip, z-score with the training cases' numbers: in this order."""
    image, label = body((24, 22, 20))
    image[:3], label[:3] = 0, 0
    case = Case("made", image[None], label, affine_of("RAS", (1.0, 1.0, 2.0), image.shape))
    parameters = resolve_parameters(
        settings(resampling="nnunet", intensity="percentile", image_order=3, crop="nonzero"), "CT", [scan(case)]
    )
    found = preprocess(case, parameters)
    values = image[label > 0].astype(np.float64)
    low, high = np.percentile(values, (0.5, 99.5))
    cropped = image[3:].transpose(2, 1, 0)
    shape = resampled_shape(cropped.shape, (2.0, 1.0, 1.0), (2.0, 1.5, 1.5))  # type: ignore[arg-type]
    expected = (np.clip(kept(cropped, shape, 3), low, high) - values.mean()) / values.std()
    np.testing.assert_allclose(found.image[0], expected, atol=1e-4)
    assert found.placement.bounds == ((0, 20), (0, 22), (3, 24))


@pytest.mark.parametrize("rule", ["zscore", "nonzero-zscore"])
def test_nnunet_mr_rules(rule: str) -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((2, 20, 18, 16), np.float32)
    image[:, 4:15, 3:14, 2:12] = rng.normal(300, 40, (2, 11, 11, 10))
    image[:, 8:10, 8:10, 6:8] = 0  # a hole counts as inside
    image[:, 5:7, 5:7, 15] = 100  # a speck that the crop keeps
    label = np.zeros((20, 18, 16), np.uint8)
    case = Case("made", image, label, affine_of("RAS", (1.0, 1.0, 1.0), label.shape))
    chosen = settings(resampling="nnunet", intensity=rule, crop="nonzero", spacing="native", image_order=3)
    found = made(case, chosen, "MR")
    assert found.placement.bounds == ((2, 16), (3, 14), (4, 15))
    cropped = image.transpose(0, 3, 2, 1)[:, 2:16, 3:14, 4:15].astype(np.float64)
    mask = ndimage.binary_fill_holes((cropped != 0).any(0)) if rule == "nonzero-zscore" else np.ones(cropped.shape[1:], bool)
    for channel, made_channel in zip(cropped, found.image, strict=True):
        expected = np.where(mask, (channel - channel[mask].mean()) / channel[mask].std(), 0)
        np.testing.assert_allclose(made_channel, expected, atol=1e-4)
    assert (found.image[:, ~mask] == 0).all()
    assert mask[5, 5, 5], "the hole"


def test_nnunet_on_native_grid_changes_no_voxel() -> None:
    image, label = body((12, 11, 10))
    case = Case("made", image[None], label, np.eye(4))
    found = made(case, settings(resampling="nnunet", intensity="zscore", spacing="native", crop=False), "MR")
    assert np.array_equal(found.label, label.transpose(2, 1, 0))
    assert float(found.image.mean()) == pytest.approx(0, abs=1e-5)


def test_way_back_along_a_coarse_axis_takes_the_nearest_slice() -> None:
    axes = bind_axes(np.eye(4), "z")
    where = Placement((7, 6, 9), axes, ((0, 9), (0, 6), (0, 7)), NnunetGrid((9, 6, 7), (3, 6, 7), 0))
    probabilities = torch.rand(4, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    found = axes.apply(to_native(probabilities, where))
    assert np.array_equal(found, np.repeat(probabilities.argmax(0).numpy(), 3, axis=0))


# --------------------------------------------------------------------------------------------------------------------
# TransUNet: slices


@pytest.mark.parametrize("window_to", [(0.0, 1.0), (-1.0, 1.0)])
def test_slices_are_resized_and_labels_come_back_as_transunet_does(window_to: tuple[float, float]) -> None:
    """Against its lines: clip, scale, `zoom` of each slice with order 3 and 0, and `zoom` of the label map with order 0."""
    image, label = body((25, 31, 4))
    case, plane = Case("made", image[None], label, np.eye(4)), (16, 14)
    chosen = settings(
        resampling="slice-resize", spacing="native", plane=plane, image_order=3, crop=False, window=WINDOW, window_to=window_to
    )
    found = made(case, chosen)
    unit = (np.clip(image, *WINDOW) - WINDOW[0]) / (WINDOW[1] - WINDOW[0])
    scaled = (window_to[0] + unit * (window_to[1] - window_to[0])).astype(np.float32)
    back = to_native(
        functional.one_hot(torch.from_numpy(found.label).long()).movedim(-1, 0).float(), found.placement, "label-nearest"
    )
    for depth in range(4):
        factors = (plane[0] / 31, plane[1] / 25)
        expected = ndimage.zoom(scaled[:, :, depth].T, factors, order=3)
        np.testing.assert_allclose(found.image[0, depth], expected, atol=1e-5)
        small = ndimage.zoom(label[:, :, depth].T, factors, order=0)
        assert np.array_equal(found.label[depth], small)
        large = ndimage.zoom(small, (31 / plane[0], 25 / plane[1]), order=0)
        assert np.array_equal(back[:, :, depth].T, large)
    assert len(np.unique(back)) > 2
    assert not np.array_equal(
        back, to_native(functional.one_hot(torch.from_numpy(found.label).long()).movedim(-1, 0).float(), found.placement)
    )


# --------------------------------------------------------------------------------------------------------------------
# Identities


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"intensity": "percentile"}, "resampling = monai goes with intensity = window"),
        ({"intensity": "zscore", "resampling": "half-pixel"}, "intensity = zscore goes with resampling = nnunet"),
        ({"crop": "nonzero"}, "crop = true or false"),
        ({"window_to": "-1,1"}, "window_to goes with intensity = window, but not with resampling = monai"),
        ({"resampling": "slice-resize"}, "slice-resize needs plane = H,W and spacing = native"),
        ({"resampling": "slice-resize", "plane": "8,8"}, "slice-resize needs plane = H,W and spacing = native"),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, Any], says: str) -> None:
    assignments = [f"preprocess.{key}={value}" for key, value in ({"resampling": "monai"} | values).items()]
    with pytest.raises(UsageError, match=says):
        load_recipe("phantom-lung", size="tiny", backbone="unetr", budget="smoke", assignments=assignments)


def test_numbers_of_every_rule_have_keys_of_their_own() -> None:
    scans = [CaseScan(np.ones(3), np.ones(4, np.float32))]
    chosen = [
        settings(),
        settings(resampling="half-pixel"),
        settings(resampling="nnunet"),
        settings(resampling="nnunet", crop="nonzero"),
        settings(resampling="nnunet", intensity="zscore"),
        settings(resampling="nnunet", intensity="nonzero-zscore"),
    ]
    assert len({resolve_parameters(item, "CT", scans).digest() for item in chosen}) == len(chosen)


def test_keys_of_volumes_that_were_cached_before_there_were_more_grids() -> None:
    before = Parameters("z", (2.0, 1.5, 1.5), (-175.0, 250.0), (-175.0, 425.0), (0.5, 99.5), -175.0, 1)
    assert before.digest() == "e124269f0e1f161cdbd7aa635a1a9867cea3fd3f2028f37ae37466b0f550822b"
