"""``initbench verify``."""

from __future__ import annotations

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
    found = [run for folder in runs for run in runs_below(folder)]
    report = Report(json)
    with report.status("loading torch"):
        from initbench.audit.verify import verify as check
    for run in found:
        with report.status(str(run)):
            checks = check(run, steps=steps, device=device, data_root=data_root, run_code=run_code)
        report.add(str(run), {"run": str(run)}, checks)
    report.close()


def runs_below(folder: Path) -> list[Path]:
    """The run that a folder is, or the finished ones below it.

    Raises:
        UsageError: there are none.
    """
    from initbench.runs import store

    if store.has_record(folder):
        return [folder]
    below = [path for path in sorted(folder.glob("**/seed-*")) if store.has_record(path)]
    finished = [path for path in below if _is_checked(path)]
    if not finished:
        raise UsageError(f"{folder} is no run and holds none with a result; `initbench status --out {folder}` says what is there")
    return finished


def _is_checked(run: Path) -> bool:
    """Whether a run has a result; one whose record cannot be used is looked at, too, so that it is named."""
    from initbench.runs import store

    record = store.read_record(run)
    return record is None or record.has_result
