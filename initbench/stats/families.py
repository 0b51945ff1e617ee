"""Which differences are judged together. Every pair of inits belongs to one family, whatever command prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from initbench.choices import BASELINE
from initbench.stats.blocks import is_placebo

Kind = Literal["baseline", "pairs", "placebo", "claims"]


@dataclass(frozen=True)
class Family:
    """Differences of which one wrong verdict may happen in 5 % of studies, over all of them together.

    Attributes:
        kind: `baseline` is every init against `default`, `pairs` all pairs of inits, `placebo` a placebo against the inits,
            `claims` a list that somebody wrote, as the claims of a published table.
        size: number of differences in it.
    """

    kind: Kind
    size: int


def family(first: str, second: str, inits: Sequence[str]) -> Family:
    """The family of the difference of two inits of a block.

    A placebo is no scheme, so it costs the schemes nothing: its difference to `default` is judged by itself, its differences to
    the schemes as one more family.

    Args:
        first: one init of the pair.
        second: the other one; swapping the two changes nothing.
        inits: all complete inits of the block.
    """
    schemes = [init for init in inits if not is_placebo(init)]
    placebos = [init for init in inits if is_placebo(init)]
    pair = {first, second}
    if pair & set(placebos):
        if BASELINE in pair:
            return Family("placebo", 1)
        others = [init for init in inits if init != BASELINE]
        return Family("placebo", max(1, len(others) - 1))
    if BASELINE in pair:
        return Family("baseline", len(schemes) - 1)
    return Family("pairs", len(schemes) * (len(schemes) - 1) // 2)
