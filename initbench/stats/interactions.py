"""Whether a regimen does more for one init than for `default`: differences of differences, under the law of a paired difference.

With shared seeds an interaction, as a difference, is the mean of one value for each seed and patient. So the law of a difference
gives the error and the degrees of freedom of both (see `mrmc`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from initbench.stats.collapse import Collapses
from initbench.stats.compare import Difference, evaluated, untestable_difference
from initbench.stats.design import Array, SeedDesign
from initbench.stats.families import Family, baseline_family
from initbench.stats.mrmc import crossed_difference, nested_contrast
from initbench.stats.tails import Estimate, combined
from initbench.stats.testable import untestable_interaction
from initbench.stats.treatments import Interaction, interactions


@dataclass(frozen=True)
class Judged:
    """An interaction with its estimate, interval and verdict: the gain of the init by the regimen less the gain of `default`."""

    interaction: Interaction
    difference: Difference


@dataclass(frozen=True)
class Scores:
    """Dice points `y` [init, seed, case] of a block, or of the blocks of a data set averaged over backbones, and their seeds."""

    y: Array
    seeds: SeedDesign


def judge(
    parts: Sequence[Scores],
    inits: Sequence[str],
    margin: float,
    *,
    withheld: Mapping[str, str] | None = None,
    problem: str = "",
    judged_with: Family | None = None,
    fallen: Mapping[str, Collapses] | None = None,
) -> tuple[Judged, ...]:
    """Judges all interactions of a block, or their means over data sets, in the family of the differences to `default`.

    Args:
        parts: the scores of the block, or of each data set.
        inits: names of the rows along the first axis of the scores.
        margin: Dice points of the equivalence tests.
        withheld: rows without verdict, with the reason. They make their interactions untestable.
        problem: why no interaction can be judged; empty where they can.
        judged_with: the family of the differences to `default`, where tests of collapse rates belong to it.
        fallen: how many runs of each row collapsed, where that is known.
    """
    missing = withheld or {}
    family = judged_with or baseline_family(inits)
    found = []
    for interaction in interactions([*inits, *missing]):
        reason = problem
        for name in interaction.rows:
            reason = reason or missing.get(name, "")
        if reason:
            difference = untestable_difference(interaction.names, "A", math.nan, reason, family)
        else:
            difference = _with_collapses(_judged(interaction, parts, inits, margin, family), interaction, fallen)
        found.append(Judged(interaction, difference))
    return tuple(found)


def _with_collapses(found: Difference, interaction: Interaction, fallen: Mapping[str, Collapses] | None) -> Difference:
    """Returns a judged interaction with the collapses of the two rows that the regimen may bring down.

    They are the init under the regimen, and `default` under it.

    Args:
        found: the judged interaction.
        interaction: the names of its rows.
        fallen: how many runs of each row collapsed; None where that is not known.
    """
    if fallen is None:
        return found
    return replace(found, collapses=(fallen[interaction.gain[0]], fallen[interaction.usual[0]]))


def _judged(interaction: Interaction, parts: Sequence[Scores], inits: Sequence[str], margin: float, family: Family) -> Difference:
    """Returns an interaction with its verdict, as a difference of differences in Dice points.

    Args:
        interaction: the names of its rows.
        parts: the scores of the block, or of each data set.
        inits: names of the rows along the first axis of the scores.
        margin: Dice points of the equivalence tests.
        family: in which it is judged.
    """
    places = [list(inits).index(name) for name in interaction.rows]
    reason = ""
    values: list[float] = []
    estimates: list[Estimate] = []
    for part in parts:
        rows = part.y[places]
        values.append(_value(rows))
        reason = reason or untestable_interaction(rows, part.seeds)
        if not reason:
            estimates.append(contrast(rows, part.seeds))
    if reason:
        return untestable_difference(interaction.names, "A", float(np.mean(values)), reason, family)
    whole = estimates[0]
    if len(estimates) > 1:
        whole = combined(estimates)
    return evaluated([interaction.names], [family], "A", whole.spread(1), margin)[0]


def contrast(rows: Array, seeds: SeedDesign) -> Estimate:
    """Estimates the first two less the last two of four rows, in Dice points, for new seeds and new cases.

    Args:
        rows: Dice points [row, seed, case].
        seeds: whether the rows share their seeds.
    """
    if seeds == "nested":
        return nested_contrast(list(rows[:2]), list(rows[2:]))
    return crossed_difference((rows[0] - rows[2]) - (rows[3] - rows[1]))


def _value(rows: Array) -> float:
    """Returns the mean of the first two less the mean of the last two of four rows [row, seed, case], in Dice points."""
    means = rows.mean((-2, -1))
    return float(means[0] + means[1] - means[2] - means[3])
