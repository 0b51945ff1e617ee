"""How firm a verdict is: what a difference becomes when a part of the study is left out, or is scored otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from initbench.stats.analysis import pair
from initbench.stats.compare import Difference, Verdict, verdict
from initbench.stats.summary import Interval
from initbench.stats.table import ScoreTable

# With three seeds a real effect loses its verdict in two of three studies when it is made again without one seed
# (benchmarks/collapse.py). That shows how few seeds there are, and says nothing of the seed.
SEEDS_TO_REMAKE = 5

Kind = Literal["seed", "patient", "class", "policy", "grid", "protocol"]


@dataclass(frozen=True)
class Variation:
    """The difference in a study that is another one in one respect.

    Attributes:
        kind: the respect.
        name: what is left out, or in what the study is another one.
        value: the difference in Dice points; NaN where there is none.
        shift: the difference less the difference in the whole study.
        changes_sign: whether the other init is ahead.
        says: the verdict with this difference and the error of the whole study.
        remade: the verdict that the other study has with its own error; None where it is not counted or there is none.
    """

    kind: Kind
    name: str
    value: float
    shift: float
    changes_sign: bool
    says: Verdict
    remade: Verdict | None = None


def vary(whole: Difference, kind: Kind, name: str, table: ScoreTable, margin: float, *, is_remade: bool = True) -> Variation:
    """The difference of the same two rows in another table.

    Args:
        whole: the difference in the whole study.
        kind: in which respect the table is another one.
        name: what is left out of it, or how it is scored.
        table: the other table, which has both rows.
        margin: Dice points within which two inits are equivalent.
        is_remade: whether the verdict with the table's own error counts.
    """
    value = float(np.nanmean(table.runs(whole.first)) - np.nanmean(table.runs(whole.second)))
    own = pair(table, whole.first, whole.second, margin=margin) if is_remade else None
    return Variation(
        kind=kind,
        name=name,
        value=value,
        shift=value - whole.estimate.value,
        changes_sign=value * whole.estimate.value < 0,
        says=_says(whole, value, margin),
        remade=own.verdict if own and own.verdict != "untestable" else None,
    )


def _says(whole: Difference, value: float, margin: float) -> Verdict:
    """The verdict on a value with the error of the whole study."""
    centre, low, high = whole.estimate.value, whole.estimate.low, whole.estimate.high
    reach = max(high - centre, centre - low)  # an end may have been cut
    if math.isnan(reach) or math.isnan(value):
        return "untestable"
    return verdict(Interval(value, value - reach, value + reach), margin)


def without_seeds(whole: Difference, table: ScoreTable, margin: float, *, is_remade: bool = True) -> Iterator[Variation]:
    """The difference without each seed; with seeds of their own, without the first of each init, then the second.

    Args:
        whole: the difference in the whole study.
        table: the scores of the block.
        margin: Dice points within which two inits are equivalent.
        is_remade: whether verdicts are made again.
    """
    number = table.y.shape[1]
    if number < 2:
        return
    for place in range(number):
        kept = [k for k in range(number) if k != place]
        left = replace(
            table,
            seeds=tuple(tuple(own[k] for k in kept) for own in table.seeds),
            y=table.y[:, kept],
            diverged=table.diverged[:, kept],
            collapsed=table.collapsed[:, kept],
            looks=None,
        )
        name = str(table.seeds[0][place]) if table.design == "crossed" else f"no. {place + 1}"
        yield vary(whole, "seed", name, left, margin, is_remade=is_remade and number >= SEEDS_TO_REMAKE)


def without_patients(whole: Difference, table: ScoreTable, margin: float, *, is_remade: bool = True) -> Iterator[Variation]:
    """The difference without each patient.

    Args:
        whole: the difference in the whole study.
        table: the scores of the block.
        margin: Dice points within which two inits are equivalent.
        is_remade: whether verdicts are made again.
    """
    owners = table.patients or table.cases
    different = list(dict.fromkeys(owners))
    if len(different) < 2:
        return
    for patient in different:
        kept = [k for k, owner in enumerate(owners) if owner != patient]
        left = replace(
            table,
            cases=tuple(table.cases[k] for k in kept),
            y=table.y[..., kept],
            patients=tuple(owners[k] for k in kept) if table.patients else None,
        )
        yield vary(whole, "patient", patient, left, margin, is_remade=is_remade)


def agreeing(found: Sequence[Variation], whole: Difference) -> int:
    """Counts the variations that have the verdict of the whole study, with its error."""
    return sum(item.says == whole.verdict for item in found)
