"""``initbench run --until-decided``: planned looks, taken one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from initbench.choices import BASELINE
from initbench.errors import UsageError

if TYPE_CHECKING:
    from initbench.harness.execute import Outcome
    from initbench.harness.request import RunRequest
    from initbench.runs.looks import BlockPlan
    from initbench.studies.engine import Resources


@dataclass(frozen=True)
class PlannedBlock:
    """A block with its plan.

    Attributes:
        name: for people.
        plan: what was written down, and the looks that were taken.
        requests: its runs, up to the last look.
    """

    name: str
    plan: BlockPlan
    requests: tuple[RunRequest, ...]


def run_looks(
    requests: Sequence[RunRequest],
    looks: Sequence[int],
    margin: float,
    resources: Resources,
    console: Console,
    *,
    json: bool,
    announce: Callable[[], None],
) -> None:
    """Writes a plan for every block, does the runs look by look, and ends a block when everything in it is decided.

    Args:
        requests: the runs up to the last look.
        looks: numbers of seeds, rising.
        margin: Dice points within which two inits are equivalent.
        resources: who does the runs.
        console: where is printed what happens.
        json: whether how the runs ended is printed as JSON.
        announce: prints what comes.

    Raises:
        UsageError: a run is refused, a block has results and no plan, or was planned otherwise.
        InterruptedRunError: runs were stopped.
    """
    from initbench.cli.run import perform, tell
    from initbench.studies.sweep import Silent, look_up_study

    started = time.perf_counter()
    outcomes = look_up_study(requests, Silent(), resources).outcomes
    planned = planned_blocks(requests, [outcomes[number] for number in range(len(requests))], looks, margin)
    announce()
    done: dict[RunRequest, Outcome] = {}

    def perform_all(wanted: Sequence[RunRequest]) -> bool:
        have_results = True
        for outcome in perform(wanted, resources, console):
            done[outcome.request] = outcome
            have_results = have_results and outcome.state in ("ok", "cached", "diverged")
        return have_results

    out = requests[0].out
    for block in take_looks(out, planned, perform_all, lambda plan, seeds: undecided(out, plan, seeds)):
        if not json:
            console.print(_said(block), highlight=False, soft_wrap=True)
    if done:
        tell(list(done.values()), time.perf_counter() - started, console, json=json, skip_refused=True)


def planned_blocks(
    requests: Sequence[RunRequest], outcomes: Sequence[Outcome], looks: Sequence[int], margin: float
) -> list[PlannedBlock]:
    """Returns the blocks of a study with their plans, which it writes down where they are not yet.

    Args:
        requests: the runs up to the last look.
        outcomes: what is known of each.
        looks: numbers of seeds, rising.
        margin: Dice points within which two inits are equivalent.

    Raises:
        UsageError: a run is refused, `default` is not among the inits, a block has results and no plan, or was planned otherwise.
    """
    from initbench.runs.looks import fix_plan, new_plan, read_plans
    from initbench.stats.looks import levels
    from initbench.stats.treatments import treatment_of

    groups: dict[RunRequest, list[int]] = {}
    for number, request in enumerate(requests):
        first = requests[0]
        alike = replace(request, init=first.init, regimen=first.regimen, regimen_budget=first.regimen_budget, seed=0)
        groups.setdefault(alike, []).append(number)
    out = requests[0].out
    known = {plan.key for plan in read_plans(out)}
    prepared: list[PlannedBlock] = []
    for numbers in groups.values():
        rows: dict[str, str] = {}
        members = []
        there = 0
        for number in numbers:
            request, outcome = requests[number], outcomes[number]
            members.append(request)
            there += outcome.state in ("cached", "failed")
            if outcome.folder is None:
                why = outcome.message or outcome.state
                raise UsageError(f"{request.label}: {why}; correct it, as looks are planned of all runs")
            name = treatment_of(str(request.init), str(request.regimen), request.regimen_budget).name
            rows[name] = outcome.folder.parent.name.rpartition("-")[2]
        if BASELINE not in rows or len(rows) < 2:
            raise UsageError(f"--until-decided compares inits with {BASELINE}: --init {BASELINE},... with another init")
        plan = new_plan(looks, levels(looks), margin, BASELINE, list(rows), list(rows.values()))
        name = f"{members[0].dataset} × {members[0].backbone}"
        if there and plan.key not in known:
            raise UsageError(
                f"{name}: {there} runs have a result and no looks were planned. Looks are planned before the first run: give "
                "another --out"
            )
        prepared.append(PlannedBlock(name, plan, tuple(members)))
    return [replace(block, plan=fix_plan(out, block.plan)) for block in prepared]


def take_looks(
    out: Path,
    blocks: Sequence[PlannedBlock],
    perform: Callable[[Sequence[RunRequest]], bool],
    judge: Callable[[BlockPlan, int], Sequence[str]],
) -> list[PlannedBlock]:
    """Takes the looks that are left, each over all blocks that go on, and returns the blocks with what was found.

    Args:
        out: folder of the study.
        blocks: with the looks that were taken before.
        perform: does runs, and says whether all have a result; if not, no look is taken at them.
        judge: the rows that are not decided in a block at a number of seeds.
    """
    from initbench.runs.looks import take

    current = list(blocks)
    while True:
        places_of_steps: dict[int, list[int]] = {}  # open blocks by how many looks were taken
        for place, block in enumerate(current):
            if not block.plan.is_closed:
                places_of_steps.setdefault(len(block.plan.taken), []).append(place)
        if not places_of_steps:
            return current
        step = min(places_of_steps)
        places = places_of_steps[step]
        wanted = []
        for place in places:
            block = current[place]
            wanted += [request for request in block.requests if request.seed < block.plan.looks[step]]
        if not perform(wanted):
            return current
        for place in places:
            block = current[place]
            seeds = block.plan.looks[step]
            current[place] = replace(block, plan=take(out, block.plan, seeds, judge(block.plan, seeds)))


def undecided(out: Path, plan: BlockPlan, seeds: int) -> list[str]:
    """Returns the rows of a block whose difference to the baseline is not decided; placebos do not count.

    Args:
        out: folder of the study.
        plan: of the block.
        seeds: the number of seeds that are compared, from seed 0 on.
    """
    from initbench.runs.looks import plans_of
    from initbench.stats.analysis import verdicts
    from initbench.stats.blocks import is_placebo
    from initbench.tables.study import read_study

    tables = read_study(out, seeds=range(seeds)).tables
    (table,) = (one for one in tables if next(plans_of([plan], one.cells), None))
    names = []
    for item in verdicts(table, against=plan.against, margin=plan.margin).differences:
        if item.verdict in ("undecided", "untestable") and not is_placebo(item.first):
            names.append(item.first)
    return names


def _said(block: PlannedBlock) -> str:
    """Returns how far a block came, in a sentence."""
    taken = block.plan.taken
    if not taken:
        return f"{block.name}: no look was taken"
    last = taken[-1]
    if not last.undecided:
        return f"{block.name}: everything is decided at {last.seeds} seeds"
    rest = "the same command goes on"
    if block.plan.is_closed:
        rest = "the last planned look"
    return f"{block.name}: undecided at {last.seeds} seeds: {', '.join(last.undecided)}; {rest}"
