"""``initbench status``."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from initbench.errors import UsageError
from initbench.runs.status import ENDED, RunStatus, read_asked, status, time_left

_EVERY = 2.0  # seconds between two looks
_COLOURS = {"done": "green", "diverged": "yellow", "failed": "red", "refused": "red", "invalid": "red", "interrupted": "yellow"}


def status_command(out: Path, *, watch: bool, json: bool) -> None:
    """Prints what became of every run that was asked for; looks again until all have ended where it is to watch."""
    rows = _look(out)
    if json:
        plain = [{**asdict(row), "planned": row.planned.label, "folder": _folder(row)} for row in rows]
        sys.stdout.write(json_module.dumps(plain, indent=1, ensure_ascii=False) + "\n")
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
    planned = read_asked(out)
    if not planned:
        raise UsageError(f"{out} holds no study; `initbench run ... --out {out}` begins one")
    return [status(run) for run in planned]


def _folder(row: RunStatus) -> str | None:
    return str(row.planned.folder) if row.planned.folder else None


def _shown(rows: list[RunStatus]) -> Group:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in ("run", "state", "step", "left", ""):
        table.add_column(header, overflow="fold", no_wrap=header in ("state", "step", "left"), justify="left")
    for row in rows:
        step = f"{row.step}/{row.total}" if row.total else ""
        left = duration(row.seconds_left) if row.seconds_left is not None else ""
        table.add_row(
            Text(row.planned.label), Text(row.state, style=_COLOURS.get(row.state, "cyan")), step, left, Text(row.detail)
        )
    counted = ", ".join(f"{number} {state}" for state, number in Counter(row.state for row in rows).items())
    remaining = time_left(rows)
    return Group(table, Text(f"\n{len(rows)} runs: {counted}" + (f"; about {duration(remaining)} left" if remaining else "")))


def duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
