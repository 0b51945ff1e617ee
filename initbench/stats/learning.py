"""How fast inits learn: Dice over the steps of a run, its mean over seeds, and the steps to a share of a baseline's last Dice."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SHARE = 0.95  # of the Dice that the baseline ends at
_EPSILON = 1e-9  # a Dice that is the wanted one but for rounding has reached it


@dataclass(frozen=True)
class LearningCurve:
    """Dice of a run at the points where it was measured while it trained, in the order of its steps.

    Attributes:
        seed: of the run.
        steps: [point], how many steps of the init stage and of training were done.
        seconds: [point], how long both stages had taken.
        dice: [point], in points, 0 to 100.
        diverged: whether the run diverged; the curve ends before that.
        cases: number of cases that were measured; 0 where that is not known.
    """

    seed: int
    steps: Array
    seconds: Array
    dice: Array
    diverged: bool = False
    cases: int = 0

    @property
    def final(self) -> float:
        """Dice at the end, in points; 0 of a run that diverged, as everywhere."""
        if self.diverged:
            return 0.0
        return float(self.dice[-1])

    def steps_to(self, wanted: float) -> float:
        """Returns the steps at the first point with the wanted Dice, in points, or more; inf where there is no such point."""
        reached = np.flatnonzero(self.dice >= wanted - _EPSILON)
        if not reached.size:
            return math.inf
        return float(self.steps[reached[0]])


@dataclass(frozen=True)
class MeanCurve:
    """Mean over the runs of an init, point by point. A run that diverged counts with Dice 0 from there on.

    Attributes:
        steps: as in `LearningCurve`; likewise `seconds` and `dice`.
        runs: [point], over how many runs the mean is.
    """

    steps: Array
    seconds: Array
    dice: Array
    runs: NDArray[np.int64]


def mean_curve(curves: Sequence[LearningCurve]) -> MeanCurve:
    """Returns the mean of the runs of one init, at every point of any run."""
    points = np.unique(np.concatenate([curve.steps for curve in curves]))
    seconds, dice, runs = [], [], []
    for step in points:
        took, scores = [], []
        for curve in curves:
            place = int(np.searchsorted(curve.steps, step))
            if place < len(curve.steps) and curve.steps[place] == step:
                took.append(float(curve.seconds[place]))
                scores.append(float(curve.dice[place]))
            elif curve.diverged and place == len(curve.steps):
                scores.append(0.0)
        seconds.append(statistics.fmean(took))
        dice.append(statistics.fmean(scores))
        runs.append(len(scores))
    return MeanCurve(points, np.array(seconds), np.array(dice), np.array(runs))


@dataclass(frozen=True)
class StepsTo:
    """How many steps an init takes to a share of the last Dice of the baseline of the same seed.

    Attributes:
        init: name of the row.
        steps: for each seed, in the order of seeds; inf where the Dice is not reached.
    """

    init: str
    steps: tuple[float, ...]

    @property
    def reached(self) -> tuple[float, ...]:
        """The steps of the seeds that reach the Dice."""
        return tuple(step for step in self.steps if math.isfinite(step))

    @property
    def median(self) -> float:
        """The median over all seeds; inf where half of them or more do not reach the Dice."""
        return float(statistics.median(self.steps))

    def __str__(self) -> str:
        """Returns the median, the range, and how many seeds miss the Dice: ``600 (400 to 900), not reached in 2/5``."""
        missed = len(self.steps) - len(self.reached)
        misses = f"not reached in {missed}/{len(self.steps)}"
        if not self.reached:
            return misses
        low, high = min(self.reached), max(self.reached)
        span = f"{low:,.0f} to {high:,.0f}"
        found = f"{self.median:,.0f} ({span})"
        if low == high:
            span, found = f"{low:,.0f}", f"{self.median:,.0f}"
        if not math.isfinite(self.median):
            return f"{misses}, else {span}"
        if missed:
            return f"{found}, {misses}"
        return found


def steps_to_share(
    curves: Mapping[str, Sequence[LearningCurve]], baseline: str = "default", share: float = SHARE
) -> list[StepsTo]:
    """Returns the steps that every init takes to a share of the last Dice of the baseline of the same seed.

    Seeds tell nothing, and are left out, where the baseline has no curve or a last Dice of 0.

    Args:
        curves: the curves of the runs of each init of a block, by the name of its row.
        baseline: name of the row whose Dice is to be reached.
        share: of its last Dice, 0 to 1.

    Returns:
        A row for each init that shares a seed with the baseline, in the order of `curves`.
    """
    wanted = {}
    for curve in curves.get(baseline, ()):
        if curve.final > 0:
            wanted[curve.seed] = share * curve.final
    found = []
    for init, own in curves.items():
        steps = []
        for curve in sorted(own, key=lambda curve: curve.seed):
            if curve.seed in wanted:
                steps.append(curve.steps_to(wanted[curve.seed]))
        if steps:
            found.append(StepsTo(init, tuple(steps)))
    return found
