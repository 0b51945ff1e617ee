"""``initbench collect``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from initbench.cli.command import command
from initbench.cli.options import OUTPUT
from initbench.cli.output import say, shown, under_way, warn
from initbench.cli.run import check_out
from initbench.errors import InitbenchError, of_the_system

if TYPE_CHECKING:
    from collections.abc import Sequence

    from initbench.runs.collect import EndedRun, Merger


@command
def collect(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Folders of runs of one study, as several sites have them.")
    ],
    into: Annotated[
        Path,
        typer.Option("--into", metavar="OUT", help="Folder of runs that gets all of them.", rich_help_panel=OUTPUT),
    ],
) -> None:
    """Merge the folders of several sites into one.

    Copies runs that ended, and the notes of what was asked for. Where two folders have different results of one run, it names
    both and copies nothing. Exits with 1 then, and where a run was not taken: it is damaged, or a process has it in hand. The
    same command goes on later.
    """
    from initbench.runs.collect import compare_sites, copy_runs

    console = Console(highlight=False, soft_wrap=True)
    with under_way(Console(stderr=True), "comparing"):
        merger = compare_sites(folders, into)
    _refuse_conflicts(merger.conflicts)
    check_out(into, "--into")
    taken: Counter[Path] = Counter()
    try:
        with under_way(Console(stderr=True), "copying"):
            for run in copy_runs(merger, folders, into):
                taken[run.site] += 1
    except OSError as error:
        reason = of_the_system(error) or f"{error.strerror} ({error.filename})"
        raise InitbenchError(f"after {sum(taken.values())} copied runs: {reason}; the same command goes on") from None
    _tell(console, merger, folders, taken)
    if merger.left:
        sys.exit(1)


def _refuse_conflicts(conflicts: Sequence[Sequence[EndedRun]]) -> None:
    """Names the runs that have two results.

    Raises:
        InitbenchError: there are some.
    """
    for runs in conflicts:
        say("bold red", "conflict", f"{runs[0].place}: {', '.join(map(str, runs))}")
    if conflicts:
        raise InitbenchError(
            f"runs with different results: {len(conflicts)}, so nothing was copied; leave a folder out, or remove the run "
            "that is not to count"
        )


def _tell(console: Console, merger: Merger, folders: Sequence[Path], taken: Counter[Path]) -> None:
    """Prints what was taken of each folder, what is double, and what was not taken."""
    for runs in merger.double:
        sites = " and in ".join(str(run.site) for run in runs)
        console.print(shown(f"double: {runs[0].place} is in {sites}, with the same result"))
    for left in merger.left:
        warn(str(left))
    for folder in folders:
        console.print(shown(f"{folder}: {taken[folder]} taken"))
    counted = f"{sum(taken.values())} taken, {len(merger.present)} there before"
    console.print(f"{counted}, {len(merger.double)} double, {len(merger.left)} not taken")
