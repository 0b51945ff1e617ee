"""What runs of a plan cost: how many there are, their hours and their bytes, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from initbench.runs.costs import SLOWEST, Costs, Expected, Sample, StudyPlan, lacks_stage, pace_of, seconds_of
from initbench.stats.summary import t_quantile
from initbench.tables import words

_GUESSED = "estimated from the operations of the networks"
_MINUTE, _LONG = 60, 1800  # seconds; from the second on `run` says how to be done in minutes
_NONE_YET = "no run of this backbone at this size on this device yet; run one seed first, or add --measure"
_ESTIMATED = "from the operations of the networks; --measure times steps"


@dataclass(frozen=True)
class _Kind:
    """New runs of one pace: their seconds together, their number, and the paces of the measured ones over the mean of these."""

    seconds: float
    runs: int
    paces: list[float]


class Cost:
    """What some runs of a plan cost.

    Attributes:
        counts: how many there are of each state.
        bytes: that the new ones leave on the disk.
        each: seconds of every new run whose seconds are known from other runs, or from steps that were timed.
        least: seconds at the least of every other new run whose operations were counted; `SLOWEST` times as many at the most.
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
        self.behind = 0
        of_pace: dict[str, list[Expected]] = {}
        for run in runs:
            self.counts[run.state] += 1
            if run.state == "new":
                self.bytes += measured.bytes_of(run)
                of_pace.setdefault(pace_of(run.head), []).append(run)
        kinds: list[_Kind] = []
        borrowed: set[str] = set()
        for pace, members in of_pace.items():
            samples = measured.samples.get(pace, ())
            known = self._add_seconds(members, samples)
            if known:
                whole = [sample for sample in samples if sample.whole]
                self.behind += len(whole)
                kinds.append(_Kind(sum(known), len(known), _relative_paces(whole)))
                for run in members:
                    if run.init_steps and lacks_stage(run, samples) and seconds_of(run, samples) is not None:
                        borrowed.add(run.resolved.init)
        self.kinds = len(kinds)
        self.borrowed = sorted(borrowed)
        self.half = _half(kinds)

    def _add_seconds(self, runs: Sequence[Expected], samples: Sequence[Sample]) -> list[float]:
        """Adds the seconds of runs of one pace to `each` or to `least`, and returns those that are known."""
        known = []
        for run in runs:
            seconds = seconds_of(run, samples)
            if seconds is not None:
                known.append(seconds)
            elif not math.isnan(run.least_seconds):
                self.least.append(run.least_seconds)
        self.each += known
        return known

    @property
    def new(self) -> int:
        """How many runs are to be done."""
        return self.counts["new"]

    @property
    def seconds(self) -> float:
        """Seconds of the runs that are known, one after the other."""
        return sum(self.each)

    @property
    def low(self) -> float:
        """Seconds of the estimated runs at the least."""
        return sum(self.least)

    @property
    def high(self) -> float:
        """Seconds of the estimated runs at the most."""
        return SLOWEST * self.low

    def wall_seconds(self, at_once: int) -> float:
        """Returns the seconds from start to end of the runs that are known; NaN where none is.

        Args:
            at_once: runs at a time.
        """
        if not self.each:
            return math.nan
        return max(*self.each, self.seconds / max(1, at_once))

    def times(self) -> dict[str, Any]:
        """Returns the columns of JSON and CSV that say how long the new runs take."""
        seconds, low, high = math.nan, math.nan, math.nan
        if self.each:
            seconds = self.seconds
        if self.least:
            low, high = self.low, self.high
        return {
            "seconds": seconds,
            "seconds_half": self.half,
            "measured_runs": self.behind,
            "estimated_runs": len(self.least),
            "estimated_seconds_low": low,
            "estimated_seconds_high": high,
        }

    def cells(self) -> tuple[str, str, str]:
        """Returns the cells of a row: new runs, cached ones, and the time of the new ones."""
        told = "unknown"
        if not self.new:
            told = "–"
        elif self.least:
            low, _, high = _range(self.seconds + self.low, self.seconds + self.high).partition(" to ")
            told = f"{low}–{high}"
            if " " in low:  # with a unit of its own, behind which a narrow column may break
                told = f"{low} – {high}"
        elif self.each:
            told = span(self.seconds)
        return str(self.new), str(self.counts["cached"]), told

    def hours(self, unit: str) -> str:
        """Returns how long the new runs take, with what says so; `unit` is ``GPU`` or ``CPU``."""
        if not self.new:
            return "nothing to run"
        known, estimated = len(self.each), len(self.least)
        parts = []
        if known:
            parts.append(f"about {span(self.seconds, unit)} ({self._basis()})")
            if known < self.new:
                parts[-1] += f" for {known} of the {self.new} new runs"
        if estimated:
            parts.append(f"{_range(self.low, self.high, unit)} ({_ESTIMATED})")
            if known:
                parts[-1] += f" for the other {estimated}"
            elif estimated < self.new:
                parts[-1] += f" for {estimated}"
        if not parts:
            return f"hours unknown: {_NONE_YET}"
        if known + estimated < self.new:
            parts.append(f"the others unknown: {_NONE_YET}")
        return ", ".join(parts)

    def _basis(self) -> str:
        if not self.behind:
            return "measured: a few steps; spread between runs unknown"
        networks = "this backbone" if self.kinds == 1 else "these backbones"
        spread = "spread unknown"
        if not math.isnan(self.half):
            spread = f"±{100 * self.half / self.seconds:.0f} %"
        return f"measured: {words.count(self.behind, 'run')} of {networks} and size on this device; {spread}"


def _relative_paces(samples: Sequence[Sample]) -> list[float]:
    paces = [sample.train for sample in samples if sample.train is not None]
    return [pace / fmean(paces) for pace in paces]


def _half(kinds: Sequence[_Kind]) -> float:
    """Returns half a width: t · √Σ (seconds · spread)² · (1/measured + 1/new), of the mean pace and of the runs to come.

    The spread of paces is pooled over all kinds of runs, so that one of a kind has one, too.
    """
    df = 0
    squares: list[float] = []
    for kind in kinds:
        if not kind.paces:
            return math.nan
        df += len(kind.paces) - 1
        if len(kind.paces) > 1:
            squares.append((len(kind.paces) - 1) * stdev(kind.paces) ** 2)
    if not df:
        return math.nan
    variance = sum(squares) / df
    total = sum(kind.seconds**2 * variance * (1 / len(kind.paces) + 1 / kind.runs) for kind in kinds)
    return t_quantile(0.975, df) * math.sqrt(total)


def announced(plan: StudyPlan) -> str:
    """Returns how long a study takes on a CPU, as `run` says it before it begins; empty where there is nothing to say."""
    cost = Cost(plan.runs, plan.measured)
    if plan.accelerated or not (cost.each or cost.least):
        return ""
    at_once = max(1, min(plan.jobs, plan.lanes))
    most = max(*cost.each, SLOWEST * max(cost.least, default=0.0), (cost.seconds + cost.high) / at_once)
    if not cost.least:
        return _announced(f"about {span(most)}", "as finished runs did", most)
    return _announced(_range((cost.seconds + cost.low) / at_once, most), _GUESSED, most)


def announced_stage(seconds: float) -> str:
    """Returns how long an init stage takes on a CPU, as `pretrain` says it before it begins; empty where there is nothing to say.

    Args:
        seconds: of a convolution of as many operations; NaN where nobody counted them.
    """
    if not seconds > 0:
        return ""
    return _announced(_range(seconds, SLOWEST * seconds), _GUESSED, SLOWEST * seconds)


def _announced(how_long: str, basis: str, most: float) -> str:
    """Returns how long work takes on a CPU, and how it would be done in minutes where `most` seconds are long."""
    if most < _MINUTE:
        how_long = "less than a minute"
    text = f"On this CPU: {how_long}, {basis}."
    if most > _LONG:
        text += " --size tiny --budget smoke takes minutes."
    return text


def _range(least: float, most: float, unit: str = "") -> str:
    """Returns two durations; a unit that both have is said once."""
    low = span(least)
    number, name = low.split()
    if span(most).endswith(f" {name}"):
        low = number
    return f"{low} to {span(most, unit)}"


def span(seconds: float, unit: str = "") -> str:
    """Returns a duration in hours, minutes or seconds; with a unit as ``CPU`` in CPU-hours, CPU-minutes or CPU-seconds."""
    count, name, digits = seconds / 3600, "h", 1
    if seconds < _MINUTE:
        count, name, digits = max(1, round(seconds)), "s", 0
    elif count < 1:
        count, name = seconds / 60, "min"
    if count >= 10:
        digits = 0
    if unit:
        name = f"{unit}-{name}"
    return f"{count:.{digits}f} {name}"
