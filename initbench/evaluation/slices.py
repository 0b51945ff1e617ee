"""slices.npz: a slice of every reported case, so that a report can show any case of any run without the data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench.evaluation.grid import plane
from initbench.preprocessing.prepare import PreparedCase
from initbench.runs.store import SLICE_KEY

Bytes = NDArray[np.uint8]
SIDE = 160  # pixels of the longer side
_MARGIN = 0.6  # shown around the reference, as a share of its size
_LEAST = 48.0  # mm: a small lesion is shown with what surrounds it


def case_slice(case: PreparedCase, prediction: Bytes) -> Bytes:
    """Image, reference and prediction ``(3, H, W)`` of one case, square pixels.

    Slice and window are chosen by the reference alone, so that every run of a study shows the same.
    """
    axes, bounds = case.placement.axes, tuple(slice(low, high) for low, high in case.placement.bounds)
    reference, predicted = axes.apply(case.reference)[bounds], axes.apply(prediction)[bounds]
    filled = np.count_nonzero(reference, axis=(1, 2))
    index = int(filled.argmax()) if filled.any() else len(reference) // 2
    window = _window(reference[index], axes.spacing(case.affine)[1:])
    rows, columns = (at * size - 0.5 for at, size in zip(window, reference.shape[1:], strict=True))
    image = plane(case.image, case.placement, index, rows, columns)
    return np.stack([_scaled(image), *(_nearest(labels[index], window) for labels in (reference, predicted))])


_Window = tuple[NDArray[np.float64], NDArray[np.float64]]


def _window(reference: Bytes, spacing: tuple[float, float]) -> _Window:
    """Pixel centres to show along H and W, as shares of the slice."""
    spans = []
    for axis, (size, step) in enumerate(zip(reference.shape, spacing, strict=True)):
        found = np.flatnonzero(reference.any(1 - axis))
        low, high = (int(found[0]), int(found[-1]) + 1) if found.size else (0, size)
        half = max((high - low) * step * (0.5 + _MARGIN), _LEAST / 2)
        centre = (low + high) / 2 * step
        spans.append((max(0.0, centre - half), min(size * step, centre + half), size * step))
    pixel = max(high - low for low, high, _ in spans) / SIDE
    rows, columns = (
        (low + (np.arange(max(1, round((high - low) / pixel))) + 0.5) * pixel).clip(low, high) / whole
        for low, high, whole in spans
    )
    return rows, columns


def _nearest(plane: NDArray[Any], window: _Window) -> NDArray[Any]:
    rows, columns = (np.minimum((at * size).astype(int), size - 1) for at, size in zip(window, plane.shape, strict=True))
    return plane[np.ix_(rows, columns)]


def _scaled(image: NDArray[np.float32]) -> Bytes:
    low, high = np.percentile(image, (0.5, 99.5))
    return np.asarray(255 * ((image - low) / max(float(high - low), 1e-6)).clip(0, 1), np.uint8)


def write(path: Path, slices: dict[str, Bytes]) -> None:
    """Writes the slices by case; the same slices are the same bytes."""
    np.savez_compressed(path, allow_pickle=False, **{f"{SLICE_KEY}{case}": found for case, found in slices.items()})
