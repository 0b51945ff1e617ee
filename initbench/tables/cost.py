"""What runs of a plan cost: how many there are, their hours and their bytes, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from initbench.runs.costs import SLOWEST, Costs, Expected, StudyPlan, pace_of
from initbench.tables import words
from initbench.units import from_to

_GUESSED = "estimated from the operations of the networks"
_MINUTE, _LONG = 60, 1800  # seconds; from the second on `run` says how to be done in minutes
_UNKNOWN = "no run like these on this device yet; run one seed first, or add --measure"


class Cost:
    """What some runs of a plan cost.

    Attributes:
        counts: how many there are of each state.
        bytes: that the new ones leave on the disk.
        told: how many of the new ones have a time.
        low: seconds of these, one after the other, at the least.
        high: likewise at the most.
        behind: how many finished runs the times are from.
        estimated: of how many runs the time is from operations.
    """

    def __init__(self, runs: Sequence[Expected], measured: Costs) -> None:
        """Adds up what runs cost.

        Args:
            runs: of a plan.
            measured: what finished runs cost.
        """
        new = [run for run in runs if run.state == "new"]
        self.counts = {"new": 0, "cached": 0, "refused": 0, "failed": 0}
        for run in runs:
            self.counts[run.state] += 1
        self.bytes = sum(measured.bytes_of(run) for run in new)
        seconds = [run.seconds for run in new if run.seconds is not None]
        self.told = len(seconds)
        self.low, self.high = sum(own.low for own in seconds), sum(own.high for own in seconds)
        self._longest = max((own.low for own in seconds), default=0.0), max((own.high for own in seconds), default=0.0)
        self._bases = {own.basis for own in seconds}
        self.estimated = sum(own.basis == "operations" for own in seconds)
        paces = {pace_of(run.head) for run in new if run.seconds and run.seconds.basis == "finished runs"}
        self.behind = 0
        for pace in paces:
            self.behind += sum(sample.whole for sample in measured.samples.get(pace, ()))

    @property
    def new(self) -> int:
        """How many runs are to be done."""
        return self.counts["new"]

    def wall(self, at_once: int) -> tuple[float, float]:
        """Returns the seconds from start to end of the runs whose time is known, at the least and at the most.

        Args:
            at_once: runs at a time.
        """
        return max(self._longest[0], self.low / at_once), max(self._longest[1], self.high / at_once)

    def times(self) -> dict[str, Any]:
        """Returns the columns of JSON and CSV that say how long the new runs take; NaN where nobody knows."""
        low, high = math.nan, math.nan
        if self.told:
            low, high = self.low, self.high
        return {"seconds_low": low, "seconds_high": high, "measured_runs": self.behind, "estimated_runs": self.estimated}

    def cells(self) -> tuple[str, str, str]:
        """Returns the cells of a row: new runs, cached ones, and the time of the new ones."""
        time = "–"
        if self.told:
            time = from_to(self.low, self.high)
        elif self.new:
            time = "unknown"
        return str(self.new), str(self.counts["cached"]), time

    def hours(self, unit: str) -> str:
        """Returns how long the new runs take and what says so; `unit` is ``GPU`` or ``CPU``."""
        if not self.new:
            return "nothing to run"
        if not self.told:
            return f"hours unknown: {_UNKNOWN}"
        text = f"about {from_to(self.low, self.high, unit)} ({'; '.join(self.bases())})"
        if self.told < self.new:
            text += f" for {self.told} of the {self.new} new runs, the others unknown: {_UNKNOWN}"
        return text

    def bases(self) -> list[str]:
        """Returns where the times are from, for people."""
        said = []
        if "finished runs" in self._bases:
            said.append(f"measured: {words.count(self.behind, 'run')} like these on this device")
        if "timed steps" in self._bases:
            said.append("measured: a few steps")
        if self.estimated:
            said.append(f"{words.count(self.estimated, 'run')} {_GUESSED}; --measure times steps")
        return said


def announced(plan: StudyPlan) -> str:
    """Returns how long a study takes on a CPU, as `run` says it before it begins; empty where there is nothing to say."""
    cost = Cost(plan.runs, plan.measured)
    if plan.accelerated or not cost.told:
        return ""
    basis = "as finished runs did"
    if cost.estimated:
        basis = _GUESSED
    return _announced(*cost.wall(plan.at_once), basis)


def announced_stage(seconds: float) -> str:
    """Returns how long an init stage takes on a CPU, as `pretrain` says it before it begins; empty where there is nothing to say.

    Args:
        seconds: of a convolution of as many operations; NaN where nobody counted them.
    """
    if not seconds > 0:
        return ""
    return _announced(seconds, SLOWEST * seconds, _GUESSED)


def _announced(least: float, most: float, basis: str) -> str:
    """Returns how long work takes on a CPU, and how it would be done in minutes where `most` seconds are long."""
    how_long = f"about {from_to(least, most)}"
    if most < _MINUTE:
        how_long = "less than a minute"
    text = f"On this CPU: {how_long}, {basis}."
    if most > _LONG:
        text += " --size tiny --budget smoke takes minutes."
    return text
