"""How fast inits learn: Dice over the steps of a run, its mean over seeds, and the steps to a Dice that another init ends at."""

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
    """Dice of a run at the points where it was looked at, in the order of its steps.

    Attributes:
        steps: that were done then, in the init stage and in training.
        seconds: of both stages, until then.
        dice: in points, 0 to 100.
        diverged: whether the run diverged; the curve ends before that.
        cases: how many cases were looked at; 0 where that is not known.
    """

    seed: int
    steps: Array
    seconds: Array
    dice: Array
    diverged: bool = False
    cases: int = 0

    @property
    def final(self) -> float:
        """Dice at the end; 0 of a run that diverged, as everywhere."""
        return 0.0 if self.diverged else float(self.dice[-1])

    def steps_to(self, wanted: float) -> float:
        """Steps at the first point with the wanted Dice in points or more; inf where there is none."""
        reached = np.flatnonzero(self.dice >= wanted - _EPSILON)
        return float(self.steps[reached[0]]) if reached.size else math.inf


@dataclass(frozen=True)
class MeanCurve:
    """Mean over the runs of an init, point by point. A run that diverged counts with Dice 0 from there on.

    Attributes:
        steps: as of `LearningCurve`, and so are `seconds` and `dice`.
        runs: how many runs are behind each point.
    """

    steps: Array
    seconds: Array
    dice: Array
    runs: NDArray[np.int64]


def mean_curve(curves: Sequence[LearningCurve]) -> MeanCurve:
    """The mean of the runs of one init."""
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
    """How many steps an init takes to a share of the Dice that the baseline of the same seed ends at.

    Attributes:
        init: name of the row.
        steps: of each seed, in the order of seeds; inf where it is not reached.
    """

    init: str
    steps: tuple[float, ...]

    @property
    def reached(self) -> tuple[float, ...]:
        """The steps of the seeds that reach it."""
        return tuple(step for step in self.steps if math.isfinite(step))

    @property
    def median(self) -> float:
        """The median over all seeds; inf where half of them or more do not reach it."""
        return float(statistics.median(self.steps))

    def __str__(self) -> str:
        """The median and the range of the seeds that reach it, and how many do not: ``600 (400 to 900), not reached in 2/5``."""
        missed = len(self.steps) - len(self.reached)
        misses = f"not reached in {missed}/{len(self.steps)}"
        if not self.reached:
            return misses
        low, high = min(self.reached), max(self.reached)
        span = f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
        if not math.isfinite(self.median):
            return f"{misses}, else {span}"
        found = f"{self.median:,.0f}" if low == high else f"{self.median:,.0f} ({span})"
        return f"{found}, {misses}" if missed else found


def steps_to_share(
    curves: Mapping[str, Sequence[LearningCurve]], baseline: str = "default", share: float = SHARE
) -> list[StepsTo]:
    """The steps of every init to a share of the Dice that the baseline of the same seed ends at, at the points of its curve.

    Seeds of which the baseline has no curve, or ends at Dice 0, tell nothing and are left out.

    Args:
        curves: of the runs of each init of a block, by the name of its row.
        baseline: name of the row that says what is to be reached.
        share: of its last Dice.

    Returns:
        A row for each init that shares a seed with the baseline, in the order of `curves`.
    """
    wanted = {}
    for curve in curves.get(baseline, ()):
        if curve.final > 0:
            wanted[curve.seed] = share * curve.final
    found = []
    for init, own in curves.items():
        shared = [curve for curve in own if curve.seed in wanted]
        steps = tuple(curve.steps_to(wanted[curve.seed]) for curve in sorted(shared, key=lambda curve: curve.seed))
        if steps:
            found.append(StepsTo(init, steps))
    return found
