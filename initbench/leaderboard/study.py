"""The runs below a folder, and the scores of their blocks: what every table and picture starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from initbench.errors import UsageError
from initbench.runs.read import load_cases, load_runs
from initbench.stats.table import Policy, ScoreTable, score_tables


@dataclass(frozen=True)
class Study:
    """Runs and their scores.

    Attributes:
        out: the folder.
        runs: as `load_runs` gives, of the chosen data sets and backbones.
        cases: as `load_cases` gives, of the same runs.
        tables: the scores of every block.
    """

    out: Path
    runs: pd.DataFrame
    cases: pd.DataFrame
    tables: tuple[ScoreTable, ...]


def read(out: Path, datasets: Sequence[str] = (), backbones: Sequence[str] = (), *, policy: Policy = "reference-mask") -> Study:
    """The runs below `out`, of these data sets and backbones or of all.

    Raises:
        UsageError: there is no such folder, or no such run in it.
    """
    runs, cases = load_runs(out), load_cases(out)
    for column, wanted in (("dataset", datasets), ("backbone", backbones)):
        if wanted:
            runs = runs[runs[column].isin(list(wanted))]
            cases = cases[cases[column].isin(list(wanted))] if not cases.empty else cases
    if runs.empty:
        only = f" of {', '.join([*datasets, *backbones])}" if datasets or backbones else ""
        raise UsageError(f"{out} holds no runs{only}; `initbench run --init default,lwi --backbone unetr --out {out}` makes some")
    return Study(out, runs, cases, tuple(score_tables(runs, cases, policy=policy)))
