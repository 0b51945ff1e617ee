"""What runs of a plan cost: how many there are, their hours and their bytes, in numbers and in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from initbench.runs.costs import SLOWEST, Basis, Costs, Expected, StudyPlan, pace_of
from initbench.tables import words
from initbench.units import from_to

_GUESSED = "estimated from the operations of the networks"
_MINUTE, _LONG = 60, 1800  # seconds; from the second on `run` says how to be done in minutes
_NONE_YET = "no run of this backbone at this size on this device yet; run one seed first, or add --measure"
_NONE_SUCH = "no run of their backbone, size and init on this device yet; run one seed first, or add --measure"


class Cost:
    """What some runs of a plan cost.

    Attributes:
        counts: how many there are of each state.
        bytes: that the new ones leave on the disk.
        low: seconds of all new runs whose time is known, one after the other, at the least.
        high: likewise at the most.
        longest: seconds of the longest of them, at the least and at the most.
        bases: of how many runs the time is from finished runs, from timed steps or from operations.
        behind: how many finished runs the times are from.
    """

    def __init__(self, runs: Sequence[Expected], measured: Costs) -> None:
        """Adds up what runs cost.

        Args:
            runs: of a plan.
            measured: what finished runs cost.
        """
        self.counts = {"new": 0, "cached": 0, "refused": 0, "failed": 0}
        self.bytes = 0
        self.low = self.high = 0.0
        self.longest = (0.0, 0.0)
        self.bases: Counter[Basis] = Counter()
        self._paces: set[str] = set()
        for run in runs:
            self.counts[run.state] += 1
            if run.state != "new":
                continue
            self.bytes += measured.bytes_of(run)
            if run.seconds is None:
                continue
            self.low += run.seconds.low
            self.high += run.seconds.high
            self.longest = max(self.longest[0], run.seconds.low), max(self.longest[1], run.seconds.high)
            self.bases[run.seconds.basis] += 1
            if run.seconds.basis == "finished runs":
                self._paces.add(pace_of(run.head))
        self.behind = 0
        for pace in self._paces:
            self.behind += sum(sample.whole for sample in measured.samples.get(pace, ()))

    @property
    def new(self) -> int:
        """How many runs are to be done."""
        return self.counts["new"]

    @property
    def told(self) -> int:
        """How many of these runs have a time."""
        return self.bases.total()

    def wall(self, at_once: int) -> tuple[float, float]:
        """Returns the seconds from start to end of the runs whose time is known, at the least and at the most.

        Args:
            at_once: runs at a time.
        """
        return max(self.longest[0], self.low / at_once), max(self.longest[1], self.high / at_once)

    def times(self) -> dict[str, Any]:
        """Returns the columns of JSON and CSV that say how long the new runs take; NaN where nobody knows."""
        low, high = math.nan, math.nan
        if self.told:
            low, high = self.low, self.high
        estimated = self.bases["operations"]
        return {"seconds_low": low, "seconds_high": high, "measured_runs": self.behind, "estimated_runs": estimated}

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
            return f"hours unknown: {_NONE_YET}"
        told = []
        for basis, runs in self.bases.items():
            told.append(self._said_of(basis))
            if len(self.bases) > 1:
                told[-1] = f"for {words.count(runs, 'run')} {told[-1]}"
        text = f"about {from_to(self.low, self.high, unit)} ({'; '.join(told)})"
        if self.told < self.new:
            text += f" for {self.told} of the {self.new} new runs, the others unknown: {_NONE_SUCH}"
        return text

    def _said_of(self, basis: Basis) -> str:
        """Returns what says how long runs take, for people."""
        if basis == "timed steps":
            return "measured: a few steps"
        if basis == "operations":
            return "estimated from the operations of the networks; --measure times steps"
        networks = words.form(len(self._paces), "this backbone", "these backbones")
        return f"measured: {words.count(self.behind, 'run')} of {networks} and size on this device"


def announced(plan: StudyPlan) -> str:
    """Returns how long a study takes on a CPU, as `run` says it before it begins; empty where there is nothing to say."""
    cost = Cost(plan.runs, plan.measured)
    if plan.accelerated or not cost.told:
        return ""
    basis = "as finished runs did"
    if cost.bases["operations"]:
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
