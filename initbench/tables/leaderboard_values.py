"""The rows of a leaderboard for machines."""

from __future__ import annotations

import math
from collections.abc import Mapping

from initbench.stats.analysis import Analysis
from initbench.stats.components import Components
from initbench.stats.design import Refused
from initbench.stats.ranks import InitRank
from initbench.stats.table import ScoreTable
from initbench.stats.treatments import have_regimens
from initbench.tables import collapses, words
from initbench.tables.standings import UNKNOWN, Standing
from initbench.tables.titles import columns, named


def row_values(
    place: int, row: Standing, table: ScoreTable, found: Analysis | Refused, ties: Mapping[str, str] | None
) -> dict[str, object]:
    """Returns the row of an init for machines.

    Args:
        place: of the row, from 1.
        row: what is known of the init.
        table: the scores of its block.
        found: the analysis of them, or why there is none.
        ties: the letters of rows by their names; None where nobody asked for them.
    """
    values: dict[str, object] = {
        **columns(table.block),
        "place": place,
        **named(row.init, table.names),
        "init_protocol": row.runs.protocol,
        "role": row.role,
    }
    if ties is not None:
        values["tie"] = ties.get(row.init, "")
    against = ""
    if row.difference is not None:
        against = row.difference.second
    values |= {
        **words.interval_values("dice", row.dice),
        **words.sizes(table, row.seeds),
        **words.interval_values("seed_sd", row.sd),
        "against": against,
        **words.tested(row.difference),
        **_place_values(row.rank),
        "median_run": row.median_run,
        **words.interval_values("beats", row.beats),
        **collapses.counted(row.collapses),
        "standing_mean": row.standing_mean,
        **collapses.standing(row.standing, row.rates),
        "diverged": row.diverged,
        "failed": row.runs.failed,
        "seconds": row.runs.seconds,
        "init_share_of_seconds": row.runs.init_share,
    }
    if have_regimens(table.names):
        values |= {"steps_made": row.runs.steps, "units": row.runs.units}
    values["changed_share"] = row.runs.changed_share
    if isinstance(found, Refused):
        values |= spread_values(found)
    else:
        values |= spread_values(found.components)
    values["policy"] = table.policy
    if row.reason:
        values["reason"] = row.reason
    return values


def _place_values(rank: InitRank | None) -> dict[str, object]:
    """Returns the rank of an init for machines; NaN where it has none."""
    if rank is None:
        return {"may_be_best": None, "rank": math.nan, "rank_low": math.nan, "rank_high": math.nan}
    return {"may_be_best": rank.may_be_best, "rank": rank.rank, "rank_low": rank.low, "rank_high": rank.high}


def spread_values(parts: Components | Refused) -> dict[str, object]:
    """Returns for machines the three numbers of a block's headline with their intervals; NaN where it has none."""
    init = retraining = wins = UNKNOWN
    if isinstance(parts, Components) and parts.init is not None and parts.wins is not None:
        init, retraining, wins = parts.init.sd, parts.retraining.sd, parts.wins
    return {
        **words.interval_values("between_init_sd", init),
        **words.interval_values("retraining_sd", retraining),
        **words.interval_values("better_wins", wins),
    }
