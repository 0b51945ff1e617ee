"""``initbench verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from initbench.cli.checks import Report
from initbench.cli.command import command
from initbench.cli.options import HOW_LONG, DataRootOption, JsonOption, RecordedDeviceOption, RunCodeOption
from initbench.errors import UsageError

RunFoldersArgument = Annotated[list[Path], typer.Argument(help="Folder(s) of runs, or folders that hold some.")]


@command
def verify(
    runs: RunFoldersArgument,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", help="First steps to train again and compare.", min=1, rich_help_panel=HOW_LONG)
    ] = 20,
    device: RecordedDeviceOption = None,
    data_root: DataRootOption = None,
    run_code: RunCodeOption = False,
    json: JsonOption = False,
) -> None:
    """Check that runs are what they say.

    Looks at the files, makes Dice anew and trains the first steps again. Exits with 1 where a run is not what it says.
    """
    found = runs_below(runs)
    report = Report(json)
    with report.status("loading torch"):
        from initbench.audit.verify import verify as check
    for run in found:
        with report.status(str(run)):
            checks = check(run, steps=steps, device=device, data_root=data_root, run_code=run_code)
        report.add(str(run), {"run": str(run)}, checks)
    report.close()


def runs_below(folders: Sequence[Path]) -> list[Path]:
    """Returns the folders that are runs, and of the others the runs with a result below them.

    A run whose record cannot be used is among them, so that it is named.

    Raises:
        UsageError: a folder is no run and holds none.
    """
    from initbench.runs import store

    found: list[Path] = []
    for folder in folders:
        if store.has_record(folder):
            found.append(folder)
            continue
        finished = []
        for path in sorted(folder.glob("**/seed-*")):
            if not store.has_record(path):
                continue
            record = store.read_record(path)
            if record is None or record.has_result:
                finished.append(path)
        if not finished:
            told = f"{folder} is no run and holds none with a result"
            raise UsageError(f"{told}; `initbench status --out {folder}` says what is there")
        found += finished
    return found
