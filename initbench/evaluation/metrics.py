"""Counts per case and class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from initbench.dice import Counts


def count(reference: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> list[Counts]:
    """Counts of classes 1 to `classes` - 1 (background is no class).

    Raises:
        ValueError: shapes differ.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference {reference.shape} and prediction {prediction.shape} have different shapes")
    joint = np.bincount(reference.astype(np.int64).ravel() * classes + prediction.ravel(), minlength=classes * classes)
    table = joint.reshape(classes, classes)  # rows: reference, columns: prediction
    return [
        Counts(int(table[k, k]), int(table[:, k].sum() - table[k, k]), int(table[k].sum() - table[k, k]))
        for k in range(1, classes)
    ]
