"""Scores of studies that never were, with known variance components."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Dice points; the lung study of the simulations that the specification cites, and one with few cases and a large seed effect.
LUNG = {"seed": 1.5, "init_case": 3.0, "residual": 10.0, "case": 25.0}
ORGANS = {"seed": 5.0, "init_case": 3.0, "residual": 5.0, "case": 20.0}
# What a difference may be generalized to, and whether the seeds of two inits are the same.
SCOPES = ("A", "B", "C")
DESIGNS = ("crossed", "nested")


def scores(
    rng: np.random.Generator,
    studies: int,
    inits: int,
    seeds: int,
    cases: int,
    *,
    seed: float = 1.5,
    init_case: float = 3.0,
    residual: float = 10.0,
    case: float = 25.0,
    shared: float = 0.0,
) -> NDArray[np.float64]:
    """Scores y [study, init, seed, case] in Dice points, as sums of normal effects.

    Args:
        seed: SD of a seed within one init.
        init_case: SD of an init on a case.
        residual: SD of a run on a case.
        case: SD of a case.
        shared: SD of a seed that all inits share.
    """
    y = rng.normal(0, residual, (studies, inits, seeds, cases))
    y += rng.normal(0, seed, (studies, inits, seeds, 1)) + rng.normal(0, shared, (studies, 1, seeds, 1))
    y += rng.normal(0, init_case, (studies, inits, 1, cases)) + rng.normal(0, case, (studies, 1, 1, cases))
    return y
