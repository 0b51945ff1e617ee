"""Parts of a leaderboard: its rows, notes and columns, and the text of a terminal of a given width."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from initbench.stats.analysis import analyse
from initbench.tables import sheet, study
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.sheet import Sheet
from initbench.tables.standings import Standing, standings, summaries
from initbench.tables.study import Study

DEFAULTS = {"default": [0.60, 0.62, 0.64]}


def rows(found: Study, protocol: str | None = None) -> dict[str, Standing]:
    """The rows of the only block, or of the only one under a protocol, by init."""
    (table,) = (table for table in found.tables if protocol in (None, table.block["protocol"]))
    return {row.init: row for row in standings(table, summaries(found.runs), analyse(table))}


def notes(out: Path) -> list[str]:
    """The notes below the first leaderboard of a study."""
    return list(leaderboard_sheets(study.read_study(out))[0].notes)


def column(made: Sheet, name: str) -> dict[str, str]:
    """The cells of a column, by the name of their row."""
    names, place = made.columns.index("initializer"), made.columns.index(name)
    return {row[names]: row[place] for row in made.rows}


def show(sheets: list[Sheet], width: int = 100) -> str:
    """The sheets as a terminal of so many columns shows them, without colour."""
    out = io.StringIO()
    sheet.terminal(sheets, Console(file=out, width=width, color_system=None, highlight=False, legacy_windows=False))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
