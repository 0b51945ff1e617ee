"""``initbench plan``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from initbench.choices import EXECUTOR, MARGIN
from initbench.cli.command import command
from initbench.cli.groups import EngineOrQueue, Study, check_requests, check_some_can_be
from initbench.cli.options import (
    AUTO_JOBS,
    OUTPUT,
    ExecutorOption,
    FormOption,
    MarginOption,
    MaxParallelOption,
    MeasureOption,
    SdsOption,
    SlurmOption,
)
from initbench.cli.output import show, under_way
from initbench.cli.run import check_out
from initbench.errors import UsageError

if TYPE_CHECKING:
    from initbench.runs.costs import StudyPlan
    from initbench.stats.power import Pilot
    from initbench.stats.table import ScoreTable
    from initbench.studies.forecast import Timing
    from initbench.studies.sweep import LookedUp

_OWN = ("measure", "sd", "note", "format_")  # options that `run` does not have
# What is under way while a plan is made, by where the seconds of runs come from.
DOING: dict[Timing, str] = {
    "recorded": "counting",
    "estimated": "counting",
    "quick": "timing a few steps",
    "measured": "timing a few steps",
}


@command
def plan(
    context: typer.Context,
    study: Study,
    executor: ExecutorOption = EXECUTOR,
    slurm: SlurmOption = None,
    max_parallel: MaxParallelOption = None,
    measure: MeasureOption = None,
    sd: SdsOption = None,
    margin: MarginOption = MARGIN,
    note: Annotated[
        bool,
        typer.Option("--note", help="Note the runs in --out, for `work` to do them.", rich_help_panel=OUTPUT),
    ] = False,
    format_: FormOption = "table",
) -> None:
    """Show what `run` would do with the same options.

    Prints runs, hours, disk, and the differences that the study could find; runs nothing. Exits with 2 where a run is refused,
    with 1 where data are missing.
    """
    study.check_names()
    looks = study.looks()
    engine = EngineOrQueue(executor=executor, slurm=slurm, max_parallel=max_parallel)
    who = engine.who.name
    is_here = who == EXECUTOR
    noise = _noise(sd)
    console = Console(stderr=True, highlight=False)
    with under_way(console, "loading torch"):
        from initbench.studies.forecast import as_if_here, plan_looked_up
        from initbench.studies.sweep import look_up_here
    from initbench.tables.plan import cluster_sheet, plan_sheets

    requests = study.requests()
    if not is_here:
        requests = [as_if_here(request) for request in requests]
    check_requests(requests)
    with under_way(console, "resolving"):
        looked_up = look_up_here(requests)
    timing = chosen_timing(measure, is_here=is_here, is_quick=not note)
    with under_way(console, DOING[timing]):
        planned = plan_looked_up(looked_up, study.protocol, study.jobs, timing=timing)
    check_some_can_be((run.state, run.message) for run in planned.runs)
    pilots = []
    if not noise:
        pilots = blocks(study.out)
    sheets = plan_sheets(planned, pilots, noise, looks, margin)
    if not is_here:
        sheets.append(cluster_sheet(planned, who, study.device, engine.tasks, _command(context)))
    show(sheets, format_)
    if note:
        _note(looked_up, study.out, console)
    end(planned)


def chosen_timing(measure: bool | None, *, is_here: bool, is_quick: bool = True) -> Timing:
    """Returns where the seconds of runs come from.

    Args:
        measure: as ``--measure`` says it; None without it.
        is_here: whether this machine does the runs. What it does in a second says nothing of others.
        is_quick: whether a few steps may be timed unasked. Who notes a study may do so on a machine that is not for work.
    """
    if measure:
        return "measured"
    if not is_here:
        return "recorded"
    if is_quick and measure is None:
        return "quick"
    return "estimated"


def _command(context: typer.Context) -> str:
    """Returns the command that runs the study that was planned: the options of this one that `run` has, too."""
    words = ["initbench", "run"]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in _OWN or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        if name == "jobs" and value == AUTO_JOBS:
            value = "auto"
        if value is True:
            words.append(parameter.opts[0])
        elif value is False:
            words.append(parameter.secondary_opts[0])
        elif isinstance(value, list | tuple):
            for item in value:
                words += [parameter.opts[0], str(item)]
        else:
            words += [parameter.opts[0], str(value)]
    return shlex.join(words)


def _note(looked_up: LookedUp, out: Path, console: Console) -> None:
    """Notes the runs of a study for the processes that do them; the data were prepared when the runs were looked up.

    Raises:
        InitbenchError: the folder cannot be written.
    """
    from initbench.studies.sweep import note_study

    check_out(out)
    note_study(looked_up.requests, looked_up.outcomes, looked_up.outcomes)
    console.print(f"noted; initbench work {out} does the runs, in as many processes as you like", soft_wrap=True)


def end(planned: StudyPlan) -> None:
    """Exits with 2 where a run is refused, with 1 where data are missing."""
    states = {run.state for run in planned.runs}
    if "refused" in states:
        sys.exit(2)
    if "failed" in states:
        sys.exit(1)


def _noise(sds: str | None) -> Pilot | None:
    """Returns the noise that ``--sd`` states; None without it."""
    if sds is None:
        return None
    from initbench.cli.statistics import three_sds
    from initbench.stats.power import stated

    return stated(*three_sds(sds))


def blocks(out: Path) -> list[ScoreTable]:
    """Returns the blocks of runs that are there, to take the noise from."""
    from initbench.tables.study import read_study

    try:
        return list(read_study(out).tables)
    except UsageError:  # no runs yet
        return []
