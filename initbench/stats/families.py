"""Which differences are judged together. Every pair of rows belongs to one family, whatever command prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from initbench.choices import BASELINE
from initbench.stats.blocks import is_placebo
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
        """By what 5 % is divided for the level of each difference."""
        return self.size / self.share


@dataclass(frozen=True)
class Facts:
    """What decides, beside the names of its rows, how strictly the differences of a block are judged.

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
        """Of one row, [seed]."""
        found: Flags = self.flags[list(self.inits).index(init)]
        return found

    def joined(self, of: Family, pairs: Sequence[tuple[str, str]]) -> Family:
        """The family with the tests of the collapse rates of its `pairs` that can reach the level that it leaves them."""
        least = [rate_test(self.of(first), self.of(second), self.seeds).least for first, second in pairs]
        rates = joining([p / self.share for p in least], of.size)
        return replace(of, size=of.size + rates, rates=rates, share=self.share)


def family(first: str, second: str, inits: Sequence[str], facts: Facts | None = None) -> Family:
    """The family of the difference of two rows of a block.

    A placebo is no scheme, so it costs the schemes nothing: its difference to `default` under the same regimen is judged by
    itself, its differences to the other rows as one more family.

    Args:
        first: one row of the pair.
        second: the other one; swapping the two changes nothing.
        inits: the names of all complete rows of the block.
        facts: which runs collapsed; where it is left out, no test of collapse rates is in the family.
    """
    pair = {first, second}
    placebos = [name for name in pair if is_placebo(name)]
    if placebos:
        return _placebo_family(first, second, placebos, inits, facts)
    if BASELINE in pair:
        return baseline_family(inits, facts)
    pairs = list(combinations([name for name in inits if not is_placebo(name)], 2))
    found = Family("pairs", len(pairs))
    return facts.joined(found, pairs) if facts else found


def _placebo_family(first: str, second: str, placebos: Sequence[str], inits: Sequence[str], facts: Facts | None) -> Family:
    if any(treatment(name).default.name in (first, second) for name in placebos):
        alone = Family("placebo", 1)
        return facts.joined(alone, [(first, second)]) if facts else alone
    name = max(placebos, key=lambda placebo: (len(_others(placebo, inits)), placebo))
    others = _others(name, inits)
    found = Family("placebo", max(1, len(others)))
    return facts.joined(found, [(name, other) for other in others]) if facts else found


def baseline_family(inits: Sequence[str], facts: Facts | None = None) -> Family:
    """The family of all differences to `default`, to which the interactions belong, and the tests of collapse rates."""
    schemes = [name for name in inits if not is_placebo(name)]
    crossed = len(interactions(schemes))
    found = Family("baseline", len(schemes) - 1 + crossed, crossed)
    if facts is None or BASELINE not in schemes:
        return found
    return facts.joined(found, [(name, BASELINE) for name in schemes if name != BASELINE])


def _others(placebo: str, inits: Sequence[str]) -> list[str]:
    """The rows beside a placebo and the row that it is a placebo of."""
    own = {placebo, treatment(placebo).default.name}
    return [name for name in inits if name not in own]
