"""What a study would cost and what it could find, as people read it: `initbench plan`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from initbench.choices import BASELINE, MARGIN, REGIMEN
from initbench.runs.costs import SLOWEST, Costs, Expected, Sample, StudyPlan, init_of, network_of, on_kind, pace_of
from initbench.runs.read import data_place
from initbench.runs.record import Resolved
from initbench.stats.blocks import is_placebo, part
from initbench.stats.design import Refused
from initbench.stats.families import baseline_family
from initbench.stats.power import Pilot, detectable, detectable_ratio, floor, power_of
from initbench.stats.summary import Interval, t_quantile
from initbench.stats.table import ScoreTable
from initbench.stats.testable import undecidable
from initbench.stats.treatments import treatment_of
from initbench.stats.variances import SEEDS_TO_TEST
from initbench.tables import words
from initbench.tables.looks import PricedBlock, looks_sheet
from initbench.tables.power import INTERACTIONS, from_runs
from initbench.tables.sheet import Sheet
from initbench.tables.titles import Named, named, title, told_apart

_GUESSED = "estimated from the operations of the networks"
MINUTES = "--size tiny --budget smoke takes minutes."
_MINUTE, _LONG = 60, 1800  # seconds; from the second on `run` says how to be done in minutes
_STATED = "stated SDs"
_NOTHING = Interval(math.nan, math.nan, math.nan)
_VAST = 10  # a ratio of seed SDs that no two inits have
_OVERLAY, _CURVE_ROW, _SLICE = 250_000, 100, 20_000  # bytes of a run's small files where no run says: per run, step and case
_NONE_YET = "no run of this backbone at this size on this device yet; run one seed first, or add --measure"
_ESTIMATED = "from the operations of the networks; --measure times steps"


@dataclass(frozen=True)
class Time:
    """Seconds that runs would take.

    Attributes:
        half: half the width of the 95 % interval of the sum for runs like the measured ones; NaN without two of one kind.
        known: runs whose seconds are known; of the others nothing is.
        behind: finished runs that say so; 0 where steps were timed.
        borrowed: names of inits whose stage nobody timed; it is taken to be as fast as the stage of another learned init.
        longest: seconds of the longest run.
        kinds: how many kinds of runs there are whose paces differ, as of several backbones.
        estimated: other runs, whose seconds lie in a range that is told from their operations.
        low: seconds of these at the least.
        high: seconds of these at the most.
        longest_high: seconds at the most of the longest of these.
    """

    seconds: float
    half: float
    known: int
    behind: int
    borrowed: tuple[str, ...]
    longest: float
    kinds: int
    estimated: int = 0
    low: float = 0.0
    high: float = 0.0
    longest_high: float = 0.0


def seconds_of(run: Expected, samples: Sequence[Sample]) -> float | None:
    """Seconds of a run: steps and cases at the mean pace of the samples; None where a part of it is not known."""
    train, cases = _mean(sample.train for sample in samples), _mean(sample.evaluate for sample in samples)
    init = _init_seconds(run, samples)
    if train is None or cases is None or init is None:
        return None
    return init + train * run.train_steps + cases * len(run.resolved.reported_cases)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _init_seconds(run: Expected, samples: Sequence[Sample]) -> float | None:
    if not run.init_stage:
        return 0.0
    own = [sample for sample in samples if sample.init == init_of(run.resolved)]
    if not run.resolved.learned:
        return _mean(sample.init_seconds for sample in own) or 0.0
    pace = _mean(sample.init_seconds / sample.init_steps for sample in own or samples if sample.init_steps)
    return None if pace is None else pace * run.init_steps


def time_of(runs: Sequence[Expected], measured: Costs) -> Time:
    """Seconds of the new ones among `runs`."""
    groups: dict[str, list[Expected]] = {}
    for run in runs:
        if run.state == "new":
            groups.setdefault(pace_of(run.head), []).append(run)
    each: list[float] = []
    parts: list[tuple[float, int, list[float]]] = []  # seconds, runs, relative paces of the samples
    behind, borrowed = 0, set()
    estimated: list[float] = []  # seconds of a convolution of as many operations
    for key, members in groups.items():
        samples = measured.samples.get(key, ())
        known = [seconds for seconds in (seconds_of(run, samples) for run in members) if seconds is not None]
        estimated += _seconds_of_operations(members, samples, measured.rate)
        if known:
            whole = [sample for sample in samples if sample.whole]
            each += known
            behind += len(whole)
            parts.append((sum(known), len(known), _relative(whole)))
            borrowed |= {run.resolved.init for run in members if _borrows(run, samples)}
    longest = max(each, default=0.0)
    least = sum(estimated)
    ranges = (len(estimated), least, SLOWEST * least, SLOWEST * max(estimated, default=0.0))
    return Time(sum(each), _half(parts), len(each), behind, tuple(sorted(borrowed)), longest, len(parts), *ranges)


def _seconds_of_operations(runs: Sequence[Expected], samples: Sequence[Sample], rate: float) -> list[float]:
    """Seconds of a convolution of as many operations, for each run that no sample says the time of.

    Args:
        runs: of one pace.
        samples: of this pace.
        rate: multiply-adds a second; NaN where nobody knows.
    """
    found = []
    for run in runs:
        seconds = run.operations / rate
        if seconds_of(run, samples) is None and not math.isnan(seconds):
            found.append(seconds)
    return found


def _relative(samples: Sequence[Sample]) -> list[float]:
    paces = [sample.train for sample in samples if sample.train is not None]
    return [pace / fmean(paces) for pace in paces] if paces else []


def _borrows(run: Expected, samples: Sequence[Sample]) -> bool:
    own = init_of(run.resolved)
    return bool(run.resolved.learned and run.init_steps and not any(sample.init == own for sample in samples))


def _half(parts: Sequence[tuple[float, int, list[float]]]) -> float:
    """Half a width: t · √Σ (seconds · spread)² · (1/measured + 1/new): the noise of the mean pace, and of the runs to come.

    The spread of paces is pooled over all kinds of runs, so that one of a kind has one, too.
    """
    df = sum(len(paces) - 1 for *_, paces in parts if paces)
    if not df or any(not paces for *_, paces in parts):
        return math.nan
    variance = sum((len(paces) - 1) * stdev(paces) ** 2 for *_, paces in parts if len(paces) > 1) / df
    total = sum(seconds**2 * variance * (1 / len(paces) + 1 / count) for seconds, count, paces in parts)
    return t_quantile(0.975, df) * math.sqrt(total)


def bytes_of(run: Expected, measured: Costs) -> int:
    """What a new run leaves on the disk."""
    resolved = run.resolved
    rest = measured.rest.get((resolved.dataset, resolved.backbone))
    if rest is None:
        rest = _OVERLAY + _CURVE_ROW * (run.train_steps + run.init_steps) + _SLICE * len(resolved.reported_cases)
    weights = measured.weights.get(network_of(resolved), run.weights)
    return int(rest + weights * (2 if run.keeps else 1))


def disk_of(plan: StudyPlan) -> tuple[int, int]:
    """Bytes that stay, and those of checkpoints while runs are in hand."""
    new = [run for run in plan.runs if run.state == "new"]
    at_once = sorted((run.checkpoints for run in new), reverse=True)[: plan.jobs]
    return sum(bytes_of(run, plan.measured) for run in new), sum(at_once)


@dataclass(frozen=True)
class Borrowed:
    """A pilot and where it is from; `own` where that is the same data set and network."""

    pilot: Pilot
    source: str
    own: bool


def nearest(resolved: Resolved, tables: Sequence[ScoreTable]) -> Borrowed | None:
    """The pilot from the block that is most like this one: data set first, then network, then the rest."""
    found = [(table, from_runs(table)) for table in tables]
    usable = [(table, pilot) for table, pilot in found if isinstance(pilot, Pilot)]
    if not usable:
        return None
    asked = {  # what counts most comes first
        "dataset": resolved.dataset,
        "backbone": resolved.backbone,
        "variant": resolved.variant,
        "size": resolved.size,
        "steps": resolved.steps,
        "precision": resolved.precision,
        "split": resolved.split,
        "recipe": resolved.recipe_digest,
    }
    table, pilot = min(usable, key=lambda item: [item[0].block[key] != value for key, value in asked.items()])
    differs = [key for key, value in asked.items() if table.block[key] != value]
    source = [title(table.block)]
    source += [f"{table.block['size']} size, {table.block['steps']} steps"] if {"size", "steps"} & set(differs) else []
    source += [f"split {table.block['split']}"] if "split" in differs else []
    source += ["another recipe"] if "recipe" in differs and "dataset" not in differs else []
    return Borrowed(pilot, ", ".join(source), not differs)


def plan_sheets(
    plan: StudyPlan,
    tables: Sequence[ScoreTable],
    stated: Pilot | None = None,
    looks: Sequence[int] = (),
    margin: float = MARGIN,
) -> list[Sheet]:
    """The study by data set and network, by init, and what its planned looks save.

    Args:
        plan: what the sweep would be.
        tables: blocks of runs that can serve as pilot.
        stated: a pilot in their place.
        looks: numbers of seeds at which the study is looked at; none by default.
        margin: Dice points within which two inits are equivalent.
    """
    known = [run for run in plan.runs if run.record]
    names = _dataset_names(known)
    groups = _grouped(known, lambda run: _block_key(run, names))
    blocks = [_Block(tuple(runs), plan, tables, stated, names[_cell_of(runs[0])]) for runs in groups]
    sheets = [_study(plan, blocks), _inits(plan, known, names)]
    if looks:
        priced = []
        for block in blocks:
            noise = block.pilot.pilot if block.pilot else None
            priced.append(PricedBlock(block.name, noise, block.patients, block.pairs, block.finds))
        sheets.append(looks_sheet(priced, looks, margin))
    return sheets


def cluster_sheet(plan: StudyPlan, executor: str, device: str, tasks: int, command: str) -> Sheet:
    """What the study would take on each kind of device that runs below its folder were done on. Other kinds are unknown.

    Args:
        plan: what the sweep would be.
        executor: who would do the runs.
        device: that the runs ask for; with ``auto`` all kinds count.
        tasks: that run at a time; 0 where nobody says.
        command: that runs the study.
    """
    new = _counted(plan.runs)["new"]
    rows, values = [], []
    for kind, example in sorted(plan.measured.kinds.items()):
        has_gpu = example.environment.accelerator is not None
        if device != "auto" and has_gpu != device.startswith("cuda"):
            continue
        # What this machine does in a second says nothing of others.
        elsewhere = replace(plan.measured, rate=math.nan)
        time = time_of([on_kind(run, example) for run in plan.runs], elsewhere)
        unit = "GPU" if has_gpu else "CPU"
        hours, wall = "unknown", math.nan
        if time.known:
            hours = _span(time.seconds, unit) + ("" if time.known == new else f" for {time.known} of {new}")
        if time.known and tasks:
            wall = max(time.longest, time.seconds / tasks)
        rows.append((kind, str(time.behind), hours, "–" if math.isnan(wall) else _span(wall)))
        values.append({"of": "kind", "kind": kind, **_timed(time), "known_runs": time.known, "wall_seconds": wall})
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


def _cell_of(run: Expected) -> str:
    return run.head.cell


def _dataset_names(runs: Sequence[Expected]) -> dict[str, str]:
    """What the data set of each cell is called, so that two of one name are told apart."""
    named = []
    for run in runs:
        resolved = run.resolved
        named.append(Named(resolved.dataset, resolved.split, resolved.data_digest, data_place(run.head)))
    return dict(zip(map(_cell_of, runs), told_apart(named), strict=True))


def _grouped(runs: Sequence[Expected], key: Callable[[Expected], object]) -> Iterator[list[Expected]]:
    groups: dict[object, list[Expected]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    yield from groups.values()


def _block_key(run: Expected, names: Mapping[str, str]) -> object:
    return tuple((_block_of(run.resolved) | {"dataset": names[_cell_of(run)]}).values())


def _block_of(resolved: Resolved) -> dict[str, str]:
    return {
        "dataset": resolved.dataset,
        "backbone": resolved.backbone,
        "variant": resolved.variant,
        "split": resolved.split,
    }


def _row_of(resolved: Resolved) -> str:
    """The name of the row that a run will be of."""
    return treatment_of(resolved.init, resolved.regimen, resolved.regimen_budget).name


class _Block:
    """The runs of a data set and a network, with what they cost and can find."""

    def __init__(
        self, runs: tuple[Expected, ...], plan: StudyPlan, tables: Sequence[ScoreTable], stated: Pilot | None, dataset: str
    ) -> None:
        resolved = runs[0].resolved
        self.runs = runs
        self.name = ", ".join(filter(None, (title(_block_of(resolved) | {"dataset": dataset}), part(resolved.split))))
        self.time = time_of(runs, plan.measured)
        self.bytes = sum(bytes_of(run, plan.measured) for run in runs if run.state == "new")
        self.seeds = len({run.resolved.seed for run in runs})
        self.cases = len(resolved.reported_cases)
        self.patients = len({resolved.patients.get(case, case) for case in resolved.reported_cases})
        # Inits are told apart by their parameters: two that are called alike are two rows.
        rows = {(_row_of(run.resolved), init_of(run.resolved)) for run in runs if not is_placebo(run.resolved.init)}
        names = [name for name, _ in rows]
        self.inits = len(rows)
        # As the tables judge them: with plain `default` in the study the differences to it and the interactions, else all pairs.
        family = baseline_family(names)
        self.interactions = family.interactions
        self.pairs = family.size if BASELINE in names else self.inits * (self.inits - 1) // 2
        self.pilot = Borrowed(stated, _STATED, True) if stated else nearest(resolved, tables)
        self.finds, self.power, self.floor = _NOTHING, _NOTHING, math.nan
        if self.pilot:
            pairs, own = max(1, self.pairs), self.pilot.pilot
            found = detectable(own, self.seeds, self.patients, pairs)
            if isinstance(found, Interval):
                self.finds = found
                self.power = power_of(own, self.seeds, self.patients, found.value, pairs)
            self.floor = floor(own, self.patients, pairs)

    @property
    def undecidable(self) -> str:
        """Why nothing can come of it; empty where something can."""
        return undecidable(self.inits, self.seeds, self.patients)

    def count(self, state: str) -> int:
        return sum(run.state == state for run in self.runs)

    @property
    def source(self) -> str:
        if self.pilot is None:
            return "none"
        return self.pilot.source if self.pilot.own else f"borrowed: {self.pilot.source}"

    def row(self) -> tuple[str, ...]:
        hours = _row_time(self.time, self.count("new"))
        found = "not testable" if self.undecidable else _found(self.finds, known=self.pilot is not None)
        counts = (str(self.count("new")), str(self.count("cached")))
        return (
            self.name,
            *counts,
            hours,
            _size(self.bytes),
            found,
            _dice(self.floor),
            "own runs" if self.pilot and self.pilot.own and self.pilot.source != _STATED else self.source,
        )

    def values(self) -> dict[str, Any]:
        resolved = self.runs[0].resolved
        return {
            "of": "block",
            **_block_of(resolved),
            **_counted(self.runs),
            **_timed(self.time),
            "bytes": self.bytes,
            "seeds": self.seeds,
            "cases": self.cases,
            "patients": self.patients,
            "differences": self.pairs,
            "detectable": self.finds.value,
            "detectable_low": self.finds.low,
            "detectable_high": self.finds.high,
            "power_low": self.power.low,
            "power_high": self.power.high,
            "undecidable": self.undecidable,
            "floor": self.floor,
            "pilot": self.source,
        }


def _counted(runs: Sequence[Expected]) -> dict[str, int]:
    return {state: sum(run.state == state for run in runs) for state in ("new", "cached", "refused", "failed")}


def _timed(time: Time) -> dict[str, Any]:
    return {
        "seconds": time.seconds if time.known else math.nan,
        "seconds_half": time.half,
        "measured_runs": time.behind,
        "estimated_runs": time.estimated,
        "estimated_seconds_low": time.low if time.estimated else math.nan,
        "estimated_seconds_high": time.high if time.estimated else math.nan,
    }


def _study(plan: StudyPlan, blocks: Sequence[_Block]) -> Sheet:
    time, (stays, passing) = time_of(plan.runs, plan.measured), disk_of(plan)
    counts = _counted(plan.runs)
    total = {
        "of": "study",
        **counts,
        **_timed(time),
        "wall_seconds": _wall(plan, time),
        "bytes": stays,
        "peak_bytes": stays + passing,
    }
    stopped = []
    for (state, message), runs in _stopped(plan).items():
        stopped += [{"of": "run", "label": run.label, "state": state, "message": message} for run in runs]
    return Sheet(
        title=_headline(plan, time, stays),
        subtitle=_extent(plan),
        columns=("data set × backbone", "new", "cached", "time", "disk", "finds ≥", "floor", "pilot"),
        rows=tuple(block.row() for block in blocks),
        notes=tuple(_notes(plan, blocks, time, stays, passing)),
        values=(total | {"protocol": plan.protocol, "free_bytes": plan.free}, *(block.values() for block in blocks), *stopped),
    )


def _headline(plan: StudyPlan, time: Time, stays: int) -> str:
    counts = _counted(plan.runs)
    runs = f"{counts['new']} new + {counts['cached']} cached runs"
    runs += "".join(f" + {counts[state]} {state}" for state in ("refused", "failed") if counts[state])
    return f"{runs} · {_hours(plan, time)} · {_size(stays)} · protocol {plan.protocol}"


def _hours(plan: StudyPlan, time: Time) -> str:
    new = _counted(plan.runs)["new"]
    if not new:
        return "nothing to run"
    unit = "GPU" if plan.accelerated else "CPU"
    parts = []
    if time.known:
        of_some = "" if time.known == new else f" for {time.known} of the {new} new runs"
        parts.append(f"about {_span(time.seconds, unit)} ({_basis(time)}){of_some}")
    if time.estimated:
        of_others = f" for {'the other ' if time.known else ''}{time.estimated}" if time.estimated < new else ""
        parts.append(f"{_range(time.low, time.high, unit)} ({_ESTIMATED}){of_others}")
    if not parts:
        return f"hours unknown: {_NONE_YET}"
    if time.known + time.estimated < new:
        parts.append(f"the others unknown: {_NONE_YET}")
    return ", ".join(parts)


def _range(least: float, most: float, unit: str = "") -> str:
    """Two durations; a unit that both have is said once."""
    low, high = _span(least), _span(most)
    number, kind = low.split()
    first = number if kind == high.split()[1] else low
    return f"{first} to {_span(most, unit)}"


def _row_time(time: Time, new: int) -> str:
    """The time of new runs in a row of a table."""
    if not new:
        return "–"
    if not time.estimated:
        return _span(time.seconds) if time.known else "unknown"
    least, _, most = _range(time.seconds + time.low, time.seconds + time.high).partition(" to ")
    if " " in least:  # with a unit of its own, behind which a narrow column may break
        return f"{least} – {most}"
    return f"{least}–{most}"


def announced(plan: StudyPlan) -> str:
    """How long a study takes on a CPU, as `run` says it before it begins; empty where there is nothing to run or to say."""
    time = time_of(plan.runs, plan.measured)
    if plan.accelerated or not (time.known or time.estimated):
        return ""
    at_once = max(1, min(plan.jobs, plan.lanes))
    most = max(time.longest, time.longest_high, (time.seconds + time.high) / at_once)
    if not time.estimated:
        return _announced(f"about {_span(most)}", "as finished runs did", most)
    least = (time.seconds + time.low) / at_once
    return _announced(_range(least, most), _GUESSED, most)


def announced_stage(seconds: float) -> str:
    """How long an init stage takes on a CPU, as `pretrain` says it before it begins; empty where there is nothing to say.

    Args:
        seconds: of a convolution of as many operations; NaN where nobody counted them.
    """
    if not seconds > 0:
        return ""
    return _announced(_range(seconds, SLOWEST * seconds), _GUESSED, SLOWEST * seconds)


def _announced(how_long: str, basis: str, most: float) -> str:
    """How long work takes on a CPU, and how it would be done in minutes where it takes `most` seconds and that is long."""
    if most < _MINUTE:
        how_long = "less than a minute"
    text = f"On this CPU: {how_long}, {basis}."
    return f"{text} {MINUTES}" if most > _LONG else text


def _basis(time: Time) -> str:
    if not time.behind:
        return "measured: a few steps; spread between runs unknown"
    networks = "this backbone" if time.kinds == 1 else "these backbones"
    runs = f"measured: {_count(time.behind, 'run')} of {networks} and size on this device"
    return f"{runs}; " + ("spread unknown" if math.isnan(time.half) else f"±{100 * time.half / time.seconds:.0f} %")


def _extent(plan: StudyPlan) -> str:
    known = [run.resolved for run in plan.runs if run.record]
    cells = {run.record.cell for run in plan.runs if run.record}
    if not known:
        return "nothing can be run"
    inits = {resolved.init for resolved in known}
    backbones = {resolved.backbone for resolved in known}
    datasets = {resolved.dataset for resolved in known}
    seeds = {resolved.seed for resolved in known}
    counts = {"init": len(inits)}
    regimens = {resolved.regimen for resolved in known}
    if regimens != {REGIMEN}:
        counts["regimen"] = len(regimens)
    counts |= {"backbone": len(backbones), "data set": len(datasets), "seed": len(seeds)}
    crossed = " × ".join(_count(number, name) for name, number in counts.items())
    return f"{_count(len(cells), 'cell')} · {crossed} · {known[0].size} size · budget {known[0].budget}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _wall(plan: StudyPlan, time: Time) -> float:
    """Seconds from start to end: no shorter than the longest run, and jobs beyond devices or cores share them."""
    return max(time.longest, time.seconds / max(1, min(plan.jobs, plan.lanes))) if time.known else math.nan


def _notes(plan: StudyPlan, blocks: Sequence[_Block], time: Time, stays: int, passing: int) -> Iterator[str]:
    if time.known and plan.jobs > 1:
        at_once = min(plan.jobs, plan.lanes)
        beyond = f"; more jobs than that share what there is ({plan.jobs} asked)" if plan.jobs > at_once else ""
        yield f"About {_span(_wall(plan, time))} from start to end, {at_once} at a time{beyond}."
    if time.behind > 1 and not math.isnan(time.half):
        yield "±: 95 % of such sums, as the measured runs differ. Other work on the machine then or later is not in it."
    if time.borrowed:
        yield f"The init stage of {', '.join(time.borrowed)} is not measured: taken to step as fast as other learned inits."
    yield from _saved(plan)
    yield f"On disk {_size(stays)} stay, with checkpoints {_size(stays + passing)} at the most; {_size(plan.free)} are free."
    if stays + passing > plan.free:
        yield "Warning: that is more than is free."
    yield from (f"Note: {remark}." for remark in plan.remarks)
    for (state, message), runs in _stopped(plan).items():
        yield f"{state}: {'; '.join(run.label for run in runs)}: {message}"
    if any(run.state == "refused" for run in plan.runs):
        yield "While a run is refused none is run; `initbench run --skip-refused` runs the others."
    yield from _finds(blocks)


def _saved(plan: StudyPlan) -> Iterator[str]:
    """What new runs need not do, because it is done or another run does it."""
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
    """The runs that cannot be, by state and reason."""
    found: dict[tuple[str, str], list[Expected]] = {}
    for run in plan.runs:
        if run.state in ("refused", "failed"):
            found.setdefault((run.state, run.message), []).append(run)
    return found


def _finds(blocks: Sequence[_Block]) -> Iterator[str]:
    if not blocks:
        return
    reasons: dict[str, list[str]] = {}
    for block in blocks:
        if block.undecidable:
            reasons.setdefault(block.undecidable, []).append(block.name)
    for reason, names in reasons.items():
        which = "" if len(names) == len(blocks) else f" of {', '.join(names)}"
        yield f"Warning: this study{which} can decide nothing: {reason}."
    able = [block for block in blocks if not block.undecidable]
    if not able:
        return
    seeds = max(block.seeds for block in able)
    if not any(block.pilot for block in able):
        yield "What this can find is unknown: no runs to take the noise from; run a few seeds of two inits first, or state --sd."
    elif len(blocks) == 1:
        yield _finds_alone(able[0])
    else:
        yield (
            f"finds ≥: the true difference in Dice points that {seeds} seeds × the reported cases tell from 0 in 80 % of "
            "studies, for new seeds and cases, judged with the other differences of its table; in brackets what it may be, as "
            "the pilot's few runs tell their own noise only roughly. floor: what more seeds never get below (case noise)."
        )
    if any(block.interactions for block in able):
        yield INTERACTIONS
    yield _ratio(seeds, len(blocks))


def _finds_alone(block: _Block) -> str:
    """What a study of one block finds."""
    if math.isnan(block.finds.value) and block.pilot:
        return (
            f"With these {block.seeds} seeds not even a difference of 100 points is found in 80 % of studies (pilot: "
            f"{block.source}): take more seeds."
        )
    finds, power = block.finds, block.power
    unsure = ""
    if not math.isnan(finds.low):
        unsure = (
            f" The pilot's few runs tell their own noise only roughly: it may be {finds.low:.1f} to {finds.high:.1f} points, and "
            f"{finds.value:.1f} are found in {100 * power.low:.0f} to {100 * power.high:.0f} % of studies."
        )
    judged = _count(max(1, block.pairs), "difference")
    cases = _count(block.cases, "case")
    if block.patients < block.cases:
        cases = f"{cases} of {_count(block.patients, 'patient')}"
    return (
        f"With these {block.seeds} seeds × {cases} you can detect ≥ {finds.value:.1f} Dice points (80 % power at 5 % for "
        f"{judged} judged at once, new seeds and cases; pilot: {block.source}).{unsure} {_least(block.floor)}"
    )


def _least(points: float) -> str:
    if points < 0.05:
        return "More seeds help on: the noise of the cases is too small to be seen in the pilot."
    return f"More seeds stop helping below {points:.1f} points (case noise)."


def _ratio(seeds: int, blocks: int) -> str:
    found = detectable_ratio(seeds, blocks)
    one = f"testable with {seeds} seeds" if seeds >= SEEDS_TO_TEST else f"not testable below {SEEDS_TO_TEST} seeds"
    if isinstance(found, Refused):
        return f"Seed SDs of two inits: in one block {one}."
    pooled = f"a ratio of ≥ {found:.1f} is found" if found < _VAST else f"no ratio below {_VAST} is found, more blocks would help"
    return f"Seed SDs of two inits: in one block {one}; pooled over {blocks} blocks, {pooled}."


def _inits(plan: StudyPlan, runs: Sequence[Expected], names: Mapping[str, str]) -> Sheet:
    rows = []
    treatments = {_row_of(run.resolved) for run in runs}
    for members in _grouped(runs, lambda run: (_row_of(run.resolved), run.resolved.protocol)):
        time, counts = time_of(members, plan.measured), _counted(members)
        protocol = members[0].resolved.protocol
        hours = _row_time(time, counts["new"])
        rows.append((words.label(_row_of(members[0].resolved)), protocol, str(counts["new"]), str(counts["cached"]), hours))
    return Sheet(
        title="By init",
        subtitle="of all data sets and backbones",
        columns=("init", "protocol", "new", "cached", "time"),
        rows=tuple(rows),
        notes=(),
        values=tuple(_cell(members, plan, names, treatments) for members in _grouped(runs, _cell_of)),
    )


def _cell(members: Sequence[Expected], plan: StudyPlan, names: Mapping[str, str], rows: Collection[str]) -> dict[str, Any]:
    resolved, folder = members[0].resolved, members[0].folder
    return {
        "of": "cell",
        "dataset": names[_cell_of(members[0])],
        "backbone": resolved.backbone,
        "variant": resolved.variant,
        **named(_row_of(resolved), rows),
        "protocol": resolved.protocol,
        "cell": members[0].head.cell,
        **_counted(members),
        **_timed(time_of(members, plan.measured)),
        "bytes": sum(bytes_of(run, plan.measured) for run in members if run.state == "new"),
        "path": str(folder.parent) if folder else None,
    }


def _span(seconds: float, unit: str = "") -> str:
    """A duration; with a unit in its hours."""
    name = f"{unit}-" if unit else ""
    if seconds < _MINUTE:
        return f"{max(1, round(seconds))} {name}s"
    hours, minutes = seconds / 3600, seconds / 60
    if hours >= 1:
        return f"{hours:.0f} {name}h" if hours >= 10 else f"{hours:.1f} {name}h"
    return f"{minutes:.0f} {name}min" if minutes >= 10 else f"{minutes:.1f} {name}min"


def _size(count: float) -> str:
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.0f} {unit}"
    return f"{count / 1000:.0f} GB" if count >= 10_000 else f"{count / 1000:.1f} GB"


def _found(finds: Interval, *, known: bool) -> str:
    """A detectable difference, with what it may be; `known`: whether there is a pilot to say it."""
    if math.isnan(finds.value) and known:
        return "none"
    if math.isnan(finds.low):
        return _dice(finds.value)
    return f"{finds.value:.1f} [{finds.low:.1f}, {finds.high:.1f}]"


def _dice(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"
