"""How firm a verdict is: differences again, with a part of the study left out or scored otherwise."""

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
    """A difference, computed again in a study that was changed in one respect.

    Attributes:
        kind: the respect.
        name: what is left out, or how the study is scored.
        value: the difference in Dice points; NaN where there is none.
        shift: the difference less the difference in the whole study.
        changes_sign: whether the other init is ahead.
        says: the verdict with this difference and the error of the whole study.
        remade: the verdict of the changed study with its own error; None where it is not counted or there is none.
    """

    kind: Kind
    name: str
    value: float
    shift: float
    changes_sign: bool
    says: Verdict
    remade: Verdict | None = None


def vary(whole: Difference, kind: Kind, name: str, table: ScoreTable, margin: float, *, is_remade: bool = True) -> Variation:
    """Computes a difference of two rows again, in another table.

    Args:
        whole: the difference in the whole study.
        kind: in which respect the table was changed.
        name: what is left out of it, or how it is scored.
        table: the other table, which has both rows.
        margin: Dice points within which two inits are equivalent.
        is_remade: whether the verdict with the table's own error counts.
    """
    value = float(np.nanmean(table.runs(whole.first)) - np.nanmean(table.runs(whole.second)))
    remade: Verdict | None = None
    if is_remade:
        own = pair(table, whole.first, whole.second, margin=margin)
        if own.verdict != "untestable":
            remade = own.verdict
    return Variation(
        kind=kind,
        name=name,
        value=value,
        shift=value - whole.estimate.value,
        changes_sign=value * whole.estimate.value < 0,
        says=_says(whole, value, margin),
        remade=remade,
    )


def _says(whole: Difference, value: float, margin: float) -> Verdict:
    """Returns the verdict on a value, in Dice points, with the error of the whole study."""
    centre, low, high = whole.estimate.value, whole.estimate.low, whole.estimate.high
    reach = max(high - centre, centre - low)  # an end may have been cut
    if math.isnan(reach) or math.isnan(value):
        return "untestable"
    return verdict(Interval(value, value - reach, value + reach), margin)


def without_seeds(whole: Difference, table: ScoreTable, margin: float, *, is_remade: bool = True) -> Iterator[Variation]:
    """Computes a difference again without each seed; where inits have seeds of their own, without the first of each, and so on.

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
        kept = np.delete(np.arange(number), place)
        seeds = []
        for own in table.seeds:
            seeds.append((*own[:place], *own[place + 1 :]))
        left = replace(
            table,
            seeds=tuple(seeds),
            y=table.y[:, kept],
            diverged=table.diverged[:, kept],
            collapsed=table.collapsed[:, kept],
            looks=None,
        )
        name = f"no. {place + 1}"
        if table.design == "crossed":
            name = str(table.seeds[0][place])
        yield vary(whole, "seed", name, left, margin, is_remade=is_remade and number >= SEEDS_TO_REMAKE)


def without_patients(whole: Difference, table: ScoreTable, margin: float, *, is_remade: bool = True) -> Iterator[Variation]:
    """Computes a difference again without each patient.

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
        kept, cases, others = [], [], []
        for place, owner in enumerate(owners):
            if owner != patient:
                kept.append(place)
                cases.append(table.cases[place])
                others.append(owner)
        left = replace(table, cases=tuple(cases), y=table.y[..., kept])
        if table.patients:
            left = replace(left, patients=tuple(others))
        yield vary(whole, "patient", patient, left, margin, is_remade=is_remade)


def agreeing(found: Sequence[Variation], whole: Difference) -> int:
    """Counts the variations that have the verdict of the whole study, with its error."""
    number = 0
    for item in found:
        if item.says == whole.verdict:
            number += 1
    return number
