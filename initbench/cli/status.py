"""``initbench status``."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.text import Text

from initbench.cli.command import command
from initbench.cli.options import OUTPUT, RUNS, JsonOption, OutOption
from initbench.cli.output import warn, warn_of, write_json
from initbench.errors import InitbenchError, UsageError

if TYPE_CHECKING:
    from initbench.runs.status import RunStatus

_EVERY = 2.0  # seconds between two looks
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
        write_json([{**asdict(row), "planned": row.planned.label, "folder": row.planned.folder} for row in rows])
        return
    console = Console(highlight=False)
    if not watch:
        console.print(_shown(rows))
        return
    with Live(_shown(rows), console=console, auto_refresh=False) as live:
        while any(row.state not in ENDED for row in rows):
            time.sleep(_EVERY)
            rows = _look(out)
            live.update(_shown(rows), refresh=True)


def _look(out: Path) -> list[RunStatus]:
    """What became of every run of a study.

    Raises:
        UsageError: no study was begun there.
    """
    from initbench.runs.status import statuses

    rows = in_queue(out, statuses(out))
    if not rows:
        raise UsageError(f"{out} holds no study; `initbench run ... --out {out}` begins one")
    return rows


def in_queue(out: Path, rows: list[RunStatus]) -> list[RunStatus]:
    """The rows of a study, with what the queue of Slurm says of runs that have not ended, where the study was submitted to it."""
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
        said = [row.detail] if row.detail else []
        if row.state not in ENDED:
            if task is not None:
                said.append(str(task))
            if row.state in WAITING and (task is None or not task.is_alive):
                said.append(NOT_QUEUED)
        found.append(replace(row, detail="; ".join(said)))
    return found


def _shown(rows: list[RunStatus]) -> Group:
    """A table of runs, and how many are in which state."""
    from rich.table import Table

    from initbench.runs.status import time_left

    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in ("", "run", "state", "step", "left", ""):
        table.add_column(header, overflow="fold", no_wrap=header in ("state", "step", "left"), justify="left")
    for number, row in enumerate(rows):
        step = f"{row.step}/{row.total}" if row.total else ""
        left = duration(row.seconds_left) if row.seconds_left is not None else ""
        state = Text(row.state, style=_COLOURS.get(row.state, "cyan"))
        table.add_row(str(number), Text(row.planned.label), state, step, left, Text(row.detail))
    counted = ", ".join(f"{number} {state}" for state, number in Counter(row.state for row in rows).items())
    remaining = time_left(rows)
    left = f"; about {duration(remaining)} left" if remaining else ""
    lines = [Text(f"\n{len(rows)} runs: {counted}{left}")]
    forgotten = sum(NOT_QUEUED in row.detail for row in rows)
    if forgotten:
        lines.append(Text(f"{forgotten} of them {NOT_QUEUED}: the same `initbench run` submits them, and so does `retry --all`"))
    return Group(table, *lines)


def duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
