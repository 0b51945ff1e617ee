"""How long runs will take from now on: from the steps that are left, and what a step took until now or in earlier runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

STAGES = ("pretext", "train", "evaluate")  # of a run, in their order; a step of the last is a case
_FREE = "evaluate"  # until its pace is known it counts as nothing: it is short beside training


@dataclass(frozen=True)
class Workload:
    """What a run has to do.

    Attributes:
        kind: runs of one kind take equally long for a step of a stage.
        steps: of each stage that is to be done, by its name.
        paces: seconds of a step of a stage as earlier runs took them, where that is known.
    """

    kind: Hashable
    steps: Mapping[str, int]
    paces: Mapping[str, float] = field(default_factory=dict)


@dataclass
class _InHand:
    """A stage that a run is in. It went on from step `first`, and did `done` of `total` steps."""

    stage: str
    total: int
    began: float
    first: int = 0
    done: int = 0


class TimeLeft:
    """Hears of the progress of runs, and says how long they take from now on. Runs are known by their numbers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins without any run.

        Args:
            clock: gives seconds.
        """
        self._clock = clock
        self._loads: dict[int, Workload] = {}
        self._waiting: set[int] = set()
        self._in_hand: dict[int, _InHand] = {}
        self._paces: dict[tuple[Hashable, str], float] = {}

    def expect(self, loads: Mapping[int, Workload | None]) -> None:
        """Takes the runs that are to be done; None of one of which nothing is known."""
        for run, own in loads.items():
            self._waiting.add(run)
            if own is None:
                continue
            self._loads[run] = own
            for stage, pace in own.paces.items():
                self._paces.setdefault((own.kind, stage), pace)

    def start(self, run: int, stage: str, total: int) -> None:
        """Notes that a run begins a stage.

        Args:
            run: its number.
            stage: what it does now.
            total: steps of the stage, or cases.
        """
        self._waiting.discard(run)
        self._in_hand[run] = _InHand(stage, total, self._clock())

    def advance(self, run: int, done: int, info: Mapping[str, Any]) -> None:
        """Notes that `done` steps of the stage are finished.

        A stage that goes on from a checkpoint says so first, without any `info`.
        """
        own = self._in_hand.get(run)
        if own is None:
            return
        own.done = done
        if not info and own.stage != _FREE and own.first == 0:
            own.first, own.began = done, self._clock()
        elapsed = self._clock() - own.began
        if done > own.first and elapsed > 0:
            self._paces[self._kind(run), own.stage] = elapsed / (done - own.first)

    def finish(self, run: int) -> None:
        """Notes that a run ended."""
        self._waiting.discard(run)
        self._in_hand.pop(run, None)

    def of_run(self, run: int) -> float | None:
        """Estimates the seconds until a run in hand ends; None where nobody knows."""
        own = self._in_hand.get(run)
        if own is None:
            return None
        pace = self._pace(run, own.stage)
        if pace is None:
            return None
        seconds = (own.total - own.done) * pace
        if own.stage in STAGES:
            for stage in STAGES[STAGES.index(own.stage) + 1 :]:
                seconds += self._seconds_of(run, stage) or 0.0
        return seconds

    def of_all(self) -> float | None:
        """Estimates the seconds until the last run ends, as many at a time as are in hand now; None where nobody knows.

        A run of which nothing is known is taken to be as long as the others are on average.
        """
        if not self._in_hand and not self._waiting:
            return 0.0
        in_hand = _known(self.of_run, self._in_hand)
        waiting = _known(self._whole, self._waiting)
        known = in_hand + waiting
        unknown = len(self._in_hand) + len(self._waiting) - len(known)
        if not known:
            return None
        # A run in hand has done a part of its work already: it is no example while there is another.
        total = sum(known) + unknown * fmean(waiting or in_hand)
        return max(total / max(1, len(self._in_hand)), *known)

    def _whole(self, run: int) -> float | None:
        """Estimates the seconds of a run that has not begun."""
        own = self._loads.get(run)
        if own is None:
            return None
        total = 0.0
        for stage in STAGES:
            seconds = self._seconds_of(run, stage)
            if seconds is None:
                return None
            total += seconds
        return total

    def _seconds_of(self, run: int, stage: str) -> float | None:
        """Estimates the seconds of a stage that a run has not begun."""
        own = self._loads.get(run)
        if own is None or not own.steps.get(stage):
            return 0.0
        pace = self._pace(run, stage)
        if pace is None:
            return None
        return own.steps[stage] * pace

    def _pace(self, run: int, stage: str) -> float | None:
        """Returns the seconds of a step; a stage of which nothing is known has the pace of the other training stage."""
        kind = self._kind(run)
        found = self._paces.get((kind, stage))
        if found is not None:
            return found
        if stage == _FREE:
            return 0.0
        if stage == "pretext":
            return self._paces.get((kind, "train"))
        if stage in STAGES:
            return self._paces.get((kind, "pretext"))
        return None

    def _kind(self, run: int) -> Hashable:
        own = self._loads.get(run)
        if own is None:
            return ("run", run)
        return own.kind


def _known(estimate: Callable[[int], float | None], runs: Iterable[int]) -> list[float]:
    """Returns what `estimate` says of each run; a run of which it knows nothing is left out."""
    found = []
    for run in runs:
        seconds = estimate(run)
        if seconds is not None:
            found.append(seconds)
    return found
