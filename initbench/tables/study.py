"""The runs below a folder, and the scores of their blocks: what every table and picture starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from initbench.choices import CountedOn, DicePolicy
from initbench.dice import check_policy
from initbench.errors import DataError, UsageError
from initbench.runs.looks import BlockPlan, plans_of, read_plans
from initbench.runs.read import UNCOUNTED, Loaded, Unreadable, read_runs
from initbench.stats.assembly import score_tables
from initbench.stats.blocks import BLOCK, MARK
from initbench.stats.cases import of_classes, with_patients
from initbench.stats.looks import Looks
from initbench.stats.table import ScoreTable
from initbench.tables import words
from initbench.tables.patients import patients_of
from initbench.tables.standings import Runs, summaries
from initbench.tables.titles import Named, marks, told_apart


@dataclass(frozen=True)
class Scoring:
    """How runs are scored from their counts.

    Attributes:
        policy: what a class scores where the reference lacks it.
        classes: the classes that count, or the name of a set of them; all by default.
        shared: only the seeds that every init of a block has.
        grid: where predictions are counted.
    """

    policy: DicePolicy = "reference-mask"
    classes: tuple[str, ...] = ()
    shared: bool = False
    grid: CountedOn = "native"

    def __post_init__(self) -> None:
        """Refuses a policy that is for published tables alone."""
        check_policy(self.policy)


@dataclass(frozen=True)
class Study:
    """Runs and their scores.

    Attributes:
        out: the folder.
        scoring: how the scores came about.
        runs: as `load_runs` gives, of the chosen data sets and backbones.
        cases: as `load_cases` gives, of the same runs and the classes that count.
        tables: the scores of every block.
        unreadable: folders whose record cannot be used; their runs are in no table.
        uncounted: number of runs without counts on the grid that is asked for; they are left out.
        patients: the patient of each reported case, by cell, as records name it, else as the data set does; a cell of which
            neither is known is left out.
        doubts: what is to be said of patients: runs of a cell that name different ones.
    """

    out: Path
    scoring: Scoring
    runs: pd.DataFrame
    cases: pd.DataFrame
    tables: tuple[ScoreTable, ...]
    unreadable: tuple[Unreadable, ...]
    uncounted: int = 0
    patients: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @cached_property
    def of_cell(self) -> dict[str, Runs]:
        """What the runs of each cell came to."""
        return summaries(self.runs)


def check_some(out: Path, found: Loaded) -> None:
    """Refuses a folder in which runs are, and none whose record can be used.

    Raises:
        DataError: names the first reason.
    """
    if found.runs.empty and found.unreadable:
        first = found.unreadable[0]
        raise DataError(
            f"{out}: no record of {words.count(len(found.unreadable), 'run')} can be used; `initbench status --out {out}` names "
            f"all, the first is {first}"
        )


def _with_history(table: ScoreTable, of_cell: Mapping[str, Runs], plans: Sequence[BlockPlan]) -> ScoreTable:
    """The table with when its seeds were asked for, and the looks that were planned of it."""
    cells = [*table.cells, *(item.cell for item in table.withheld)]
    asked = dict.fromkeys(of_cell[cell].asked for cell in cells if len(of_cell[cell].asked) > 1)
    plan = next(plans_of(plans, cells), None)
    looks = Looks(plan.looks, plan.margin, plan.against, plan.family) if plan else None
    return replace(table, asked=tuple(asked), looks=looks)


# The keys of a block that titles and settings show.
_SHOWN = tuple(key for key in BLOCK if key != "recipe")


def _names(runs: pd.DataFrame) -> dict[str, str]:
    """What the data set of each cell is called: its own name, and more where several data sets have it."""
    columns = [runs[key].astype(str) for key in ("dataset", "split", "data_digest", "data_place")]
    named = [Named(*values) for values in zip(*columns, strict=True)]
    return dict(zip(runs["cell"], told_apart(named), strict=True))


def _renamed(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Runs or cases with other names of data sets, by cell."""
    wanted = frame["cell"].astype(str).map(names)
    if (wanted == frame["dataset"].astype(str)).all():
        return frame
    kept_small = isinstance(frame["dataset"].dtype, pd.CategoricalDtype)
    return frame.assign(dataset=wanted.astype("category") if kept_small else wanted)


def read_study(
    out: Path,
    datasets: Sequence[str] = (),
    backbones: Sequence[str] = (),
    scoring: Scoring | None = None,
    *,
    seeds: Sequence[int] | None = None,
) -> Study:
    """The runs below `out`, of these data sets and backbones or of all.

    Args:
        out: the folder.
        datasets: names of data sets; all by default.
        backbones: names of backbones; all by default.
        scoring: how runs are scored from their counts.
        seeds: the seeds that are compared; all by default.

    Raises:
        UsageError: there is no such folder, no such run in it, or none with counts on the grid.
        DataError: there are runs, and none of their records can be used.
    """
    scoring = scoring or Scoring()
    found = read_runs(out, scoring.grid)
    check_some(out, found)
    names = _names(found.runs)
    runs, cases = _renamed(found.runs, names), _renamed(found.cases, names)
    if datasets:  # by their own names, too, which several may share
        chosen = runs["cell"][runs["dataset"].isin(list(datasets)) | found.runs["dataset"].isin(list(datasets))]
        runs, cases = runs[runs["cell"].isin(chosen)], cases[cases["cell"].isin(chosen)]
    if backbones:
        runs, cases = runs[runs["backbone"].isin(list(backbones))], cases[cases["backbone"].isin(list(backbones))]
    if runs.empty:
        only = f" of {', '.join([*datasets, *backbones])}" if datasets or backbones else ""
        raise UsageError(f"{out} holds no runs{only}; `initbench run --init default,lwi --backbone unetr --out {out}` makes some")
    counted = runs[runs["status"] != UNCOUNTED]
    if counted.empty:
        raise UsageError(
            f"{out}: no run was counted on the resampled grid. The recipes synapse, btcv and lung ask for it at paper size for "
            "UNETR; elsewhere run with --set inference.grids=native,resampled"
        )
    cells = counted["cell"].unique().tolist()
    patients = patients_of(found, cells)
    cases = with_patients(of_classes(cases, scoring.classes), patients)
    blocks = [{str(key): value for key, value in row.items()} for row in counted[list(BLOCK)].to_dict("records")]
    counted = counted.assign(**{MARK: marks(blocks, _SHOWN)})
    tables = score_tables(counted, cases, policy=scoring.policy, seeds=seeds, shared=scoring.shared, patients=patients)
    of_cell, plans = summaries(counted), read_plans(out)
    return Study(
        out,
        scoring,
        counted,
        cases,
        tuple(_with_history(table, of_cell, plans) for table in tables),
        found.unreadable,
        len(runs) - len(counted),
        patients,
        tuple(str(found.disagreements[cell]) for cell in cells if cell in found.disagreements),
    )
