"""What the missing runs of a study have to do, and how long their steps took in finished runs: for the time that is left."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from initbench.runs.costs import Sample, StudyPlan, pace_of
from initbench.runs.time_left import Workload
from initbench.studies.sweep import LookedUp


def workloads(study: LookedUp, plan: StudyPlan) -> dict[int, Workload | None]:
    """Returns the workloads of the runs that are missing, by their numbers; None of a run whose worker alone may run its code.

    Args:
        study: as it was looked up.
        plan: of the runs that may be looked at here.
    """
    found: dict[int, Workload | None] = {}
    for number, known in study.outcomes.items():
        if known.state == "pending":
            found[number] = None
    for number, run in zip(study.here, plan.runs, strict=True):
        if number in found:  # one that another run of the study does is cached in the plan, and is waited for all the same
            found[number] = Workload(pace_of(run.head), run.steps, _mean_paces(plan.measured.of_pace(run)))
    return found


def _mean_paces(samples: Sequence[Sample]) -> dict[str, float]:
    """Returns the seconds of a step by stage. Until its own stage is timed, a learned init counts as the others do."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        for stage, seconds in sample.paces.items():
            found.setdefault(stage, []).append(seconds)
    return {stage: fmean(seconds) for stage, seconds in found.items()}
