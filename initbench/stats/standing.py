"""The runs that stand: the difference of two inits over the seeds at which neither collapsed.

This stands beside the answer and is not the answer. A scheme that collapses in one run of ten and is better in the others may be
the worse choice, and the mean over all runs says so. The difference of the runs that stand says how good the scheme is otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from initbench.stats.design import Array, Flags, SeedDesign
from initbench.stats.mrmc import mean_difference
from initbench.stats.scale import DIFFERENCE, cut
from initbench.stats.summary import LEVEL, Interval
from initbench.stats.tails import quantile
from initbench.stats.testable import untestable


@dataclass(frozen=True)
class StandingDifference:
    """A difference of two inits over the runs that stand, in Dice points.

    Attributes:
        estimate: the difference with its interval, as wide as a member of the family needs. The bounds are NaN where fewer than
            two seeds are left, and the value, too, where no seed is left.
        seeds: number of seeds at which both stand; where inits have seeds of their own, number of standing runs of the init that
            has fewer.
    """

    estimate: Interval
    seeds: int


def difference_of_standing(a: Array, b: Array, lost: Flags, seeds: SeedDesign, family: float) -> StandingDifference:
    """Returns `a` minus `b` over the runs that stand.

    Inits that share seeds are compared over the seeds at which both stand. Of inits with seeds of their own each keeps its
    standing runs; where these differ in number there is a difference and no interval.

    Args:
        a: Dice points of one init [seed, case].
        b: Dice points of the other one.
        lost: which of their runs collapsed, [2, seed].
        seeds: whether the two share their seeds.
        family: the number by which 5 % is divided for the level of one difference of the family.
    """
    stand = ~lost
    if seeds == "crossed":
        stand = np.broadcast_to(stand.all(0), stand.shape)
    first, second = a[stand[0]], b[stand[1]]
    number = min(len(first), len(second))
    value = math.nan
    if number > 0:
        value = float(first.mean() - second.mean())
    alone = StandingDifference(Interval(value, math.nan, math.nan), number)
    if number < 2 or len(first) != len(second) or untestable(first, second, "A", seeds):
        return alone
    found = mean_difference(first, second, seeds)
    reach = float(quantile(found, (1 - LEVEL) / family) * found.error)
    return StandingDifference(cut(Interval(value, value - reach, value + reach), DIFFERENCE), number)
