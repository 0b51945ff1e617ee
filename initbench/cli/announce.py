"""What is said of a study before its first run: how many runs, how long they take, and whether anything can be decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from initbench.choices import SweepProtocol
from initbench.cli.output import shown

if TYPE_CHECKING:
    from initbench.harness.request import RunRequest
    from initbench.runs.costs import StudyPlan
    from initbench.studies.sweep import LookedUp

# What a study crosses, with its name for people. Regimens and parts are told where there are several.
_CROSSED = {
    "init": "init",
    "regimen": "regimen",
    "backbone": "backbone",
    "dataset": "data set",
    "part": "folds or numbers of training cases",
    "seed": "seed",
}
_ALWAYS_TOLD = ("init", "backbone", "dataset", "seed")


def say_how_long(console: Console, plan: StudyPlan, study: LookedUp) -> None:
    """Prints how long a study takes on a CPU, and how it would be done in minutes where that is long.

    Names what makes runs whose time nobody knows: the code of others runs in worker processes alone, so the operations of its
    networks are not counted here.

    Args:
        console: where it is printed.
        plan: hours of the study.
        study: its runs, looked up.
    """
    from initbench.studies.engine import code_of_others
    from initbench.tables.cost import announced

    told = announced(plan)
    if told:
        console.print(told, highlight=False, soft_wrap=True)
    uncounted: dict[str, None] = {}
    for number, outcome in study.outcomes.items():
        if study.isolated and outcome.state == "pending":
            uncounted |= dict.fromkeys(code_of_others(study.requests[number]))
    if uncounted:
        console.print(
            f"No time is known yet for runs with {', '.join(map(shown, uncounted))}: it shows once the first of them trains, and "
            "`initbench plan` with the same options tells it before.",
            highlight=False,
            soft_wrap=True,
        )


def announce_study(console: Console, requests: Sequence[RunRequest], protocol: SweepProtocol) -> None:
    """Prints what will run, and what a reader should know of it before hours are spent.

    Args:
        console: where it is printed.
        requests: the runs.
        protocol: who pays for the steps of a pretext.
    """
    from initbench.stats.blocks import PLACEBO

    first = requests[0]
    who_pays: str = protocol
    if protocol == "both":
        who_pays = "both protocols (a learned init once under each)"
    console.print(
        f"{runs_in_words(requests)}; {first.size} size, {first.budget} budget, {who_pays}, out {first.out}",
        highlight=False,
        soft_wrap=True,
    )
    different = _different_values(requests)
    if len(different["seed"]) > 1 and PLACEBO in map(str, different["init"]):
        console.print(f"{PLACEBO} is the placebo: what luck alone does; --no-placebo leaves it out", style="dim", soft_wrap=True)
    warn_if_nothing_can_be_decided(console, requests)


def runs_in_words(requests: Sequence[RunRequest]) -> str:
    """Returns the number of runs and what it is the product of."""
    from initbench.tables.words import count

    different = _different_values(requests)
    crossed = []
    for field, what in _CROSSED.items():
        number = len(different[field])
        if field == "part" and number > 1:
            crossed.append(f"{number} {what}")
        elif field in _ALWAYS_TOLD or number > 1:
            crossed.append(count(number, what))
    return f"{count(len(requests), 'run')}: {' × '.join(crossed)}"


def _different_values(requests: Sequence[RunRequest]) -> dict[str, set[object]]:
    """Returns what a study crosses: the different inits, regimens, backbones, data sets, parts of these, and seeds."""
    found: dict[str, set[object]] = {field: set() for field in _CROSSED}
    for request in requests:
        found["init"].add(request.init)
        found["regimen"].add(request.regimen)
        found["backbone"].add(request.backbone)
        found["dataset"].add(request.dataset)
        found["part"].add((request.fold, request.train_cases))
        found["seed"].add(request.seed)
    return found


def warn_if_nothing_can_be_decided(console: Console, requests: Sequence[RunRequest]) -> None:
    """Says before hours are spent that no verdict can come of a study, for which data set and why."""
    from initbench.harness.choose import reported_patients
    from initbench.stats.blocks import is_placebo
    from initbench.stats.testable import undecidable

    blocks: dict[tuple[object, ...], list[RunRequest]] = {}
    for request in requests:
        blocks.setdefault((request.dataset, request.split, request.fold), []).append(request)
    for members in blocks.values():
        patients = reported_patients(members[0])
        if patients is None:  # the run itself says what is wrong with its data
            continue
        rows, seeds = set(), set()
        for request in members:
            seeds.add(request.seed)
            if not is_placebo(str(request.init)):
                rows.add((request.init, request.regimen))
        reason = undecidable(len(rows), len(seeds), patients)
        if reason:
            dataset = shown(str(members[0].dataset))
            console.print(f"[yellow]warning:[/] this study can decide nothing on {dataset}: {reason}", soft_wrap=True)
