"""P(A > B): how often a run of one init beats a run of the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from initbench.stats.design import Array, Refused, SeedDesign
from initbench.stats.summary import LEVEL, Interval


@dataclass(frozen=True)
class Superiority:
    """Chance that a run of the first init scores higher, ties counted half; on these test cases (scope B).

    Attributes:
        chance: with its 95 % interval.
        pairs: runs compared with runs.
    """

    chance: Interval
    pairs: int


def superiority(a: Array, b: Array, seeds: SeedDesign = "crossed") -> Superiority | Refused:
    """P(A > B) from the run scores `a` and `b` [seed].

    Crossed: the S pairs of one seed, with Wilson's interval of a proportion. Nested: all S² pairs, the Mann-Whitney statistic,
    with Newcombe's interval (2006, Stat. Med. 25:559, method 5). A percentile bootstrap of the pairs would give [1, 1] whenever
    few seeds agree.
    """
    if min(a.size, b.size) < 2:
        return Refused("one seed: how often one init beats the other cannot be told")
    if seeds == "crossed":
        wins = float((np.sign(a - b) + 1).mean() / 2)
        return Superiority(_wilson(wins, a.size), a.size)
    wins = float((np.sign(a[:, None] - b[None, :]) + 1).mean() / 2)
    return Superiority(_newcombe(wins, a.size, b.size), a.size * b.size)


def _wilson(share: float, count: int) -> Interval:
    z2 = _z() ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _z() * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def _newcombe(share: float, first: int, second: int) -> Interval:
    from scipy.optimize import brentq  # scipy.optimize takes long to import

    extra = (first + second) / 2 - 1

    def excess(chance: float) -> float:
        """|share − chance| less z standard errors at `chance`."""
        spread = chance * (1 - chance) * (1 + extra * ((1 - chance) / (2 - chance) + chance / (1 + chance)))
        return abs(share - chance) - _z() * math.sqrt(spread / (first * second))

    # 0 and 1 are roots of their own, where the spread is 0: the other root is meant.
    low = 0.0 if share == 0 else float(brentq(excess, 0.0, min(share, 1 - 1e-9)))
    high = 1.0 if share == 1 else float(brentq(excess, max(share, 1e-9), 1.0))
    return Interval(share, low, high)


def _z() -> float:
    return float(special.ndtri(0.5 + LEVEL / 2))
