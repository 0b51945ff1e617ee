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
        patients: the patient of each reported case, by cell: as records name it, else as the data set does. Cells whose patients
            nobody knows are left out.
        doubts: a sentence about each cell whose runs name different patients for a case.
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
    def names(self) -> set[str]:
        """The names of all rows of the blocks."""
        found: set[str] = set()
        for table in self.tables:
            found.update(table.names)
        return found

    @cached_property
    def of_cell(self) -> dict[str, Runs]:
        """The runs of each cell, summed up, by cell."""
        return summaries(self.runs)


def check_some(out: Path, found: Loaded) -> None:
    """Refuses a folder that holds runs, but no run whose record can be used.

    Raises:
        DataError: none can be used; the message says how many there are, and why not the first of them.
    """
    if found.runs.empty and found.unreadable:
        first = found.unreadable[0]
        raise DataError(
            f"{out}: no record of {words.count(len(found.unreadable), 'run')} can be used; `initbench status --out {out}` names "
            f"all, the first is {first}"
        )


def cells_of(table: ScoreTable) -> tuple[str, ...]:
    """Returns the cells of all rows of a block in the order of its names, the withheld ones last."""
    return (*table.cells, *(item.cell for item in table.withheld))


def _with_history(table: ScoreTable, of_cell: Mapping[str, Runs], plans: Sequence[BlockPlan]) -> ScoreTable:
    """Returns the table with the times at which its seeds were asked for, and with the looks that were planned of it."""
    cells = cells_of(table)
    asked = []
    for cell in cells:
        steps = of_cell[cell].asked
        if len(steps) > 1 and steps not in asked:
            asked.append(steps)
    looks = None
    for plan in plans_of(plans, cells):
        looks = Looks(plan.looks, plan.margin, plan.against, plan.family)
        break
    return replace(table, asked=tuple(asked), looks=looks)


# The keys of a block that titles and settings show.
_SHOWN = tuple(key for key in BLOCK if key != "recipe")


def _names(runs: pd.DataFrame) -> dict[str, str]:
    """Returns what the data set of each cell is called: its own name, and more where several data sets share one."""
    columns = runs[["dataset", "split", "data_digest", "data_place"]].astype(str)
    named = [Named(*values) for values in columns.itertuples(index=False, name=None)]
    return dict(zip(runs["cell"], told_apart(named), strict=True))


def _renamed(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Returns runs or cases under other names of their data sets.

    Args:
        frame: the runs or cases.
        names: of data sets, by cell.
    """
    wanted = frame["cell"].astype(str).map(names)
    if (wanted == frame["dataset"].astype(str)).all():
        return frame
    if isinstance(frame["dataset"].dtype, pd.CategoricalDtype):  # small, where there are many cases
        return frame.assign(dataset=wanted.astype("category"))
    return frame.assign(dataset=wanted)


def read_study(
    out: Path,
    datasets: Sequence[str] = (),
    backbones: Sequence[str] = (),
    scoring: Scoring | None = None,
    *,
    seeds: Sequence[int] | None = None,
) -> Study:
    """Returns the runs below a folder with their scores.

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
        only = ""
        if datasets or backbones:
            only = f" of {', '.join([*datasets, *backbones])}"
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
    blocks = counted[list(BLOCK)].to_dict("records")
    counted = counted.assign(**{MARK: marks(blocks, _SHOWN)})
    tables = score_tables(counted, cases, policy=scoring.policy, seeds=seeds, shared=scoring.shared, patients=patients)
    of_cell, plans = summaries(counted), read_plans(out)
    doubts = []
    for cell in cells:
        if cell in found.disagreements:
            doubts.append(str(found.disagreements[cell]))
    return Study(
        out=out,
        scoring=scoring,
        runs=counted,
        cases=cases,
        tables=tuple(_with_history(table, of_cell, plans) for table in tables),
        unreadable=found.unreadable,
        uncounted=len(runs) - len(counted),
        patients=patients,
        doubts=tuple(doubts),
    )
