"""The runs that stand: what two inits differ by over the seeds at which neither collapsed.

This is beside the answer and not the answer. A scheme that collapses in one run of ten and is better in the others may be the
worse choice, and the mean over all runs says so. The runs that stand say what the others are worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from initbench.stats.design import Array, Flags, SeedDesign
from initbench.stats.mrmc import crossed_difference, nested_difference
from initbench.stats.scale import DIFFERENCE, cut
from initbench.stats.summary import LEVEL, Interval
from initbench.stats.tails import quantile
from initbench.stats.testable import untestable


@dataclass(frozen=True)
class StandingDifference:
    """A difference of two inits over the runs that stand, in Dice points.

    Attributes:
        estimate: with its interval, as wide as a member of the family needs; bounds are NaN where fewer than two seeds are left,
            and the value too where none is.
        seeds: number of seeds at which both stand; with seeds of their own, of standing runs of the init that has fewer.
    """

    estimate: Interval
    seeds: int


def difference_of_standing(a: Array, b: Array, lost: Flags, seeds: SeedDesign, family: float) -> StandingDifference:
    """`a` minus `b` over the runs that stand.

    Inits that share seeds are compared over the seeds at which both stand. Of inits with seeds of their own each keeps its
    standing runs; where these differ in number there is a difference and no interval.

    Args:
        a: Dice points of one init [seed, case].
        b: Dice points of the other one.
        lost: which of their runs collapsed, [2, seed].
        seeds: whether the two share their seeds.
        family: by what 5 % is divided for the level of one difference of its family.
    """
    stand = ~lost
    if seeds == "crossed":
        stand = np.broadcast_to(stand.all(0), stand.shape)
    first, second = a[stand[0]], b[stand[1]]
    number = min(len(first), len(second))
    value = float(first.mean() - second.mean()) if number else math.nan
    alone = StandingDifference(Interval(value, math.nan, math.nan), number)
    if number < 2 or len(first) != len(second) or untestable(first, second, "A", seeds):
        return alone
    found = crossed_difference(first - second) if seeds == "crossed" else nested_difference(first, second)
    reach = float(quantile(found, (1 - LEVEL) / family) * found.error)
    return StandingDifference(cut(Interval(value, value - reach, value + reach), DIFFERENCE), number)
