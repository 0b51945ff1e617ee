"""The answer of a study in a sentence: which inits are shown to be better or worse than the control, in a block and over all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from initbench.stats.analysis import Analysis
from initbench.stats.compare import Difference
from initbench.stats.design import Refused
from initbench.tables import words
from initbench.tables.standings import Standing

_NAMED = 3  # differences that a sentence names; more are counted


@dataclass(frozen=True)
class Answered:
    """A block, with what its answer is made of.

    Attributes:
        name: its title.
        found: the analysis of its scores, or why there is none.
        rows: its inits, best first.
    """

    name: str
    found: Analysis | Refused
    rows: tuple[Standing, ...]

    @property
    def differences(self) -> list[Difference]:
        """The differences of inits, without placebos, to the control, the largest first; none where there is no control."""
        own = []
        for row in self.rows:
            if row.role == "init" and row.difference is not None:
                own.append(row.difference)
        return sorted(own, key=_largest_first)

    def judged(self) -> dict[str, list[Difference]]:
        """Returns the differences by verdict; the three kinds of equivalent are one."""
        found: dict[str, list[Difference]] = {}
        for item in self.differences:
            found.setdefault(item.verdict.partition(",")[0], []).append(item)
        return found


def _largest_first(item: Difference) -> float:
    """Returns a key that sorts differences by falling value, those without a value last."""
    if not math.isfinite(item.estimate.value):
        return math.inf
    return -item.estimate.value


def of_block(block: Answered) -> str:
    """Returns which inits of a block are shown to be better or worse than the control, and what is known of the others."""
    found = block.found
    if isinstance(found, Refused):
        return f"Nothing is compared: {found.reason}."
    if found.against is None:
        return _of_pairs(block, found)
    control = words.label(found.against)
    items, judged = block.differences, block.judged()
    if not items:
        return f"Nothing is compared: no other init than {control} has all its runs."
    if list(judged) == ["untestable"]:
        return f"No init can be compared with {control}: {items[0].reason.removeprefix(f'{control}: ')}."
    said, others = [], []
    for verdict in ("better", "worse", "equivalent", "undecided", "untestable"):
        own = judged.get(verdict)
        if own and verdict in ("better", "worse"):
            said.append(f"{_listed(own)} {verdict}")
        elif own:
            others.append(f"{len(own)} {verdict}")
    if not said:
        return f"No init is shown to be better or worse than {control}: {', '.join(others)}."
    return f"{'; '.join([f'{said[0]} than {control}', *said[1:], *others])}."


def of_study(blocks: Sequence[Answered], against: str) -> str:
    """Returns what the blocks of a study show together; of one block its own answer.

    Args:
        blocks: all blocks.
        against: the control.
    """
    if len(blocks) == 1:
        return of_block(blocks[0])
    control, number = words.label(against), len(blocks)
    told: list[tuple[Answered, Difference]] = []
    silent = apart = 0
    for block in blocks:
        judged = block.judged()
        own = [*judged.get("better", ()), *judged.get("worse", ())]
        for item in own:
            told.append((block, item))
        if not judged:
            apart += 1
        elif not own:
            silent += 1
    if apart == number:
        return f"Nothing is compared with {control} in any of {number} blocks."
    said = []
    if silent:
        where = f"{silent} of {number}"
        if silent == number:
            where = f"any of {number}"
        said.append(f"No init is shown to be better or worse than {control} in {where} blocks")
    if len(told) > _NAMED:
        said += _counted(told)
    else:
        said += map(_named, told)
    if apart:
        said.append(f"nothing is compared with {control} in {apart} of {number} blocks")
    return f"{'; '.join(said)}."


def _of_pairs(block: Answered, found: Analysis) -> str:
    """Returns the answer of a block without a control, where all pairs are compared."""
    pairs = found.comparison.differences
    if not pairs:
        return "Nothing is compared: there is one init."
    told = sum(item.told_from_0 for item in pairs)
    best = next(row for row in block.rows if row.role == "init")
    if not told:
        return f"No two inits are shown to differ ({words.count(len(pairs), 'pair')})."
    said = f"{told} of {len(pairs)} pairs of inits differ"
    if len(pairs) == 1:
        said = "The two inits differ"
    return f"{said}; {words.label(best.init)} has the highest Dice."


def _listed(items: Sequence[Difference]) -> str:
    """Returns the inits of differences with their numbers, of many the first ones, and the verb that follows them."""
    said = []
    for item in items[:_NAMED]:
        said.append(f"{words.label(item.first)} ({words.difference(item.estimate)}{_condition(item)})")
    if len(items) > _NAMED:
        said.append(f"{len(items) - _NAMED} more")
    if len(said) == 1:
        return f"{said[0]} is"
    return f"{', '.join(said[:-1])} and {said[-1]} are"


def _named(told: tuple[Answered, Difference]) -> str:
    """Returns in words a difference that is told from 0, and its block."""
    block, item = told
    difference = f"{words.difference(item.estimate)}{_condition(item)}"
    return f"{words.label(item.first)} is {item.verdict} on {block.name}, {difference}"


def _condition(item: Difference) -> str:
    """Returns on what a verdict depends: how often the init that is ahead may collapse, until that is ruled out."""
    return item.says.removeprefix(item.verdict)


def _counted(told: Sequence[tuple[Answered, Difference]]) -> list[str]:
    """Returns in how many blocks each init is better, and in how many worse."""
    found = Counter((item.first, item.verdict) for _, item in told)
    said = []
    for (init, verdict), number in found.most_common():
        said.append(f"{words.label(init)} is {verdict} in {words.count(number, 'block')}")
    return said
