"""Which differences are judged together. Every pair of rows belongs to one family, whatever command prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from initbench.choices import BASELINE
from initbench.stats.blocks import is_placebo
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
    """

    kind: Kind
    size: int
    interactions: int = 0


def family(first: str, second: str, inits: Sequence[str]) -> Family:
    """The family of the difference of two rows of a block.

    A placebo is no scheme, so it costs the schemes nothing: its difference to `default` under the same regimen is judged by
    itself, its differences to the other rows as one more family.

    Args:
        first: one row of the pair.
        second: the other one; swapping the two changes nothing.
        inits: the names of all complete rows of the block.
    """
    pair = {first, second}
    placebos = [name for name in pair if is_placebo(name)]
    if placebos:
        if any(treatment(name).default.name in pair for name in placebos):
            return Family("placebo", 1)
        return Family("placebo", max(1, *(_others(name, inits) for name in placebos)))
    if BASELINE in pair:
        return baseline_family(inits)
    schemes = sum(not is_placebo(name) for name in inits)
    return Family("pairs", schemes * (schemes - 1) // 2)


def baseline_family(inits: Sequence[str]) -> Family:
    """The family of all differences to `default`, to which the interactions belong."""
    schemes = [name for name in inits if not is_placebo(name)]
    crossed = len(interactions(schemes))
    return Family("baseline", len(schemes) - 1 + crossed, crossed)


def _others(placebo: str, inits: Sequence[str]) -> int:
    """The number of rows beside a placebo and the row that it is a placebo of."""
    own = {placebo, treatment(placebo).default.name}
    return sum(name not in own for name in inits)
