"""Distances between surfaces and differences of volumes by hand, of empty masks, and against an independent computation."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from initbench.audit.add_distances import add_distances as measure_run
from initbench.errors import UsageError
from initbench.evaluation import distances as distances_module
from initbench.evaluation.distances import (
    ABSENT,
    Distances,
    bounding_box,
    distances_per_class,
    mean_distances,
    of_masks,
    voxel_size,
)
from tests.runs_factory import THIRTY_STEPS, run

Mask = NDArray[np.uint8]
MISSED = Distances(None, 0.0, 100.0, None, None)  # what a class gives that the prediction lacks


def scaled(*spacing: float) -> NDArray[np.float64]:
    return np.diag([*spacing, 1.0])


def empty(*shape: int) -> Mask:
    return np.zeros(shape, np.uint8)


def cube(start: tuple[int, int, int], edge: int, shape: tuple[int, int, int] = (20, 20, 20)) -> Mask:
    made = empty(*shape)
    made[tuple(slice(s, s + edge) for s in start)] = 1
    return made


def one(reference: Mask, prediction: Mask, affine: NDArray[np.float64], tolerance: float = 2.0) -> Distances:
    [found] = distances_per_class(reference, prediction, affine, 2, tolerance)
    return found


def blobs(seed: int, shape: tuple[int, int, int] = (30, 26, 22)) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two smooth random masks that overlap."""
    rng = np.random.default_rng(seed)
    base = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    other = base + 0.5 * ndimage.gaussian_filter(rng.normal(size=shape), 2.0)
    return base > np.quantile(base, 0.9), other > np.quantile(other, 0.88)


def surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    eroded: NDArray[np.bool_] = ndimage.binary_erosion(mask)
    return mask & ~eroded


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "spacing", "expected"),
    [
        ((3, 0, 0), (1.0, 1.0, 1.0), 3.0),
        ((3, 0, 0), (0.5, 1.0, 1.0), 1.5),
        ((0, 0, 4), (1.0, 1.0, 2.5), 10.0),
        ((1, 2, 2), (1.0, 1.0, 1.0), 3.0),
        ((1, 2, 2), (2.0, 1.5, 3.0), 7.0),  # 2, 3, 6
    ],
)
def test_two_voxels(step: tuple[int, int, int], spacing: tuple[float, float, float], expected: float) -> None:
    reference, prediction = empty(9, 10, 11), empty(9, 10, 11)
    reference[2, 3, 4] = 1
    prediction[2 + step[0], 3 + step[1], 4 + step[2]] = 1
    assert one(reference, prediction, scaled(*spacing), expected - 0.1) == Distances(expected, 0.0, 0.0, expected, expected)
    assert one(reference, prediction, scaled(*spacing), expected) == Distances(expected, 1.0, 0.0, expected, expected)


def test_the_same_mask_is_at_no_distance() -> None:
    assert one(cube((4, 4, 4), 5), cube((4, 4, 4), 5), scaled(1, 1, 3), 0.0) == Distances(0.0, 1.0, 0.0, 0.0, 0.0)


def test_a_shifted_cube() -> None:
    """A cube of 4 shifted by 2 along the first axis: of its 56 surface voxels, by their distance along that axis alone."""
    found = one(cube((5, 5, 5), 4), cube((7, 5, 5), 4), scaled(1.5, 1, 1), 0.0)
    # The shift costs at most 2 voxels of 1.5 mm, which the far face (16 of 56 voxels, over 5 %) has.
    assert found.hd95_mm == 3.0
    # On both surfaces: the side walls of the slices both cubes have (2 slices of 12 voxels); of the near faces the rims.
    surface, shared = 4**3 - 2**3, 12 * 2
    assert surface == 56
    assert found.nsd == pytest.approx(shared_share(cube((5, 5, 5), 4), cube((7, 5, 5), 4)))
    assert found.nsd == pytest.approx(2 * shared / (2 * surface))
    assert one(cube((5, 5, 5), 4), cube((7, 5, 5), 4), scaled(1.5, 1, 1), 3.0).nsd == 1.0


def shared_share(a: Mask, b: Mask) -> float:
    """Surface Dice at no tolerance: voxels that are on both surfaces."""
    one_, other = surface(a == 1), surface(b == 1)
    return 2 * int((one_ & other).sum()) / int(one_.sum() + other.sum())


def test_spacing_is_that_of_its_axis() -> None:
    for axis in range(3):
        spacing = np.array([1.0, 1.0, 1.0])
        spacing[axis] = 4.0
        for moved in range(3):
            start = [5, 5, 5]
            start[moved] += 1
            found = one(cube((5, 5, 5), 3), cube((start[0], start[1], start[2]), 3), scaled(*spacing))
            assert found.hd95_mm == (4.0 if moved == axis else 1.0)


def test_an_oblique_grid_is_measured_along_its_own_axes() -> None:
    angle = 0.5
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 1.1, 3.0])
    affine[:3, 3] = (-90.0, 40.0, 7.0)
    assert voxel_size(affine) == pytest.approx((0.7, 1.1, 3.0))
    reference, prediction = empty(8, 8, 8), empty(8, 8, 8)
    reference[1, 2, 3], prediction[4, 6, 5] = 1, 1
    world = affine[:3, :3] @ np.array([3, 4, 2])
    assert one(reference, prediction, affine).hd95_mm == pytest.approx(np.linalg.norm(world), rel=1e-6)
    affine[:3, 0] *= -1  # an axis that points the other way is as long
    assert one(reference, prediction, affine).hd95_mm == pytest.approx(np.linalg.norm(world), rel=1e-6)


def test_a_mask_at_the_border_has_a_surface_there() -> None:
    whole = np.ones((4, 4, 4), np.uint8)
    assert one(whole, cube((0, 0, 0), 4, (4, 4, 4)), scaled(1, 1, 1)) == Distances(0.0, 1.0, 0.0, 0.0, 0.0)
    half = whole.copy()
    half[2:] = 0
    assert one(whole, half, scaled(1, 1, 1)).hd95_mm == 2.0


def test_the_difference_of_volumes_is_relative_to_the_reference() -> None:
    """A cube of 4 in place of one of 2: 64 voxels of 8, so 700 % more; the other way round 87.5 % are lacking."""
    small, large = cube((5, 5, 5), 2), cube((5, 5, 5), 4)
    assert one(small, large, scaled(1, 2, 3)).ravd_percent == 700.0
    assert one(large, small, scaled(1, 2, 3)).ravd_percent == 87.5


def test_the_average_is_over_both_surfaces_together() -> None:
    """A voxel beside a rod of three: distances 1, 2 and 3 mm one way and 1 mm the other, of which the mean is 7/4 and not 3/2."""
    reference, prediction = empty(9, 9, 9), empty(9, 9, 9)
    reference[2, 4, 4] = 1
    prediction[3:6, 4, 4] = 1
    found = one(reference, prediction, scaled(1, 1, 1))
    assert (found.assd_mm, found.mssd_mm) == (1.75, 3.0)


# --- empty masks ------------------------------------------------------------------------------------------------------


def test_empty_masks() -> None:
    full, none = cube((5, 5, 5), 4), empty(20, 20, 20)
    assert one(none, none, scaled(1, 1, 1)) == ABSENT
    assert one(none, full, scaled(1, 1, 1)) == ABSENT
    assert one(full, none, scaled(1, 1, 1)) == MISSED


def test_every_class_for_itself() -> None:
    reference, prediction = cube((2, 2, 2), 3), cube((3, 2, 2), 3)
    reference[12:14, 12:14, 12:14] = 3
    prediction[15, 15, 15] = 2
    assert distances_per_class(reference, prediction, scaled(2, 1, 1), 4, 2.0) == [
        one(cube((2, 2, 2), 3), cube((3, 2, 2), 3), scaled(2, 1, 1)),
        ABSENT,
        MISSED,
    ]


def test_means_leave_out_what_is_missing_and_count_it() -> None:
    table = {
        "a": [Distances(2.0, 0.5, 20.0, 1.0, 3.0), ABSENT],
        "b": [MISSED, ABSENT],
        "c": [Distances(4.0, 1.0, 60.0, 2.0, 9.0), ABSENT],
        "d": [ABSENT, ABSENT],
    }
    found = mean_distances(table, ("background", "one", "none"))
    assert found["hd95_mm_per_class"]["one"].written() == {"mean": 3.0, "cases": 2, "reference_empty": 1, "prediction_empty": 1}
    assert found["nsd_per_class"]["one"].written() == {"mean": 0.5, "cases": 3, "reference_empty": 1}
    assert found["hd95_mm_per_class"]["none"].written() == {"mean": None, "cases": 0, "reference_empty": 4, "prediction_empty": 0}
    assert found["nsd_per_class"]["none"].written() == {"mean": None, "cases": 0, "reference_empty": 4}
    assert found["ravd_percent_per_class"]["one"].written() == {"mean": 60.0, "cases": 3, "reference_empty": 1}
    in_mm = {"cases": 2, "reference_empty": 1, "prediction_empty": 1}
    assert found["assd_mm_per_class"]["one"].written() == {"mean": 1.5, **in_mm}
    assert found["mssd_mm_per_class"]["one"].written() == {"mean": 6.0, **in_mm}


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_a_tolerance_that_is_none(tolerance: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        distances_per_class(cube((1, 1, 1), 2), cube((1, 1, 1), 2), np.eye(4), 2, tolerance)
    with pytest.raises(UsageError, match="--nsd-tolerance"):
        run("phantom-lung", tmp_path, settings=THIRTY_STEPS, nsd_tolerance=tolerance)
    with pytest.raises(UsageError, match="--nsd-tolerance"):
        measure_run(tmp_path, tolerance_mm=tolerance)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        distances_per_class(empty(3, 3, 3), empty(3, 3, 4), np.eye(4), 2, 2.0)


# --- against others ---------------------------------------------------------------------------------------------------


def independently(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: tuple[float, float, float], tolerance: float
) -> tuple[float, float]:
    """By distance maps over the whole volume."""
    a, b = surface(prediction), surface(reference)
    from_a = ndimage.distance_transform_edt(~b, sampling=spacing)[a]
    from_b = ndimage.distance_transform_edt(~a, sampling=spacing)[b]
    within = (from_a <= tolerance).sum() + (from_b <= tolerance).sum()
    return max(np.percentile(from_a, 95), np.percentile(from_b, 95)), within / (len(from_a) + len(from_b))


SPACINGS = [(0.73, 0.91, 2.9), (3.1, 0.8, 0.8), (1.0, 1.7, 0.6)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_distance_maps_give_the_same(seed: int, spacing: tuple[float, float, float]) -> None:
    reference, prediction = blobs(seed)
    found = one(reference.astype(np.uint8), prediction.astype(np.uint8), scaled(*spacing), 1.87)
    hd95, nsd = independently(reference, prediction, spacing, 1.87)
    assert found.hd95_mm == pytest.approx(hd95, rel=1e-5)
    assert found.nsd == pytest.approx(nsd, abs=1e-12)
    assert 0 < nsd < 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_bits_are_those_of_monai(seed: int, spacing: tuple[float, float, float]) -> None:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    reference, prediction = blobs(seed)
    found = one(reference.astype(np.uint8), prediction.astype(np.uint8), scaled(*spacing))
    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)  # MONAI of its own call
        hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(spacing))
        nsd = compute_surface_dice(*pair, class_thresholds=[2.0], include_background=True, spacing=list(spacing))
    assert found.hd95_mm == hd95.item()
    assert np.float32(found.nsd) == np.float32(nsd.item())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("at", [(0, 0, 0), (7, 3, 12), (30, 20, 9)])
def test_cropping_changes_no_bit(seed: int, at: tuple[int, int, int]) -> None:
    """Masks in the midst of a volume, at its border, and cut by it."""
    reference, prediction = empty(48, 40, 36), empty(48, 40, 36)
    for target, mask in zip((reference, prediction), blobs(seed), strict=True):
        place = tuple(slice(a, a + n) for a, n in zip(at, mask.shape, strict=True))
        kept = target[place].shape
        target[place] = mask[: kept[0], : kept[1], : kept[2]]
    whole = of_masks(reference == 1, prediction == 1, (0.73, 0.91, 2.9), 1.5)
    assert one(reference, prediction, scaled(0.73, 0.91, 2.9), 1.5) == whole
    box = bounding_box((reference | prediction) == 1)
    assert reference[box].size < reference.size
    assert reference[box].sum() + prediction[box].sum() == reference.sum() + prediction.sum()


def challenge(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> tuple[float, float, float]:
    """RAVD, ASSD and MSSD as CHAOS defines them, over all pairs of surface voxels in float64."""
    points = [np.argwhere(surface(mask)) * np.array(spacing) for mask in (reference, prediction)]
    pairs = cdist(*points)
    distances = np.concatenate([pairs.min(axis=0), pairs.min(axis=1)])
    difference = 100 * abs(prediction.sum() / reference.sum() - 1)
    return float(difference), float(distances.mean()), float(distances.max())


ODD = (31, 23, 17)


def as_challenge(seed: int, spacing: tuple[float, float, float]) -> bool:
    """Whether RAVD, ASSD and MSSD of two blobs on an odd grid are the challenge's."""
    reference, prediction = blobs(seed, ODD)
    found = one(reference.astype(np.uint8), prediction.astype(np.uint8), scaled(*spacing))
    measured = (found.ravd_percent, found.assd_mm, found.mssd_mm)
    return measured == pytest.approx(challenge(reference, prediction, spacing), rel=1e-5)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_volumes_and_surfaces_are_measured_as_in_the_challenge(seed: int, spacing: tuple[float, float, float]) -> None:
    assert as_challenge(seed, spacing)


FAULTS = {
    "spacing of other axes": lambda a, b, spacing, tolerance: of_masks(a, b, spacing[::-1], tolerance),
    "voxels for mm": lambda a, b, spacing, tolerance: of_masks(a, b, (1.0, 1.0, 1.0), tolerance),
    "relative to the prediction": lambda a, b, spacing, tolerance: of_masks(b, a, spacing, tolerance),
    "a slice lost": lambda a, b, spacing, tolerance: of_masks(a[:-2], b[:-2], spacing, tolerance),
    "HD95 for the maximum": lambda a, b, spacing, tolerance: with_maximum_of_95(of_masks(a, b, spacing, tolerance)),
}


def with_maximum_of_95(found: Distances) -> Distances:
    return replace(found, mssd_mm=found.hd95_mm)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances_module, "of_masks", FAULTS[fault])
    assert not as_challenge(0, SPACINGS[0])


@pytest.mark.parametrize("seed", range(2))
def test_the_average_is_monais(seed: int) -> None:
    from monai.metrics import compute_average_surface_distance

    reference, prediction = blobs(seed, ODD)
    found = one(reference.astype(np.uint8), prediction.astype(np.uint8), scaled(*SPACINGS[0]))
    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)  # MONAI of its own call
        monais = compute_average_surface_distance(*pair, include_background=True, symmetric=True, spacing=list(SPACINGS[0]))
    assert found.assd_mm == pytest.approx(monais.item(), rel=1e-6)


def test_axes_and_sides_are_alike() -> None:
    reference, prediction = (mask.astype(np.uint8) for mask in blobs(9))
    found = one(reference, prediction, scaled(0.7, 1.1, 2.0))
    # RAVD alone is not symmetric: it is relative to the reference.
    assert replace(one(prediction, reference, scaled(0.7, 1.1, 2.0)), ravd_percent=found.ravd_percent) == found
    turned = one(reference.transpose(2, 0, 1)[::-1], prediction.transpose(2, 0, 1)[::-1], scaled(2.0, 0.7, 1.1))
    assert turned.nsd == found.nsd
    assert turned.hd95_mm == pytest.approx(found.hd95_mm, rel=1e-6)


def test_surfaces_beyond_the_limit_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, prediction = (mask.astype(np.uint8) for mask in blobs(5))
    found = one(reference, prediction, scaled(0.7, 1.1, 2.0))
    monkeypatch.setattr(distances_module, "_TORCH_QUANTILE", 10)
    assert one(reference, prediction, scaled(0.7, 1.1, 2.0)).hd95_mm == pytest.approx(found.hd95_mm, rel=1e-6)
