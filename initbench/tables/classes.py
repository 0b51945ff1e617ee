"""Per-class tables, as papers print them, and what is predicted where the reference has nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from initbench.choices import Metric
from initbench.errors import UsageError
from initbench.stats.cases import DISTANCE_COLUMNS, class_scores, false_positives
from initbench.stats.table import ScoreTable
from initbench.tables import words
from initbench.tables.sheet import Sheet
from initbench.tables.study import Study, cells_of
from initbench.tables.titles import columns, named, settings, title

_SAID: dict[Metric, str] = {
    "dice": "Dice points",
    "hd95": "95 % Hausdorff distance in mm, over the cases in which reference and prediction hold the class",
    "nsd": "normalised surface Dice in points, over the cases in which the reference holds the class",
    "ravd": "relative absolute volume difference in %, over the cases in which the reference holds the class",
    "assd": "average symmetric surface distance in mm, over the cases in which reference and prediction hold the class",
    "mssd": "maximum symmetric surface distance in mm, over the cases in which reference and prediction hold the class",
}
_DIGITS: dict[Metric, int] = {"assd": 2}  # behind the point: good segmentations are less than 1 mm apart; the others have 1
_MEAN = "mean"


def class_sheets(study: Study, metric: Metric = "dice") -> list[Sheet]:
    """Returns for every block a sheet of its classes, and one of what was predicted where a reference lacks a class.

    Raises:
        UsageError: no run has a score, or none has the metric.
    """
    if study.cases.empty:
        raise UsageError(f"no run below {study.out} has a score yet: `initbench status {study.out}` says how far they are")
    scores = class_scores(study.cases, metric, study.scoring.policy)
    if scores["score"].isna().all():
        raise UsageError(f"no run below {study.out} has {metric}: {'; '.join(_reasons(study, metric, scores['cell']))}")
    made, skipped = [], []
    for table in study.tables:
        cells = dict(zip(cells_of(table), table.names, strict=True))
        own, cases = _of_block(scores, table, cells), _of_block(study.cases, table, cells)
        if own["score"].notna().any():
            made.append(_sheet(table, own, cells, metric, _left_out(study, metric, own, cells)))
        elif not own.empty:
            why = "; ".join(_reasons(study, metric, own["cell"]))
            skipped.append(f"No table of {title(table.block)} ({settings(table.block)}): no run has {metric}: {why}.")
        empty = false_positives(cases)
        if not empty.empty:
            made.append(_false_positives(table, empty, cells))
    if skipped:
        made[-1] = replace(made[-1], notes=(*made[-1].notes, *skipped))
    return made


def _of_block(rows: pd.DataFrame, table: ScoreTable, cells: Collection[str]) -> pd.DataFrame:
    """Returns the rows of the runs of a block; where only shared seeds were asked for, the rows of these.

    Args:
        rows: of cases or of classes, each with its cell and its seed.
        table: the scores of the block.
        cells: the cells of the block.
    """
    own = rows[rows["cell"].isin(list(cells))]
    if table.narrowed is not None and table.narrowed.seeds:
        own = own[own["seed"].isin(list(table.narrowed.seeds))]
    return own


def _left_out(study: Study, metric: Metric, scores: pd.DataFrame, cells: Mapping[str, str]) -> tuple[str, ...]:
    """Returns a note for each reason why inits of a block that have runs have no value."""
    present = set(scores.loc[scores["score"].notna(), "cell"])
    lacking = scores.loc[~scores["cell"].isin(present), "cell"]
    notes = []
    for why, found in _reasons(study, metric, lacking).items():
        inits = [cells[cell] for cell in found]
        notes.append(f"Left out without {metric}: {words.listed(inits)}; {why}.")
    return tuple(notes)


def _reasons(study: Study, metric: Metric, cells: Iterable[str]) -> dict[str, list[str]]:
    """Returns cells without a value by the reason, which names the command that adds one if there is one."""
    cases = study.cases
    # Of a measured run, surface Dice and RAVD are missing only where the reference lacks the class; the others also where the
    # prediction does. Runs that older versions measured have HD95 and surface Dice alone.
    sign = "ravd_percent"
    if metric in ("hd95", "nsd"):
        sign = "nsd"
    measured = set(cases.loc[cases[sign].notna(), "cell"])
    found: dict[str, list[str]] = {}
    for cell in dict.fromkeys(cells):
        if metric == "dice":
            why = "the references of its cases hold none of the classes that count"
        elif cell in measured:
            why = "predictions hold no class where the reference does"
        else:
            why = f"`initbench measure {study.out}` adds distances to finished runs"
        found.setdefault(why, []).append(cell)
    return found


def _sheet(table: ScoreTable, scores: pd.DataFrame, cells: dict[str, str], metric: Metric, left_out: tuple[str, ...]) -> Sheet:
    """Returns mean and SD over seeds of each init, for each class and for the mean of classes."""
    wide = scores.pivot_table(index=["cell", "seed"], columns="class_name", values="score", observed=True, sort=False)
    wide[_MEAN] = wide.mean(axis=1)
    groups = wide.groupby(level="cell", observed=True)
    means, spreads, seeds = groups.mean(), groups.std(ddof=1), groups.size()
    order = means[_MEAN].sort_values(ascending=metric in DISTANCE_COLUMNS, kind="stable").index
    rows: list[tuple[str, ...]] = []
    values: list[dict[str, object]] = []
    block = columns(table.block)
    for cell in order:
        row = [words.label(cells[cell]), str(seeds[cell])]
        for name in wide.columns:
            mean, sd = means.loc[cell, name], spreads.loc[cell, name]
            row.append(_cell(mean, sd, _DIGITS.get(metric, 1)))
            own = {
                **named(cells[cell], cells.values()),
                "metric": metric,
                "class": str(name),
                "mean": _number(mean),
                "sd": _number(sd),
            }
            values.append({**block, **own, "seeds": int(seeds[cell]), "seeds_chosen": words.seeds_chosen([table])})
        rows.append(tuple(row))
    policy = ""
    if metric == "dice":
        policy = f"Policy {table.policy}. "
    return Sheet(
        title=f"{title(table.block)}: {_SAID[metric].split(',', maxsplit=1)[0]} per class",
        subtitle=settings(table.block),
        columns=("initializer", "seeds", *map(str, wide.columns)),
        rows=tuple(rows),
        notes=(
            f"{_SAID[metric][0].upper() + _SAID[metric][1:]}; mean ± SD over seeds of the mean over patients. {policy}"
            f"{_MEAN}: of the classes, each counting the same, as in papers' tables; the leaderboard's Dice is the mean over the "
            "classes of a case first, and differs where cases lack classes.",
            *left_out,
            *words.about_seeds(table),
        ),
        values=tuple(values),
    )


def _number(value: object) -> float:
    """Returns a cell of a table as a number; NaN where it holds none."""
    if isinstance(value, int | float | np.floating):
        return float(value)
    return math.nan


def _cell(mean: object, spread: object, digits: int) -> str:
    """Returns a mean with its SD, which few seeds lack; both with some digits behind the point."""
    value, sd = _number(mean), _number(spread)
    shown = words.number(value, digits)
    if not math.isnan(sd):
        shown += f" ± {words.number(sd, digits)}"
    return shown


def _false_positives(table: ScoreTable, found: pd.DataFrame, cells: dict[str, str]) -> Sheet:
    """Returns how often, and with how many voxels, each init predicts a class that the reference lacks; the best one first."""
    counted = []
    for cell, absent, rate, voxels in zip(found["cell"], found["empty"], found["rate"], found["voxels"], strict=True):
        counted.append((cells[str(cell)], int(absent), float(rate), float(voxels)))
    counted.sort(key=lambda row: (row[2], row[3], row[0]))
    rows, values = [], []
    for init, absent, rate, voxels in counted:
        rows.append((words.label(init), str(absent), f"{100 * rate:.1f} %", f"{voxels:.1f}"))
        own = {**columns(table.block), **named(init, cells.values())}
        values.append({**own, "absent": absent, "rate": rate, "voxels": voxels, "seeds_chosen": words.seeds_chosen([table])})
    return Sheet(
        title=f"{title(table.block)}: predicted where the reference has nothing",
        subtitle=settings(table.block),
        columns=("initializer", "absent", "predicted", "voxels"),
        rows=tuple(rows),
        notes=(
            "absent: cases × classes × seeds without the class in the reference; predicted: share of them with a false positive; "
            "voxels: mean over all of them. Diverged runs are left out.",
            *words.about_seeds(table),
        ),
        values=tuple(values),
    )
