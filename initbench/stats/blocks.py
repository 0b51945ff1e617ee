"""Runs grouped into what may be compared, and the rows of the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from initbench.stats.summary import Interval, Spread, mean_interval, sd_interval, spread

BASELINE = "default"
POINTS = 100.0  # Dice points
BLOCK = ("dataset", "split", "backbone", "variant", "size", "budget", "steps", "precision", "recipe", "fixed_streams")


@dataclass(frozen=True)
class Row:
    """One init of a block. Scores in Dice points; `difference` is to `default`, paired by seed."""

    init: str
    protocol: str
    dice: float
    sd: Interval
    difference: Interval | None
    pairs: int
    seeds: tuple[int, ...]
    diverged: int
    failed: int
    invalid: tuple[str, ...]
    seconds: float
    init_share: float
    changed_share: float
    same_weights: bool
    external: bool


@dataclass(frozen=True)
class Block:
    """Inits that share everything else: data, split, network, recipe, budget, precision, protocol."""

    dataset: str
    split: str
    backbone: str
    variant: str
    size: str
    budget: str
    steps: int
    precision: str
    fixed_streams: str
    protocol: str
    rows: tuple[Row, ...]
    spread: Spread | None
    mixed_environments: bool
    spread_seeds: int


def blocks(runs: pd.DataFrame) -> list[Block]:
    """The comparable blocks of a table of runs, each with its inits by falling Dice.

    An init that learns nothing has one run for both protocols and stands in the block of each.
    """
    found: list[Block] = []
    for _, frame in runs.groupby(list(BLOCK), sort=True, dropna=False):
        protocols = sorted(set(frame["protocol"]) - {"any"}) or ["any"]
        found += [_block(frame[frame["protocol"].isin([protocol, "any"])], protocol) for protocol in protocols]
    return found


def _block(frame: pd.DataFrame, protocol: str) -> Block:
    groups = by_init(frame)
    baseline = _scores(dict(groups).get(BASELINE, frame.iloc[:0]))
    rows = sorted((_row(init, group, baseline) for init, group in groups), key=_order)
    scores = [_array(_scores(group)) for _, group in groups]
    scores = [values for values in scores if values.size]
    first = frame.iloc[0]
    return Block(
        dataset=str(first["dataset"]),
        split=str(first["split"]),
        backbone=str(first["backbone"]),
        variant=str(first["variant"]),
        size=str(first["size"]),
        budget=str(first["budget"]),
        steps=int(first["steps"]),
        precision=str(first["precision"]),
        fixed_streams=str(first["fixed_streams"]),
        protocol=protocol,
        rows=tuple(rows),
        spread=spread(scores),
        mixed_environments=frame["environment"].nunique() > 1,
        spread_seeds=min((values.size for values in scores), default=0),
    )


def by_init(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The runs of each init. Two cells of one name (an older revision, another plug-in) are two rows: the one with most runs
    keeps the name, the others carry their cell id.
    """
    found: list[tuple[str, pd.DataFrame]] = []
    for init, group in frame.groupby("init", sort=True):
        cells = sorted(((str(cell), runs) for cell, runs in group.groupby("cell")), key=lambda item: (-len(item[1]), item[0]))
        found += [(str(init) if i == 0 else f"{init} #{cell[:6]}", runs) for i, (cell, runs) in enumerate(cells)]
    return found


def _order(row: Row) -> tuple[float, str]:
    return (math.inf if math.isnan(row.dice) else -row.dice, row.init)


def _scores(frame: pd.DataFrame) -> pd.Series[float]:
    """Dice points by seed; a failed run has no score, a diverged one scores 0."""
    scored = frame[frame["status"].isin(["ok", "diverged"])].dropna(subset=["dice"])
    return scored.set_index("seed")["dice"].astype(float).sort_index() * POINTS


def _array(scores: pd.Series[float]) -> NDArray[np.float64]:
    return np.asarray(scores, np.float64)


def _row(init: str, group: pd.DataFrame, baseline: pd.Series[float]) -> Row:
    scores = _scores(group)
    difference, pairs = None, 0
    if init != BASELINE and not baseline.empty:
        shared = scores.index.intersection(baseline.index)
        pairs = len(shared)
        if pairs:
            difference = mean_interval(_array(scores[shared] - baseline[shared]))
    total = group["total_seconds"].astype(float)
    digests = group["weights_digest"].dropna()
    return Row(
        init=init,
        protocol=str(group["protocol"].iloc[0]),
        dice=float(scores.mean()) if len(scores) else math.nan,
        sd=sd_interval(_array(scores)),
        difference=difference,
        pairs=pairs,
        seeds=tuple(int(seed) for seed in scores.index),
        diverged=int((group["status"] == "diverged").sum()),
        failed=int((group["status"] == "failed").sum()),
        invalid=tuple(group.loc[group["status"] == "invalid", "path"].astype(str)),
        seconds=float(total.mean()) if total.notna().any() else math.nan,
        init_share=float(np.nan_to_num((group["init_seconds"].astype(float) / total).mean())),
        changed_share=float(group["changed_share"].astype(float).mean()),
        same_weights=len(digests) > 1 and digests.nunique() < len(digests),
        external=bool((group["external"] == True).any()),  # noqa: E712 - missing in records without it
    )


def flat(found: list[Block]) -> Iterator[dict[str, object]]:
    """One plain table row per init and block, for Markdown, CSV and JSON."""
    for block in found:
        for rank, row in enumerate(block.rows, start=1):
            difference = row.difference or Interval(math.nan, math.nan, math.nan)
            yield {
                "dataset": block.dataset,
                "split": block.split,
                "backbone": block.backbone,
                "variant": block.variant,
                "size": block.size,
                "budget": block.budget,
                "steps": block.steps,
                "protocol": row.protocol if row.protocol == "any" else block.protocol,
                "precision": block.precision,
                "rank": rank,
                "init": row.init,
                "dice": row.dice,
                "seeds": len(row.seeds),
                "seed_sd": row.sd.value,
                "seed_sd_low": row.sd.low,
                "seed_sd_high": row.sd.high,
                "vs_default": difference.value,
                "vs_default_low": difference.low,
                "vs_default_high": difference.high,
                "pairs": row.pairs,
                "diverged": row.diverged,
                "failed": row.failed,
                "seconds": row.seconds,
                "init_share_of_seconds": row.init_share,
                "changed_share": row.changed_share,
                "between_init_sd": block.spread.between if block.spread else math.nan,
                "block_seed_sd": block.spread.seed if block.spread else math.nan,
            }
