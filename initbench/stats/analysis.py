"""Computes all statistics of a block in one call: summaries, components, verdicts, ranks. Every table and picture reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from initbench.choices import BASELINE, MARGIN
from initbench.stats.collapse import RateTest, collapses, rate_test
from initbench.stats.compare import Comparison, Difference, compare, difference, untestable_difference, with_collapses
from initbench.stats.components import Components, components
from initbench.stats.design import SCOPES, Refused, Scope, SeedDesign
from initbench.stats.families import Facts, baseline_family, family
from initbench.stats.inits import InitSummary, summarize
from initbench.stats.interactions import Judged, Scores, judge
from initbench.stats.ranks import InitRank, ranking
from initbench.stats.standing import StandingDifference, difference_of_standing
from initbench.stats.table import ScoreTable
from initbench.stats.treatments import compared_with


@dataclass(frozen=True)
class Analysis:
    """The statistics of a block; the inits in the order of the table.

    Attributes:
        table: the scores.
        inits: a summary of every complete init, placebos among them.
        against: the init that all others are compared with, None where all pairs are. Where it is withheld nothing is compared.
        components: where the spread of Dice comes from; without placebos, which are no other init.
        comparison: the differences of all inits to `against`, or of all pairs; each in its own family.
        ranking: the places of the inits by falling mean, without placebos.
        interactions: the interactions of inits and regimens, where the block has several of both.
    """

    table: ScoreTable
    inits: tuple[InitSummary, ...]
    against: str | None
    components: Components | Refused
    comparison: Comparison
    ranking: tuple[InitRank, ...] | Refused
    interactions: tuple[Judged, ...]


def analyse(
    table: ScoreTable, *, scope: Scope = "A", against: str | None = BASELINE, margin: float = MARGIN
) -> Analysis | Refused:
    """Computes the statistics of a block.

    Args:
        table: the scores.
        scope: what the verdicts claim.
        against: the init that all others are compared with; all pairs where it is None or not in the block.
        margin: Dice points within which two inits are equivalent.

    Returns:
        The statistics, or why nothing of the block may be compared.
    """
    if table.refused:
        return Refused(table.refused)
    own = table.schemes()
    facts = facts_of(table)
    fallen = {}
    for init in table.inits:
        fallen[init] = collapses(table.fallen(init))
    control = against
    if against not in table.names:
        control = None
    return Analysis(
        table=table,
        inits=summarize(table.by_patient, table.inits, table.design),
        against=control,
        components=spread(table),
        comparison=verdicts(table, scope=scope, against=against, margin=margin),
        ranking=ranking(own.by_patient, own.inits, own.design, table.share),
        interactions=judge(
            [Scores(table.by_patient, table.design)],
            table.inits,
            margin,
            withheld=_reasons(table),
            judged_with=baseline_family(table.inits, facts),
            fallen=fallen,
        ),
    )


def facts_of(table: ScoreTable) -> Facts:
    """Returns the runs of a block that collapsed, as families and verdicts take them."""
    return Facts(table.inits, table.collapsed, table.design, table.share)


def spread(table: ScoreTable) -> Components | Refused:
    """Returns the variance components of a block without its placebos, or why there are none."""
    if table.refused:
        return Refused(table.refused)
    own = table.schemes()
    return components(own.by_patient, own.design)


def verdicts(
    table: ScoreTable,
    *,
    scope: Scope = "A",
    against: str | None = BASELINE,
    seeds: SeedDesign | None = None,
    margin: float = MARGIN,
) -> Comparison:
    """Compares the inits of a block (see `compare`); its withheld inits are untestable.

    Args:
        table: the scores.
        scope: what the claim is about.
        against: the init that all others are compared with; all pairs where it is None or not in the block.
        seeds: `nested` to ignore that runs share seeds; by default as the table has them.
        margin: Dice points of the equivalence tests.
    """
    reasons = _reasons(table)
    design = seeds or table.design
    everything = reasons.get(against or "") or table.refused or table.between_looks
    if everything:
        differences = []
        for init in table.names:
            if init != against:
                differences.append(_untestable(init, against, scope, everything))
        return Comparison(scope, SCOPES[scope], design, margin, tuple(differences), Refused(everything))
    control = against
    if against not in table.inits:
        control = None
    facts = replace(facts_of(table), seeds=design)
    found = compare(table.by_patient, table.inits, scope=scope, seeds=design, against=control, margin=margin, facts=facts)
    differences = list(found.differences)
    for init, reason in reasons.items():
        differences.append(_untestable(init, control, scope, reason))
    for init in table.inits:
        own = init
        if control:
            own = compared_with(init, control)
        if own not in table.inits:
            reason = reasons.get(own, f"{own} is not in this block")
            differences.append(_untestable(init, control, scope, reason))
    return replace(found, differences=tuple(differences))


def _reasons(table: ScoreTable) -> dict[str, str]:
    """Returns why each withheld row gets no verdict, by the name of the row."""
    return {item.init: f"{item.init}: {item.reason}" for item in table.withheld}


def _untestable(init: str, against: str | None, scope: Scope, reason: str) -> Difference:
    """Returns an untestable difference of a row to the one that it is compared with.

    Args:
        init: name of the row.
        against: the row that all others are compared with; None for all pairs.
        scope: what would be claimed.
        reason: why the block cannot decide it.
    """
    control = ""
    if against:
        control = compared_with(init, against)
    return untestable_difference((init, control), scope, math.nan, reason)


def pair(table: ScoreTable, first: str, second: str, *, scope: Scope = "A", margin: float = MARGIN) -> Difference:
    """Returns `first` minus `second` of a block, judged in the family that the pair belongs to in every table.

    Args:
        table: the scores.
        first: name of a row.
        second: name of another one.
        scope: what is claimed.
        margin: Dice points within which two inits are equivalent.
    """
    names = (first, second)
    reasons = _reasons(table)
    reason = reasons.get(first) or reasons.get(second) or table.refused or table.between_looks
    if reason:
        return untestable_difference(names, scope, math.nan, reason)
    facts = facts_of(table)
    own = family(first, second, table.inits, facts)
    a, b = table.of(first), table.of(second)
    found = difference(a, b, names=names, scope=scope, seeds=table.design, margin=margin, judged_with=own)
    return with_collapses(found, facts)


def standing(table: ScoreTable, item: Difference) -> StandingDifference | None:
    """Returns the difference of the runs that stand, for a difference of all runs; None where all runs of its two rows stand.

    Args:
        table: the scores of the block.
        item: the difference of all runs.

    Raises:
        ValueError: the block lacks one of the two rows.
    """
    places = [table.inits.index(item.first), table.inits.index(item.second)]
    lost = table.collapsed[places]
    if not lost.any():
        return None
    first, second = table.by_patient[places]
    return difference_of_standing(first, second, lost, table.design, item.family.divisor)


def rates(table: ScoreTable, item: Difference) -> RateTest | None:
    """Tests whether the two rows of a difference collapse equally often; None where no run of either collapsed.

    Args:
        table: the scores of the block.
        item: the difference.
    """
    first, second = table.fallen(item.first), table.fallen(item.second)
    if not (first.any() or second.any()):
        return None
    return rate_test(first, second, table.design)
