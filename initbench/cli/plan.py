"""``initbench plan``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from initbench.cli.output import saying, show
from initbench.errors import UsageError
from initbench.stats.power import Pilot, stated

if TYPE_CHECKING:
    from initbench.runs.costs import StudyPlan
    from initbench.stats.table import ScoreTable


def plan_command(
    *,
    init: list[str],
    backbone: list[str],
    dataset: list[str],
    seeds: list[int],
    protocol: str,
    placebo: bool,
    jobs: int,
    measure: bool,
    sds: str | None,
    form: str,
    options: dict[str, Any],
) -> None:
    """Prints what `run` would do with the same options. Exits with 2 where a run is refused, 1 where data are missing."""
    from initbench.harness.request import check_names

    for kind, texts in (("initializer", init), ("backbone", backbone)):
        check_names(kind, texts)  # type: ignore[arg-type]
    noise = _noise(sds)
    console = Console(stderr=True, highlight=False)
    with saying(console, "loading torch"):
        from initbench.studies.forecast import plan_study
        from initbench.studies.sweep import cross_requests
    from initbench.tables.plan import plan_sheets

    requests = cross_requests(init, backbone, dataset, seeds=seeds, protocol=protocol, placebo=placebo, **options)  # type: ignore[arg-type]
    with saying(console, "timing a few steps" if measure else "resolving"):
        study = plan_study(requests, protocol, jobs, measure=measure)
    found = plan_sheets(study, [] if noise else blocks(options["out"]), noise)
    show(found, form)
    end(study)


def end(study: StudyPlan) -> None:
    """Exits with 2 where a run is refused, 1 where data are missing."""
    states = {run.state for run in study.runs}
    if states & {"refused", "failed"}:
        sys.exit(2 if "refused" in states else 1)


def _noise(sds: str | None) -> Pilot | None:
    from initbench.cli.statistics import three_sds

    return None if sds is None else stated(*three_sds(sds))


def blocks(out: Path) -> list[ScoreTable]:
    """The blocks of runs that are there, to take the noise from."""
    from initbench.tables.study import read_study

    try:
        return list(read_study(out).tables)
    except UsageError:  # no runs yet
        return []
