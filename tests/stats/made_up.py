"""Run and case tables of a study that never was, and what is said of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from initbench.stats.analysis import Analysis, analyse
from initbench.stats.assembly import score_tables
from initbench.stats.collapse import collapsed
from initbench.stats.table import ScoreTable

BLOCK = {
    "backbone": "unetr",
    "variant": "perceptron",
    "dataset": "lung",
    "split": "auto",
    "size": "tiny",
    "budget": "short",
    "steps": 600,
    "precision": "bf16",
    "recipe": "aaaa",
    "fixed_streams": "",
    "dice_policy": "reference-mask",
}
CASES = [f"case_{k:02}" for k in range(8)]


def scored(y: NDArray[np.float64], inits: tuple[str, ...] = ("default", "lwi"), **block: Any) -> ScoreTable:
    """A block whose inits share their seeds, each case of a patient of its own.

    Args:
        y: Dice points [init, seed, case].
        inits: names along the first axis.
        block: keys of the block that differ from the usual ones.
    """
    count, seeds, cases = y.shape
    return ScoreTable(
        block={"dataset": "lung", "split": "auto", "backbone": "unetr", "variant": "default", "recipe": "a", "steps": 1, **block},
        policy="reference-mask",
        inits=inits,
        cells=inits,
        seeds=(tuple(range(seeds)),) * count,
        design="crossed",
        cases=tuple(f"case_{case}" for case in range(cases)),
        y=y,
        diverged=np.zeros((count, seeds), bool),
        collapsed=collapsed(y.mean(-1), np.zeros((count, seeds), bool)),
        withheld=(),
        unscored=(),
    )


class Study:
    """A run and a case table, as `load_runs` and `load_cases` give them, to which runs are added."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []

    def run(self, init: str, seed: int, points: list[float] | None = None, status: str = "ok", **other: Any) -> Study:
        """Adds a run.

        Args:
            init: its init.
            seed: its seed.
            points: Dice points of its cases, in one class of 1000 voxels.
            status: how it ended.
            other: columns that differ.
        """
        cell = other.pop("cell", f"cell-{init}")
        run = {**BLOCK, "init": init, "seed": seed, "status": status, "protocol": "any", "cell": cell, **other}
        run.setdefault("weights_digest", f"{cell}-{seed}")
        self.runs.append(run)
        for case, value in zip(CASES, points or [], strict=False):
            self.case(run, case, 1, tp=round(10 * value), fn=1000 - round(10 * value), fp=1000 - round(10 * value))
        return self

    def case(self, run: dict[str, Any], case: str, label: int, tp: int, fn: int, fp: int) -> None:
        """Adds what a run found of one class of a case: `tp`, `fn` and `fp` in voxels."""
        keys = {key: run[key] for key in ("init", "backbone", "dataset", "seed", "protocol", "status", "cell")}
        dice = 2 * tp / (2 * tp + fp + fn) if tp + fn else math.nan
        self.rows.append({**keys, "case": case, "class": label, "tp": tp, "fp": fp, "fn": fn, "dice": dice})

    def tables(self, **options: Any) -> list[ScoreTable]:
        """The score tables of the study, one for each block."""
        return score_tables(pd.DataFrame(self.runs), pd.DataFrame(self.rows), **options)

    def table(self, **options: Any) -> ScoreTable:
        """The score table of a study of one block."""
        (found,) = self.tables(**options)
        return found


def study(inits: tuple[str, ...] = ("default", "lwi"), seeds: int = 4, better: float = 0.0) -> Study:
    """A study of inits of about 60 Dice points; the second init is better by `better` points."""
    rng = np.random.default_rng(0)
    case = rng.normal(60, 10, len(CASES))
    made = Study()
    for k, init in enumerate(inits):
        for seed in range(seeds):
            points = case + rng.normal(0, 1) + rng.normal(0, 2, len(CASES)) + better * (k == 1)
            made.run(init, seed, list(np.clip(points, 1, 99)))
    return made


def said(table: ScoreTable, **options: Any) -> Analysis:
    """What the analysis says of a table; asserts that it is not refused."""
    got = analyse(table, **options)
    assert isinstance(got, Analysis)
    return got
