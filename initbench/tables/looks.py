"""What planned looks of a study save: the seeds that it is expected to take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from initbench.stats.looks import expected_seeds, levels
from initbench.tables import words
from initbench.tables.finds import Block
from initbench.tables.sheet import Sheet


def looks_sheet(blocks: Sequence[Block], looks: Sequence[int], margin: float) -> Sheet:
    """Returns a sheet with the number of seeds that each block is expected to take.

    Args:
        blocks: the blocks of the study.
        looks: numbers of seeds, rising.
        margin: Dice points within which two inits are equivalent.
    """
    spent, nominal = [], []
    for seeds, level in zip(looks, levels(looks), strict=True):
        spent.append(f"{100 * level:.2g} % at {seeds}")
        nominal.append(f"{level:.4f}")
    rows, values = [], []
    for block in blocks:
        points = block.finds.value
        none, some = _expected(block, looks, 0.0, margin), _expected(block, looks, points, margin)
        rows.append((block.name, words.number(none, 1), words.number(points, 1), words.number(some, 1), str(looks[-1])))
        values.append(
            {
                "of": "looks",
                "name": block.name,
                "looks": " ".join(map(str, looks)),
                "levels": " ".join(nominal),
                "margin": margin,
                "expected_seeds_at_none": none,
                "difference_of_interest": points,
                "expected_seeds_at_difference": some,
                "most_seeds": looks[-1],
            }
        )
    return Sheet(
        title=f"Planned looks at {', '.join(map(str, looks))} seeds",
        subtitle=f"levels: {', '.join(spent)}; margin {margin:g} points",
        columns=("data set × backbone", "seeds, no difference", "difference", "seeds at it", "at most"),
        rows=tuple(rows),
        notes=(
            "Seeds that the study is expected to take: a block ends at the first look at which every difference to default is "
            "told from 0 or equivalent. difference: the smallest that all planned seeds find in 80 % of studies when they are "
            "judged once; every other init is then ahead by it.",
            "Plan looks to stop early where differences are large. Near 0 a study ends early only where the margin is far wider "
            "than its noise.",
        ),
        values=tuple(values),
    )


def _expected(block: Block, looks: Sequence[int], points: float, margin: float) -> float:
    """Returns the seeds that a block takes on average where every init is ahead by `points`; NaN where its noise is not known."""
    if block.noise is None or block.patients < 2 or block.pairs < 1 or math.isnan(points):
        return math.nan
    return expected_seeds(block.noise.pilot, looks, block.patients, block.pairs, points, margin)
