"""slices.npz: a slice of every reported case, so that a report can show any case of any run without the data set."""

from __future__ import annotations

from pathlib import Path

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
    """Returns image, reference and prediction ``(3, H, W)`` of a slice of a case, with square pixels.

    Slice and window are chosen by the reference alone, so that every run of a study shows the same.
    """
    reference, predicted = case.placement.crop(case.reference), case.placement.crop(prediction)
    index = len(reference) // 2
    filled = np.count_nonzero(reference, axis=(1, 2))
    if filled.any():
        index = int(filled.argmax())
    window = _window(reference[index], case.placement.axes.spacing(case.affine)[1:])
    height, width = reference.shape[1:]
    rows, columns = window
    image = plane(case.image, case.placement.grid, index, rows * height - 0.5, columns * width - 0.5)
    return np.stack([_scaled(image), _nearest(reference[index], window), _nearest(predicted[index], window)])


_Window = tuple[NDArray[np.float64], NDArray[np.float64]]


def _window(reference: Bytes, spacing: tuple[float, float]) -> _Window:
    """Returns the pixel centres to show along H and W, as shares of the slice.

    Args:
        reference: labels ``(H, W)`` of the slice.
        spacing: along H and W, in mm.
    """
    height, width = reference.shape
    rows = _span(np.count_nonzero(reference, axis=1), spacing[0])
    columns = _span(np.count_nonzero(reference, axis=0), spacing[1])
    pixel = max(rows[1] - rows[0], columns[1] - columns[0]) / SIDE
    return _centres(rows, pixel) / (height * spacing[0]), _centres(columns, pixel) / (width * spacing[1])


def _span(filled: NDArray[np.intp], step: float) -> tuple[float, float]:
    """Returns where the window begins and ends along an axis, in mm from the edge of the slice.

    Args:
        filled: pixels of the reference in each line across the axis.
        step: from one pixel to the next, in mm.
    """
    low, high = 0, len(filled)
    found = np.flatnonzero(filled)
    if found.size:
        low, high = int(found[0]), int(found[-1]) + 1
    half = max((high - low) * step * (0.5 + _MARGIN), _LEAST / 2)
    centre = (low + high) / 2 * step
    return max(0.0, centre - half), min(len(filled) * step, centre + half)


def _centres(span: tuple[float, float], pixel: float) -> NDArray[np.float64]:
    low, high = span
    count = max(1, round((high - low) / pixel))
    return (low + (np.arange(count) + 0.5) * pixel).clip(low, high)


def _nearest(labels: Bytes, window: _Window) -> Bytes:
    height, width = labels.shape
    rows, columns = window
    nearest_row = np.minimum((rows * height).astype(int), height - 1)
    nearest_column = np.minimum((columns * width).astype(int), width - 1)
    return labels[np.ix_(nearest_row, nearest_column)]


def _scaled(image: NDArray[np.float32]) -> Bytes:
    low, high = np.percentile(image, (0.5, 99.5))
    return np.asarray(255 * ((image - low) / max(float(high - low), 1e-6)).clip(0, 1), np.uint8)


def write(path: Path, slices: dict[str, Bytes]) -> None:
    """Writes the slices of cases, by case; the same slices make the same bytes."""
    arrays = {f"{SLICE_KEY}{case}": found for case, found in slices.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)
