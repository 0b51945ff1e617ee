"""The rows of a block: what is known of each init, best first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from initbench.stats.analysis import Analysis, rates, standing
from initbench.stats.blocks import is_placebo
from initbench.stats.collapse import Collapses, RateTest, collapses
from initbench.stats.compare import Difference
from initbench.stats.design import Array, Flags, Refused
from initbench.stats.ranks import InitRank
from initbench.stats.scale import SD, cut
from initbench.stats.standing import StandingDifference
from initbench.stats.summary import Interval, sd_interval
from initbench.stats.superiority import Superiority, superiority
from initbench.stats.table import ScoreTable, Withheld, WithheldKind

Role = Literal["init", "placebo", "withheld"]

UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Runs:
    """The runs of a cell, summed up.

    Attributes:
        protocol: of the init itself: `any` where it learns nothing.
        seconds: a run's mean time, NaN where no run has one.
        init_share: the init stage's share of it.
        steps: of the init stage and of training, the mean over runs; NaN where no run has any.
        units: likewise; a forward pass is one unit, a backward pass two.
        changed_share: of the parameters, by the init.
        external: it brings weights from outside, one draw for all seeds.
        invalid: folders whose files are not as they were written.
        environments: each seed with the fingerprint of what it ran on.
        asked: the seeds by when they were first asked for, in order of time.
        taps_left_out: encoder levels that an order prediction did not ask, as they leave no two slabs.
        regimen_says: what the regimen has to say of these runs; empty where it says nothing.
    """

    protocol: str
    diverged: int
    failed: int
    invalid: tuple[str, ...]
    environments: tuple[tuple[int, str], ...]
    asked: tuple[tuple[str, tuple[int, ...]], ...]
    seconds: float
    init_share: float
    steps: float
    units: float
    changed_share: float
    external: bool
    taps_left_out: str
    regimen_says: str


@dataclass(frozen=True)
class Standing:
    """One row of a block, in Dice points.

    Attributes:
        init: the name of the row, an init under a regimen.
        role: `withheld` where it lacks a run or its seed is not in effect: then there is no verdict; `placebo`: the control
            drawn again.
        dice: mean with its interval for new seeds and new cases.
        sd: over the run scores.
        difference: to the control, of a placebo to `default` under its own regimen; None for the control itself and where
            nothing is compared.
        seeds: number of scored runs that are compared; where seeds were chosen, fewer than there are.
        diverged: how many of these diverged.
        collapses: how many of them collapsed, the diverged ones among them; None where withheld.
        median_run: the median of the run scores.
        standing_mean: the mean of the runs that stand; NaN if there are none.
        beats: how often one of its runs beats one of the row that it is compared with; bounds are NaN where it is not known.
        standing: the difference of the runs that stand; None where all runs of both rows do, and where nothing is compared.
        rates: the test of the collapse rates of both rows; likewise.
        without_diverged: mean of the runs that did not diverge, where some did; else NaN.
        rank: among the complete inits; None with fewer than three seeds, for a placebo, or where withheld.
        reason: why it is withheld.
        kind: in which way it is; None where it is not.
    """

    init: str
    cell: str
    role: Role
    dice: Interval
    sd: Interval
    difference: Difference | None
    rank: InitRank | None
    runs: Runs
    seeds: int
    diverged: int
    collapses: Collapses | None = None
    median_run: float = math.nan
    standing_mean: float = math.nan
    beats: Interval = UNKNOWN
    standing: StandingDifference | None = None
    rates: RateTest | None = None
    without_diverged: float = math.nan
    reason: str = ""
    kind: WithheldKind | None = None


def standings(table: ScoreTable, of_cell: Mapping[str, Runs], found: Analysis | Refused) -> list[Standing]:
    """Returns the rows of a block by falling Dice, the withheld ones last.

    Args:
        table: the scores of the block.
        of_cell: the runs of each cell, summed up, as `summaries` gives them.
        found: the analysis of the scores, or why there is none.
    """
    scores, differences, ranks = _scores(table, found), _differences(found), _ranks(found)
    complete = []
    for place, init in enumerate(table.inits):
        mean, sd = scores[place]
        runs, diverged, fallen = table.runs(init), table.diverged[place], table.collapsed[place]
        role: Role = "init"
        if is_placebo(init):
            role = "placebo"
        row = Standing(
            init=init,
            cell=table.cells[place],
            role=role,
            dice=mean,
            sd=sd,
            difference=differences.get(init),
            rank=ranks.get(init),
            runs=of_cell[table.cells[place]],
            seeds=diverged.size,
            diverged=int(diverged.sum()),
            collapses=collapses(fallen),
            median_run=_median(runs),
            standing_mean=_mean(runs[~fallen]).value,
            without_diverged=_without(runs, diverged),
        )
        complete.append(_compared(row, table))
    withheld = [_withheld(item, of_cell[item.cell]) for item in table.withheld]
    return [*sorted(complete, key=_order), *sorted(withheld, key=_order)]


def _compared(row: Standing, table: ScoreTable) -> Standing:
    """Returns a row with what a comparison says beside its difference; as it is where it is compared with no complete row."""
    item = row.difference
    if item is None or item.second not in table.inits:
        return row
    beats = UNKNOWN
    found = superiority(table.runs(item.first), table.runs(item.second), table.design)
    if isinstance(found, Superiority):
        beats = found.chance
    return replace(row, beats=beats, standing=standing(table, item), rates=rates(table, item))


def _order(row: Standing) -> tuple[float, str]:
    """Returns a key that sorts rows by falling Dice; rows without a score are last."""
    if math.isnan(row.dice.value):
        return math.inf, row.init
    return -row.dice.value, row.init


def _scores(table: ScoreTable, found: Analysis | Refused) -> list[tuple[Interval, Interval]]:
    """Returns the mean Dice and the SD over run scores of each complete row; means have no bounds where nothing is tested."""
    scores = []
    if isinstance(found, Analysis):
        for item in found.inits:
            scores.append((item.mean, item.run_sd))
        return scores
    for init in table.inits:
        runs = table.runs(init)
        scores.append((_mean(runs), cut(sd_interval(runs), SD)))
    return scores


def _mean(runs: Array) -> Interval:
    """Returns the mean of run scores [seed] without bounds.

    Scores are NaN where no case is scored, as under the policy nnunet, which scores runs on different cases.
    """
    if not np.isfinite(runs).any():
        return UNKNOWN
    return Interval(float(np.nanmean(runs)), math.nan, math.nan)


def _median(runs: Array) -> float:
    """Returns the median of run scores [seed], which may be NaN; NaN where all are."""
    if not np.isfinite(runs).any():
        return math.nan
    return float(np.nanmedian(runs))


def _without(runs: Array, diverged: Flags) -> float:
    """Returns the mean of the run scores [seed] of runs that did not diverge; NaN where none or all diverged."""
    if not diverged.any() or diverged.all():
        return math.nan
    return float(runs[~diverged].mean())


def _differences(found: Analysis | Refused) -> dict[str, Difference]:
    """Returns differences to the control by the row that is compared; none where all pairs are compared."""
    if isinstance(found, Refused) or found.against is None:
        return {}
    return {item.first: item for item in found.comparison.differences}


def _ranks(found: Analysis | Refused) -> dict[str, InitRank]:
    """Returns ranks by the row that has them."""
    if isinstance(found, Refused) or isinstance(found.ranking, Refused):
        return {}
    return {row.init: row for row in found.ranking}


def _withheld(item: Withheld, runs: Runs) -> Standing:
    """Returns the row of a withheld init, with the scores of the runs that it has."""
    scores = np.array(item.scores, np.float64)
    dice, sd = math.nan, UNKNOWN
    if scores.size:
        dice = float(scores.mean())
        if item.kind != "identical":
            sd = cut(sd_interval(scores), SD)
    return Standing(
        init=item.init,
        cell=item.cell,
        role="withheld",
        dice=Interval(dice, math.nan, math.nan),
        sd=sd,
        difference=None,
        rank=None,
        runs=runs,
        seeds=scores.size,
        diverged=runs.diverged,
        reason=item.reason,
        kind=item.kind,
    )


def summaries(runs: pd.DataFrame) -> dict[str, Runs]:
    """Returns the runs of each cell, summed up, by cell.

    Args:
        runs: a row for each run, as `load_runs` gives them.
    """
    total = runs["total_seconds"].astype(float)
    shares = (runs["init_seconds"].astype(float) / total).fillna(0.0)
    table = runs.assign(
        share=shares,
        diverged=runs["status"] == "diverged",
        failed=runs["status"] == "failed",
        external=runs["external"] == True,  # noqa: E712 - missing in records without it
        steps=runs["init_steps"].astype(float) + runs["train_steps"].astype(float),
    )
    invalid = table[table["status"] == "invalid"].groupby("cell")["path"].apply(lambda paths: tuple(map(str, paths))).to_dict()
    asked, environments = _asked(runs), _environments(runs)
    found = table.groupby("cell").agg(
        protocol=("protocol", "first"),
        diverged=("diverged", "sum"),
        failed=("failed", "sum"),
        seconds=("total_seconds", "mean"),
        share=("share", "mean"),
        steps=("steps", "mean"),
        units=("units", "mean"),
        changed=("changed_share", "mean"),
        external=("external", "any"),
        taps_left_out=("taps_left_out", _some_text),
        regimen_says=("regimen_summary", _some_text),
    )
    made = {}
    for cell, row in zip(map(str, found.index), found.to_dict("records"), strict=True):
        made[cell] = Runs(
            protocol=str(row["protocol"]),
            diverged=int(row["diverged"]),
            failed=int(row["failed"]),
            invalid=invalid.get(cell, ()),
            environments=tuple(environments[cell]),
            asked=asked[cell],
            seconds=float(row["seconds"]),
            init_share=float(row["share"]),
            steps=float(row["steps"]),
            units=float(row["units"]),
            changed_share=float(row["changed"]),
            external=bool(row["external"]),
            taps_left_out=str(row["taps_left_out"]),
            regimen_says=str(row["regimen_says"]),
        )
    return made


def _some_text(of_runs: pd.Series[str]) -> str:
    """Returns what the runs of a cell say alike; an empty text where none says anything."""
    return str(max(of_runs.dropna(), default=""))


def _environments(runs: pd.DataFrame) -> dict[str, list[tuple[int, str]]]:
    """Returns by cell the seeds, each with the fingerprint of the environment in which it ran."""
    found: dict[str, list[tuple[int, str]]] = {}
    for cell, seed, environment in zip(runs["cell"], runs["seed"], runs["environment"], strict=True):
        of_cell = found.setdefault(str(cell), [])
        if environment:  # records of the first versions may have none
            of_cell.append((int(seed), str(environment)))
    return found


def _asked(runs: pd.DataFrame) -> dict[str, tuple[tuple[str, tuple[int, ...]], ...]]:
    """Returns by cell the times at which seeds were first asked for, in order, each with its seeds."""
    found: dict[str, dict[str, list[int]]] = {}
    for cell, when, seed in zip(runs["cell"], runs["asked"], runs["seed"], strict=True):
        times = found.setdefault(str(cell), {})
        if when:  # unknown where the plan of a study was lost
            times.setdefault(str(when), []).append(int(seed))
    asked = {}
    for cell, times in found.items():
        steps = []
        for when, seeds in sorted(times.items()):
            steps.append((when, tuple(sorted(seeds))))
        asked[cell] = tuple(steps)
    return asked
