"""What runs of a plan cost: how many there are, their hours and their bytes, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from initbench.runs.costs import SLOWEST, Costs, Expected, StudyPlan, lacks_stage, pace_of, seconds_of
from initbench.stats.summary import t_quantile
from initbench.tables import words
from initbench.units import duration

_GUESSED = "estimated from the operations of the networks"
_MINUTE, _LONG = 60, 1800  # seconds; from the second on `run` says how to be done in minutes
_NONE_YET = "no run of this backbone at this size on this device yet; run one seed first, or add --measure"


@dataclass
class _Kind:
    """New runs of one pace: their seconds together, their number, and the training paces of the finished runs that tell these."""

    paces: list[float]
    seconds: float = 0.0
    runs: int = 0


class Cost:
    """What some runs of a plan cost.

    Attributes:
        counts: how many there are of each state.
        bytes: that the new ones leave on the disk.
        each: seconds of every new run whose seconds are known from other runs, or from steps that were timed.
        least: seconds at the least of every other new run whose operations were counted; `SLOWEST` times as many at the most.
        low: seconds of all of them at the least, one after the other.
        high: likewise at the most; equal to `low` where nothing is estimated.
        behind: finished runs that say so; 0 where steps were timed.
        kinds: how many kinds of runs are known whose paces differ, as of several backbones.
        borrowed: names of inits whose stage nobody timed; it is taken to be as fast as the stage of another learned init.
        half: half the width of the 95 % interval of the sum of `each`; NaN without two measured runs of one kind.
    """

    def __init__(self, runs: Sequence[Expected], measured: Costs) -> None:
        """Adds up what runs cost.

        Args:
            runs: of a plan.
            measured: what finished runs cost.
        """
        self.counts = {"new": 0, "cached": 0, "refused": 0, "failed": 0}
        self.bytes = 0
        self.each: list[float] = []
        self.least: list[float] = []
        kinds: dict[str, _Kind] = {}
        borrowed: set[str] = set()
        for run in runs:
            self.counts[run.state] += 1
            if run.state != "new":
                continue
            self.bytes += measured.bytes_of(run)
            pace = pace_of(run.head)
            samples = measured.samples.get(pace, ())
            seconds = seconds_of(run, samples)
            if seconds is None:
                if not math.isnan(run.least_seconds):
                    self.least.append(run.least_seconds)
                continue
            self.each.append(seconds)
            if pace not in kinds:
                kinds[pace] = _Kind([sample.train for sample in samples if sample.whole and sample.train is not None])
            kinds[pace].seconds += seconds
            kinds[pace].runs += 1
            if run.init_steps and lacks_stage(run, samples):
                borrowed.add(run.resolved.init)
        self.low = sum(self.each) + sum(self.least)
        self.high = sum(self.each) + SLOWEST * sum(self.least)
        self.behind = sum(len(kind.paces) for kind in kinds.values())
        self.kinds = len(kinds)
        self.borrowed = sorted(borrowed)
        self.half = _half(kinds.values())

    @property
    def new(self) -> int:
        """How many runs are to be done."""
        return self.counts["new"]

    @property
    def told(self) -> int:
        """How many of these runs have a time, known or estimated."""
        return len(self.each) + len(self.least)

    def wall_seconds(self, at_once: int) -> float:
        """Returns the seconds from start to end of the runs that are known; NaN where none is.

        Args:
            at_once: runs at a time.
        """
        if not self.each:
            return math.nan
        return max(*self.each, sum(self.each) / max(1, at_once))

    def times(self) -> dict[str, Any]:
        """Returns the columns of JSON and CSV that say how long the new runs take."""
        estimated = sum(self.least) or math.nan
        return {
            "seconds": sum(self.each) or math.nan,
            "seconds_half": self.half,
            "measured_runs": self.behind,
            "estimated_runs": len(self.least),
            "estimated_seconds_low": estimated,
            "estimated_seconds_high": SLOWEST * estimated,
        }

    def cells(self) -> tuple[str, str, str]:
        """Returns the cells of a row: new runs, cached ones, and the time of the new ones."""
        time = "–"
        if self.told:
            time = from_to(self.low, self.high)
        elif self.new:
            time = "unknown"
        return str(self.new), str(self.counts["cached"]), time

    def hours(self, unit: str) -> str:
        """Returns how long the new runs take, with what says so; `unit` is ``GPU`` or ``CPU``."""
        if not self.new:
            return "nothing to run"
        if not self.told:
            return f"hours unknown: {_NONE_YET}"
        text = f"about {from_to(self.low, self.high, unit)} ({'; '.join(self._bases())})"
        if self.told < self.new:
            text += f" for {self.told} of the {self.new} new runs, the others unknown: {_NONE_YET}"
        return text

    def _bases(self) -> list[str]:
        """Returns what says how long the runs take."""
        bases = []
        if self.each and not self.behind:
            bases.append("measured: a few steps; spread between runs unknown")
        elif self.each:
            networks = words.form(self.kinds, "this backbone", "these backbones")
            bases.append(f"measured: {words.count(self.behind, 'run')} of {networks} and size on this device")
            bases.append("spread unknown" if math.isnan(self.half) else f"±{100 * self.half / sum(self.each):.0f} %")
        if self.least:
            which = f"{len(self.least)} of the runs " if self.each else ""
            bases.append(f"{which}from the operations of the networks, --measure times steps")
        return bases


def _half(kinds: Iterable[_Kind]) -> float:
    """Returns half a width: t · √Σ (seconds · spread)² · (1/measured + 1/new), of the mean pace and of the runs to come.

    The spread of paces, over their mean, is pooled over all kinds of runs, so that one of a kind has one, too.
    """
    df, squares, weight = 0, 0.0, 0.0
    for kind in kinds:
        if not kind.paces:
            return math.nan
        measured = len(kind.paces)
        df += measured - 1
        if measured > 1:
            squares += (measured - 1) * (stdev(kind.paces) / fmean(kind.paces)) ** 2
        weight += kind.seconds**2 * (1 / measured + 1 / kind.runs)
    if not df:
        return math.nan
    return t_quantile(0.975, df) * math.sqrt(squares / df * weight)


def announced(plan: StudyPlan) -> str:
    """Returns how long a study takes on a CPU, as `run` says it before it begins; empty where there is nothing to say."""
    cost = Cost(plan.runs, plan.measured)
    if plan.accelerated or not cost.told:
        return ""
    at_once = max(1, plan.at_once)
    most = max(*cost.each, SLOWEST * max(cost.least, default=0.0), cost.high / at_once)
    if cost.least:
        return _announced(cost.low / at_once, most, _GUESSED)
    return _announced(most, most, "as finished runs did")


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


def from_to(least: float, most: float, unit: str = "") -> str:
    """Returns a duration, or two where it is not known better; a unit that both have is said once.

    Args:
        least: seconds at the least.
        most: seconds at the most.
        unit: what the time is of, as for `duration`.
    """
    first, last = duration(least), duration(most, unit)
    if least == most:
        return last
    number, _, name = first.partition(" ")
    if duration(most).endswith(f" {name}"):
        first = number
    return f"{first} to {last}"
