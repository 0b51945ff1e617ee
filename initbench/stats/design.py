"""Types and functions that all statistics share: designs of seeds, scopes in words, refusals, and a source of random numbers.

Seed = reader, init = modality, case = case of a multi-reader multi-case study (Dorfman, Berbaum & Metz 1992; Hillis 2007).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Crossed: every init has a run of every seed, and runs of one seed share streams. Nested: every init has seeds of its own.
SeedDesign = Literal["crossed", "nested"]

Scope = Literal["A", "B", "C"]

SCOPES: dict[Scope, str] = {
    "A": "new seeds and new cases, for this training set",
    "B": "new seeds, these test cases, for this training set",
    "C": "new cases, these trained weights",
}


@dataclass(frozen=True)
class Refused:
    """Stands where a number would, with the reason why the data at hand do not tell it."""

    reason: str


def generator(purpose: str) -> np.random.Generator:
    """Returns a source of random numbers for a purpose.

    Its key is fixed, so that a table gives the same answer each time, and no random stream of a run is touched.
    """
    key = hashlib.sha256(f"initbench-statistics-1:{purpose}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def checked(y: Array, axes: str) -> Array:
    """Returns scores as float64.

    Args:
        y: the scores.
        axes: names of the axes that they need at the least, as "init, seed, case".

    Raises:
        ValueError: they have fewer axes, or one is not finite; missing scores are resolved by the Dice policy before any
            statistic.
    """
    found = np.asarray(y, np.float64)
    if found.ndim < len(axes.split(", ")):
        raise ValueError(f"scores of shape {found.shape}: [{axes}] is needed")
    if not np.isfinite(found).all():
        raise ValueError("scores that are not finite: the Dice policy and diverged runs are resolved before any statistic")
    return found
