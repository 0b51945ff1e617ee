"""Distances between surfaces, and the difference of volumes, per class of one case on its native grid.

HD95 and normalised surface Dice, and what the CHAOS challenge reports beside Dice: RAVD, ASSD and MSSD. Surfaces and the
distances between them are MONAI's (``get_mask_edges``, ``get_surface_distance``). They are computed once for all numbers, where
each of MONAI's own functions computes them again. ``compute_hausdorff_distance(percentile=95)`` and ``compute_surface_dice`` give
the same numbers, which the tests compare bit for bit. MONAI is imported when the first case is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initbench.evaluation.evaluate import Scored
from initbench.evaluation.metrics import label_sets
from initbench.protocols import Spacing
from initbench.runs.record import MEASURES, DistanceMethod, MeanDistance

TOOL = "monai"
PERCENTILE = 95
_MARGIN = 1  # voxels around a class: what lies outside its box has no part in its surface
_TORCH_QUANTILE = 2**24  # elements; torch.quantile takes no more


@dataclass(frozen=True)
class Distances:
    """Of one class in one case. None is a missing value, never an infinite one.

    Attributes:
        hd95_mm: the larger of the two 95th percentiles of the distances from one surface to the other; None where reference or
            prediction lacks the class.
        nsd: share of both surfaces that lies within the tolerance of the other; 0 where the prediction lacks the class, None
            where the reference does.
        ravd_percent: relative absolute volume difference, ``100 |prediction - reference| / reference``; 100 where the prediction
            lacks the class, None where the reference does.
        assd_mm: average symmetric surface distance: mean of the distances from both surfaces, all counted alike; None where
            reference or prediction lacks the class.
        mssd_mm: maximum symmetric surface distance: the largest of these distances; None likewise.
    """

    hd95_mm: float | None
    nsd: float | None
    ravd_percent: float | None
    assd_mm: float | None
    mssd_mm: float | None


ABSENT = Distances(None, None, None, None, None)
"""Of a class that the reference lacks, and of a case that was not measured."""
_MISSED = Distances(None, 0.0, 100.0, None, None)  # the prediction lacks the class
_IN_MM = ("hd95_mm", "assd_mm", "mssd_mm")  # infinite, and so missing, where the prediction lacks the class


CaseDistances = dict[str, list[Distances]]
"""Distances of each case, per foreground class or region."""


def voxel_size(affine: NDArray[np.float64]) -> Spacing:
    """Edges in mm of a voxel along the array's own axes: the column norms of its affine, so that oblique grids count as rotated.

    A sheared grid is measured as if its axes were at right angles.
    """
    edges = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    return float(edges[0]), float(edges[1]), float(edges[2])


def distances_per_class(
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    affine: NDArray[np.float64],
    classes: int,
    tolerance_mm: float,
    regions: Sequence[Sequence[int]] | None = None,
) -> list[Distances]:
    """Measures the distances of each class, or of each region, in one case.

    Args:
        reference: label map ``(X, Y, Z)`` in the file's own axis order.
        prediction: likewise.
        affine: voxel to world (mm), 4 x 4.
        classes: with background, which is not measured.
        tolerance_mm: of the surface Dice.
        regions: sets of labels, each with the surface of their union.

    Raises:
        ValueError: shapes differ, or the tolerance is negative or not finite.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference {reference.shape} and prediction {prediction.shape} have different shapes")
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise ValueError(f"a tolerance of {tolerance_mm} mm is none")
    spacing = voxel_size(affine)
    found = []
    for labels in label_sets(classes, regions):
        true, predicted = _mask(reference, labels), _mask(prediction, labels)
        found.append(_of_class(true, predicted, spacing, tolerance_mm))
    return found


def _mask(label_map: NDArray[np.uint8], labels: Sequence[int]) -> NDArray[np.bool_]:
    if len(labels) == 1:
        return np.asarray(label_map == labels[0])  # np.isin takes 40 times as long
    return np.isin(label_map, labels)


def _of_class(reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Spacing, tolerance_mm: float) -> Distances:
    if not reference.any():
        return ABSENT
    if not prediction.any():
        return _MISSED
    box = bounding_box(reference | prediction)
    return of_masks(reference[box], prediction[box], spacing, tolerance_mm)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Returns the box around all that a mask marks, a voxel wider on every side where the array goes on."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(0, int(filled[0]) - _MARGIN), int(filled[-1]) + 1 + _MARGIN))
    return tuple(box)


def of_masks(reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Spacing, tolerance_mm: float) -> Distances:
    """Measures the distances between two masks, neither of which is empty. A mask that meets the array's border has one there.

    Args:
        reference: the voxels of the class in the reference, on the native grid.
        prediction: the voxels of the class in the prediction, with the same shape.
        spacing: of the voxels in mm, along the array's axes.
        tolerance_mm: distance up to which a piece of surface counts as right.
    """
    from monai.metrics import get_mask_edges, get_surface_distance

    predicted, true = get_mask_edges(_tensor(prediction), _tensor(reference))
    one = get_surface_distance(predicted, true, spacing=list(spacing))
    other = get_surface_distance(true, predicted, spacing=list(spacing))
    within = int((one <= tolerance_mm).sum()) + int((other <= tolerance_mm).sum())
    pieces = one.numel() + other.numel()
    volume = int(reference.sum())
    return Distances(
        hd95_mm=max(_percentile(one), _percentile(other)),
        nsd=within / pieces,
        ravd_percent=100 * abs(int(prediction.sum()) - volume) / volume,
        assd_mm=float(one.double().sum() + other.double().sum()) / pieces,
        mssd_mm=max(float(one.max()), float(other.max())),
    )


def _tensor(mask: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(mask))


def _percentile(distances: Tensor) -> float:
    if distances.numel() > _TORCH_QUANTILE:
        return float(np.quantile(distances.numpy(), PERCENTILE / 100))
    return float(torch.quantile(distances, PERCENTILE / 100))


def distances_of_case(scored: Scored, tolerance_mm: float) -> list[Distances]:
    """Measures the distances of a scored case, per foreground class or region."""
    classes = len(scored.counts) + 1
    return distances_per_class(
        scored.case.reference, scored.prediction, scored.case.affine, classes, tolerance_mm, scored.regions
    )


def record_distances(distances: CaseDistances | None, classes: Sequence[str], tolerance_mm: float) -> dict[str, Any]:
    """Returns the entries of a record: how distances were measured, and their means per class; all None where nobody measured.

    Args:
        distances: of every case; None where nobody asked for them.
        classes: what is reported, the background first.
        tolerance_mm: of the surface Dice.
    """
    if distances is None:
        return dict.fromkeys(["distances", *(f"{name}_per_class" for name in MEASURES)])
    how = DistanceMethod(tool=TOOL, version=version(TOOL), percentile=PERCENTILE, nsd_tolerance_mm=tolerance_mm)
    return {"distances": how, **mean_distances(distances, classes)}


def mean_distances(distances: Mapping[str, Sequence[Distances]], classes: Sequence[str]) -> dict[str, dict[str, MeanDistance]]:
    """Averages each measure of each class over the cases that have a value, and counts why the others have none.

    Args:
        distances: of every case, per foreground class or region.
        classes: what is reported, the background first.

    Returns:
        Means by class under the keys of the record, as ``hd95_mm_per_class``.
    """
    columns = list(zip(*distances.values(), strict=True))
    found: dict[str, dict[str, MeanDistance]] = {}
    for measure in MEASURES:
        means = {}
        for name, column in zip(classes[1:], columns, strict=True):
            means[name] = _averaged(measure, column)
        found[f"{measure}_per_class"] = means
    return found


def _averaged(measure: str, column: Sequence[Distances]) -> MeanDistance:
    """Returns the mean of one measure of a class over the cases in `column`."""
    known = []
    absent = 0  # cases whose reference lacks the class
    for case in column:
        value: float | None = getattr(case, measure)
        if value is not None:
            known.append(value)
        if case.nsd is None:
            absent += 1
    average = None
    if known:
        average = fmean(known)
    if measure not in _IN_MM:
        return MeanDistance(mean=average, cases=len(known), reference_empty=absent)
    missed = len(column) - len(known) - absent
    return MeanDistance(mean=average, cases=len(known), reference_empty=absent, prediction_empty=missed)
