"""Everything that is said of a block, in one call: summaries, components, verdicts against `default`, ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from initbench.stats.blocks import BASELINE
from initbench.stats.compare import MARGIN, Comparison, Difference, compare
from initbench.stats.components import Components, components
from initbench.stats.design import SCOPES, Refused, Scope, SeedDesign
from initbench.stats.inits import InitSummary, summarize
from initbench.stats.ranks import Ranking, ranking
from initbench.stats.summary import Interval
from initbench.stats.table import ScoreTable

_NNUNET = "under the policy nnunet runs are not scored on the same cases: compare under reference-mask"


@dataclass(frozen=True)
class Analysis:
    """The statistics of a block; the inits in the order of the table."""

    table: ScoreTable
    inits: tuple[InitSummary, ...]
    components: Components | Refused
    comparison: Comparison
    ranking: Ranking | Refused


def analyse(
    table: ScoreTable, *, scope: Scope = "A", against: str | None = BASELINE, margin: float = MARGIN
) -> Analysis | Refused:
    """The statistics of a block; refused under the policy `nnunet` where runs were scored on different cases.

    Without the init `against` in the block all pairs are compared.
    """
    if np.isnan(table.y).any():
        return Refused(_NNUNET)
    if not table.inits:
        return Refused("no init of the block is complete: " + "; ".join(f"{item.init}: {item.reason}" for item in table.withheld))
    if not table.cases:
        return Refused("the reference holds no class in any case: nothing is scored")
    return Analysis(
        table=table,
        inits=tuple(summarize(y, init, diverged) for init, y, diverged in zip(table.inits, table.y, table.diverged, strict=True)),
        components=components(table.y, table.design),
        comparison=verdicts(table, scope=scope, against=against, margin=margin),
        ranking=ranking(table.y, table.inits, table.design),
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

    Args:
        table: the scores.
        scope: what the claim is about.
        against: the init that all others are compared with; all pairs where it is None or not in the block.
        seeds: `nested` to ignore that runs share seeds; by default as the table has them.
        margin: Dice points of the equivalence tests.
    """
    reasons = {item.init: f"{item.init}: {item.reason}" for item in table.withheld}
    design = seeds or table.design
    everything = _NNUNET if np.isnan(table.y).any() else reasons.get(against or "", "")
    if everything:
        others = [init for init in (*table.inits, *reasons) if init != against]
        differences = tuple(_untestable(init, against or "", scope, everything) for init in others)
        return Comparison(scope, SCOPES[scope], design, margin, differences, 0, Refused(everything))
    control = against if against in table.inits else None
    found = compare(table.y, table.inits, scope=scope, seeds=design, against=control, margin=margin)
    missing = [_untestable(init, control or "", scope, reason) for init, reason in reasons.items()]
    return replace(found, differences=(*found.differences, *missing))


def _untestable(first: str, second: str, scope: Scope, reason: str) -> Difference:
    nan = math.nan
    return Difference(first, second, scope, Interval(nan, nan, nan), nan, nan, nan, nan, nan, "untestable", reason)
