"""Planned looks: a study that may end early, judged at levels that were written down before its first run.

The levels of the looks sum to 5 % (Bonferroni over looks). All looks judge the same cases, so the scores that are added between
two looks are not independent of the earlier ones. The boundaries of group-sequential trials take that independence for granted,
and do not hold here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from initbench.choices import MARGIN
from initbench.stats.design import Array, Flags, generator
from initbench.stats.mrmc import crossed_difference
from initbench.stats.power import Pilot
from initbench.stats.summary import LEVEL
from initbench.stats.tails import quantile

_STUDIES = 400  # made-up studies behind an expected number of seeds: its error is below 2 % of the last look
_AT_ONCE = 4_000_000  # scores of them in memory


@dataclass(frozen=True)
class Looks:
    """The looks at a block that were written down before its first run.

    Attributes:
        seeds: number of seeds at each look, rising.
        margin: Dice points within which two inits are equivalent.
        against: the row that all others are compared with.
        rows: the names of all rows, placebos among them.
    """

    seeds: tuple[int, ...]
    margin: float
    against: str
    rows: tuple[str, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the 5 % that each look may spend; they sum to 1."""
        return shares(self.seeds)

    def share_at(self, seeds: int) -> float:
        """Returns the share of the 5 % of the look at a number of seeds; of the next look where the number lies between two.

        The level of an earlier look is spent, whatever that look showed.
        """
        for number, share in zip(self.seeds, self.shares, strict=True):
            if seeds <= number:
                return share
        return self.shares[-1]

    def is_between(self, seeds: int) -> bool:
        """Returns whether a study with a number of seeds is at no look, and has not come to the last one."""
        return seeds < self.seeds[-1] and seeds not in self.seeds


def shares(seeds: Sequence[int]) -> tuple[float, ...]:
    """Returns the share of the 5 % that each look may spend, in proportion to its number of seeds.

    A look at three seeds decides little at any level, so it gets the least.

    Args:
        seeds: number of seeds at each look, rising.
    """
    return tuple(number / sum(seeds) for number in seeds)


def levels(seeds: Sequence[int]) -> tuple[float, ...]:
    """Returns the nominal level of each look at a number of seeds, for all of its family together; they sum to .05."""
    return tuple((1 - LEVEL) * share for share in shares(seeds))


def is_decided(y: Array, share: float, margin: float = MARGIN) -> tuple[Flags, Flags]:
    """Returns which studies are decided, and which of their contrasts are told from 0.

    Args:
        y: Dice points [study, init, seed, case], the baseline first.
        share: of the 5 %, which the look may spend.
        margin: Dice points within which two inits are equivalent.

    Returns:
        Whether every contrast of a study is told from 0 or lies within the margin, [study]; and which are told from 0,
        [study, contrast].
    """
    found = crossed_difference(y[:, 1:] - y[:, :1])
    reach = quantile(found, (1 - LEVEL) * share / found.value.shape[1]) * found.error
    told = np.abs(found.value) > reach
    alike = np.abs(found.value) + reach <= margin
    return np.asarray((told | alike).all(-1), bool), np.asarray(told, bool)


def expected_seeds(
    noise: Pilot, seeds: Sequence[int], cases: int, contrasts: int, difference: float, margin: float = MARGIN
) -> float:
    """Returns the mean number of seeds of a study that stops at the first look at which everything is decided.

    Args:
        noise: variance components of a difference of two inits.
        seeds: number of seeds at each look, rising.
        cases: number of reported cases, or of patients.
        contrasts: number of inits beside the baseline.
        difference: the true difference of each, in Dice points.
        margin: Dice points within which two inits are equivalent.
    """
    rng = generator("looks")
    last = seeds[-1]
    at_once = max(1, _AT_ONCE // ((contrasts + 1) * last * cases))
    taken: list[Array] = []
    left = _STUDIES
    while left > 0:
        count = min(left, at_once)
        left -= count
        y = _studies(noise, rng, (count, contrasts + 1, last, cases))
        y[:, 1:] += difference
        taken.append(seeds_taken(y, seeds, margin))
    return float(np.concatenate(taken).mean())


def seeds_taken(y: Array, seeds: Sequence[int], margin: float = MARGIN) -> Array:
    """Returns the number of seeds at which each study stops, [study].

    Args:
        y: Dice points [study, init, seed, case], the baseline first.
        seeds: number of them at each look, rising.
        margin: Dice points within which two inits are equivalent.
    """
    found = np.full(len(y), float(seeds[-1]))
    for number, share in reversed(list(zip(seeds, shares(seeds), strict=True))):
        decided, _ = is_decided(y[:, :, :number], share, margin)
        found[decided] = number
    return found


def _studies(noise: Pilot, rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Array:
    """Draws scores of inits, any two of which have a difference of this noise.

    Args:
        noise: variance components of a difference.
        rng: source of random numbers.
        shape: numbers of studies, inits, seeds and cases.

    Returns:
        Dice points [study, init, seed, case], around 0.
    """
    count, inits, seeds, cases = shape
    y = np.sqrt(noise.residual / 2) * rng.normal(size=shape)
    y += np.sqrt(noise.seed / 2) * rng.normal(size=(count, inits, seeds, 1))
    return np.asarray(y + np.sqrt(noise.case / 2) * rng.normal(size=(count, inits, 1, cases)), np.float64)
