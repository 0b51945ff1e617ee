"""Puts the content of a report together from a study: families of blocks, their rows, and the runs of each row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pandas as pd

from initbench.report.styles import Style, styles
from initbench.stats.analysis import Analysis, analyse
from initbench.stats.blocks import POINTS
from initbench.stats.design import Refused
from initbench.stats.interactions import Judged
from initbench.stats.table import ScoreTable
from initbench.stats.treatments import have_regimens
from initbench.tables import leaderboard, words
from initbench.tables.standings import Runs, Standing, standings
from initbench.tables.study import Study
from initbench.tables.titles import settings, title

_RECORDED = "reference-mask"  # the policy of the Dice in a record


@dataclass(frozen=True)
class Run:
    """A run of a row.

    Attributes:
        dice: its score in points, as the block scores it; NaN where it has none.
        counted: whether its score is a part of the mean of its row; seeds that other inits lack may be left out.
        init_seconds: of the init stage; likewise `train_seconds`; `seconds` of both and the evaluation. NaN where unknown.
        gpu: whether it ran on one.
        commit: of the code, where it was recorded.
    """

    cell: str
    seed: int
    status: str
    dice: float
    counted: bool
    path: str
    init_steps: int
    init_seconds: float
    train_steps: int
    train_seconds: float
    seconds: float
    gpu: bool
    device: str
    environment: str
    weights: str
    commit: str
    reason: str

    @property
    def is_scored(self) -> bool:
        """Whether it has a score."""
        return math.isfinite(self.dice)

    @property
    def is_diverged(self) -> bool:
        """Whether it diverged."""
        return self.status == "diverged"


@dataclass(frozen=True)
class Row:
    """An init of a block with its runs.

    Attributes:
        style: its colour, dashes and mark.
        facts: what identifies it beside its seeds, as pairs of name and value.
    """

    standing: Standing
    style: Style
    runs: tuple[Run, ...]
    facts: tuple[tuple[str, str], ...]

    @property
    def init(self) -> str:
        """Its name."""
        return self.standing.init

    @property
    def label(self) -> str:
        """Its name as people read it, `placebo` for one."""
        return words.label(self.standing.init)

    @property
    def protocol(self) -> str:
        """The protocol under which it was trained: `any` where it learns nothing."""
        return self.standing.runs.protocol


@dataclass(frozen=True)
class Block:
    """A block: its statistics, its rows, best first, and the runs of these rows, as `load_runs` gives them."""

    key: str
    table: ScoreTable
    found: Analysis | Refused
    rows: tuple[Row, ...]
    runs: pd.DataFrame
    headline: str
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Data set and network."""
        return title(self.table.block)

    @property
    def protocol(self) -> str:
        """The protocol of its learned inits."""
        return str(self.table.block["protocol"])

    @property
    def complete(self) -> tuple[Row, ...]:
        """The rows that have verdicts."""
        found = []
        for row in self.rows:
            if row.standing.role != "withheld":
                found.append(row)
        return tuple(found)

    @property
    def against(self) -> str | None:
        """The init that all others are compared with; None where all pairs are compared, or nothing is."""
        if isinstance(self.found, Refused):
            return None
        return self.found.against

    @property
    def interactions(self) -> tuple[Judged, ...]:
        """The interactions of its inits and regimens; none where it has one init or one regimen."""
        if isinstance(self.found, Refused):
            return ()
        return self.found.interactions

    @property
    def has_regimens(self) -> bool:
        """Whether some row is trained otherwise than plainly."""
        return have_regimens(self.table.names)

    def number(self, row: Row) -> int:
        """Returns the place of a complete row along the first axis of the scores."""
        return self.table.inits.index(row.init)


@dataclass(frozen=True)
class Family:
    """Blocks that differ in the protocol alone."""

    key: str
    blocks: tuple[Block, ...]

    @property
    def dataset(self) -> str:
        """The data set of its runs."""
        return str(self.blocks[0].table.block["dataset"])

    @property
    def backbone(self) -> str:
        """The network of its runs."""
        return str(self.blocks[0].table.block["backbone"])

    @property
    def title(self) -> str:
        """Data set and network."""
        return self.blocks[0].title

    @property
    def settings(self) -> str:
        """The settings that all of its runs share, in words."""
        return settings({**self.blocks[0].table.block, "protocol": "any"})

    @property
    def paired(self) -> bool:
        """Whether it has blocks of several protocols."""
        return len(self.blocks) > 1


@dataclass(frozen=True)
class Content:
    """All of a report.

    Attributes:
        made: when, in words.
        version: of initbench.
        unreadable: folders whose record cannot be used, with the reason of each.
        against: the init that the others are compared with.
        margin: Dice points within which inits are equivalent.
    """

    study: Study
    families: tuple[Family, ...]
    made: str
    version: str
    unreadable: tuple[str, ...]
    against: str
    margin: float

    @property
    def blocks(self) -> list[Block]:
        """All blocks in order."""
        found: list[Block] = []
        for family in self.families:
            found += family.blocks
        return found

    @property
    def datasets(self) -> list[str]:
        """The data sets of all runs, sorted."""
        return sorted({family.dataset for family in self.families})

    @property
    def backbones(self) -> list[str]:
        """The networks of all runs, sorted."""
        return sorted({family.backbone for family in self.families})

    @property
    def has_regimens(self) -> bool:
        """Whether a row of some block is trained otherwise than plainly."""
        return any(block.has_regimens for block in self.blocks)

    @property
    def size(self) -> int:
        """Number of runs."""
        return len(self.study.runs)


def assemble(study: Study, against: str, margin: float, now: datetime | None = None) -> Content:
    """Gathers the content of the report of a study.

    Args:
        study: the runs and their scores.
        against: the init that the others are compared with.
        margin: Dice points within which two inits are equivalent.
        now: the time that the page states; by default the present.
    """
    names: list[str] = []
    for table in study.tables:
        names += table.names
    first = {}
    for record in study.runs.drop_duplicates("cell").to_dict("records"):
        first[str(record["cell"])] = record
    is_as_recorded = study.scoring.policy == _RECORDED and not study.scoring.classes
    sources = _Sources(study.of_cell, _runs_by_cell(study.runs), first, styles(names), is_as_recorded)
    blocks = []
    for number, table in enumerate(study.tables):
        found = analyse(table, against=against, margin=margin)
        standing = standings(table, sources.summaries, found)
        rows, cells = [], []
        for item in standing:
            rows.append(sources.row(item, _scores(table, item)))
            cells.append(item.cell)
        blocks.append(
            Block(
                key=f"b{number}",
                table=table,
                found=found,
                rows=tuple(rows),
                runs=study.runs[study.runs["cell"].isin(cells)],
                headline=leaderboard.headline(table, found),
                notes=tuple(leaderboard.notes(table, found, standing)),
            )
        )
    made = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    return Content(
        study, tuple(_families(blocks)), made, version("initbench"), tuple(map(str, study.unreadable)), against, margin
    )


@dataclass(frozen=True)
class _Sources:
    """The parts from which rows are made.

    Attributes:
        summaries: of the runs, by cell.
        runs: by cell.
        first: the first line of each cell in the table of runs.
        styles: by init.
        is_as_recorded: whether the study scores runs as their records do.
    """

    summaries: Mapping[str, Runs]
    runs: Mapping[str, tuple[Run, ...]]
    first: Mapping[str, Mapping[Any, Any]]
    styles: Mapping[str, Style]
    is_as_recorded: bool

    def row(self, found: Standing, scores: Mapping[int, float] | None) -> Row:
        """Returns the row of an init.

        Args:
            found: its standing.
            scores: its Dice points by seed; None where the block has none of it.
        """
        runs = []
        for run in self.runs[found.cell]:
            if scores is not None and run.seed in scores:
                runs.append(replace(run, dice=scores[run.seed], counted=True))
            elif self.is_as_recorded:
                runs.append(run)
            else:
                runs.append(replace(run, dice=math.nan))
        return Row(found, self.styles[found.init], tuple(runs), _facts(found, self.first[found.cell]))


def _scores(table: ScoreTable, found: Standing) -> dict[int, float] | None:
    """Returns the Dice points of a complete init by seed; None where the block has none of it."""
    if found.role == "withheld" or not table.cases:
        return None
    number = table.inits.index(found.init)
    return dict(zip(table.seeds[number], map(float, table.runs(found.init)), strict=True))


def _families(blocks: Sequence[Block]) -> Iterator[Family]:
    """Yields the families of some blocks, in the order of their first blocks."""
    groups: dict[str, list[Block]] = {}
    for block in blocks:
        key = repr([(name, value) for name, value in block.table.block.items() if name != "protocol"])
        groups.setdefault(key, []).append(block)
    for number, group in enumerate(groups.values()):
        yield Family(f"f{number}", tuple(group))


def _facts(row: Standing, first: Mapping[Any, Any]) -> tuple[tuple[str, str], ...]:
    """Returns what identifies a row beside its seeds, as pairs of name and value.

    Args:
        row: its standing.
        first: the first line of its cell in the table of runs.
    """
    names = {"dataset": "data set", "recipe": "recipe digest", "origin": "init from", "dice_policy": "Dice policy of the record"}
    keys = ("dataset", "split", "backbone", "variant", "size", "budget", "steps", "protocol", "regimen", "precision", "recipe")
    facts = [("cell", row.cell)]
    for key in (*keys, "dice_policy", "origin"):
        if _known(first.get(key)):
            facts.append((names.get(key, key), str(first[key])))
    if _known(first.get("fixed_streams")):
        facts.append(("seeds share", str(first["fixed_streams"])))
    if not math.isnan(row.runs.changed_share):
        facts.append(("parameters changed by the init", f"{100 * row.runs.changed_share:.1f} %"))
    return tuple(facts)


def _known(value: object) -> bool:
    """Returns whether a value of the table of runs is there: no None, no empty text, no NaN."""
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def _runs_by_cell(runs: pd.DataFrame) -> dict[str, tuple[Run, ...]]:
    """Returns the runs of each cell, by rising seed."""
    found: dict[str, list[Run]] = {}
    for row in runs.sort_values("seed").to_dict("records"):
        found.setdefault(str(row["cell"]), []).append(_run(row))
    return {cell: tuple(group) for cell, group in found.items()}


def _run(row: dict[Any, Any]) -> Run:
    """Returns a run from its line in the table of runs, not yet counted."""
    return Run(
        cell=str(row["cell"]),
        seed=int(row["seed"]),
        status=str(row["status"]),
        dice=POINTS * _float(row["dice"]),
        counted=False,
        path=str(row["path"]),
        init_steps=int(_float(row["init_steps"], 0.0)),
        init_seconds=_float(row["init_seconds"]),
        train_steps=int(_float(row["train_steps"], 0.0)),
        train_seconds=_float(row["train_seconds"]),
        seconds=_float(row["total_seconds"]),
        gpu=bool(row["gpu"]),
        device=_text(row["device"]),
        environment=_text(row["environment"]),
        weights=_text(row["weights_digest"]),
        commit=_text(row["commit"]),
        reason=_text(row["reason"]),
    )


def _float(value: Any, missing: float = math.nan) -> float:
    """Returns a value of the table of runs as a number, or another number where it is not there."""
    if value is pd.NA or not _known(value):
        return missing
    return float(value)


def _text(value: Any) -> str:
    """Returns a value of the table of runs as text, empty where it is not there."""
    if not _known(value):
        return ""
    return str(value)
