"""What the missing runs of a study have to do, and how long their steps took in its finished runs: for the time that is left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from initbench.runs import costs, store
from initbench.runs.costs import Sample
from initbench.runs.time_left import Workload
from initbench.studies.engine import code_of_others
from initbench.studies.forecast import head_of, steps_left
from initbench.studies.sweep import LookedUp

_EXAMPLES = 200  # finished runs that are read; more of them say the same


def workloads(study: LookedUp) -> dict[int, Workload | None]:
    """The workloads of the runs that are missing, by their numbers; None of a run that brings code of others.

    Args:
        study: as it was looked up.
    """
    samples = _samples(study)
    paces: dict[str, str] = {}  # by cell: its seeds have one pace
    found: dict[int, Workload | None] = {}
    for number, known in study.outcomes.items():
        request = study.requests[number]
        if known.state != "pending":
            continue
        if code_of_others(request):  # its worker alone may run it
            found[number] = None
            continue
        cell = study.cells.resolve(request)
        if cell.id not in paces:
            paces[cell.id] = costs.pace_of(head_of(cell))
        kind = paces[cell.id]
        pretext, train, _ = steps_left(cell, known.folder)
        steps = {"pretext": pretext or 0, "train": train, "evaluate": len(cell.prepared.split.test)}
        found[number] = Workload(kind, steps, _paces(samples.get(kind, ())))
    return found


def _samples(study: LookedUp) -> dict[str, list[Sample]]:
    """What the finished runs of a study cost, by their pace."""
    samples = defaultdict(list)
    folders = [known.folder for known in study.outcomes.values() if known.state == "cached"]
    for folder in folders[:_EXAMPLES]:
        record = store.read_record(folder) if folder else None
        if record is not None and record.status == "ok" and record.weights_from is None:
            samples[costs.pace_of(record)].append(costs.sample_of(record))
    return samples


def _paces(samples: Sequence[Sample]) -> dict[str, float]:
    """Mean seconds of a step by stage, as far as the samples know them."""
    of_stages: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.init_steps:
            of_stages["pretext"].append(sample.init_seconds / sample.init_steps)
        if sample.train is not None:
            of_stages["train"].append(sample.train)
        if sample.evaluate is not None:
            of_stages["evaluate"].append(sample.evaluate)
    return {stage: fmean(paces) for stage, paces in of_stages.items()}
