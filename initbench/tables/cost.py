"""What runs of a plan cost: how many there are, their hours and their bytes, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from initbench.runs.costs import SLOWEST, Basis, Costs, Expected, Seconds, StudyPlan
from initbench.units import from_to

_GUESSED = "estimated from the operations of the networks"
_MINUTE, _LONG = 60, 1800  # seconds; from the second on `run` says how to be done in minutes
_SAID: dict[Basis, str] = {
    "finished runs": "measured: finished runs like these on this device",
    "timed steps": "measured: a few steps",
    "operations": f"{_GUESSED}; --measure times steps",
}
_UNKNOWN = "no run like these on this device yet; run one seed first, or add --measure"


class Cost:
    """What some runs of a plan cost.

    Attributes:
        counts: how many there are of each state.
        bytes: that the new ones leave on the disk.
        told: how many of the new ones have a time.
        seconds: of these, one after the other.
    """

    def __init__(self, runs: Sequence[Expected], measured: Costs) -> None:
        """Adds up what runs cost.

        Args:
            runs: of a plan.
            measured: what finished runs cost.
        """
        self.counts = {"new": 0, "cached": 0, "refused": 0, "failed": 0}
        self.bytes = self.told = 0
        self.seconds = self._longest = Seconds()
        for run in runs:
            self.counts[run.state] += 1
            if run.state != "new":
                continue
            self.bytes += measured.bytes_of(run)
            own = run.seconds
            if own is not None:
                self.told += 1
                self.seconds += own
                self._longest = Seconds(max(self._longest.low, own.low), max(self._longest.high, own.high))

    @property
    def new(self) -> int:
        """How many runs are to be done."""
        return self.counts["new"]

    def wall(self, at_once: int) -> tuple[float, float]:
        """Returns the seconds from start to end of the runs whose time is known, at the least and at the most.

        Args:
            at_once: runs at a time.
        """
        return max(self._longest.low, self.seconds.low / at_once), max(self._longest.high, self.seconds.high / at_once)

    def times(self) -> dict[str, Any]:
        """Returns the columns of JSON and CSV that say how long the new runs take and what says so; NaN where nobody knows."""
        if not self.told:
            return {"seconds_low": math.nan, "seconds_high": math.nan, "seconds_from": ""}
        return {"seconds_low": self.seconds.low, "seconds_high": self.seconds.high, "seconds_from": self.seconds.basis}

    def time(self, unit: str = "") -> str:
        """Returns how long the new runs take; `unit` is ``GPU``, ``CPU`` or empty."""
        if self.told:
            return from_to(self.seconds.low, self.seconds.high, unit)
        if self.new:
            return "unknown"
        return "–"

    def cells(self) -> tuple[str, str, str]:
        """Returns the cells of a row: new runs, cached ones, and the time of the new ones."""
        return str(self.new), str(self.counts["cached"]), self.time()

    def hours(self, unit: str) -> str:
        """Returns how long the new runs take and what says so; `unit` is ``GPU`` or ``CPU``."""
        if not self.new:
            return "nothing to run"
        if not self.told:
            return f"hours unknown: {_UNKNOWN}"
        text = f"about {self.time(unit)} ({_SAID[self.seconds.basis]})"
        if self.told < self.new:
            text += f" for {self.told} of the {self.new} new runs, the others unknown: {_UNKNOWN}"
        return text


def announced(plan: StudyPlan) -> str:
    """Returns how long a study takes on a CPU, as `run` says it before it begins; empty where there is nothing to say."""
    cost = Cost(plan.runs, plan.measured)
    if plan.accelerated or not cost.told:
        return ""
    basis = "as finished runs did"
    if cost.seconds.basis == "operations":
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
