"""The rows of a block: what is known of each init, best first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
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
from initbench.stats.superiority import superiority
from initbench.stats.table import ScoreTable, Withheld, WithheldKind

UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Runs:
    """What the runs of an init cost and came to.

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
    role: Literal["init", "placebo", "withheld"]
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
    """The inits of a block by falling Dice, the withheld ones last; `of_cell` as `summaries` gives."""
    if isinstance(found, Analysis):
        scores = [(item.mean, item.run_sd) for item in found.inits]
    else:
        scores = [(_mean(runs), cut(sd_interval(runs), SD)) for runs in map(table.runs, table.inits)]
    differences = _differences(found)
    ranks: dict[str, InitRank] = {}
    if isinstance(found, Analysis) and not isinstance(found.ranking, Refused):
        ranks = {row.init: row for row in found.ranking}
    complete = []
    for place, (init, (mean, sd)) in enumerate(zip(table.inits, scores, strict=True)):
        runs, diverged, fallen = table.runs(init), table.diverged[place], table.collapsed[place]
        item = differences.get(init)
        compared = item if item and item.second in table.inits else None
        complete.append(
            Standing(
                init=init,
                cell=table.cells[place],
                role="placebo" if is_placebo(init) else "init",
                dice=mean,
                sd=sd,
                difference=item,
                rank=ranks.get(init),
                runs=of_cell[table.cells[place]],
                seeds=diverged.size,
                diverged=int(diverged.sum()),
                collapses=collapses(fallen),
                median_run=_median(runs),
                standing_mean=_mean(runs[~fallen]).value,
                beats=_beats(table, compared),
                standing=standing(table, compared) if compared else None,
                rates=rates(table, compared) if compared else None,
                without_diverged=_without(table, init, diverged),
            )
        )
    withheld = [_withheld(item, of_cell[item.cell]) for item in table.withheld]
    return [*sorted(complete, key=_order), *sorted(withheld, key=_order)]


def _beats(table: ScoreTable, item: Difference | None) -> Interval:
    """How often a run of the first row of a difference beats one of the second."""
    if item is None:
        return UNKNOWN
    found = superiority(table.runs(item.first), table.runs(item.second), table.design)
    return UNKNOWN if isinstance(found, Refused) else found.chance


def _order(row: Standing) -> tuple[float, str]:
    return (math.inf if math.isnan(row.dice.value) else -row.dice.value, row.init)


def _mean(runs: Array) -> Interval:
    """Of run scores [seed], where nothing can be tested, as under the policy nnunet, which scores runs on different cases."""
    return Interval(float(np.nanmean(runs)) if np.isfinite(runs).any() else math.nan, math.nan, math.nan)


def _median(runs: Array) -> float:
    """Of run scores [seed] that may be NaN; NaN where all are."""
    return float(np.nanmedian(runs)) if np.isfinite(runs).any() else math.nan


def _without(table: ScoreTable, init: str, diverged: Flags) -> float:
    return float(table.runs(init)[~diverged].mean()) if diverged.any() and not diverged.all() else math.nan


def _differences(found: Analysis | Refused) -> dict[str, Difference]:
    """By init, where all are compared with one control."""
    if isinstance(found, Refused) or found.against is None:
        return {}
    return {item.first: item for item in found.comparison.differences}


def _withheld(item: Withheld, runs: Runs) -> Standing:
    scores = np.array(item.scores, np.float64)
    dice = float(scores.mean()) if scores.size else math.nan
    return Standing(
        init=item.init,
        cell=item.cell,
        role="withheld",
        dice=Interval(dice, math.nan, math.nan),
        sd=cut(sd_interval(scores), SD) if item.kind != "identical" and scores.size else UNKNOWN,
        difference=None,
        rank=None,
        runs=runs,
        seeds=scores.size,
        diverged=runs.diverged,
        reason=item.reason,
        kind=item.kind,
    )


def summaries(runs: pd.DataFrame) -> dict[str, Runs]:
    """What the runs of each cell came to; `runs` as `load_runs` gives."""
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
    return {
        str(cell): Runs(
            protocol=str(row["protocol"]),
            diverged=int(row["diverged"]),
            failed=int(row["failed"]),
            invalid=invalid.get(cell, ()),
            environments=tuple(environments[str(cell)]),
            asked=asked[str(cell)],
            seconds=float(row["seconds"]),
            init_share=float(row["share"]),
            steps=float(row["steps"]),
            units=float(row["units"]),
            changed_share=float(row["changed"]),
            external=bool(row["external"]),
            taps_left_out=str(row["taps_left_out"]),
            regimen_says=str(row["regimen_says"]),
        )
        for cell, row in zip(found.index, found.to_dict("records"), strict=True)
    }


def _some_text(of_runs: pd.Series[str]) -> str:
    """What the runs of a cell say alike; empty where none says anything."""
    return str(max(of_runs.dropna(), default=""))


def _environments(runs: pd.DataFrame) -> dict[str, list[tuple[int, str]]]:
    """By cell, the seeds with the fingerprint of what they ran on."""
    found: dict[str, list[tuple[int, str]]] = {}
    for cell, seed, environment in zip(runs["cell"], runs["seed"], runs["environment"], strict=True):
        of_cell = found.setdefault(str(cell), [])
        if environment:  # records of the first versions may have none
            of_cell.append((int(seed), str(environment)))
    return found


def _asked(runs: pd.DataFrame) -> dict[str, tuple[tuple[str, tuple[int, ...]], ...]]:
    """By cell, the seeds of every time at which some were first asked for."""
    found: dict[str, dict[str, list[int]]] = {}
    for cell, when, seed in zip(runs["cell"], runs["asked"], runs["seed"], strict=True):
        times = found.setdefault(str(cell), {})
        if when:  # unknown where the plan of a study was lost
            times.setdefault(str(when), []).append(int(seed))
    return {cell: tuple((when, tuple(sorted(seeds))) for when, seeds in sorted(times.items())) for cell, times in found.items()}
