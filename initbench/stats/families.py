"""Families: differences that are judged together. Every pair of rows belongs to one, whichever command prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from initbench.choices import BASELINE
from initbench.stats.blocks import is_placebo, without_placebos
from initbench.stats.collapse import joining, rate_test
from initbench.stats.design import Flags, SeedDesign
from initbench.stats.treatments import interactions, treatment

Kind = Literal["baseline", "pairs", "placebo", "claims"]


@dataclass(frozen=True)
class Family:
    """Differences of which one wrong verdict may happen in 5 % of studies, over all of them together.

    Attributes:
        kind: `baseline` is every row against `default`, and every interaction; `pairs` all pairs of rows, `placebo` a placebo
            against the rows, `claims` a list that somebody wrote, as the claims of a published table.
        size: number of differences in it.
        interactions: number of interactions of an init and a regimen among them.
        rates: number of tests of two collapse rates among them.
        share: of the 5 % that all of them may spend: less than 1 at one of several planned looks.
    """

    kind: Kind
    size: int
    interactions: int = 0
    rates: int = 0
    share: float = 1.0

    @property
    def divisor(self) -> float:
        """The number by which 5 % is divided for the level of each difference."""
        return self.size / self.share


@dataclass(frozen=True)
class Facts:
    """The runs of a block that collapsed, and the share of the 5 %: they decide how strictly its differences are judged.

    Attributes:
        inits: the names of all complete rows of the block.
        flags: which of their runs collapsed, [init, seed].
        seeds: whether the rows share their seeds.
        share: of the 5 % that may be spent: less than 1 at one of several planned looks.
    """

    inits: Sequence[str]
    flags: Flags
    seeds: SeedDesign
    share: float = 1.0

    def of(self, init: str) -> Flags:
        """Returns which runs of a row collapsed, [seed]."""
        found: Flags = self.flags[list(self.inits).index(init)]
        return found


def _with_rates(of: Family, pairs: Sequence[tuple[str, str]], facts: Facts | None) -> Family:
    """Returns a family with those tests of collapse rates that can reach the level that it leaves to each.

    Args:
        of: the family.
        pairs: names of the two rows of each of its differences.
        facts: which runs collapsed; without them no test of rates is in the family.
    """
    if facts is None:
        return of
    least = []
    for first, second in pairs:
        test = rate_test(facts.of(first), facts.of(second), facts.seeds)
        least.append(test.least / facts.share)
    rates = joining(least, of.size)
    return replace(of, size=of.size + rates, rates=rates, share=facts.share)


def family(first: str, second: str, inits: Sequence[str], facts: Facts | None = None) -> Family:
    """Returns the family of the difference of two rows of a block.

    A placebo is no scheme, so it costs the schemes nothing: its difference to `default` under the same regimen is judged by
    itself, its differences to the other rows as one more family.

    Args:
        first: one row of the pair.
        second: the other one; swapping the two changes nothing.
        inits: the names of all complete rows of the block.
        facts: which runs collapsed; where it is left out, no test of collapse rates is in the family.
    """
    pair = (first, second)
    if is_placebo(first) or is_placebo(second):
        return _placebo_family(pair, inits, facts)
    if BASELINE in pair:
        return baseline_family(inits, facts)
    pairs = list(combinations(without_placebos(inits), 2))
    return _with_rates(Family("pairs", len(pairs)), pairs, facts)


def _placebo_family(pair: tuple[str, str], inits: Sequence[str], facts: Facts | None) -> Family:
    """Returns the family of a difference of which at least one row is a placebo.

    Args:
        pair: names of the two rows.
        inits: names of all complete rows of the block.
        facts: which runs collapsed; may be left out.
    """
    placebos = []
    for name in pair:
        if is_placebo(name):
            placebos.append(name)
            if treatment(name).default.name in pair:
                return _with_rates(Family("placebo", 1), [pair], facts)
    placebo = max(placebos, key=lambda name: (len(_others(name, inits)), name))
    pairs = [(placebo, other) for other in _others(placebo, inits)]
    return _with_rates(Family("placebo", max(1, len(pairs))), pairs, facts)


def baseline_family(inits: Sequence[str], facts: Facts | None = None) -> Family:
    """Returns the family of all differences to `default`, to which the interactions belong, and the tests of collapse rates.

    Args:
        inits: the names of all complete rows of the block.
        facts: which runs collapsed; where it is left out, no test of collapse rates is in the family.
    """
    schemes = without_placebos(inits)
    crossed = len(interactions(schemes))
    found = Family("baseline", len(schemes) - 1 + crossed, crossed)
    if BASELINE not in schemes:
        return found
    pairs = [(name, BASELINE) for name in schemes if name != BASELINE]
    return _with_rates(found, pairs, facts)


def _others(placebo: str, inits: Sequence[str]) -> list[str]:
    """Returns the rows beside a placebo and the row of `default` that it repeats."""
    own = {placebo, treatment(placebo).default.name}
    return [name for name in inits if name not in own]
