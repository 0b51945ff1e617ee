"""``initbench work`` and ``cancel``: processes that share one study."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from initbench import interrupt
from initbench.cli.command import command
from initbench.cli.groups import Devices
from initbench.cli.options import (
    HOW_LONG,
    JOBS,
    MINUTES_OF_A_WEEK,
    WHAT,
    DataRootOption,
    JobsOption,
    RunCodeOption,
    SkipRefusedOption,
)
from initbench.cli.output import counts_of, shown, under_way, warn
from initbench.cli.run import GO_ON, check_out
from initbench.errors import InitbenchError, InterruptedRunError, UsageError

if TYPE_CHECKING:
    from initbench.harness.execute import Outcome
    from initbench.runs.status import AskedRun

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of runs, which `run` or `plan --note` began.")]


def _read_duration(text: str) -> float:
    """Returns the seconds of a duration such as 90m or 1.5h."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhd])", str(text))
    seconds = 0.0
    if match:
        seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= 60 * MINUTES_OF_A_WEEK:
        raise typer.BadParameter(f"{text!r}: write a number and s, m, h or d, as 90m or 3h, a week at most")
    return seconds


@command
def work(
    study: StudyArgument,
    devices: Devices,
    number: Annotated[
        int | None,
        typer.Option(
            "--run",
            metavar="N",
            help="Do this run alone, also where it failed before. Numbers begin at 0, in the order of `status`.",
            min=0,
            show_default="all that nobody has done or has in hand",
            rich_help_panel=WHAT,
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="TIME",
            help="Begin no run that cannot end in time, and save and stop before the end. As 90m or 3h.",
            parser=_read_duration,
            rich_help_panel=HOW_LONG,
        ),
    ] = None,
    or_next: Annotated[
        bool,
        typer.Option(
            "--or-next",
            help="Where the run of --run is done or in other hands, do the next one that is free.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Prepare the data and note where results go; do no run.", rich_help_panel=WHAT),
    ] = False,
    skip_refused: SkipRefusedOption = False,
    requeue: Annotated[
        int,
        typer.Option(
            "--requeue",
            metavar="N",
            help="Have Slurm begin this job again where its time ended before the run did. N times at the most.",
            min=0,
            rich_help_panel=HOW_LONG,
        ),
    ] = 0,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="End where other processes have the last runs in hand.", rich_help_panel=HOW_LONG),
    ] = False,
    jobs: JobsOption = JOBS,
    data_root: DataRootOption = None,
    run_code: RunCodeOption = False,
) -> None:
    """Do runs of a study that is planned, beside other processes.

    Takes the runs that nobody has done, one after the other. Any number of these commands may work on one study, on all machines
    that see its folder; the data sets may lie elsewhere on each (--data-root). USR1, USR2, TERM and Ctrl-C make it save and stop.
    Exits with 1 where a run failed or was stopped, and where the run of --run is in the hands of another process.
    """
    from initbench.audit.code import check_code_of_notes
    from initbench.clusters import slurm
    from initbench.runs import cancel as marks

    begun = time.monotonic()
    devices.check()
    if or_next and number is None:
        raise UsageError("--or-next goes with --run N: where run N is done or in other hands, the next free one is done")
    console = Console(highlight=False)
    if prepare:
        _prepare(study, devices, console, run_code=run_code, skip_refused=skip_refused)
        return
    chosen = _chosen(study, number, or_next=or_next)
    if not chosen:
        told = "every run has ended"
        if or_next:
            told += " or is in other hands"
        console.print(f"{study}: {told}; initbench status --out {study}", soft_wrap=True)
        return
    if not run_code:
        check_code_of_notes(study, list(chosen.values()))
    check_out(study)
    with under_way(console, "loading torch"):
        from initbench.cli.progress import Display
        from initbench.studies.engine import TimeLimit
        from initbench.studies.turns import request_here, take_one, take_turns
    limit = None
    if time_limit is not None:
        limit = TimeLimit.of(time_limit, begun)
    requests = [request_here(run, study, data_root) for run in chosen.values()]
    resources = devices.resources(jobs)
    mark = marks.mark(study)
    try:
        with interrupt.handled(), Display(requests, console) as display:
            if or_next and number is not None:
                take = functools.partial(take_one, list(chosen.values()), number)
            else:
                # The display counts from 0 on.
                display.expect(dict.fromkeys(range(len(requests))))
                take = functools.partial(take_turns, dict(enumerate(chosen.values())), again=number is not None)
            outcomes = take(study, resources, display, limit=limit, waits=not no_wait, data_root=data_root)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"Stopped at once; {GO_ON}.") from None
    _note_places(study, list(chosen.values()), outcomes)
    states: Counter[str] = Counter(outcome.state for outcome in outcomes.values())
    is_time = interrupt.warned() or (limit is not None and limit.is_over)
    if requeue and states["interrupted"] and is_time and marks.mark(study) == mark:
        console.print(slurm.requeue(os.environ, requeue), soft_wrap=True)
    _tell(console, states, is_wanted=number is not None and not or_next)


def _chosen(study: Path, number: int | None, *, or_next: bool) -> dict[int, AskedRun]:
    """Returns the runs that this process may do, by number.

    Raises:
        UsageError: no study was planned there, or it has no such run.
    """
    from initbench.runs.status import is_anything_left, read_asked, runs_to_do

    planned = read_asked(study)
    if number is None or not or_next or not planned:
        return runs_to_do(study, number)
    if not is_anything_left(planned, number):
        return {}
    return dict(enumerate(planned))


def _note_places(study: Path, chosen: Sequence[AskedRun], outcomes: Mapping[int, Outcome]) -> None:
    """Notes where runs went that have another place in the note: their Python files changed since, and other code is another run.

    Args:
        study: the folder.
        chosen: the runs as they were noted.
        outcomes: how some of them ended, by their places among these.
    """
    from initbench.harness.request import code_digests
    from initbench.runs.status import write_changed_code

    moved = []
    for place, outcome in outcomes.items():
        noted = chosen[place]
        if outcome.folder is not None and outcome.folder != noted.folder:
            pair = outcome.pair or noted.pair
            code = code_digests(outcome.request)
            moved.append(replace(noted, folder=outcome.folder, state="pending", problem="", code=code, pair=pair))
    if moved:
        with contextlib.suppress(OSError):  # the runs are there all the same
            write_changed_code(study, moved)


def _prepare(study: Path, devices: Devices, console: Console, *, run_code: bool, skip_refused: bool) -> None:
    """Prepares the data of a study and notes where its results go. Exits with 2 where a run is refused.

    Raises:
        UsageError: no study was planned there.
    """
    from initbench.audit.code import check_code_of_notes
    from initbench.runs.status import read_asked
    from initbench.tables.words import count

    planned = read_asked(study)
    if not planned:
        raise UsageError(f"{study} holds no study; `initbench run ... --executor slurm --out {study}` notes one")
    if not run_code:
        check_code_of_notes(study, planned)
    check_out(study)
    with under_way(console, "loading torch"):
        from initbench.studies.queued import prepare_noted
        from initbench.studies.sweep import Silent
    with interrupt.handled(), under_way(console, "preparing the data"):
        found = prepare_noted(study, Silent(), devices.resources(JOBS))
    states: Counter[str] = Counter()
    for outcome in found:
        states[outcome.state] += 1
        if outcome.state in ("refused", "failed"):
            console.print(f"{outcome.state}: {shown(outcome.request.label)}: {shown(outcome.message)}", soft_wrap=True)
    ready = count(len(found) - states["refused"] - states["failed"], "run")
    console.print(f"{study}: the data are prepared for {ready}", soft_wrap=True)
    if states["refused"] and not skip_refused:
        sys.exit(2)


def _tell(console: Console, states: Counter[str], *, is_wanted: bool) -> None:
    """Prints how the runs ended, and exits with the code for it.

    Args:
        console: where it is printed.
        states: how many runs ended how.
        is_wanted: whether a certain run was asked for, so that one in other hands is no end.
    """
    from initbench.tables.words import count

    if not states:
        console.print("nothing is left to do: every other run has ended or is in other hands", soft_wrap=True)
        return
    console.print(f"{count(states.total(), 'run')}: {counts_of(sorted(states.items()))}", soft_wrap=True)
    if states["interrupted"]:
        console.print(f"stopped with runs left; {GO_ON}", soft_wrap=True)
    if states["failed"] or states["interrupted"] or (is_wanted and states["busy"]):
        sys.exit(1)
    if states["refused"]:
        sys.exit(2)


@command
def cancel(study: StudyArgument) -> None:
    """Stop everybody who works on a study.

    All processes that see its folder notice within seconds, save their runs after the step in hand, and end. The same commands go
    on later.
    """
    from initbench.clusters import slurm
    from initbench.runs import cancel as marks
    from initbench.runs.status import is_to_do, read_asked, status

    asked = read_asked(study)
    if not asked:
        raise UsageError(f"{study} holds no study; `initbench status --out FOLDER` shows one")
    has_tasks = slurm.is_used(study)
    to_do = [run for run in asked if is_to_do(status(run).state)]
    if not has_tasks and not to_do:
        Console(highlight=False).print(f"{study}: every run has ended, so there was nothing to cancel", soft_wrap=True)
        return
    try:
        marks.cancel(study)
    except OSError as error:
        raise InitbenchError(
            f"{study} cannot be written ({error.strerror}); run `initbench cancel` as somebody who may write there"
        ) from None
    if has_tasks:
        _cancel_jobs(study)
    Console(highlight=False).print(
        f"{study}: cancelled; whoever works on it saves and stops after the step in hand. To see it: "
        f"initbench status --out {study} --watch",
        soft_wrap=True,
    )


def _cancel_jobs(study: Path) -> None:
    """Takes the tasks of a study out of the queue of Slurm; where Slurm is not here, it says that they stay there."""
    from initbench.clusters import slurm

    if not slurm.is_here():
        ids = " ".join(job.id for job in slurm.jobs_of(study))
        warn(f"tasks that wait in Slurm's queue stay there; where Slurm is: scancel {ids}")
        return
    try:
        slurm.cancel(study)
    except InitbenchError as error:
        warn(f"tasks may stay in Slurm's queue: {error}")
