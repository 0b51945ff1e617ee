"""The runs behind the rows of a published table: one score table of all rows, as if they were the inits of a block."""

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

_NAN = math.nan
_NO_INTERVAL = Interval(_NAN, _NAN, _NAN)
_KEYS = (*BLOCK, "init", "protocol")  # what a row knows of its runs
TRAINING_CASES = "training cases"  # the parameter of a figure whose last point is all of them


@dataclass(frozen=True)
class Asked:
    """A table, its rows as they are asked for here, and what was changed; `auto` takes runs of every precision."""

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
    mean: Interval = _NO_INTERVAL
    sd: Interval = _NO_INTERVAL
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
    runs = loaded.runs if asked.seeds is None else loaded.runs[loaded.runs["seed"].isin(list(asked.seeds))]
    runs = runs if asked.precision == "auto" else runs[runs["precision"] == asked.precision]
    found = find(runs, asked.mapped.trials, asked.overrides, cells) if not runs.empty else []
    if not found:
        instead = ", ".join(asked.overrides.words())
        raise UsageError(
            f"no run is of {asked.table.full_name}{' with ' if instead else ''}{instead}: "
            f"`initbench reproduce {asked.table.full_name}` with the same options and without --report-only runs what is missing"
        )
    return [_answer(asked, runs, loaded, each) for each in found]


def _answer(asked: Asked, runs: pd.DataFrame, loaded: Loaded, found: Found) -> Answer:
    own = {label: runs[runs["cell"] == cell] for label, cell in _ordered(asked, found)}
    # Below, the cell of a row is its label.
    of_cell = patients_of(loaded, set(found.cells.values()))
    patients = {label: of_cell[cell] for label, cell in found.cells.items() if cell in of_cell}
    by_dataset: dict[str, list[str]] = {}
    for label, frame in own.items():
        by_dataset.setdefault(str(frame["dataset"].iloc[0]), []).append(label)
    measured: dict[str, MeasuredRow] = {}
    scores: dict[str, Scores] = {}
    for dataset, labels in by_dataset.items():
        its_own = any(dataset in dataset_names(row.dataset) for row in asked.table.row if row.dataset)
        rows = {label: own[label] for label in labels}
        scores[dataset] = _scores(asked.table, its_own, loaded.cases, rows)
        relabelled = pd.concat([_one_block(own[label], label) for label in labels], ignore_index=True)
        how = scores[dataset]
        (table,) = score_tables(
            relabelled,
            how.cases,
            policy=how.policy,
            shared=asked.shared,
            classes_alike=how.classes_alike,
            patients=patients,
        )
        measured |= {label: _row(asked.table, label, own[label], table) for label in labels}
    return Answer(found, {label: measured[label] for label in own}, scores)


def _scores(table: Table, its_own: bool, cases: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> Scores:
    """On the paper's data its classes, its grid where the runs were counted there, its rule for absent classes, and the mean of
    class means that papers print.
    """
    native = pd.concat([_relabelled(cases, frame, label) for label, frame in rows.items()])
    if not its_own or native.empty:
        return Scores(native, "reference-mask")
    resampled = _resampled(native, rows) if table.grid == "resampled" else None
    try:
        counted = of_classes(native if resampled is None else resampled, (table.class_set,) if table.class_set else ())
    except UsageError:  # other data of the same name
        return Scores(native, "reference-mask")
    said = ["counted on the resampled grid"] if resampled is not None else []
    policy = table.policy_of(rows)
    if policy != "reference-mask":
        # Every case then has a score for every class, so it does not matter over which of the two the mean is taken first.
        said.append(f"absent classes score {TABLE_POLICIES[policy].meaning.removeprefix('always ')}")
    elif counted["class_name"].nunique() > 1:
        said.append("every class counts the same")
    return Scores(counted, policy, classes_alike=True, as_the_paper=" and ".join(said))


def _resampled(native: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """The counts on the preprocessed grid, with the keys of the native ones; None where a run has none."""
    found = []
    for label, runs in rows.items():
        for path, seed, status in zip(runs["path"], runs["seed"], runs["status"], strict=True):
            if status not in SCORED:
                continue
            counts = cases_of(Path(path), "resampled")
            if counts is None:
                return None
            dataset = str(native["dataset"].iloc[0])
            found.append(counts.assign(cell=label, seed=int(seed), status=str(status), dataset=dataset))
    return pd.concat(found, ignore_index=True) if found else None


def _ordered(asked: Asked, found: Found) -> list[tuple[str, str]]:
    labels = [*(row.label for row in asked.table.row), PLACEBO_LABEL]
    return [(label, found.cells[label]) for label in labels if label in found.cells]


def _one_block(frame: pd.DataFrame, label: str) -> pd.DataFrame:
    """The runs of a row as if all rows were of one block: a table of a paper may compare across settings, and says so."""
    common = {column: "" for column in BLOCK if column != "dataset"}
    # The label is the whole name of the row, its regimen included.
    return frame.assign(**common, protocol="any", init=name_of(label), regimen=REGIMEN, cell=label)


def name_of(label: str) -> str:
    """What a row is called in the score table, where a placebo is told by its name."""
    return PLACEBO if label == PLACEBO_LABEL else label


def _relabelled(cases: pd.DataFrame, runs: pd.DataFrame, label: str) -> pd.DataFrame:
    frame: pd.DataFrame = cases[(cases["cell"] == runs["cell"].iloc[0]) & cases["seed"].isin(runs["seed"])]
    return frame.assign(cell=label, **{name: frame[name].astype(str) for name in ("case", "class_name", "dataset")})


def _row(paper: Table, label: str, runs: pd.DataFrame, table: ScoreTable) -> MeasuredRow:
    first = runs.iloc[0]
    block = {key: _plain(first[key]) for key in _KEYS}
    name = name_of(label)
    if name in table.inits and table.refused:  # nothing of it is scored
        scores, mean, sd, reason, diverged = np.empty(0), _NO_INTERVAL, _NO_INTERVAL, table.refused, 0
    elif name in table.inits:
        place = table.inits.index(name)
        summary = summarize(table.by_patient, table.inits, table.design, table.diverged)[place]
        scores, mean, sd, reason = table.runs(name), summary.mean, summary.run_sd, ""
        diverged = int(table.diverged[place].sum())
    else:
        (withheld,) = (item for item in table.withheld if item.init == name)
        scores = np.array(withheld.scores, np.float64)
        mean = Interval(float(scores.mean()) if scores.size else _NAN, _NAN, _NAN)
        sd, reason = cut(sd_interval(scores), SD), withheld.reason
        diverged = int((runs["status"] == "diverged").sum())
    return MeasuredRow(
        label=label,
        cell=str(first["cell"]),
        here=words.label(treatments(runs)[0].name),
        block=block,
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
    row = next((row for row in paper.row if row.label == label), None)
    if row is None or row.x is None:
        return _NAN
    return float(training_cases) if paper.parameter == TRAINING_CASES and row.train_cases is None else row.x


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
