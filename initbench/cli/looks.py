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
        found = perform(wanted, resources, console)
        done.update({outcome.request: outcome for outcome in found})
        return all(outcome.state in ("ok", "cached", "diverged") for outcome in found)

    out = requests[0].out
    for block in take_looks(out, planned, perform_all, lambda plan, seeds: undecided(out, plan, seeds)):
        if not json:
            console.print(_said(block), highlight=False, soft_wrap=True)
    if done:
        tell(list(done.values()), time.perf_counter() - started, console, json=json, skip_refused=True)


def planned_blocks(
    requests: Sequence[RunRequest], outcomes: Sequence[Outcome], looks: Sequence[int], margin: float
) -> list[PlannedBlock]:
    """The blocks of a study with their plans, which are written down where they are not yet.

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
    prepared = []
    for numbers in groups.values():
        rows: dict[str, str] = {}
        for number in numbers:
            request, outcome = requests[number], outcomes[number]
            if outcome.folder is None:
                why = outcome.message or outcome.state
                raise UsageError(f"{request.label}: {why}; correct it, as looks are planned of all runs")
            name = treatment_of(str(request.init), str(request.regimen), request.regimen_budget).name
            rows[name] = outcome.folder.parent.name.rpartition("-")[2]
        if BASELINE not in rows or len(rows) < 2:
            raise UsageError(f"--until-decided compares inits with {BASELINE}: --init {BASELINE},... with another init")
        plan = new_plan(looks, levels(looks), margin, BASELINE, list(rows), list(rows.values()))
        name = f"{requests[numbers[0]].dataset} × {requests[numbers[0]].backbone}"
        there = sum(outcomes[number].state in ("cached", "failed") for number in numbers)
        if there and plan.key not in known:
            raise UsageError(
                f"{name}: {there} runs have a result and no looks were planned. Looks are planned before the first run: give "
                "another --out"
            )
        prepared.append(PlannedBlock(name, plan, tuple(requests[number] for number in numbers)))
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
        steps = {len(block.plan.taken) for block in current if not block.plan.is_closed}
        if not steps:
            return current
        step = min(steps)
        places = [place for place, block in enumerate(current) if not block.plan.is_closed and len(block.plan.taken) == step]
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
    found = verdicts(table, against=plan.against, margin=plan.margin).differences
    open_ = [item.first for item in found if item.verdict in ("undecided", "untestable")]
    return [name for name in open_ if not is_placebo(name)]


def _said(block: PlannedBlock) -> str:
    """How far a block came."""
    taken = block.plan.taken
    if not taken:
        return f"{block.name}: no look was taken"
    last = taken[-1]
    if not last.undecided:
        return f"{block.name}: everything is decided at {last.seeds} seeds"
    rest = "the last planned look" if block.plan.is_closed else "the same command goes on"
    return f"{block.name}: undecided at {last.seeds} seeds: {', '.join(last.undecided)}; {rest}"
