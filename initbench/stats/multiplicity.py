"""Many comparisons at once: Holm's adjustment, and the letters that show its result."""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence

import numpy as np

from initbench.stats.design import Array


def holm(p: Sequence[float] | Array) -> Array:
    """Holm's adjusted p values: sorted, times m − k + 1, running maximum, at most 1 (Holm 1979).

    NaN, a comparison that cannot be tested, stays NaN and does not count in m: it can never be rejected.
    """
    values = np.asarray(p, np.float64)
    adjusted = np.full(values.shape, np.nan)
    order = np.argsort(values, kind="stable")
    order = order[~np.isnan(values[order])]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


def compact_letters(count: int, different: Collection[tuple[int, int]]) -> list[str]:
    """Letters for items 0 … count − 1: two items share one exactly if they are not in `different`.

    Insert and absorb, Piepho 2004 (J. Comput. Graph. Stat. 13:456). Item 0 holds the letter a, later letters go to later items.
    """
    groups: list[frozenset[int]] = [frozenset(range(count))]
    for i, j in different:
        split: list[frozenset[int]] = []
        for group in groups:
            split += [group - {i}, group - {j}] if i in group and j in group else [group]
        groups = _absorbed(split)
    groups.sort(key=sorted)
    return ["".join(_letter(k) for k, group in enumerate(groups) if item in group) for item in range(count)]


def _absorbed(groups: list[frozenset[int]]) -> list[frozenset[int]]:
    unique = list(dict.fromkeys(groups))
    return [group for group in unique if not any(group < other for other in unique)]


def _letter(k: int) -> str:
    letters = string.ascii_lowercase
    return letters[k] if k < len(letters) else f"({k + 1})"
