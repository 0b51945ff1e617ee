"""The page: charts and tables of a study in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from initbench.choices import BASELINE, MARGIN
from initbench.errors import DataError
from initbench.report import cells, protocols
from initbench.report.content import Block, Content, assemble
from initbench.report.cost import cost
from initbench.report.curves import CHUNK, POINTS, curves
from initbench.report.figure import Figure
from initbench.report.forest import forest
from initbench.report.heat import SHOWN, heat
from initbench.report.overlays import CASES, overlays
from initbench.report.places import places
from initbench.report.sources import sources
from initbench.report.strips import strips
from initbench.report.subsets import subsets
from initbench.stats.design import SCOPES
from initbench.stats.treatments import treatment
from initbench.tables import answer, interactions, leaderboard, words
from initbench.tables.answer import Answered
from initbench.tables.firm import firm_overviews
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.leaderboard_runs import run_sheet
from initbench.tables.sheet import Sheet
from initbench.tables.study import Study
from initbench.tables.titles import titles

_FEW_INITS = 4  # that nobody needs to filter
_NAMED = 3  # data sets or networks, above which a title has their number in place of their names
_MANY_BLOCKS = 12  # from which on pictures of cases are shown for the first ones alone
_SOME_RUNS = 200  # from which on less is read of long curves
_MANY_RUNS = 2000  # from which on curves are thinned and digests cut


@dataclass(frozen=True)
class Detail:
    """How much of each thing there is room for, so that a large study is still a file that opens.

    Attributes:
        points: of a learning curve.
        chunk: bytes of a learning curve that are read for a point.
        cases: lines of a heat map.
        looks: whether Dice over the steps is shown; a file is read for each run.
        pictured: blocks with pictures of cases.
        digest: characters of a digest; all where None.
    """

    points: int = POINTS
    chunk: int = CHUNK
    cases: int = SHOWN
    looks: bool = True
    pictured: int = _MANY_BLOCKS
    digest: int | None = None


def detail(content: Content) -> Detail:
    """Returns how much there is room for, by the number of runs."""
    if content.size > _MANY_RUNS:
        return Detail(points=POINTS // 2, chunk=CHUNK // 8, cases=SHOWN // 2, looks=False, digest=16)
    if content.size > _SOME_RUNS:
        return Detail(chunk=CHUNK // 4)
    return Detail()


def write(study: Study, file: Path, *, against: str = BASELINE, margin: float = MARGIN, now: datetime | None = None) -> None:
    """Writes the report of a study.

    Args:
        study: its runs, cases and scores.
        file: HTML, replaced where it is there.
        against: the init that the others are compared with.
        margin: Dice points within which two inits are equivalent.
        now: the time to be written on it.

    Raises:
        DataError: the file cannot be written.
    """
    content = assemble(study, against, margin, now)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8") as handle:
            handle.writelines(pieces(content))
    except OSError as error:
        raise DataError(
            f"{file}: the report cannot be written: {error.strerror or error}; choose another place with --file"
        ) from error


def pieces(content: Content) -> Iterator[str]:
    """Yields the page, a piece at a time."""
    environment = Environment(
        loader=PackageLoader("initbench.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").generate(**_values(content))


def _pooled(content: Content) -> list[Sheet]:
    """Returns the tables over several blocks. A table with one init is left out: it would compare this init with nothing."""
    sheets = []
    for sheet in pooled_sheets(content.study, "all", content.against, content.margin, least=2):
        if len(sheet.rows) != 1:
            sheets.append(sheet)
    return sheets


def _values(content: Content) -> dict[str, Any]:
    """Returns all that the template shows, by the names that it uses."""
    return {
        "content": content,
        "facts": _facts(content),
        "legend": leaderboard.legend(content.study, content.against, content.margin),
        "pooled": _pooled(content),
        "subsets": subsets(content),
        "cost": cost,
        "digest": detail(content).digest,
        **_choices(content),
        **_of_blocks(content),
        **_words(),
    }


def _choices(content: Content) -> dict[str, Any]:
    """Returns the title, and the data sets and networks for the filters; none where there is one alone."""
    datasets, backbones = content.datasets, content.backbones
    inits: set[str] = set()
    for block in content.blocks:
        inits.update(block.table.names)
    return {
        "title": f"{_few('data sets', datasets)} × {_few('backbones', backbones)}",
        "datasets": _several(datasets),
        "backbones": _several(backbones),
        "many_inits": len(inits) > _FEW_INITS,
    }


def _several(names: Sequence[str]) -> Sequence[str]:
    """Returns the names where there are several, else none."""
    if len(names) > 1:
        return names
    return ()


def _of_blocks(content: Content) -> dict[str, Any]:
    """Returns the functions that the template calls with a block, and what it shows of all blocks together."""
    names = titles([block.table.block for block in content.blocks])
    named, answered = {}, {}
    for block, name in zip(content.blocks, names, strict=True):
        named[block.key] = name
        answered[block.key] = Answered(name, block.found, tuple(row.standing for row in block.rows))
    return {
        "name": lambda block: named[block.key],
        "answer": answer.of_study(list(answered.values()), content.against),
        "answer_of": lambda block: answer.of_block(answered[block.key]),
        "sources": sources(content.blocks, names),
        "charts": _Charts(content),
        "beside": _Beside(content),
    }


class _Beside:
    """Makes the tables beside a leaderboard: of its single runs, and of how firm its verdicts are."""

    def __init__(self, content: Content) -> None:
        self._of_cell = content.study.of_cell
        self._firm: dict[str, Sheet | None] = {}
        if content.size <= _SOME_RUNS:  # it scores all runs once for each class and policy
            overviews = firm_overviews(content.study, content.against, content.margin)
            sheet_of = {}
            for table, sheet in zip(content.study.tables, overviews, strict=True):
                sheet_of[id(table)] = sheet
            for block in content.blocks:
                self._firm[block.key] = sheet_of[id(block.table)]

    def __call__(self, block: Block) -> list[tuple[str, Sheet]]:
        """Returns the tables, each with its heading."""
        found = []
        runs = run_sheet(block.table, self._of_cell, block.found)
        if runs is not None:
            found.append(("Single runs", runs))
        firm = self._firm.get(block.key)
        if firm is not None:
            found.append(("How firm is it?", firm))
        return found


class _Charts:
    """Draws the charts of a block."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._room = detail(content)
        self._labels = _labels(content)
        self._pictured = {block.key for block in content.blocks[: self._room.pictured]}

    def __call__(self, block: Block) -> dict[str, Figure]:
        """Returns the charts by name."""
        classes = self._labels.get(str(block.table.block["dataset"]), {})
        found = (
            forest(block, self._content.margin),
            strips(block),
            places(block),
            curves(block, self._room.points, self._room.chunk, looks=self._room.looks),
            heat(block, self._room.cases),
            overlays(block, classes, self._cases(block)),
        )
        return {item.name: item for item in found}

    def _cases(self, block: Block) -> int:
        """Returns how many cases of a block have pictures."""
        if block.key not in self._pictured:
            return 0
        return CASES


def _words() -> dict[str, Any]:
    """Returns the functions by which the template writes rows and numbers."""
    return {
        "columns": cells.columns,
        "cells": cells.cells,
        "badges": cells.badges,
        "kind": cells.kind,
        "verdict_class": cells.verdict_class,
        "interaction_columns": interactions.COLUMNS,
        "interaction": interactions.cells,
        "interaction_notes": lambda block: interactions.notes(block.interactions, SCOPES["A"]),
        "protocols": protocols.names,
        "pairs": protocols.pairs,
        "dice": words.dice,
        "difference": words.difference,
        "label": words.label,
        "number": words.number,
        "seconds": words.measured_time,
    }


def _few(what: str, names: Sequence[str]) -> str:
    """Returns some names in a row, or their number and what they are where there are many."""
    if len(names) > _NAMED:
        return f"{len(names)} {what}"
    return ", ".join(names)


def _facts(content: Content) -> list[tuple[str, str]]:
    """Returns what identifies a study, as pairs of name and value."""
    inits: set[str] = set()
    regimens: set[str] = set()
    for block in content.blocks:
        for row in block.rows:
            own = treatment(row.init)
            inits.add(own.init)
            regimens.add(own.regimen_name)
    found = [
        ("data sets", ", ".join(content.datasets)),
        ("backbones", ", ".join(content.backbones)),
        ("initializers", str(len(inits))),
    ]
    if content.has_regimens:
        found.append(("regimens", ", ".join(sorted(regimens))))
    runs, scoring = content.study.runs, content.study.scoring
    states = Counter(runs["status"].astype(str))
    told = []
    for state in ("ok", "diverged", "failed", "invalid"):
        if states[state]:
            told.append(f"{states[state]} {state}")
    classes = ", ".join(scoring.classes) or "all"
    return [
        *found,
        ("runs", f"{len(runs)} ({', '.join(told)})"),
        ("claims hold for", SCOPES["A"]),
        ("Dice policy", f"{scoring.policy}; classes: {classes}; last checkpoint, {scoring.grid} grid"),
        ("equivalence margin", f"±{content.margin:g} Dice points"),
        ("made", f"{content.made} by initbench {content.version}"),
        ("runs below", str(content.study.out)),
    ]


def _labels(content: Content) -> dict[str, dict[int, str]]:
    """Returns the name of each value in the label maps of a data set, by data set. Pictures show label maps, and no regions."""
    runs = content.study.runs.drop_duplicates("dataset")
    found = {}
    for dataset, names in zip(runs["dataset"], runs["labels"], strict=True):
        found[str(dataset)] = dict(enumerate(names))
    return found
