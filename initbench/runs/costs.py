"""What runs cost, read from those that are there: seconds by stage, bytes on disk; and what a plan asks for. No torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from initbench import digest
from initbench.runs import store
from initbench.runs.record import Head, Record, Resolved

# The slowest networks take this many times as long as a convolution of as many multiply-adds: networks of slices, and networks
# with few channels at large sizes. BACKBONES.md has the times of steps behind it.
SLOWEST = 12.0
# Bytes of a run's small files where no run says: of each run, of each step, and of each reported case.
_OVERLAY, _CURVE_ROW, _SLICE = 250_000, 100, 20_000

ExpectedState = Literal["new", "cached", "refused", "failed"]
Basis = Literal["operations", "timed steps", "finished runs"]
_BASES: tuple[Basis, ...] = get_args(Basis)  # the weakest first


@dataclass(frozen=True)
class Seconds:
    """How long something takes.

    Attributes:
        low: seconds at the least.
        high: seconds at the most.
        basis: the weakest that any part of them is from. In ``finished runs`` or ``timed steps`` a step was as fast as in the
            fastest of them, or as slow as in the slowest. By its ``operations`` it takes as long as a convolution of as many
            multiply-adds, or up to `SLOWEST` times as long.
    """

    low: float = 0.0
    high: float = 0.0
    basis: Basis = "finished runs"

    def __add__(self, other: Seconds) -> Seconds:
        basis = min(self.basis, other.basis, key=_BASES.index)
        return Seconds(self.low + other.low, self.high + other.high, basis)


@dataclass(frozen=True)
class Sample:
    """What one finished run cost, or a few steps that were timed for it.

    Attributes:
        init: the init with its parameters, as `init_of` names it; empty for steps that were timed with no init stage.
        paces: seconds of a step of each stage, where it was timed. A step of training has its share of Dice over the steps, and a
            step of ``evaluate`` is a reported case.
        stepless: seconds of an init stage without steps, in which an init looks at data.
        whole: whether a run is behind it, from start to end.
    """

    init: str
    paces: Mapping[str, float]
    stepless: float = 0.0
    whole: bool = True


@dataclass(frozen=True)
class Costs:
    """Costs of the runs below a folder.

    Attributes:
        samples: by `pace_of`.
        weights: bytes of a weights file, by `network_of`.
        rest: bytes of all other files of a run, by data set and backbone.
        kinds: a run of each kind of device that finished runs were done on, by the model of the device.
    """

    samples: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    rest: Mapping[tuple[str, str], float] = field(default_factory=dict)
    kinds: Mapping[str, Head] = field(default_factory=dict)

    def of_pace(self, run: Expected) -> tuple[Sample, ...]:
        """Returns the samples of the pace of a run."""
        return self.samples.get(pace_of(run.head), ())

    def with_sample(self, run: Expected, sample: Sample) -> Costs:
        """Returns the same costs with one more sample of the pace of a run."""
        return replace(self, samples={**self.samples, pace_of(run.head): (*self.of_pace(run), sample)})

    def bytes_of(self, run: Expected) -> int:
        """Returns the bytes that a new run leaves on the disk."""
        resolved = run.resolved
        rest = self.rest.get((resolved.dataset, resolved.backbone))
        if rest is None:
            rest = _OVERLAY + _CURVE_ROW * (run.train_steps + run.init_steps) + _SLICE * len(resolved.reported_cases)
        files_of_weights = 2 if run.keeps else 1
        return int(rest + self.weights.get(network_of(resolved), run.weights) * files_of_weights)


@dataclass(frozen=True)
class Expected:
    """A run of a plan.

    Attributes:
        record: the head of the record it would leave: what it resolves to, and where it would run. None where it is refused.
        state: ``new``; ``cached`` where its result is there, or another run of the plan leaves the same one; ``refused``;
            ``failed`` where its data cannot be read.
        folder: where its result is or goes.
        init_steps: steps of the init stage that are left for it to do.
        init_stage: whether it has an init stage to do; an earlier run of the plan may do it for both.
        train_steps: likewise of training.
        keeps: whether the weights after its init stage are kept for other runs, beside its own.
        weights: bytes of its weights.
        checkpoints: bytes of its checkpoints while it is in hand.
        begun: whether it goes on from where it was stopped.
        seconds: that a new run takes from now on; None where nobody knows.
    """

    label: str
    state: ExpectedState
    message: str = ""
    record: Head | None = None
    folder: Path | None = None
    init_stage: bool = True
    init_steps: int = 0
    train_steps: int = 0
    keeps: bool = False
    weights: int = 0
    checkpoints: int = 0
    begun: bool = False
    seconds: Seconds | None = None

    @property
    def head(self) -> Head:
        """The head of its record; only runs that are not refused have one."""
        assert self.record is not None, self.label  # noqa: S101
        return self.record

    @property
    def resolved(self) -> Resolved:
        """What it resolves to; only runs that are not refused do."""
        return self.head.resolved

    @property
    def steps(self) -> dict[str, int]:
        """Steps of each stage that are left for it to do; a step of ``evaluate`` is a case."""
        return {"pretext": self.init_steps, "train": self.train_steps, "evaluate": len(self.resolved.reported_cases)}


@dataclass(frozen=True)
class StudyPlan:
    """What a sweep would be.

    Attributes:
        jobs: runs at a time, on all devices together.
        lanes: runs that the machine does at a time without sharing a device or a core.
        accelerated: whether they run on a GPU.
        free: bytes free where they go.
        remarks: what should be known of their data, each with the data set before it.
    """

    runs: tuple[Expected, ...]
    measured: Costs
    protocol: str
    jobs: int
    lanes: int
    accelerated: bool
    free: int
    remarks: tuple[str, ...] = ()

    @property
    def at_once(self) -> int:
        """Runs at a time that share neither a device nor a core."""
        return max(1, min(self.jobs, self.lanes))

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of the checkpoints while runs are in hand, where those with the largest ones meet."""
        each = sorted((run.checkpoints for run in self.runs if run.state == "new"), reverse=True)
        return sum(each[: self.jobs])


def init_of(resolved: Resolved) -> str:
    """Returns the digest of the init of a run with all of its parameters."""
    return digest.of_json([resolved.init, resolved.init_params])


def network_of(resolved: Resolved) -> str:
    """Returns the digest of what decides the size of a network."""
    network = [resolved.backbone, resolved.variant, resolved.size, resolved.dataset]
    return digest.of_json([*network, resolved.recipe.patch])


def pace_of(run: Head) -> str:
    """Returns the digest of what two runs share if one says how long the other takes.

    That is network, data, patches, precision, device and regimen.

    The number of steps is not in it, as seconds are scaled by it, and neither is the init, as its stage is timed on its own. What
    windows average takes no time, and records that are older than this setting do not have it.
    """
    resolved, environment = run.resolved, run.environment
    recipe = resolved.recipe
    inference = dict(recipe.inference)
    inference.pop("average", None)
    device, threads = environment.accelerator, None
    if not device:
        device, threads = environment.cpu, environment.threads
    return digest.of_json(
        [
            network_of(resolved),
            resolved.preprocess,
            resolved.precision,
            recipe.loss.get("deep_supervision"),
            inference,
            device,
            threads,
            resolved.regimen,
        ]
    )


def on_kind(run: Expected, example: Head, measured: Costs) -> Expected:
    """Returns a run of a plan as it would be on the kind of device that another run was done on.

    Args:
        run: of the plan.
        example: a run that was done there.
        measured: what finished runs cost.
    """
    if run.record is None:
        return run
    resolved = run.resolved
    if run.record.asked.precision == "auto":
        resolved = resolved.model_copy(update={"precision": example.resolved.precision})
    head = run.record.model_copy(update={"environment": example.environment, "resolved": resolved})
    there = replace(run, record=head)
    return replace(there, seconds=seconds_of(there, measured.of_pace(there)))


def seconds_of(run: Expected, samples: Sequence[Sample], least: Mapping[str, float] | None = None) -> Seconds | None:
    """Returns the seconds of a run, with steps and cases at the paces of the samples; None where a part is not known.

    Args:
        run: of a plan.
        samples: of the pace of the run.
        least: seconds of a step by stage at the least, for stages that are in no sample.
    """
    total = Seconds()
    stepless = [sample.stepless for sample in _of_init(run, samples)]
    if stepless and run.init_stage:
        total += Seconds(min(stepless), max(stepless))
    for stage, steps in run.steps.items():
        if not steps:
            continue
        step = _seconds_of_step(run, stage, samples, least)
        if step is None:
            return None
        total += Seconds(steps * step.low, steps * step.high, step.basis)
    return total


def _seconds_of_step(run: Expected, stage: str, samples: Sequence[Sample], least: Mapping[str, float] | None) -> Seconds | None:
    timed = timed_for(run, stage, samples)
    if timed:
        paces = [sample.paces[stage] for sample in timed]
        of_runs = any(sample.whole for sample in timed)
        return Seconds(min(paces), max(paces), "finished runs" if of_runs else "timed steps")
    if least is None or math.isnan(least[stage]):
        return None
    return Seconds(least[stage], SLOWEST * least[stage], "operations")


def timed_for(run: Expected, stage: str, samples: Sequence[Sample]) -> list[Sample]:
    """Returns the samples that tell the pace of a stage of a run. Its init stage is as fast as in samples of the same init alone.

    Args:
        run: of a plan.
        stage: of it.
        samples: of the pace of the run.
    """
    if stage == "pretext":
        samples = _of_init(run, samples)
    return [sample for sample in samples if stage in sample.paces]


def _of_init(run: Expected, samples: Sequence[Sample]) -> list[Sample]:
    own = init_of(run.resolved)
    return [sample for sample in samples if sample.init == own]


def read_costs(out: Path) -> Costs:
    """Reads the costs of the runs below a folder; none where there is no such folder.

    Diverged runs stopped early and are left out, and so are runs that are not as they were written, and runs whose weights
    another run trained, maybe on another machine.
    """
    samples: dict[str, list[Sample]] = defaultdict(list)
    weights: dict[str, int] = {}
    rest: dict[tuple[str, str], list[int]] = defaultdict(list)
    kinds: dict[str, Head] = {}
    for folder in store.find_runs(out):
        record = store.read_record(folder)
        if record is None or record.status != "ok" or store.problem(folder, record):
            continue
        resolved, size = record.resolved, record.sizes.get(store.WEIGHTS, 0)
        kinds[record.environment.accelerator or record.environment.cpu or "a CPU"] = record
        if record.weights_from is None:
            samples[pace_of(record)].append(sample_of(record))
        if size:
            weights[network_of(resolved)] = size
        whole = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        rest[resolved.dataset, resolved.backbone].append(whole - size)
    return Costs(
        samples={key: tuple(found) for key, found in samples.items()},
        weights=weights,
        rest={key: sum(found) / len(found) for key, found in rest.items()},
        kinds=kinds,
    )


def sample_of(record: Record) -> Sample:
    """Returns what a finished run cost, by step and by case."""
    cost, cases = record.cost, len(record.resolved.reported_cases)
    trained = cost.train.seconds + cost.validation.seconds  # who waits for a run waits for both
    taken: dict[str, tuple[float, int]] = {
        "pretext": (cost.init.seconds, cost.init.steps),
        "train": (trained, cost.train.steps),
        "evaluate": (cost.evaluate_seconds, cases),
    }
    paces: dict[str, float] = {}
    for stage, (seconds, steps) in taken.items():
        if steps:
            paces[stage] = seconds / steps
    stepless = 0.0
    if "pretext" not in paces:
        stepless = cost.init.seconds
    return Sample(init_of(record.resolved), paces, stepless)
