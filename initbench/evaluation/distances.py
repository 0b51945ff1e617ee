"""Distances between surfaces in mm: HD95 and normalised surface Dice per class of one case, on its native grid.

Surfaces and the distances between them are MONAI's (``get_mask_edges``, ``get_surface_distance``). They are computed once for
both numbers, where MONAI's own two functions compute them twice. ``compute_hausdorff_distance(percentile=95)`` and
``compute_surface_dice`` give the same numbers, which the tests compare bit for bit. MONAI is imported when the first case is
measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initbench.evaluation.evaluate import Scored
from initbench.protocols import Spacing
from initbench.runs.record import DistanceMethod, MeanDistance

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
    """

    hd95_mm: float | None
    nsd: float | None


CaseDistances = dict[str, list[Distances]]
"""Distances of each case, per foreground class or region."""


def voxel_size(affine: NDArray[np.float64]) -> Spacing:
    """Edges in mm of a voxel along the array's own axes: the column norms of its affine, so that oblique grids count as rotated.

    A sheared grid is measured as if its axes were at right angles.
    """
    x, y, z = (float(edge) for edge in np.linalg.norm(np.asarray(affine)[:3, :3], axis=0))
    return x, y, z


def distances_per_class(
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    affine: NDArray[np.float64],
    classes: int,
    tolerance_mm: float,
    regions: Sequence[Sequence[int]] | None = None,
) -> list[Distances]:
    """Distances of classes 1 to `classes` - 1 (background is no class), or of regions.

    Args:
        reference: label map ``(X, Y, Z)`` in the file's own axis order.
        prediction: likewise.
        affine: voxel to world (mm), 4 x 4.
        classes: with background.
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
    sets = regions or [(k,) for k in range(1, classes)]
    return [_of_class(_mask(reference, labels), _mask(prediction, labels), spacing, tolerance_mm) for labels in sets]


def _mask(label_map: NDArray[np.uint8], labels: Sequence[int]) -> NDArray[np.bool_]:
    return label_map == labels[0] if len(labels) == 1 else np.isin(label_map, labels)


def _of_class(reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Spacing, tolerance_mm: float) -> Distances:
    if not reference.any():
        return Distances(None, None)
    if not prediction.any():
        return Distances(None, 0.0)
    box = bounding_box(reference | prediction)
    return of_masks(reference[box], prediction[box], spacing, tolerance_mm)


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Box around everything in a mask that holds something, a voxel wider where the array goes on."""
    box = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(0, int(filled[0]) - _MARGIN), int(filled[-1]) + 1 + _MARGIN))
    return tuple(box)


def of_masks(reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Spacing, tolerance_mm: float) -> Distances:
    """Distances between two masks, neither of which is empty. Where a mask ends at the array's border it has a surface.

    Args:
        reference: whether a voxel is of the class, on the native grid.
        prediction: the same of the prediction, with the same shape.
        spacing: of the voxels in mm, along the array's axes.
        tolerance_mm: distance up to which a piece of surface counts as right.
    """
    from monai.metrics import get_mask_edges, get_surface_distance

    edges = get_mask_edges(_tensor(prediction), _tensor(reference))
    one, other = (get_surface_distance(a, b, spacing=list(spacing)) for a, b in (edges, edges[::-1]))
    within = int((one <= tolerance_mm).sum()) + int((other <= tolerance_mm).sum())
    return Distances(max(_percentile(one), _percentile(other)), within / (one.numel() + other.numel()))


def _tensor(mask: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(mask))


def _percentile(distances: Tensor) -> float:
    if distances.numel() > _TORCH_QUANTILE:
        return float(np.quantile(distances.numpy(), PERCENTILE / 100))
    return float(torch.quantile(distances, PERCENTILE / 100))


def distances_of_case(scored: Scored, tolerance_mm: float) -> list[Distances]:
    """Distances of a scored case, per foreground class or region."""
    classes = len(scored.counts) + 1
    return distances_per_class(
        scored.case.reference, scored.prediction, scored.case.affine, classes, tolerance_mm, scored.regions
    )


def record_distances(distances: CaseDistances | None, classes: Sequence[str], tolerance_mm: float) -> dict[str, Any]:
    """The entries of a record: how distances were measured, and means per class; None where they were not.

    Args:
        distances: of every case; None where nobody asked for them.
        classes: what is reported, the background first.
        tolerance_mm: of the surface Dice.
    """
    if distances is None:
        return {"distances": None, "hd95_mm_per_class": None, "nsd_per_class": None}
    how = DistanceMethod(tool=TOOL, version=version(TOOL), percentile=PERCENTILE, nsd_tolerance_mm=tolerance_mm)
    return {"distances": how, **mean_distances(distances, classes)}


def mean_distances(distances: Mapping[str, Sequence[Distances]], classes: Sequence[str]) -> dict[str, dict[str, MeanDistance]]:
    """Means per class over the cases that have a value, with how many have one and why the others have none."""
    hd95, nsd = {}, {}
    for name, column in zip(classes[1:], zip(*distances.values(), strict=True), strict=True):
        absent = sum(item.nsd is None for item in column)
        missed = sum(item.hd95_mm is None for item in column) - absent
        hd95_known, nsd_known = _known(item.hd95_mm for item in column), _known(item.nsd for item in column)
        hd95[name] = MeanDistance(mean=_mean(hd95_known), cases=len(hd95_known), reference_empty=absent, prediction_empty=missed)
        nsd[name] = MeanDistance(mean=_mean(nsd_known), cases=len(nsd_known), reference_empty=absent)
    return {"hd95_mm_per_class": hd95, "nsd_per_class": nsd}


def _known(column: Iterable[float | None]) -> list[float]:
    return [value for value in column if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
