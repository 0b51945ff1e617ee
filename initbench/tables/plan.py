"""What a study would cost and what it could find, as people read it: `initbench plan`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from initbench.choices import MARGIN
from initbench.runs.costs import Expected, StudyPlan, on_kind
from initbench.runs.read import data_place
from initbench.runs.record import Resolved
from initbench.stats.blocks import part
from initbench.stats.power import Pilot
from initbench.stats.table import ScoreTable
from initbench.tables import finds, words
from initbench.tables.cost import Cost
from initbench.tables.finds import Block, noise_of, row_of
from initbench.tables.looks import looks_sheet
from initbench.tables.sheet import Sheet
from initbench.tables.titles import Named, named, title, told_apart
from initbench.units import disk_size, from_to

# What a study crosses, with its name for people.
_CROSSED = {"init": "init", "regimen": "regimen", "backbone": "backbone", "dataset": "data set", "seed": "seed"}
_NAMED = 3  # runs that are named where one reason stops many; JSON and CSV have all of them


def plan_sheets(
    plan: StudyPlan,
    tables: Sequence[ScoreTable],
    stated: Pilot | None = None,
    looks: Sequence[int] = (),
    margin: float = MARGIN,
) -> list[Sheet]:
    """Returns the study by data set and network, by init, and what its planned looks save.

    Args:
        plan: what the sweep would be.
        tables: blocks of runs that can serve as pilot.
        stated: a pilot in their place.
        looks: numbers of seeds at which the study is looked at; none by default.
        margin: Dice points within which two inits are equivalent.
    """
    known = [run for run in plan.runs if run.record]
    datasets = _dataset_names(known)
    blocks: dict[Block, list[Expected]] = {}
    for runs in _grouped(known, lambda run: tuple(_block_of(run.resolved, datasets[run.head.cell]).values())):
        resolved = runs[0].resolved
        name = title(_block_of(resolved, datasets[runs[0].head.cell]))
        if part(resolved.split):
            name = f"{name}, {part(resolved.split)}"
        blocks[Block(name, runs, noise_of(resolved, tables, stated))] = runs
    sheets = [_study(plan, blocks)]
    if known:
        sheets.append(_inits(plan, known, datasets))
    if known and looks:
        sheets.append(looks_sheet(list(blocks), looks, margin))
    return sheets


def cluster_sheet(plan: StudyPlan, executor: str, device: str, tasks: int, command: str) -> Sheet:
    """Returns what the study would take on each kind of device that runs below its folder were done on.

    Args:
        plan: what the sweep would be.
        executor: who would do the runs.
        device: that the runs ask for; with ``auto`` all kinds count.
        tasks: that run at a time; 0 where nobody says.
        command: that runs the study.
    """
    rows, values = [], []
    for kind, example in sorted(plan.measured.kinds.items()):
        has_gpu = example.environment.accelerator is not None
        if device != "auto" and has_gpu != device.startswith("cuda"):
            continue
        cost = Cost([on_kind(run, example, plan.measured) for run in plan.runs], plan.measured)
        told, from_start_to_end = cost.time(_unit(has_gpu)), "–"
        if 0 < cost.told < cost.new:
            told += f" for {cost.told} of {cost.new}"
        if cost.told and tasks:
            from_start_to_end = from_to(*cost.wall(tasks))
        rows.append((kind, told, from_start_to_end))
        values.append({"of": "kind", "kind": kind, **cost.times(), "known_runs": cost.told, **_wall_values(cost, tasks)})
    notes = ["Every other kind of device: unknown. Run one seed there first, with the same --out."]
    if not tasks:
        notes.append("From start to end: as many tasks run at a time as there is room for; --max-parallel says how many.")
    notes.append(f"To run it: {command}")
    return Sheet(
        title=f"With {executor}",
        subtitle="by kind of device, from the runs below --out; the queue's own time is not in it",
        columns=("kind", "time", "start to end"),
        rows=tuple(rows),
        notes=tuple(notes),
        values=tuple(values),
    )


def _unit(has_gpu: bool) -> str:
    return "GPU" if has_gpu else "CPU"


def _dataset_names(runs: Sequence[Expected]) -> dict[str, str]:
    """Returns what the data set of each cell is called, so that two of one name are told apart."""
    datasets = {}
    for run in runs:
        resolved = run.resolved
        datasets[run.head.cell] = Named(resolved.dataset, resolved.split, resolved.data_digest, data_place(run.head))
    return dict(zip(datasets, told_apart(list(datasets.values())), strict=True))


def _grouped(runs: Sequence[Expected], key: Callable[[Expected], object]) -> list[list[Expected]]:
    """Returns runs in groups of one key, in their order."""
    groups: dict[object, list[Expected]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def _block_of(resolved: Resolved, dataset: str) -> dict[str, str]:
    return {"dataset": dataset, "backbone": resolved.backbone, "variant": resolved.variant, "split": resolved.split}


def _study(plan: StudyPlan, blocks: dict[Block, list[Expected]]) -> Sheet:
    """Returns the costs of the study and of each block, and what the blocks could find."""
    cost = Cost(plan.runs, plan.measured)
    total = {
        **_wall_values(cost, plan.at_once),
        "peak_bytes": cost.bytes + plan.checkpoint_bytes,
        "protocol": plan.protocol,
        "free_bytes": plan.free,
    }
    rows = []
    values = [_values("study", cost) | total]
    for block, runs in blocks.items():
        own, resolved = Cost(runs, plan.measured), runs[0].resolved
        rows.append((block.name, *own.cells(), disk_size(own.bytes), *block.cells()))
        values.append(_values("block", own) | _block_of(resolved, resolved.dataset) | block.values())
    stopped = _stopped(plan)
    for (state, message), runs in stopped.items():
        for run in runs:
            values.append({"of": "run", "label": run.label, "state": state, "message": message})
    return Sheet(
        title=_headline(plan, cost),
        subtitle=_extent(plan),
        columns=("data set × backbone", "new", "cached", "time", "disk", "finds ≥", "floor", "pilot"),
        rows=tuple(rows),
        notes=(*_notes(plan, cost), *_on_stopped(stopped), *finds.notes(list(blocks))),
        values=tuple(values),
    )


def _headline(plan: StudyPlan, cost: Cost) -> str:
    """Returns the numbers of runs, their hours and their disk in a line."""
    runs = f"{cost.new} new + {cost.counts['cached']} cached runs"
    for state in ("refused", "failed"):
        if cost.counts[state]:
            runs += f" + {cost.counts[state]} {state}"
    told = [runs, cost.hours(_unit(plan.accelerated))]
    if cost.new:
        told.append(disk_size(cost.bytes))
    return " · ".join([*told, f"protocol {plan.protocol}"])


def _wall_values(cost: Cost, at_once: int) -> dict[str, float]:
    """Returns the columns of JSON and CSV that say how long runs take from start to end, `at_once` at a time; NaN for 0."""
    low, high = math.nan, math.nan
    if cost.told and at_once:
        low, high = cost.wall(at_once)
    return {"wall_seconds_low": low, "wall_seconds_high": high}


def _values(of: str, cost: Cost) -> dict[str, Any]:
    """Returns the columns of JSON and CSV that say what some runs cost; `of` says which runs."""
    return {"of": of, **cost.counts, **cost.times(), "bytes": cost.bytes}


def _extent(plan: StudyPlan) -> str:
    """Returns what the study crosses, with the number of each, and what all of its runs share."""
    known = [run for run in plan.runs if run.record]
    if not known:
        return "nothing can be run"
    crossed = []
    for field, what in _CROSSED.items():
        number = len({getattr(run.resolved, field) for run in known})
        if number > 1 or field != "regimen":
            crossed.append(words.count(number, what))
    cells = words.count(len({run.head.cell for run in known}), "cell")
    first = known[0].resolved
    return f"{cells} · {' × '.join(crossed)} · {first.size} size · budget {first.budget}"


def _notes(plan: StudyPlan, cost: Cost) -> Iterator[str]:
    """Gives the notes on what a study costs."""
    if cost.told and plan.jobs > 1:
        told = f"About {from_to(*cost.wall(plan.at_once))} from start to end, {plan.at_once} at a time"
        if plan.jobs > plan.at_once:
            told += f"; more jobs than that share what there is ({plan.jobs} asked)"
        yield f"{told}."
    if cost.seconds.basis == "finished runs" and cost.seconds.low < cost.seconds.high:
        yield "The time goes from the fastest measured run to the slowest. What else ran on the machine then is in it."
    yield from _on_saved_work(plan)
    peak = cost.bytes + plan.checkpoint_bytes
    if cost.new:
        stays, most, free = disk_size(cost.bytes), disk_size(peak), disk_size(plan.free)
        yield f"On disk {stays} stay, with checkpoints {most} at the most; {free} are free."
    if peak > plan.free:
        yield "Warning: that is more than is free."
    for remark in plan.remarks:
        yield f"Note: {remark}."


def _on_saved_work(plan: StudyPlan) -> Iterator[str]:
    """Gives the notes on what new runs need not do, because it is done or another run does it."""
    begun, scored, shared = 0, 0, 0
    for run in plan.runs:
        if run.state != "new":
            continue
        if run.begun:
            begun += 1
        elif not run.train_steps:
            scored += 1
        elif run.resolved.learned and not run.init_stage:
            shared += 1
    if begun:
        yield f"{begun} of the new runs were begun and go on: what they did is not counted again."
    if scored:
        yield f"{scored} of the new runs differ from finished ones in inference alone: scored with their weights, not trained."
    if shared:
        yield f"{shared} of the new runs take their init stage from another run, so that it is counted once."


def _stopped(plan: StudyPlan) -> dict[tuple[str, str], list[Expected]]:
    """Returns the runs that cannot be, by state and reason."""
    found: dict[tuple[str, str], list[Expected]] = {}
    for run in plan.runs:
        if run.state in ("refused", "failed"):
            found.setdefault((run.state, run.message), []).append(run)
    return found


def _on_stopped(stopped: dict[tuple[str, str], list[Expected]]) -> Iterator[str]:
    """Gives the notes on runs that cannot be, a line for each reason."""
    for (state, message), runs in stopped.items():
        told = "; ".join(run.label for run in runs[:_NAMED])
        if len(runs) > _NAMED:
            told += f"; and {len(runs) - _NAMED} more"
        yield f"{state}: {told}: {message}"
    if "refused" in {state for state, _ in stopped}:
        yield "While a run is refused none is run; `initbench run --skip-refused` runs the others."


def _inits(plan: StudyPlan, runs: Sequence[Expected], datasets: dict[str, str]) -> Sheet:
    """Returns what each init costs on all data sets and networks; for machines, what each cell costs."""
    rows, values = [], []
    for members in _grouped(runs, lambda run: (row_of(run.resolved), run.resolved.protocol)):
        resolved = members[0].resolved
        rows.append((words.label(row_of(resolved)), resolved.protocol, *Cost(members, plan.measured).cells()))
    names = {row_of(run.resolved) for run in runs}
    for members in _grouped(runs, lambda run: run.head.cell):
        resolved, folder, cell = members[0].resolved, members[0].folder, members[0].head.cell
        block = _block_of(resolved, datasets[cell])
        own = {"protocol": resolved.protocol, "cell": cell, "path": str(folder.parent) if folder else None}
        values.append(_values("cell", Cost(members, plan.measured)) | block | named(row_of(resolved), names) | own)
    return Sheet(
        title="By init",
        subtitle="of all data sets and backbones",
        columns=("init", "protocol", "new", "cached", "time"),
        rows=tuple(rows),
        notes=(),
        values=tuple(values),
    )
