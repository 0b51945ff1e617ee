"""Everything that is said of a block, in one call: summaries, components, verdicts, ranks. Every table and picture reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from initbench.choices import BASELINE, MARGIN
from initbench.stats.compare import Comparison, Difference, compare, difference, untestable_difference
from initbench.stats.components import Components, components
from initbench.stats.design import SCOPES, Refused, Scope, SeedDesign
from initbench.stats.families import family
from initbench.stats.inits import InitSummary, summarize
from initbench.stats.ranks import InitRank, ranking
from initbench.stats.table import ScoreTable


@dataclass(frozen=True)
class Analysis:
    """The statistics of a block; the inits in the order of the table.

    Attributes:
        inits: of every complete init, placebos among them.
        against: the init that all others are compared with, None where all pairs are. Where it is withheld nothing is compared.
        components: without placebos, which are no other init.
        comparison: of all inits with `against`, or of all pairs; each difference in its own family.
        ranking: by falling mean, without placebos.
    """

    table: ScoreTable
    inits: tuple[InitSummary, ...]
    against: str | None
    components: Components | Refused
    comparison: Comparison
    ranking: tuple[InitRank, ...] | Refused


def analyse(
    table: ScoreTable, *, scope: Scope = "A", against: str | None = BASELINE, margin: float = MARGIN
) -> Analysis | Refused:
    """The statistics of a block, where anything of it may be compared.

    Without the init `against` in the block all pairs are compared.
    """
    if table.refused:
        return Refused(table.refused)
    own = table.schemes()
    return Analysis(
        table=table,
        inits=summarize(table.by_patient, table.inits, table.design, table.diverged),
        against=against if against in table.names else None,
        components=spread(table),
        comparison=verdicts(table, scope=scope, against=against, margin=margin),
        ranking=ranking(own.by_patient, own.inits, own.design),
    )


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
    reasons = {item.init: f"{item.init}: {item.reason}" for item in table.withheld}
    design = seeds or table.design
    everything = reasons.get(against or "") or table.refused
    if everything:
        others = [init for init in table.names if init != against]
        differences = tuple(untestable_difference((init, against or ""), scope, math.nan, everything) for init in others)
        return Comparison(scope, SCOPES[scope], design, margin, differences, Refused(everything))
    control = against if against in table.inits else None
    found = compare(table.by_patient, table.inits, scope=scope, seeds=design, against=control, margin=margin)
    missing = [untestable_difference((init, control or ""), scope, math.nan, reason) for init, reason in reasons.items()]
    return replace(found, differences=(*found.differences, *missing))


def pair(table: ScoreTable, first: str, second: str, *, scope: Scope = "A", margin: float = MARGIN) -> Difference:
    """`first` minus `second` of a block, in the family that the pair belongs to in every table."""
    reasons = {item.init: f"{item.init}: {item.reason}" for item in table.withheld}
    reason = reasons.get(first) or reasons.get(second) or table.refused
    if reason:
        return untestable_difference((first, second), scope, math.nan, reason)
    a, b = (table.by_patient[table.inits.index(name)] for name in (first, second))
    own = family(first, second, table.inits)
    return difference(a, b, names=(first, second), scope=scope, seeds=table.design, margin=margin, judged_with=own)
