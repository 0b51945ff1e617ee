"""Everything that is said of a block, in one call: summaries, components, verdicts, ranks. Every table and picture reads it."""

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
        inits: of every complete init, placebos among them.
        against: the init that all others are compared with, None where all pairs are. Where it is withheld nothing is compared.
        components: without placebos, which are no other init.
        comparison: of all inits with `against`, or of all pairs; each difference in its own family.
        ranking: by falling mean, without placebos.
        interactions: of inits and regimens, where the block has several of both.
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
    """The statistics of a block, where anything of it may be compared.

    Without the init `against` in the block all pairs are compared.
    """
    if table.refused:
        return Refused(table.refused)
    own = table.schemes()
    facts = facts_of(table)
    return Analysis(
        table=table,
        inits=summarize(table.by_patient, table.inits, table.design, table.diverged, table.collapsed),
        against=against if against in table.names else None,
        components=spread(table),
        comparison=verdicts(table, scope=scope, against=against, margin=margin),
        ranking=ranking(own.by_patient, own.inits, own.design, table.share),
        interactions=judge(
            [Scores(table.by_patient, table.design)],
            table.inits,
            margin,
            withheld=_reasons(table),
            judged_with=baseline_family(table.inits, facts),
            fallen={init: collapses(facts.of(init)) for init in table.inits},
        ),
    )


def facts_of(table: ScoreTable) -> Facts:
    """The runs of a block that collapsed, as families and verdicts take them."""
    return Facts(table.inits, table.collapsed, table.design, table.share)


def spread(table: ScoreTable) -> Components | Refused:
    """Where the spread of Dice in a block comes from, its headline with it; placebos are left out."""
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
    """`compare` of a block, with its withheld inits as untestable.

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
        others = [init for init in table.names if init != against]
        differences = tuple(_untestable(init, against, scope, everything) for init in others)
        return Comparison(scope, SCOPES[scope], design, margin, differences, Refused(everything))
    control = against if against in table.inits else None
    facts = replace(facts_of(table), seeds=design)
    found = compare(table.by_patient, table.inits, scope=scope, seeds=design, against=control, margin=margin, facts=facts)
    missing = [_untestable(init, control, scope, reason) for init, reason in reasons.items()]
    alone = []
    for init in table.inits:
        own = compared_with(init, control) if control else init
        if own not in table.inits:
            alone.append(_untestable(init, control, scope, reasons.get(own, f"{own} is not in this block")))
    return replace(found, differences=(*found.differences, *missing, *alone))


def _reasons(table: ScoreTable) -> dict[str, str]:
    """Why each withheld row gets no verdict."""
    return {item.init: f"{item.init}: {item.reason}" for item in table.withheld}


def _untestable(init: str, against: str | None, scope: Scope, reason: str) -> Difference:
    """A row less the one that it is compared with, which the block cannot decide."""
    control = compared_with(init, against) if against else ""
    return untestable_difference((init, control), scope, math.nan, reason)


def pair(table: ScoreTable, first: str, second: str, *, scope: Scope = "A", margin: float = MARGIN) -> Difference:
    """`first` minus `second` of a block, in the family that the pair belongs to in every table."""
    reasons = _reasons(table)
    reason = reasons.get(first) or reasons.get(second) or table.refused or table.between_looks
    if reason:
        return untestable_difference((first, second), scope, math.nan, reason)
    a, b = (table.by_patient[table.inits.index(name)] for name in (first, second))
    facts = facts_of(table)
    own = family(first, second, table.inits, facts)
    names = (first, second)
    found = difference(a, b, names=names, scope=scope, seeds=table.design, margin=margin, judged_with=own)
    return with_collapses(found, facts)


def standing(table: ScoreTable, item: Difference) -> StandingDifference | None:
    """The difference of the runs that stand, beside a difference of a block; None where all runs of its two rows stand.

    Raises:
        ValueError: the difference is of other rows than this block has.
    """
    places = [table.inits.index(name) for name in (item.first, item.second)]
    lost = table.collapsed[places]
    if not lost.any():
        return None
    a, b = table.by_patient[places]
    return difference_of_standing(a, b, lost, table.design, item.family.divisor)


def rates(table: ScoreTable, item: Difference) -> RateTest | None:
    """The test of the collapse rates of the two rows of a difference; None where no run of either collapsed."""
    a, b = (table.collapsed[table.inits.index(name)] for name in (item.first, item.second))
    if not (a.any() or b.any()):
        return None
    return rate_test(a, b, table.design)
