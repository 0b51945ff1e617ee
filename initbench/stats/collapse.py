"""Runs that collapse: a rule that finds them, a bound of their share, and the exact test of two rates.

A run collapses when its training ends far below what the same network reaches from other seeds. The rule looks at the scores of
all runs of a block together and never at their inits, so no init is judged more strictly than another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from initbench.stats.design import Array, Flags, SeedDesign
from initbench.stats.summary import LEVEL

LOSS = 10.0  # Dice points below the middle: less is no collapse, however alike the other runs are
SPREADS = 6.0  # a run also has to lie 6 spreads below; benchmarks/collapse.py counts the false alarms, .02 of runs at the most
LEAST = 6  # runs of a block: fewer do not tell a spread
_NORMAL_HALF = 2 * float(special.ndtri(0.75))  # length of the shortest half of a normal law, in SDs
RATE = 0.1  # of collapses that has to be ruled out before a plain "better"
STANDING = math.ceil(math.log(1 - LEVEL) / math.log(1 - RATE))  # runs without a collapse that rule it out: 0.9^29 = .047


def limit(scores: Array) -> Array:
    """Returns the score [...], in Dice points, below which a run counts as collapsed.

    It lies `LOSS` points, or `SPREADS` spreads where that is more, below the mean of the shortest interval that holds more than
    half of the runs. The spread is the length of that interval, in units of an SD. Nearly half of the runs may have collapsed
    without moving either. With fewer than `LEAST` runs no run counts as collapsed.

    Args:
        scores: Dice points of the runs of a block in any order, [..., run].
    """
    count = scores.shape[-1]
    if count < LEAST:
        return np.full(scores.shape[:-1], -math.inf)
    half = count // 2 + 1
    # Falling order: where several intervals are the shortest, the one with the highest scores is taken.
    falling = -np.sort(-scores, axis=-1)
    lengths = falling[..., : count - half + 1] - falling[..., half - 1 :]
    first = lengths.argmin(-1)
    places = first[..., None] + np.arange(half)
    middle = np.take_along_axis(falling, places, -1).mean(-1)
    spread = lengths.min(-1) / _NORMAL_HALF
    return np.asarray(middle - np.maximum(LOSS, SPREADS * spread), np.float64)


def collapsed(scores: Array, diverged: Flags) -> Flags:
    """Returns which runs of a block collapsed, [init, seed]; a diverged run always did.

    Args:
        scores: Dice points of the runs, [init, seed].
        diverged: which of the runs diverged, [init, seed].
    """
    if not np.isfinite(scores).all():
        return diverged.copy()  # runs that are not scored on the same cases are not compared
    return np.asarray(diverged | (scores < limit(scores.reshape(-1))), bool)


@dataclass(frozen=True)
class Collapses:
    """How many runs of an init collapsed.

    Attributes:
        count: number of collapsed runs.
        runs: number of all runs.
    """

    count: int
    runs: int

    @property
    def bound(self) -> float:
        """The exact one-sided 95 % bound of the share of runs that collapse, 0 to 1 (Clopper and Pearson 1934)."""
        if self.count == self.runs:
            return 1.0
        return float(special.betaincinv(self.count + 1, self.runs - self.count, LEVEL))

    @property
    def are_ruled_out(self) -> bool:
        """Whether enough runs stand, and none collapsed, to say that fewer than one run in ten does."""
        return self.count == 0 and self.runs >= STANDING

    @property
    def told(self) -> str:
        """Number, runs and bound in brackets: `(0/5; up to 45 %)`."""
        return f"({self.count}/{self.runs}; up to {100 * self.bound:.0f} %)"

    def __str__(self) -> str:
        """Returns number, runs and bound: `0/5 (up to 45 %)`."""
        return f"{self.count}/{self.runs} (up to {100 * self.bound:.0f} %)"


def collapses(flags: Flags) -> Collapses:
    """Counts the collapsed runs of an init, from its `flags` [seed]."""
    return Collapses(int(flags.sum()), flags.size)


@dataclass(frozen=True)
class RateTest:
    """The exact two-sided test of the rates at which two inits collapse.

    It is conditional: with shared seeds on the number of seeds in which one of the two alone collapses (a sign test), else on
    the number of collapses of both together (Fisher's test).

    Attributes:
        p: the probability of such a difference of the rates, or a larger one, where the two are equal.
        least: the smallest p that this number of collapses can give.
    """

    p: float
    least: float


def rate_test(a: Flags, b: Flags, seeds: SeedDesign) -> RateTest:
    """Tests whether two inits collapse equally often.

    Args:
        a: which runs [seed] of one init collapsed.
        b: which runs [seed] of the other one did.
        seeds: whether the two share their seeds.
    """
    if seeds == "crossed":
        alone = int((a != b).sum())
        return RateTest(_sign_test(int((a & ~b).sum()), alone), _sign_test(0, alone))
    chances = _fisher(a.size, b.size, int(a.sum() + b.sum()))
    own = chances[int(a.sum())]
    return RateTest(_as_rare(chances, own), _as_rare(chances, min(chances.values())))


def _sign_test(first: int, count: int) -> float:
    """Returns the two-sided p of a sign test.

    Args:
        first: number of seeds in which the first init alone collapsed.
        count: number of seeds in which one of the two alone collapsed.
    """
    tail = 0
    for k in range(min(first, count - first) + 1):
        tail += math.comb(count, k)
    return min(1.0, 2 * tail / (1 << count))


def _fisher(first: int, second: int, together: int) -> dict[int, float]:
    """Returns how probable each number of collapses of the first init is, where both inits have one rate.

    Args:
        first: number of runs of the first init.
        second: number of runs of the second one.
        together: number of collapses of both.
    """
    possible = range(max(0, together - second), min(first, together) + 1)
    whole = math.comb(first + second, together)
    chances = {}
    for k in possible:
        chances[k] = math.comb(first, k) * math.comb(second, together - k) / whole
    return chances


def _as_rare(chances: dict[int, float], own: float) -> float:
    """Returns the probability of all outcomes that are no more probable than one of probability `own`."""
    as_rare = []
    for chance in chances.values():
        if chance <= own * (1 + 1e-9):  # equal probabilities may differ in their last bit
            as_rare.append(chance)
    return min(1.0, sum(as_rare))


def seeds_needed(level: float, seeds: SeedDesign) -> int:
    """Returns the smallest number of seeds at which the test of two rates can reach a level.

    It then reaches it where every run of one init collapses and none of the other.

    Args:
        level: of p, 0 to 1.
        seeds: whether the two inits share their seeds.
    """
    number = 1
    while _most_extreme(number, seeds) > level:
        number += 1
    return number


def _most_extreme(number: int, seeds: SeedDesign) -> float:
    """Returns the p where all of `number` runs of one init collapse and none of as many of the other."""
    if seeds == "crossed":
        return 2 / (1 << number)
    return 2 / math.comb(2 * number, number)


def joining(least: Sequence[float], others: int) -> int:
    """Returns how many tests of rates join a family: as many as can reach the level that is left to each when they have joined.

    Source: Tarone (1990, Biometrics 46:515). The level that a test can reach depends on how many runs collapsed, and not on which
    init they are of.

    Args:
        least: the smallest p that each test can give.
        others: members of the family before the tests join.
    """
    smallest = np.asarray(least)
    for number in range(len(least) + 1):
        able = int((smallest <= (1 - LEVEL) / max(1, others + number)).sum())
        if able == 0:
            return 0
        if able <= number:
            return number
    return len(least)
