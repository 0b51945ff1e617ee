"""``initbench run`` and ``retry``."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from initbench import interrupt
from initbench.choices import MARGIN
from initbench.cli.announce import announce_study, runs_in_words, say_how_long
from initbench.cli.command import command
from initbench.cli.groups import EngineOrQueue, Study, check_requests, check_some_can_be
from initbench.cli.options import (
    GIB_OF_ANY_DEVICE,
    HOW_LONG,
    JOBS,
    MINUTES_OF_A_WEEK,
    NSD_TOLERANCE_MM,
    OUTPUT,
    RUNS,
    WHAT,
    WHERE,
    DistancesOption,
    JobsOption,
    JsonOption,
    MarginOption,
    OutOption,
    RunCodeOption,
    SkipRefusedOption,
    ToleranceOption,
)
from initbench.cli.output import counts_of, under_way, write_json
from initbench.errors import InitbenchError, InterruptedRunError, UsageError

if TYPE_CHECKING:
    from initbench.harness.execute import Outcome
    from initbench.harness.request import RunRequest
    from initbench.studies.engine import Resources


GO_ON = "finished runs and checkpoints are kept, and the same command goes on"


@command
def run(
    study: Study,
    engine: EngineOrQueue,
    save_predictions: Annotated[
        bool,
        typer.Option("--save-predictions", help="Keep label maps of the reported cases as NIfTI.", rich_help_panel=OUTPUT),
    ] = False,
    distances: DistancesOption = False,
    nsd_tolerance: ToleranceOption = NSD_TOLERANCE_MM,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            "--checkpoint-every",
            metavar="MINUTES",
            help="Minutes between checkpoints of a stage.",
            min=0,
            max=MINUTES_OF_A_WEEK,
            rich_help_panel=HOW_LONG,
        ),
    ] = 5.0,
    device_memory: Annotated[
        float | None,
        typer.Option(
            "--device-memory",
            metavar="GIB",
            help="Memory of the device for training volumes; the patches of others are read from the cache while it works.",
            show_default="what training leaves of it",
            min=0,
            max=GIB_OF_ANY_DEVICE,
            rich_help_panel=WHERE,
        ),
    ] = None,
    no_validation: Annotated[
        bool,
        typer.Option(
            "--no-validation",
            help="Measure no Dice while runs train: no `validation.csv`, the same results.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    margin: MarginOption = MARGIN,
    skip_refused: SkipRefusedOption = False,
    json: JsonOption = False,
) -> None:
    """Run a study: inits × regimens × backbones × data sets × seeds.

    Every run is looked at before the first step, and where one cannot be, none is. Runs that are finished are not run again, and
    interrupted ones go on. Exits with 1 where a run failed, with 2 where one was refused.
    """
    study.check_names()
    looks = study.looks()
    engine.check()
    console = Console(stderr=json)
    with under_way(console, "loading torch"):
        requests = study.requests(
            save_predictions=save_predictions,
            distances=distances,
            nsd_tolerance=nsd_tolerance,
            checkpoint_every=60 * checkpoint_every,
            device_memory=device_memory,
            validation=not no_validation,
        )
        from initbench.studies.sweep import check_some_data
    resources = engine.resources(study.jobs)
    if resources.queues:
        if looks:
            raise UsageError("--until-decided looks at results between the runs, and a queue goes on without this command")
        engine.check_kinds(study.precision)
        # Which devices the nodes have is not known here.
        elsewhere = [replace(request, device="cpu", precision="float32") for request in requests]
        check_requests(elsewhere)
        _hand_over(requests, resources, console, json=json, skip_refused=skip_refused)
        return
    if not skip_refused:
        check_requests(requests)
    check_some_data(requests)
    check_out(study.out)
    announce = partial(announce_study, console, requests, study.protocol)
    if looks:
        from initbench.cli.looks import run_looks

        run_looks(requests, looks, margin, resources, console, json=json, announce=announce)
        return
    _perform_and_tell(requests, resources, console, json=json, skip_refused=skip_refused, announce=announce)


@command
def retry(
    engine: EngineOrQueue,
    failed: Annotated[bool, typer.Option("--failed", help="What failed.", rich_help_panel=WHAT)] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="What failed, was interrupted, was changed since or never began.", rich_help_panel=WHAT)
    ] = False,
    jobs: JobsOption = JOBS,
    run_code: RunCodeOption = False,
    out: OutOption = RUNS,
    json: JsonOption = False,
) -> None:
    """Run again what has no result, as it was asked for.

    Python files that changed since, or lie outside of the current folder, are run with --run-code alone.
    """
    from initbench.audit.code import check_code_of_notes
    from initbench.runs.status import read_asked, status

    if failed == all_:
        raise UsageError("retry takes --failed or --all")
    engine.check()
    wanted, in_words = ["failed"], "failed"
    if all_:
        wanted += ["interrupted", "pending", "invalid"]
        in_words = "failed, interrupted, pending or invalid"
    asked = read_asked(out)
    chosen = [run for run in asked if status(run).state in wanted]
    if not asked:
        raise UsageError(f"{out} holds no study; `initbench run ... --out {out}` begins one")
    if not chosen:
        told = f"{out}: no run is {in_words}, so there is nothing to run again"
        raise UsageError(f"{told}; see initbench status --out {out}")
    if not run_code:
        check_code_of_notes(out, chosen)
    console = Console(stderr=json)
    check_out(out)
    with under_way(console, "loading torch"):
        from initbench.harness.request import from_json
    requests = [from_json(run.request, out=out) for run in chosen]
    resources = engine.resources(jobs)
    if resources.queues:
        _hand_over(requests, resources, console, json=json, skip_refused=True)
        return
    _perform_and_tell(requests, resources, console, json=json, skip_refused=True)


def _hand_over(requests: Sequence[RunRequest], resources: Resources, console: Console, *, json: bool, skip_refused: bool) -> None:
    """Hands what is missing of a study to a queue, and says how to watch it.

    Raises:
        UsageError: what was asked for cannot be had. InitbenchError: the queue gives no answer.
    """
    from initbench.audit.code import is_code_elsewhere
    from initbench.clusters import slurm
    from initbench.studies.queued import submit_missing
    from initbench.tables.words import count

    out = requests[0].out
    check_out(out)
    in_queue = {}
    if slurm.is_used(out) and slurm.is_here():
        for number, task in slurm.queue(out, now=True).items():
            if task.is_alive:
                in_queue[number] = task
    with under_way(console, "submitting"):
        run_code = any(is_code_elsewhere(out, request) for request in requests)
        done = submit_missing(requests, resources, in_queue, skip_refused=skip_refused, run_code=run_code)
    if json:
        write_json(asdict(done))
        return
    console.print(
        f"{runs_in_words(requests)}: {done.ended} with a result, {done.waiting} in the queue", highlight=False, soft_wrap=True
    )
    if done.folder is None:
        console.print("nothing to submit", soft_wrap=True)
    elif done.jobs:
        jobs = count(len(done.jobs), "job")
        console.print(
            f"{count(len(done.runs), 'run')} submitted, {jobs}: {', '.join(done.jobs)}", highlight=False, soft_wrap=True
        )
        console.print(f"scripts and logs: {done.folder}", highlight=False, soft_wrap=True)
    else:
        console.print(f"nothing was submitted; to submit it: bash {done.folder / 'submit.sh'}", highlight=False, soft_wrap=True)
    console.print(f"initbench status --out {out} --watch", style="bold", highlight=False, soft_wrap=True)


def perform(
    requests: Sequence[RunRequest],
    resources: Resources,
    console: Console,
    *,
    skip_refused: bool = True,
    announce: Callable[[], None] | None = None,
) -> list[Outcome]:
    """Runs what is missing of a plan and shows how far it is.

    Args:
        requests: the runs, all of them below one folder.
        resources: who does the runs, and on which devices.
        console: where progress is shown.
        skip_refused: whether the others are run where some cannot be.
        announce: prints what comes, once it is known that some run can be.

    Raises:
        UsageError: every run is refused for the same reason, or the executor or a device does not exist.
        InterruptedRunError: Ctrl-C twice: runs in hand were stopped at once.
    """
    from initbench.cli.progress import Display
    from initbench.studies.forecast import plan_looked_up
    from initbench.studies.sweep import look_up_study, run_looked_up
    from initbench.studies.workloads import workloads

    try:
        with interrupt.handled(), Display(requests, console) as display:
            known = look_up_study(requests, display, resources)
            check_some_can_be((outcome.state, outcome.message) for outcome in known.outcomes.values())
            plan = plan_looked_up(known, "", resources.jobs)
            say_how_long(console, plan, known)
            if announce is not None:
                announce()
            display.expect(workloads(known, plan))
            return run_looked_up(known, resources, display, skip_refused=skip_refused)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"Stopped at once; {GO_ON}.") from None


def stopped(outcomes: Sequence[Outcome]) -> str:
    """Returns what is said of a study that somebody asked to stop."""
    states = Counter(outcome.state for outcome in outcomes)
    done = len(outcomes) - states["interrupted"] - states["busy"] - states["pending"]
    return f"Stopped with {done} of {len(outcomes)} runs done; {GO_ON}."


def _perform_and_tell(
    requests: Sequence[RunRequest],
    resources: Resources,
    console: Console,
    *,
    json: bool,
    skip_refused: bool,
    announce: Callable[[], None] | None = None,
) -> None:
    """Runs what is missing, prints how the runs ended, and exits with the code for it."""
    started = time.perf_counter()
    outcomes = perform(requests, resources, console, skip_refused=skip_refused, announce=announce)
    tell(outcomes, time.perf_counter() - started, console, json=json, skip_refused=skip_refused)


def tell(outcomes: Sequence[Outcome], seconds: float, console: Console, *, json: bool, skip_refused: bool) -> None:
    """Prints how the runs of a study ended, and exits with the code for it.

    Args:
        outcomes: one for each run.
        seconds: how long they took.
        console: where it is printed.
        json: whether the outcomes are printed as JSON.
        skip_refused: whether the others were run where some cannot be.

    Raises:
        InterruptedRunError: some were stopped.
    """
    states = Counter(outcome.state for outcome in outcomes)
    if json:
        write_json([_plain(outcome) for outcome in outcomes])
    elif not states["interrupted"]:
        _say_what_came(outcomes, seconds, console, skip_refused=skip_refused)
    if states["interrupted"]:
        raise InterruptedRunError(stopped(outcomes))
    if states["refused"]:
        sys.exit(2)
    if states["failed"]:
        sys.exit(1)


def _say_what_came(outcomes: Sequence[Outcome], seconds: float, console: Console, *, skip_refused: bool) -> None:
    """Prints how the runs of a study ended, and which command shows what came of it."""
    from initbench.tables.words import count

    states = Counter(outcome.state for outcome in outcomes)
    if states["refused"] and not skip_refused:
        told = f"Nothing was run: {states['refused']} of {len(outcomes)} runs cannot be, for the reasons above. Change them"
        if states["pending"]:
            told += ", or add --skip-refused to run the others"
        console.print(f"{told}.", highlight=False, soft_wrap=True)
        return
    counted = counts_of(sorted(states.items()))
    console.print(f"{count(len(outcomes), 'run')} in {seconds:.0f} s: {counted}", highlight=False)
    if states.keys() & {"ok", "cached", "diverged"}:
        console.print(f"initbench leaderboard --out {outcomes[0].request.out}", style="bold", highlight=False)


def check_out(out: Path, option: str = "--out") -> None:
    """Refuses a folder of runs that cannot be written, so that no run is trained whose result could not be kept.

    A folder that is not there yet is not made: a study that is refused leaves none.

    Args:
        out: the folder.
        option: with which it was chosen.

    Raises:
        UsageError: it is a file, or below one. InitbenchError: it cannot be written.
    """
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise UsageError(f"{option} {out} cannot be a folder: {nearest} is a file; choose another one")
    try:
        if nearest == out:
            probe = out / ".initbench-write-test"
            probe.write_text("", "utf-8")
            probe.unlink(missing_ok=True)  # another process may have tried it at the same moment
        elif not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InitbenchError(f"{option} {out} cannot be written ({error.strerror}); choose another folder") from None


def _plain(outcome: Outcome) -> dict[str, Any]:
    """Returns how a run ended, as plain values."""
    request = outcome.request
    path = None
    if outcome.folder:
        path = str(outcome.folder)
    return {
        "init": str(request.init),
        "backbone": str(request.backbone),
        "dataset": str(request.dataset),
        "regimen": str(request.regimen),
        "fold": request.fold,
        "train_cases": request.train_cases,
        "seed": request.seed,
        "protocol": request.protocol,
        "state": outcome.state,
        "dice": outcome.dice,
        "message": outcome.message or None,
        "path": path,
    }
