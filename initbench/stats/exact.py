"""Exact tests over seeds, and what they can reach: with few seeds no data whatever would be significant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from initbench.stats.design import Array, Refused, SeedDesign, generator
from initbench.stats.summary import LEVEL

_COMPLETE = 20_000  # rearrangements that are all looked at; above, as many are drawn


@dataclass(frozen=True)
class ExactTest:
    """p of a permutation test over seeds (scope B), and the smallest it could have been."""

    p: float
    smallest: float


def smallest_sign_flip(count: int) -> float:
    """Smallest two-sided p of a signed-rank or sign-flip test of `count` pairs: 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - count))


def smallest_permutation(first: int, second: int) -> float:
    """Smallest two-sided p of a permutation test of two groups, twice the smaller tail: 2 / C(n + m, n)."""
    return min(1.0, 2 / math.comb(first + second, first))


def seeds_for_sign_flip(family: int = 1) -> int:
    """Seeds from which a sign-flip test can be significant at 5 % over `family` pairs under Holm."""
    return math.ceil(math.log2(2 * family / (1 - LEVEL)))


def exact_test(a: Array, b: Array, seeds: SeedDesign = "crossed", family: int = 1) -> ExactTest | Refused:
    """Permutation test of the run scores `a` and `b` [seed]: signs of the paired differences, or groups of independent runs.

    Refused where no outcome could be significant at 5 % over the `family` pairs that Holm's adjustment goes over.
    """
    paired = seeds == "crossed"
    smallest = smallest_sign_flip(a.size) if paired else smallest_permutation(a.size, b.size)
    if family * smallest > 1 - LEVEL:
        over = f" over {family} comparisons" if family > 1 else ""
        return Refused(f"cannot reach significance with S = {a.size}: the smallest p is {smallest:.3g}{over}")
    from scipy.stats import permutation_test  # scipy.stats takes long to import

    found = permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=_COMPLETE,
        rng=generator("exact"),
    )
    return ExactTest(float(found.pvalue), smallest)
