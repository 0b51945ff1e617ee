"""``initbench status``."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.text import Text

from initbench.cli.board import LEAST_NAME, columns_that_fit, shortened
from initbench.cli.command import command
from initbench.cli.options import OUTPUT, RUNS, JsonOption, OutOption
from initbench.cli.output import counts_of, warn, warn_of, write_json
from initbench.errors import InitbenchError, UsageError
from initbench.units import duration

if TYPE_CHECKING:
    from initbench.runs.status import RunStatus

_EVERY = 2.0  # seconds between two looks
_GAP = 2  # between two columns
_NO_LIMIT = 100_000  # columns of a file
_SHORT = 16  # characters of a detail that stands in the line of its run on a terminal
_COLUMNS = ("state", "left", "detail", "step")  # the first are kept longest
_ORDER = ("state", "step", "left", "detail")  # from left to right
WAITING = ("pending", "interrupted")
NOT_QUEUED = "not in the queue of Slurm"
_COLOURS = {"done": "green", "diverged": "yellow", "failed": "red", "refused": "red", "invalid": "red", "interrupted": "yellow"}


@command
def status(
    out: OutOption = RUNS,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds until all have ended.", rich_help_panel=OUTPUT)
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show how far a study is.

    Prints the state and step of every run that was asked for, and the time left.
    """
    from rich.live import Live

    from initbench.runs.status import ENDED, faulty_notes

    warn_of(faulty_notes(out), "`initbench run` of the same study writes them anew; their folder")
    rows = _look(out)
    if json:
        plain = []
        for row in rows:
            plain.append({**asdict(row), "planned": row.planned.label, "folder": row.planned.folder})
        write_json(plain)
        return
    console = Console(highlight=False)
    if not watch:
        console.print(shown(rows, _width(console)), soft_wrap=True)
        return
    with Live(shown(rows, _width(console)), console=console, auto_refresh=False) as live:
        while any(row.state not in ENDED for row in rows):
            time.sleep(_EVERY)
            rows = _look(out)
            live.update(shown(rows, _width(console)), refresh=True)


def _look(out: Path) -> list[RunStatus]:
    """Returns what became of every run of a study.

    Raises:
        UsageError: no study was begun there.
    """
    from initbench.runs.status import statuses

    rows = in_queue(out, statuses(out))
    if not rows:
        raise UsageError(f"{out} holds no study; `initbench run ... --out {out}` begins one")
    return rows


def in_queue(out: Path, rows: list[RunStatus]) -> list[RunStatus]:
    """Returns the rows of a study; if it was submitted to Slurm, with what the queue says of runs that have not ended."""
    from initbench.clusters import slurm
    from initbench.runs.status import ENDED

    if not (slurm.is_used(out) and slurm.is_here()):
        return rows
    try:
        tasks = slurm.queue(out)
    except InitbenchError as error:
        warn(str(error))
        return rows
    found = []
    for number, row in enumerate(rows):
        task = tasks.get(number)
        said = []
        if row.detail:
            said.append(row.detail)
        if row.state not in ENDED:
            if task is not None:
                said.append(str(task))
            if row.state in WAITING and (task is None or not task.is_alive):
                said.append(NOT_QUEUED)
        found.append(replace(row, detail="; ".join(said)))
    return found


def _width(console: Console) -> int:
    """Returns the columns of a terminal; of a file, which is searched for names, more than any line has."""
    if console.is_terminal:
        return console.width
    return _NO_LIMIT


def shown(rows: list[RunStatus], width: int) -> Group:
    """Returns a line for each run, how many are in which state, and the reasons that are too long for a line.

    Args:
        rows: the runs.
        width: columns of the terminal, to which names are shortened.
    """
    from initbench.runs.status import time_left

    short = width
    if width < _NO_LIMIT:
        short = _SHORT
    lines = _lines(rows, width, short)
    number_of_runs = f"{len(rows)} runs"
    if len(rows) == 1:
        number_of_runs = "1 run"
    counted = f"{number_of_runs}: {counts_of(Counter(row.state for row in rows).items())}"
    remaining = time_left(rows)
    if remaining:
        counted += f"; about {duration(remaining)} left"
    lines.append(Text(f"\n{counted}"))
    forgotten = 0
    for number, row in enumerate(rows):
        if len(row.detail) > short:
            lines.append(Text(f"{number}: {row.detail}"))
        forgotten += NOT_QUEUED in row.detail
    if forgotten:
        lines.append(Text(f"{forgotten} of them {NOT_QUEUED}: the same `initbench run` submits them, and so does `retry --all`"))
    return Group(*lines)


def _lines(rows: list[RunStatus], width: int, short: int) -> list[Text]:
    """Returns a line for each run: number, name, state, time left, a few words and step.

    Args:
        rows: the runs.
        width: columns of the terminal.
        short: characters of the words, at most; longer ones are left out.
    """
    cells, longest_name = [], 0
    for row in rows:
        longest_name = max(longest_name, cell_len(row.planned.label))
        found = dict.fromkeys(_COLUMNS, "")
        found["state"] = row.state
        if row.total:
            found["step"] = f"{row.step}/{row.total}"
        if row.seconds_left is not None:
            found["left"] = f"{duration(row.seconds_left)} left"
        if len(row.detail) <= short:
            found["detail"] = row.detail
        cells.append(found)
    digits = len(str(len(rows)))
    columns = columns_that_fit(cells, _COLUMNS, width - digits - _GAP - LEAST_NAME)
    room = width - digits - _GAP - sum(columns.values()) - _GAP * len(columns)
    names = min(room, longest_name)
    lines = []
    for number, (row, own) in enumerate(zip(rows, cells, strict=True)):
        line = Text(f"{number:>{digits}}  {set_cell_size(shortened(row.planned.label, names), names)}")
        styles = {"state": _COLOURS.get(row.state, "cyan")}
        for column in _ORDER:
            if column in columns:
                line.append("  ")
                line.append(set_cell_size(own[column], columns[column]), style=styles.get(column, ""))
        line.rstrip()
        lines.append(line)
    return lines
