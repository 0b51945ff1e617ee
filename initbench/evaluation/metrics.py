"""Counts per case and class, or region: the one place where labels become what is reported."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from initbench.dice import Counts

# Voxels that are counted at once. A pair of labels takes eight bytes: for a whole CT at once the system would map fresh memory.
_BLOCK = 2**16


def count(
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    classes: int,
    regions: Sequence[Sequence[int]] | None = None,
) -> list[Counts]:
    """Counts voxels of each class, or of each region, in a reference and a prediction.

    Args:
        reference: labels below `classes`.
        prediction: likewise, with the same shape.
        classes: with background, which is not counted.
        regions: sets of labels, each of which counts as one class; None to count classes.

    Raises:
        ValueError: shapes differ.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference {reference.shape} and prediction {prediction.shape} have different shapes")
    references, predictions = reference.ravel(), prediction.ravel()
    joint = np.zeros(classes * classes, np.int64)
    for first in range(0, references.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        joint += np.bincount(references[block].astype(np.int64) * classes + predictions[block], minlength=joint.size)
    table = joint.reshape(classes, classes)  # rows: reference, columns: prediction
    return [_of_region(table, labels) for labels in label_sets(classes, regions)]


def label_sets(classes: int, regions: Sequence[Sequence[int]] | None) -> list[Sequence[int]]:
    """Returns the labels of each class that is reported: the regions, or else every class but the background by itself."""
    if regions:
        return list(regions)
    return [(label,) for label in range(1, classes)]


def _of_region(table: NDArray[np.int64], labels: Sequence[int]) -> Counts:
    """Counts a set of labels as one class: to take one label of the set for another is no mistake.

    Args:
        table: voxels by label of the reference (rows) and of the prediction (columns).
        labels: the set.
    """
    both = table[np.ix_(labels, labels)].sum()
    return Counts(int(both), int(table[:, list(labels)].sum() - both), int(table[list(labels)].sum() - both))
