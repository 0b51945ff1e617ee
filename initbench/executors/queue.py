"""Which run a free device takes next. Nothing here knows of processes, files or clocks, so tests drive it with made-up ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence

from initbench import digest
from initbench.protocols import KindRule


class Queue:
    """The runs that wait, in the order of the study. Devices that become free draw from it.

    Runs of one pair (block and seed) are compared with each other, and two kinds of device give two numbers for the same run. So
    the kind that takes the first run of a pair takes all of them, and cancels in their differences. Any device of the kind may do
    it: a card that is ready never waits for another one.

    Several devices draw the runs of a pair in an order that is shuffled, the same way each time. Else runs that take equally long
    would come round, and each init would be on a card of its own for all seeds.
    """

    def __init__(
        self,
        pairs: Sequence[str],
        kinds: Collection[str],
        fix_kind: Callable[[str, str], str],
        rule: KindRule = "pairs",
        *,
        shuffled: bool = False,
    ) -> None:
        """Fills the queue.

        Args:
            pairs: the pair of each run, in the order in which the runs are to begin.
            kinds: the kinds of the devices that draw from the queue; whoever gave them may change them later.
            fix_kind: as in `StudyWork`.
            rule: as in `StudyWork`.
            shuffled: whether several devices draw from the queue.
        """
        order: Iterable[int] = range(len(pairs))
        if shuffled:
            order = _shuffled_within(pairs)
        self._waiting = {run: pairs[run] for run in order}
        self._alone: dict[int, str] = {}
        self._here = kinds
        self._fix_kind = fix_kind
        self._rule = rule
        self._kinds: dict[str, str] = {}

    def take(self, kind: str) -> int | None:
        """Returns the place of the next run for a device of a kind, which leaves the queue; None where it has none."""
        return self._take(self._waiting, kind)

    def take_alone(self, kind: str) -> int | None:
        """Returns the place of a run that is to be alone on its device. Such runs come when `take` has none for the kind."""
        return self._take(self._alone, kind)

    def give_back(self, run: int, pair: str) -> None:
        """Puts a run back that was not done, behind all others."""
        self._waiting[run] = pair

    def put_back(self, run: int, pair: str) -> None:
        """Puts a run back that is to be tried alone."""
        self._alone[run] = pair

    def _take(self, waiting: dict[int, str], kind: str) -> int | None:
        for run, pair in waiting.items():
            if self._may_take(pair, kind):
                del waiting[run]
                return run
        return None

    def _may_take(self, pair: str, kind: str) -> bool:
        """Returns whether a device of a kind may do a run of a pair. The first one that may decides for the pair."""
        if self._rule == "mix":
            return True
        if pair not in self._kinds:
            self._kinds[pair] = self._fix_kind(pair, kind)
        fixed = self._kinds[pair]
        if fixed not in self._here and self._rule == "pairs":
            # Somebody else began the pair on a kind that is not here. What is left of it at least stays on one kind.
            self._kinds[pair] = fixed = kind
        return fixed == kind


def _shuffled_within(pairs: Sequence[str]) -> list[int]:
    """Returns the places of all runs, pair after pair as they come, and shuffled within each."""
    members: dict[str, list[int]] = {}
    for run, pair in enumerate(pairs):
        members.setdefault(pair, []).append(run)
    order = []
    for pair, runs in members.items():
        order += sorted(runs, key=functools.partial(_draw, pair))
    return order


def _draw(pair: str, run: int) -> str:
    """Returns a number, as text, that looks random and is the same each time."""
    return digest.of_json([pair, run])
