"""The values that a number in Dice points can have: intervals are cut to them, and tables mark an end that was cut."""

from __future__ import annotations

import math
from dataclasses import dataclass

from initbench.stats.summary import Interval


@dataclass(frozen=True)
class Scale:
    """The smallest and the largest value that a number can have."""

    low: float
    high: float


DICE = Scale(0.0, 100.0)
DIFFERENCE = Scale(-100.0, 100.0)
# No values between 0 and 100 have a larger SD: half of them would be 0 and half 100 (Popoviciu 1935). Its lower end is 0 by
# itself, so only the upper one is ever cut.
SD = Scale(-math.inf, 50.0)


def cut(found: Interval, scale: Scale) -> Interval:
    """Returns an estimate and its interval, cut to the values that a scale allows; NaN stays NaN."""
    return Interval(_within(found.value, scale), _within(found.low, scale), _within(found.high, scale))


def _within(value: float, scale: Scale) -> float:
    """Returns a value, or the end of the scale that it lies beyond; NaN stays NaN."""
    if math.isnan(value):
        return value
    return min(max(value, scale.low), scale.high)
