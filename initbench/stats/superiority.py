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
        chance: 0 to 1, with its 95 % interval.
        pairs: number of pairs of runs that were compared.
    """

    chance: Interval
    pairs: int


def superiority(a: Array, b: Array, seeds: SeedDesign = "crossed") -> Superiority | Refused:
    """Returns P(A > B), or why it cannot be told.

    Crossed: the S pairs of one seed, with Wilson's interval of a proportion (1927). Nested: all S² pairs, the Mann-Whitney
    statistic, with Newcombe's interval (2006, Stat. Med. 25:559, method 5). A percentile bootstrap of the pairs would give [1, 1]
    whenever few seeds agree.

    Args:
        a: run scores of the first init, [seed].
        b: run scores of the second one.
        seeds: whether the two share their seeds.
    """
    if min(a.size, b.size) < 2:
        return Refused("one seed: how often one init beats the other cannot be told")
    if seeds == "crossed":
        wins = float((np.sign(a - b) + 1).mean() / 2)
        return Superiority(_wilson(wins, a.size), a.size)
    wins = float((np.sign(a[:, None] - b[None, :]) + 1).mean() / 2)
    return Superiority(_newcombe(wins, a.size, b.size), a.size * b.size)


def _wilson(share: float, count: int) -> Interval:
    """Returns Wilson's interval of a share, 0 to 1, of a number of pairs."""
    z2 = _z() ** 2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _z() * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def _newcombe(share: float, first: int, second: int) -> Interval:
    """Returns Newcombe's interval of a Mann-Whitney statistic.

    Args:
        share: the statistic, 0 to 1.
        first: number of runs of the first init.
        second: number of runs of the second one.
    """
    from scipy.optimize import brentq  # scipy.optimize takes long to import

    extra = (first + second) / 2 - 1

    def excess(chance: float) -> float:
        """Returns |share − chance| less z standard errors at `chance`."""
        spread = chance * (1 - chance) * (1 + extra * ((1 - chance) / (2 - chance) + chance / (1 + chance)))
        return abs(share - chance) - _z() * math.sqrt(spread / (first * second))

    # The spread is 0 at 0 and at 1, which are then roots, too: the other root is the end of the interval.
    low, high = 0.0, 1.0
    if share > 0:
        low = float(brentq(excess, 0.0, min(share, 1 - 1e-9)))
    if share < 1:
        high = float(brentq(excess, max(share, 1e-9), 1.0))
    return Interval(share, low, high)


def _z() -> float:
    """Returns the quantile of the normal law for a two-sided interval of 95 %."""
    return float(special.ndtri(0.5 + LEVEL / 2))
