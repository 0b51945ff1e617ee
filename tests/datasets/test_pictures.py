"""Pictures of cases: the image lies where its labels do, on every grid that networks may see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from initbench.evaluation import overlay, slices
from initbench.preprocessing.grids import CornerGrid
from initbench.preprocessing.parameters import resolve_parameters, scan
from initbench.preprocessing.prepare import PreparedCase
from initbench.preprocessing.preprocess import preprocess
from initbench.protocols import Case, Spacing
from initbench.recipes.settings import Preprocess
from tests.msd_factory import affine_of

SHAPE = (60, 56, 40)
BODY = (slice(22, 50), slice(8, 40), slice(14, 34))  # off the middle: what is cut off is not alike on both sides
ORGAN = (slice(30, 42), slice(14, 26), slice(18, 26))
GRIDS = [
    ("half-pixel", (2.0, 1.5, 1.5)),
    ("half-pixel", (6.0, 2.5, 2.5)),
    ("nnunet", (2.0, 1.5, 1.5)),
    ("nnunet", (6.0, 0.8, 0.8)),
    ("monai", (2.0, 1.5, 1.5)),
    ("monai", (1.1, 0.7, 0.9)),
    ("monai", (4.0, 3.0, 3.0)),
]


def prepared(resampling: str, spacing: Spacing, codes: str, *, crop: bool) -> PreparedCase:
    """Air, a body and a bright organ in it, of which alone there is a label."""
    image = np.full(SHAPE, -1000, np.float32)
    image[BODY], image[ORGAN] = 40, 220
    label = np.zeros(SHAPE, np.uint8)
    label[ORGAN] = 1
    case = Case("case", image[None], label, affine_of(codes, (1.0, 1.2, 3.0), SHAPE))
    table = {"spacing": spacing, "intensity": "window", "image_order": 1, "crop": crop, "resampling": resampling}
    made = preprocess(case, resolve_parameters(Preprocess.model_validate(table), "CT", [scan(case)]))
    arrays = {"image": made.image, "label": made.label, "reference": label}
    return PreparedCase("case", arrays.__getitem__, case.affine, made.placement)


def overlap(shown: NDArray[Any], reference: NDArray[Any]) -> float:
    """Dice of what is bright in a picture and of what is labelled there."""
    bright = shown > 0.75 * float(shown.max())
    assert reference.any()
    return float(2 * np.count_nonzero(bright & (reference > 0)) / (np.count_nonzero(bright) + np.count_nonzero(reference)))


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA"])
@pytest.mark.parametrize(("resampling", "spacing"), GRIDS)
def test_an_organ_lies_on_its_label(resampling: str, spacing: Spacing, codes: str, crop: bool) -> None:
    case = prepared(resampling, spacing, codes, crop=crop)
    image, reference, predicted = slices.case_slice(case, case.reference)
    assert np.array_equal(reference, predicted)
    assert overlap(image, reference) > 0.8

    row = Figure().subplots(1, 4)
    overlay._draw_case(row, overlay.OverlayCase("case", case, overlay.telling_slices(case, case.reference)))
    labels = case.placement.axes.apply(case.reference)[tuple(slice(low, high) for low, high in case.placement.bounds)]
    main, _ = overlay.informative_slices(labels, labels)
    for plot in row[:3]:  # the last one shows where reference and prediction differ, and here they do nowhere
        assert overlap(at_voxels(plot, *labels.shape[1:]), labels[main]) > 0.8


def at_voxels(plot: Any, height: int, width: int) -> NDArray[Any]:
    """What a plot shows at the centres of native voxels, where contours are drawn."""
    [drawn] = plot.get_images()
    values, (left, right, bottom, top) = np.asarray(drawn.get_array()), drawn.get_extent()
    rows = np.floor((np.arange(height) - bottom) / (top - bottom) * values.shape[0]).astype(int)
    columns = np.floor((np.arange(width) - left) / (right - left) * values.shape[1]).astype(int)
    return values[np.ix_(rows, columns)]


@pytest.mark.parametrize(("resampling", "spacing"), GRIDS)
def test_what_was_cut_off_is_dark(resampling: str, spacing: Spacing) -> None:
    """MONAI cuts after resampling, so the native slice reaches further than the image."""
    case = prepared(resampling, spacing, "RAS", crop=True)
    row = Figure().subplots(1, 4)
    overlay._draw_case(row, overlay.OverlayCase("case", case, overlay.telling_slices(case, case.reference)))
    shown = at_voxels(row[0], *case.placement.grid.native[1:])
    body = np.zeros(SHAPE, bool)
    body[BODY] = True
    bounds = tuple(slice(low, high) for low, high in case.placement.bounds)
    flat = case.placement.axes.apply(body)[bounds].any(axis=0)
    assert np.count_nonzero((shown > 0.25) != flat) < 0.15 * np.count_nonzero(flat)


def test_positions_by_hand() -> None:
    half = prepared("half-pixel", (6.0, 1.2, 1.0), "RAS", crop=False).placement
    assert half.shape == (20, 56, 60)
    assert half.grid.positions(0, np.array([0.0, 0.5, 39.0])).tolist() == [-0.25, 0.0, 19.25]
    assert half.grid.positions(1).tolist() == list(range(56))
    corners = prepared("monai", (6.0, 1.2, 1.0), "RAS", crop=True).placement.grid
    assert isinstance(corners, CornerGrid)
    first = corners.first
    assert corners.positions(0, np.array([0.0, 3.0, 20.0])).tolist() == [0.0 - first[0], 1.5 - first[0], 10.0 - first[0]]
    assert first[0] == 7, "the body begins at slice 14, twice as fine"
