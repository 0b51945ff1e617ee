"""Scores of cases and of classes, from the table of cases: columns and rows as `load_cases` gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from initbench.choices import TablePolicy
from initbench.dice import dice_of_counts
from initbench.stats.blocks import POINTS
from initbench.stats.classes import choose

DISTANCE_COLUMNS = {"hd95": "hd95_mm", "ravd": "ravd_percent", "assd": "assd_mm", "mssd": "mssd_mm"}
"""Columns of the table of cases by the metric: smaller values are better, and no metric is a share."""


def of_classes(cases: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    """Returns the rows of some classes; all rows where none is wanted.

    Args:
        cases: as `load_cases` gives.
        wanted: names of classes, or the one name of a set (see `classes`).
    """
    if not wanted or cases.empty:
        return cases
    keep = np.zeros(len(cases), bool)
    for dataset, frame in cases.groupby("dataset", observed=True):
        chosen = choose(wanted, frame["class_name"].unique(), str(dataset))
        keep |= ((cases["dataset"] == dataset) & cases["class_name"].isin(chosen)).to_numpy()
    return cases[keep]


def with_patients(cases: pd.DataFrame, patients: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Returns `cases` with a column `patient` where some patient has several cases; elsewhere `cases` as they are.

    Args:
        cases: as `load_cases` gives.
        patients: by cell, the patient of each case; a case of which nothing is known counts as its own patient.
    """
    several = any(len(set(found.values())) < len(found) for found in patients.values())
    if cases.empty or not several:
        return cases
    # Each pair of cell and case is looked up once, and not again for each of its many rows.
    pairs = cases[["cell", "case"]].drop_duplicates()
    names = []
    for cell, case in zip(*pairs.to_numpy().T, strict=True):
        names.append(patients.get(str(cell), {}).get(str(case), str(case)))
    return cases.merge(pairs.assign(patient=names), on=["cell", "case"], how="left")


def case_scores(cases: pd.DataFrame, policy: TablePolicy = "reference-mask", *, classes_alike: bool = False) -> pd.Series[float]:
    """Returns Dice points by cell, seed and case: means over the scored classes of a case.

    A diverged run scores 0. A case of which no class is scored has NaN.

    Args:
        cases: as `load_cases` gives.
        policy: how classes without reference are scored.
        classes_alike: whether each class counts the same, as in papers' tables: then the mean over cases is the mean of the
            classes' own means, and in a class that half of the cases hold each case counts twice. Where every case holds all
            classes this changes nothing.
    """
    if cases.empty:
        return pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], [], []], names=["cell", "seed", "case"]))
    points = POINTS * class_dice(cases, policy)
    points = points.mask((cases["status"] == "diverged") & points.notna(), 0.0)
    keys = [cases["cell"], cases["seed"], cases["case"]]
    if not classes_alike:
        return points.groupby(keys, observed=True).mean()
    return (points * _class_weights(cases, points)).groupby(keys, observed=True).sum(min_count=1)


def _class_weights(cases: pd.DataFrame, points: pd.Series[float]) -> pd.Series[float]:
    """Returns the weight C / (K n) of every row: its run has C scored cases, K scored classes, and n cases scored for its class.

    Args:
        cases: the table of cases.
        points: Dice points of its rows.
    """
    cell, seed = cases["cell"], cases["seed"]
    there = points.notna()
    of_class = there.groupby([cell, seed, cases["class_name"]], observed=True).transform("sum")
    scored = cases[there]
    runs = scored.groupby(["cell", "seed"], observed=True)
    number = runs["case"].nunique() / runs["class_name"].nunique()
    each = pd.MultiIndex.from_arrays([np.asarray(cell, object), np.asarray(seed, object)])
    return pd.Series(number.reindex(each).to_numpy(float), points.index) / of_class.where(there)


def class_dice(cases: pd.DataFrame, policy: TablePolicy = "reference-mask") -> pd.Series[float]:
    """Returns Dice of every row from its counts, a fraction from 0 to 1; NaN where the policy does not score the row."""
    return pd.Series(dice_of_counts(cases["tp"], cases["fp"], cases["fn"], policy), cases.index)


def class_scores(cases: pd.DataFrame, metric: str, policy: TablePolicy = "reference-mask") -> pd.DataFrame:
    """Returns the mean over patients per run and class: columns `cell`, `seed`, `class_name`, `score`.

    Cases of one patient are averaged first, where `cases` names patients. Dice and surface Dice are in points, 0 in a diverged
    run; RAVD in %; HD95, ASSD and MSSD in mm, missing in a diverged run, which predicts nothing.

    Args:
        cases: as `load_cases` or `with_patients` gives.
        metric: `dice`, `nsd`, or one of `DISTANCE_COLUMNS`.
        policy: how classes without reference are scored for Dice.
    """
    if metric in DISTANCE_COLUMNS:
        values = cases[DISTANCE_COLUMNS[metric]].astype(float)
    else:
        if metric == "dice":
            fractions = class_dice(cases, policy)
        else:
            fractions = cases["nsd"].astype(float)
        values = POINTS * fractions
        values = values.mask((cases["status"] == "diverged") & values.notna(), 0.0)
    keys = ["cell", "seed", "class_name"]
    columns = [cases[key] for key in keys]
    if "patient" in cases:
        by_patient = values.groupby([*columns, cases["patient"]], observed=True, sort=False).mean()
        means = by_patient.groupby(level=keys, observed=True, sort=False).mean()
    else:
        means = values.groupby(columns, observed=True, sort=False).mean()
    return means.rename("score").reset_index()


def false_positives(cases: pd.DataFrame) -> pd.DataFrame:
    """Returns what each cell predicted where the reference lacks a class.

    Its columns are `cell`; `empty`, the number of cases × classes × seeds without reference; `rate`, the share of them with a
    prediction; `voxels`, how many are predicted on average. Diverged runs are left out: their empty prediction would look like a
    good one.
    """
    empty = cases[(cases["tp"] + cases["fn"] == 0) & (cases["status"] == "ok")]
    frame = empty.assign(found=empty["fp"] > 0)
    groups = frame.groupby("cell", observed=True)
    return groups.agg(empty=("fp", "size"), rate=("found", "mean"), voxels=("fp", "mean")).reset_index()
