"""Finds the runs behind the rows of a published table, and scores all rows as if they were the inits of a block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from initbench.choices import MARGIN, REGIMEN, TablePolicy
from initbench.dice import TABLE_POLICIES
from initbench.errors import UsageError
from initbench.published.tables import Table
from initbench.published.trials import Mapped, Overrides, dataset_names
from initbench.runs.read import Loaded, cases_of
from initbench.stats.assembly import SCORED, score_tables
from initbench.stats.blocks import BLOCK, PLACEBO
from initbench.stats.cases import of_classes
from initbench.stats.design import Array
from initbench.stats.inits import summarize
from initbench.stats.scale import SD, cut
from initbench.stats.summary import Interval, sd_interval
from initbench.stats.table import ScoreTable
from initbench.stats.treatments import treatments
from initbench.tables import words
from initbench.tables.patients import patients_of
from initbench.tables.reproduce.matching import PLACEBO_LABEL, Found, find
from initbench.tables.standings import UNKNOWN

_NAN = math.nan
_KEYS = (*BLOCK, "init", "protocol")  # what a row knows of its runs
TRAINING_CASES = "training cases"  # the parameter of a figure whose last point is all of them


@dataclass(frozen=True)
class Asked:
    """A published table as somebody asks for it.

    Attributes:
        mapped: its rows as they are run here.
        overrides: what was asked instead of its settings.
        margin: Dice points within which two rows are equivalent.
        shared: whether only the seeds count that all rows have.
        seeds: that count; all by default.
        precision: of the runs that count; `auto` takes runs of every precision.
    """

    table: Table
    mapped: Mapped
    overrides: Overrides
    margin: float = MARGIN
    shared: bool = False
    seeds: tuple[int, ...] | None = None
    precision: str = "auto"


@dataclass(frozen=True)
class MeasuredRow:
    """The runs of one row.

    Attributes:
        cell: of the runs.
        here: init, network and data as the runs have them.
        table: the scores of all rows on its data set.
        x: the parameter of a figure: the row's, or where that is all training cases, as many as there are.
        reason: why the row gets no verdict.
        environments: fingerprints of hardware and versions.
        invalid: folders whose files are not as they were written.
    """

    label: str
    cell: str
    here: str
    block: Mapping[str, object]
    table: ScoreTable
    scores: Array
    mean: Interval
    sd: Interval
    diverged: int
    external: bool
    x: float = _NAN
    reason: str = ""
    environments: frozenset[str] = frozenset()
    invalid: tuple[str, ...] = ()

    @property
    def cases(self) -> int:
        """The number of cases that all rows on its data set are scored on."""
        return len(self.table.cases)


@dataclass(frozen=True)
class MissingRow:
    """A row that no run answers: what is read of a measured row, with nothing in it.

    Attributes:
        x: the parameter of a figure, as the paper has it.
    """

    x: float = _NAN
    block: Mapping[str, object] = field(default_factory=lambda: dict.fromkeys(_KEYS, ""))
    scores: Array = field(default_factory=lambda: np.empty(0))
    mean: Interval = UNKNOWN
    sd: Interval = UNKNOWN
    cases: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Scores:
    """The counts of a data set's rows, their `cell` being the label, and how they are scored.

    Attributes:
        classes_alike: the score is the mean of the classes' means over cases.
        as_the_paper: in words, where that differs from how runs are scored elsewhere here; empty where it does not.
    """

    cases: pd.DataFrame
    policy: TablePolicy
    classes_alike: bool = False
    as_the_paper: str = ""


@dataclass(frozen=True)
class Answer:
    """What the runs of one precision say to a table.

    Attributes:
        rows: by label, the placebo last.
        scores: what they are scored from, by data set.
    """

    found: Found
    rows: Mapping[str, MeasuredRow]
    scores: Mapping[str, Scores]


def answers(asked: Asked, loaded: Loaded, cells: frozenset[str] | None = None) -> list[Answer]:
    """Returns an answer for every precision of the runs, or for the one that is asked for.

    Args:
        asked: the table, and what is asked instead of its settings.
        loaded: the runs of a folder.
        cells: the cells whose runs count; all by default.

    Raises:
        UsageError: no run answers any of the rows.
    """
    runs = loaded.runs
    if asked.seeds is not None:
        runs = runs[runs["seed"].isin(list(asked.seeds))]
    if asked.precision != "auto":
        runs = runs[runs["precision"] == asked.precision]
    found = []
    if not runs.empty:
        found = find(runs, asked.mapped.trials, asked.overrides, cells)
    if not found:
        instead = ", ".join(asked.overrides.words())
        changed = f" with {instead}" if instead else ""
        raise UsageError(
            f"no run is of {asked.table.full_name}{changed}: "
            f"`initbench reproduce {asked.table.full_name}` with the same options and without --report-only runs what is missing"
        )
    return [_answer(asked, runs, loaded, each) for each in found]


def _answer(asked: Asked, runs: pd.DataFrame, loaded: Loaded, found: Found) -> Answer:
    """Returns the answer of the runs of one precision. In its score tables the cell of a row is its label."""
    of_cell = patients_of(loaded, set(found.cells.values()))
    patients = {}
    for label, cell in found.cells.items():
        if cell in of_cell:
            patients[label] = of_cell[cell]
    measured: dict[str, MeasuredRow] = {}
    own: dict[str, pd.DataFrame] = {}
    by_dataset: dict[str, dict[str, pd.DataFrame]] = {}
    for label in (*asked.table.labels, PLACEBO_LABEL):
        if label in found.cells:
            own[label] = runs[runs["cell"] == found.cells[label]]
            by_dataset.setdefault(str(own[label]["dataset"].iloc[0]), {})[label] = own[label]
    scores: dict[str, Scores] = {}
    for dataset, rows in by_dataset.items():
        how = _scores(asked.table, dataset, loaded.cases, rows)
        (table,) = score_tables(
            pd.concat([_one_block(frame, label) for label, frame in rows.items()], ignore_index=True),
            how.cases,
            policy=how.policy,
            shared=asked.shared,
            classes_alike=how.classes_alike,
            patients=patients,
        )
        scores[dataset] = how
        for label, frame in rows.items():
            measured[label] = _row(asked.table, label, frame, table)
    return Answer(found, {label: measured[label] for label in own}, scores)


def _scores(table: Table, dataset: str, cases: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> Scores:
    """Returns the counts of the rows of a data set, and how they are scored.

    The paper's own data are scored as the paper does it: with its classes, on its grid where the runs were counted there, with
    its rule for absent classes, and as the mean of class means that papers print. Other data are scored as everywhere here.

    Args:
        table: the published table.
        dataset: of the runs.
        cases: counts of all runs.
        rows: the runs by label.
    """
    native = pd.concat([_relabelled(cases, frame, label) for label, frame in rows.items()])
    usual = Scores(native, "reference-mask")
    if native.empty or not _is_own(table, dataset):
        return usual
    said = []
    counts = native
    resampled = _resampled(native, rows) if table.grid == "resampled" else None
    if resampled is not None:
        said.append("counted on the resampled grid")
        counts = resampled
    try:
        if table.class_set:
            counts = of_classes(counts, (table.class_set,))
    except UsageError:  # other data of the same name
        return usual
    policy = table.policy_of(rows)
    if policy != "reference-mask":
        # Every case then has a score for every class, so it does not matter over which of the two the mean is taken first.
        said.append(f"absent classes score {TABLE_POLICIES[policy].meaning.removeprefix('always ')}")
    elif counts["class_name"].nunique() > 1:
        said.append("every class counts the same")
    return Scores(counts, policy, classes_alike=True, as_the_paper=" and ".join(said))


def _is_own(table: Table, dataset: str) -> bool:
    """Returns whether a data set is one of the paper's."""
    return any(dataset in dataset_names(row.dataset) for row in table.row if row.dataset)


def _resampled(native: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """Returns the counts on the preprocessed grid, with the keys of the native ones; None where a run has none."""
    dataset = str(native["dataset"].iloc[0])
    found = []
    for label, runs in rows.items():
        for path, seed, status in zip(runs["path"], runs["seed"], runs["status"], strict=True):
            if status not in SCORED:
                continue
            counts = cases_of(Path(path), "resampled")
            if counts is None:
                return None
            found.append(counts.assign(cell=label, seed=int(seed), status=str(status), dataset=dataset))
    if not found:
        return None
    return pd.concat(found, ignore_index=True)


def _one_block(frame: pd.DataFrame, label: str) -> pd.DataFrame:
    """Returns the runs of a row as if all rows were of one block: a table of a paper may compare across settings, and says so."""
    common = dict.fromkeys(BLOCK, "")
    del common["dataset"]
    # The label is the whole name of the row, its regimen included.
    return frame.assign(**common, protocol="any", init=name_of(label), regimen=REGIMEN, cell=label)


def name_of(label: str) -> str:
    """Returns what a row is called in the score table, where a placebo is told by its name."""
    return PLACEBO if label == PLACEBO_LABEL else label


def number_or_nan(value: float | None) -> float:
    """Returns a number that a paper may not state; NaN where it does not."""
    return _NAN if value is None else value


def _relabelled(cases: pd.DataFrame, runs: pd.DataFrame, label: str) -> pd.DataFrame:
    frame: pd.DataFrame = cases[(cases["cell"] == runs["cell"].iloc[0]) & cases["seed"].isin(runs["seed"])]
    return frame.assign(cell=label).astype({"case": str, "class_name": str, "dataset": str})


def _row(paper: Table, label: str, runs: pd.DataFrame, table: ScoreTable) -> MeasuredRow:
    """Returns what was measured of a row.

    Args:
        paper: the published table.
        label: of the row.
        runs: of the row.
        table: the scores of all rows on its data set.
    """
    first = runs.iloc[0]
    name = name_of(label)
    # Nothing is scored of a row whose table is refused.
    scores, mean, sd, reason, diverged = np.empty(0), UNKNOWN, UNKNOWN, table.refused, 0
    if name not in table.inits:
        [withheld] = [item for item in table.withheld if item.init == name]
        scores = np.array(withheld.scores, np.float64)
        if scores.size:
            mean = Interval(float(scores.mean()), _NAN, _NAN)
        sd, reason = cut(sd_interval(scores), SD), withheld.reason
        diverged = int((runs["status"] == "diverged").sum())
    elif not table.refused:
        place = table.inits.index(name)
        summary = summarize(table.by_patient, table.inits, table.design)[place]
        scores, mean, sd = table.runs(name), summary.mean, summary.run_sd
        diverged = int(table.diverged[place].sum())
    return MeasuredRow(
        label=label,
        cell=str(first["cell"]),
        here=words.label(treatments(runs)[0].name),
        block={key: _plain(first[key]) for key in _KEYS},
        table=table,
        scores=scores,
        mean=mean,
        sd=sd,
        diverged=diverged,
        external=bool((runs["external"] == True).any()),  # noqa: E712 - missing in records without it
        x=_x(paper, label, int(first["training_cases"])),
        reason=reason,
        environments=frozenset(map(str, runs["environment"].dropna())),
        invalid=tuple(map(str, runs.loc[runs["status"] == "invalid", "path"])),
    )


def _x(paper: Table, label: str, training_cases: int) -> float:
    """Returns the parameter of a figure for a row; NaN where it has none."""
    for row in paper.row:
        if row.label == label and row.x is not None:
            is_all_cases = paper.parameter == TRAINING_CASES and row.train_cases is None
            return float(training_cases) if is_all_cases else row.x
    return _NAN


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
