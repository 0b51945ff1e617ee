"""``initbench run``."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from initbench import interrupt
from initbench.cli.output import saying
from initbench.errors import InitbenchError, InterruptedRunError, UsageError

if TYPE_CHECKING:
    from initbench.harness.execute import Outcome
    from initbench.harness.request import RunRequest


GO_ON = "finished runs and checkpoints are kept, and the same command goes on"


def run_command(
    *,
    init: list[str],
    backbone: list[str],
    dataset: list[str],
    seeds: list[int],
    protocol: str,
    placebo: bool,
    jobs: int,
    json: bool,
    options: dict[str, Any],
) -> None:
    """Runs a sweep with progress, then prints what happened. Exits with 1 where a run failed, 2 where one was refused."""
    from initbench.harness.request import check_names

    for kind, texts in (("initializer", init), ("backbone", backbone)):
        check_names(kind, texts)  # type: ignore[arg-type]
    console = Console(stderr=json)
    _check_out(options["out"])
    with saying(console, "loading torch"):
        from initbench.studies.sweep import cross_requests
    requests = cross_requests(init, backbone, dataset, seeds=seeds, protocol=protocol, placebo=placebo, **options)  # type: ignore[arg-type]
    _announce(console, requests, protocol)
    _run(requests, jobs, console, json=json)


def retry_command(out: Path, jobs: int, *, everything: bool, json: bool) -> None:
    """Runs again what failed, or everything that has no result, as it was asked for."""
    from initbench.runs.status import read_asked, status

    wanted = ("failed", "interrupted", "pending") if everything else ("failed",)
    chosen = [run for run in read_asked(out) if status(run).state in wanted]
    if not chosen:
        raise UsageError(f"{out}: no run is {' or '.join(wanted)}; see initbench status --out {out}")
    console = Console(stderr=json)
    with saying(console, "loading torch"):
        from initbench.harness.request import from_json
    _check_out(out)
    _run([from_json(run.request, out=out) for run in chosen], jobs, console, json=json)


def perform(requests: Sequence[RunRequest], jobs: int, console: Console) -> list[Outcome]:
    """Runs what is missing of a plan under a display, where runs can be written at all.

    Raises:
        InterruptedRunError: Ctrl-C twice: runs in hand were stopped at once.
    """
    from initbench.cli.progress import Display
    from initbench.studies.sweep import run_planned

    _check_out(requests[0].out)
    try:
        with interrupt.handled(), Display(requests, console) as display:
            return run_planned(requests, jobs, display)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"stopped at once; {GO_ON}") from None


def _run(requests: Sequence[RunRequest], jobs: int, console: Console, *, json: bool) -> None:
    out = requests[0].out
    started = time.perf_counter()
    outcomes = perform(requests, jobs, console)
    states = Counter(outcome.state for outcome in outcomes)
    if json:
        sys.stdout.write(json_module.dumps([_plain(outcome) for outcome in outcomes], indent=1) + "\n")
    else:
        counted = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        console.print(f"{len(outcomes)} runs in {time.perf_counter() - started:.0f} s: {counted}", highlight=False)
        if states.keys() & {"ok", "cached", "diverged"}:
            console.print(f"initbench leaderboard --out {out}", style="bold", highlight=False)
    if states["interrupted"]:
        raise InterruptedRunError(f"stopped when asked to; {GO_ON}")
    if states["refused"]:
        sys.exit(2)
    if states["failed"]:
        sys.exit(1)


def _check_out(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".initbench-write-test"
        probe.write_text("", "utf-8")
        probe.unlink()
    except OSError as error:
        raise InitbenchError(f"--out {out} cannot be written ({error.strerror}); choose another folder") from None


def _announce(console: Console, requests: Sequence[RunRequest], protocol: str) -> None:
    from initbench.harness.hardware import resolve_device
    from initbench.stats.blocks import PLACEBO
    from initbench.tables.words import count

    first = requests[0]
    counts = [len({getattr(request, field) for request in requests}) for field in ("init", "backbone", "dataset", "seed")]
    parts = len({(request.fold, request.train_cases) for request in requests})
    shares = f" × {parts} folds or numbers of training cases" if parts > 1 else ""
    crossed = [count(number, what) for number, what in zip(counts, ("init", "backbone", "data set", "seed"), strict=True)]
    console.print(
        f"{count(len(requests), 'run')}: {' × '.join(crossed[:3])}{shares} × {crossed[3]}; "
        f"{first.size} size, {first.budget} budget, {protocol}, out {first.out}",
        highlight=False,
        soft_wrap=True,
    )
    if len({request.seed for request in requests}) > 1 and any(request.init == PLACEBO for request in requests):
        console.print(f"{PLACEBO} is the placebo: what luck alone does; --no-placebo leaves it out", style="dim", soft_wrap=True)
    _warn_if_nothing_can_be_decided(console, requests)
    if resolve_device(first.device).type == "cpu" and "paper" in (first.size, first.budget):
        console.print(
            "[yellow]note:[/] paper size or budget on a CPU takes days; --size tiny --budget short takes ten minutes a run",
            soft_wrap=True,
        )


def _warn_if_nothing_can_be_decided(console: Console, requests: Sequence[RunRequest]) -> None:
    """Says before hours are spent that no verdict can come of a study, for which data set and why."""
    from initbench.harness.cell import reported_patients
    from initbench.stats.blocks import is_placebo
    from initbench.stats.testable import undecidable

    blocks: dict[tuple[object, ...], list[RunRequest]] = {}
    for request in requests:
        blocks.setdefault((request.dataset, request.split, request.fold), []).append(request)
    for members in blocks.values():
        patients = reported_patients(members[0])
        if patients is None:  # the run itself says what is wrong with its data
            continue
        inits = len({request.init for request in members if not is_placebo(request.init)})
        reason = undecidable(inits, len({request.seed for request in members}), patients)
        if reason:
            console.print(
                f"[yellow]warning:[/] this study can decide nothing on {escape(members[0].dataset)}: {reason}", soft_wrap=True
            )


def _plain(outcome: Any) -> dict[str, Any]:
    request = outcome.request
    return {
        "init": request.init,
        "backbone": request.backbone,
        "dataset": request.dataset,
        "fold": request.fold,
        "train_cases": request.train_cases,
        "seed": request.seed,
        "protocol": request.protocol,
        "state": outcome.state,
        "dice": outcome.dice,
        "message": outcome.message or None,
        "path": str(outcome.folder) if outcome.folder else None,
    }
