"""What a study would cost and what it could find, as people read it: `initbench plan`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from initbench.choices import MARGIN, REGIMEN
from initbench.runs.costs import Expected, StudyPlan, on_kind
from initbench.runs.read import data_place
from initbench.runs.record import Resolved
from initbench.stats.blocks import part
from initbench.stats.power import Pilot
from initbench.stats.table import ScoreTable
from initbench.tables import finds, words
from initbench.tables.cost import Cost, span
from initbench.tables.finds import Block, noise_of, row_of
from initbench.tables.looks import PricedBlock, looks_sheet
from initbench.tables.sheet import Sheet
from initbench.tables.titles import Named, named, title, told_apart


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
    of_blocks = _grouped(known, lambda run: tuple(_block_of(run.resolved, datasets[run.head.cell]).values()))
    blocks = []
    for runs in of_blocks:
        resolved = runs[0].resolved
        name = title(_block_of(resolved, datasets[runs[0].head.cell]))
        if part(resolved.split):
            name = f"{name}, {part(resolved.split)}"
        blocks.append(Block(name, runs, noise_of(resolved, tables, stated)))
    sheets = [_study(plan, blocks, of_blocks), _inits(plan, known, datasets)]
    if looks:
        priced = []
        for block in blocks:
            pilot = block.noise.pilot if block.noise else None
            priced.append(PricedBlock(block.name, pilot, block.patients, block.pairs, block.finds))
        sheets.append(looks_sheet(priced, looks, margin))
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
        cost = Cost([on_kind(run, example) for run in plan.runs], plan.measured)
        known = len(cost.each)
        told, from_start_to_end, wall = "unknown", "–", math.nan
        if known:
            told = span(cost.seconds, _unit(has_gpu))
        if 0 < known < cost.new:
            told = f"{told} for {known} of {cost.new}"
        if known and tasks:
            wall = cost.wall_seconds(tasks)
            from_start_to_end = span(wall)
        rows.append((kind, str(cost.behind), told, from_start_to_end))
        values.append({"of": "kind", "kind": kind, **cost.times(), "known_runs": known, "wall_seconds": wall})
    notes = ["Every other kind of device: unknown. Run one seed there first, with the same --out."]
    if not tasks:
        notes.append("From start to end: as many tasks run at a time as there is room for; --max-parallel says how many.")
    notes.append(f"To run it: {command}")
    return Sheet(
        title=f"With {executor}",
        subtitle="by kind of device, from the runs below --out; the queue's own time is not in it",
        columns=("kind", "measured runs", "time", "start to end"),
        rows=tuple(rows),
        notes=tuple(notes),
        values=tuple(values),
    )


def _unit(has_gpu: bool) -> str:
    return "GPU" if has_gpu else "CPU"


def _dataset_names(runs: Sequence[Expected]) -> dict[str, str]:
    """Returns what the data set of each cell is called, so that two of one name are told apart."""
    cells, datasets = [], []
    for run in runs:
        resolved = run.resolved
        cells.append(run.head.cell)
        datasets.append(Named(resolved.dataset, resolved.split, resolved.data_digest, data_place(run.head)))
    return dict(zip(cells, told_apart(datasets), strict=True))


def _grouped(runs: Iterable[Expected], key: Callable[[Expected], object]) -> list[list[Expected]]:
    groups: dict[object, list[Expected]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def _block_of(resolved: Resolved, dataset: str) -> dict[str, str]:
    return {"dataset": dataset, "backbone": resolved.backbone, "variant": resolved.variant, "split": resolved.split}


def _study(plan: StudyPlan, blocks: Sequence[Block], of_blocks: Sequence[Sequence[Expected]]) -> Sheet:
    cost = Cost(plan.runs, plan.measured)
    at_once = min(plan.jobs, plan.lanes)
    peak = cost.bytes + plan.checkpoint_bytes
    total = {
        "of": "study",
        **cost.counts,
        **cost.times(),
        "wall_seconds": cost.wall_seconds(at_once),
        "bytes": cost.bytes,
        "peak_bytes": peak,
        "protocol": plan.protocol,
        "free_bytes": plan.free,
    }
    rows: list[tuple[str, ...]] = []
    values = [total]
    for block, runs in zip(blocks, of_blocks, strict=True):
        own, resolved = Cost(runs, plan.measured), runs[0].resolved
        rows.append((block.name, *own.cells(), _size(own.bytes), *block.cells()))
        values.append(
            {
                "of": "block",
                **_block_of(resolved, resolved.dataset),
                **own.counts,
                **own.times(),
                "bytes": own.bytes,
                **block.values(),
            }
        )
    for (state, message), stopped in _stopped(plan).items():
        for run in stopped:
            values.append({"of": "run", "label": run.label, "state": state, "message": message})
    return Sheet(
        title=_headline(plan, cost),
        subtitle=_extent(plan),
        columns=("data set × backbone", "new", "cached", "time", "disk", "finds ≥", "floor", "pilot"),
        rows=tuple(rows),
        notes=(*_notes(plan, cost, at_once, peak), *finds.notes(blocks)),
        values=tuple(values),
    )


def _headline(plan: StudyPlan, cost: Cost) -> str:
    runs = f"{cost.new} new + {cost.counts['cached']} cached runs"
    for state in ("refused", "failed"):
        if cost.counts[state]:
            runs += f" + {cost.counts[state]} {state}"
    return f"{runs} · {cost.hours(_unit(plan.accelerated))} · {_size(cost.bytes)} · protocol {plan.protocol}"


def _extent(plan: StudyPlan) -> str:
    known = [run for run in plan.runs if run.record]
    if not known:
        return "nothing can be run"
    found: dict[str, set[object]] = {
        "cell": set(),
        "init": set(),
        "regimen": set(),
        "backbone": set(),
        "data set": set(),
        "seed": set(),
    }
    for run in known:
        resolved = run.resolved
        found["cell"].add(run.head.cell)
        found["init"].add(resolved.init)
        found["regimen"].add(resolved.regimen)
        found["backbone"].add(resolved.backbone)
        found["data set"].add(resolved.dataset)
        found["seed"].add(resolved.seed)
    if found["regimen"] == {REGIMEN}:
        del found["regimen"]
    cells, *crossed = [words.count(len(values), name) for name, values in found.items()]
    return f"{cells} · {' × '.join(crossed)} · {known[0].resolved.size} size · budget {known[0].resolved.budget}"


def _notes(plan: StudyPlan, cost: Cost, at_once: int, peak: int) -> Iterator[str]:
    """Gives the notes on what a study costs.

    Args:
        plan: the study.
        cost: of it.
        at_once: runs at a time that share nothing.
        peak: bytes on the disk at the most.
    """
    if cost.each and plan.jobs > 1:
        told = f"About {span(cost.wall_seconds(at_once))} from start to end, {at_once} at a time"
        if plan.jobs > at_once:
            told += f"; more jobs than that share what there is ({plan.jobs} asked)"
        yield f"{told}."
    if cost.behind > 1 and not math.isnan(cost.half):
        yield "±: 95 % of such sums, as the measured runs differ. Other work on the machine then or later is not in it."
    if cost.borrowed:
        yield f"The init stage of {', '.join(cost.borrowed)} is not measured: taken to step as fast as other learned inits."
    yield from _saved(plan)
    yield f"On disk {_size(cost.bytes)} stay, with checkpoints {_size(peak)} at the most; {_size(plan.free)} are free."
    if peak > plan.free:
        yield "Warning: that is more than is free."
    for remark in plan.remarks:
        yield f"Note: {remark}."
    for (state, message), runs in _stopped(plan).items():
        yield f"{state}: {'; '.join(run.label for run in runs)}: {message}"
    if cost.counts["refused"]:
        yield "While a run is refused none is run; `initbench run --skip-refused` runs the others."


def _saved(plan: StudyPlan) -> Iterator[str]:
    """Gives the notes on what new runs need not do, because it is done or another run does it."""
    begun, scored, shared = 0, 0, 0
    for run in plan.runs:
        begun += run.begun
        if run.state != "new":
            continue
        if not run.train_steps and not run.begun:
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


def _inits(plan: StudyPlan, runs: Sequence[Expected], datasets: Mapping[str, str]) -> Sheet:
    rows, values = [], []
    for members in _grouped(runs, lambda run: (row_of(run.resolved), run.resolved.protocol)):
        resolved = members[0].resolved
        rows.append((words.label(row_of(resolved)), resolved.protocol, *Cost(members, plan.measured).cells()))
    names = {row_of(run.resolved) for run in runs}
    for members in _grouped(runs, lambda run: run.head.cell):
        resolved, folder, cell = members[0].resolved, members[0].folder, members[0].head.cell
        cost = Cost(members, plan.measured)
        values.append(
            {
                "of": "cell",
                "dataset": datasets[cell],
                "backbone": resolved.backbone,
                "variant": resolved.variant,
                **named(row_of(resolved), names),
                "protocol": resolved.protocol,
                "cell": cell,
                **cost.counts,
                **cost.times(),
                "bytes": cost.bytes,
                "path": str(folder.parent) if folder else None,
            }
        )
    return Sheet(
        title="By init",
        subtitle="of all data sets and backbones",
        columns=("init", "protocol", "new", "cached", "time"),
        rows=tuple(rows),
        notes=(),
        values=tuple(values),
    )


def _size(count: float) -> str:
    """Returns a number of bytes for people."""
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.0f} {unit}"
    digits = 0 if count >= 10_000 else 1
    return f"{count / 1000:.{digits}f} GB"
