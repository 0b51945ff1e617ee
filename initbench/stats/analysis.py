"""Everything that is said of a block, in one call: summaries, components, verdicts against `default`, ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from initbench.stats.blocks import BASELINE, is_placebo
from initbench.stats.compare import MARGIN, Comparison, compare, untestable_difference
from initbench.stats.components import Components, components
from initbench.stats.design import SCOPES, Refused, Scope, SeedDesign
from initbench.stats.inits import InitSummary, summarize
from initbench.stats.ranks import Ranking, ranking
from initbench.stats.table import ScoreTable


@dataclass(frozen=True)
class Analysis:
    """The statistics of a block; the inits in the order of the table.

    Attributes:
        inits: of every complete init, placebos among them.
        against: the init that all others are compared with, None where all pairs are. Where it is withheld nothing is compared.
        components: without placebos, which are no other init.
        comparison: a placebo is compared with the control in a family of its own.
        ranking: without placebos.
    """

    table: ScoreTable
    inits: tuple[InitSummary, ...]
    against: str | None
    components: Components | Refused
    comparison: Comparison
    ranking: Ranking | Refused


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
        inits=tuple(summarize(y, init, diverged) for init, y, diverged in zip(table.inits, table.y, table.diverged, strict=True)),
        against=against if against in table.names else None,
        components=components(own.y, own.design),
        comparison=verdicts(table, scope=scope, against=against, margin=margin),
        ranking=ranking(own.y, own.inits, own.design),
    )


def verdicts(
    table: ScoreTable,
    *,
    scope: Scope = "A",
    against: str | None = BASELINE,
    seeds: SeedDesign | None = None,
    margin: float = MARGIN,
) -> Comparison:
    """`compare` of a block, with its withheld inits as untestable.

    Where all are compared with one control, a placebo is a family of its own: asked of no scheme, it costs the others nothing.

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
        return Comparison(scope, SCOPES[scope], design, margin, differences, 0, Refused(everything))
    control = against if against in table.inits else None
    first, *apart = _families(table, control)
    found, *placebos = (
        compare(part.y, part.inits, scope=scope, seeds=design, against=control, margin=margin) for part in (first, *apart)
    )
    more = [item for family in placebos for item in family.differences]
    missing = [untestable_difference((init, control or ""), scope, math.nan, reason) for init, reason in reasons.items()]
    return replace(found, differences=(*found.differences, *more, *missing))


def _families(table: ScoreTable, control: str | None) -> list[ScoreTable]:
    """The inits that are judged together, then every placebo beside the control."""
    placebos = [init for init in table.inits if is_placebo(init)]
    if control is None or control in placebos or not placebos:
        return [table]
    others = [init for init in table.inits if init not in placebos]
    return [table.only(others), *(table.only([control, init]) for init in placebos)]
