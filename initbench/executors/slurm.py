"""Runs as tasks of an array of Slurm. The scripts are kept in the folder of the study."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initbench import cache
from initbench.clusters import scripts
from initbench.clusters import settings as site
from initbench.clusters import slurm as jobs
from initbench.clusters.settings import read_settings
from initbench.datasets import open as sources
from initbench.errors import UsageError
from initbench.protocols import KindRule, Reporter, StudyWork, executor

# The variables that say where things are. A site may hand over no environment at all.
_PLACES = (cache.ENVIRONMENT, sources.ENVIRONMENT, site.ENVIRONMENT)
# On nodes of several kinds, runs of one block and seed that another kind began are left to that kind.
_FLAGS: Mapping[KindRule, tuple[str, ...]] = {"mix": ("--mix",), "pairs": ("--same-kind",), "same": ("--same-kind",)}


def _check(out: Path | None, *, dry_run: bool = False, **settings: Any) -> None:
    """Refuses settings that are wrong, jobs that Slurm would not take, and a machine without Slurm.

    Raises:
        UsageError: says which. InitbenchError: Slurm gives no answer.
    """
    chosen = read_settings(settings)
    if dry_run:
        return
    for feature in chosen.features:
        jobs.check_accepted([*scripts.resources(chosen, feature), *scripts.time_option(chosen), *chosen.options])


@executor(check=_check, queues=True)
def slurm(study: StudyWork, /, *, dry_run: bool = False, **settings: Any) -> SlurmSubmission:
    """Submits a study: a job that prepares the data, and an array with a run in each task.

    Args:
        study: the runs, which were noted.
        dry_run: whether the scripts are written and not submitted.
        **settings: of the jobs, over the site file; see `initbench.clusters.settings.SlurmSettings`.

    Raises:
        UsageError: a setting is wrong, there is no Slurm, it refuses the jobs, or a node does not see the study.
    """
    chosen = read_settings(settings)
    out = study.out.absolute()
    wanted = {}
    for run in study.runs:
        if run.number is None:
            raise UsageError(
                f"{out}: the study could not be noted, and tasks of Slurm read there what they do; choose another folder (--out)"
            )
        wanted[run.number] = run.pair
    name = jobs.name_of(out)
    if not dry_run:
        jobs.check_seen(out, scripts.resources(chosen))
    parts = scripts.arrays(wanted, chosen, chosen.array_size or _array_size(dry_run=dry_run))
    folder = jobs.new_folder(out)
    for file, text in scripts.scripts(_described(study, out, name, chosen.stage), chosen, parts).items():
        (folder / file).write_text(text, "utf-8")
    if dry_run:
        return SlurmSubmission(folder, [])
    return SlurmSubmission(folder, jobs.submit(folder))


@dataclass(frozen=True)
class SlurmSubmission:
    """Jobs in the queue, which need nobody to watch them.

    Attributes:
        folder: where their scripts and logs are.
        jobs: their ids; none where they were not submitted.
    """

    folder: Path
    jobs: list[str]

    def watch(self, reporter: Reporter) -> dict[int, Any]:
        """Returns at once: `initbench status` watches the study from anywhere."""
        return {}

    def cancel(self) -> None:
        """Takes the study out of the queue, and lets what runs save and stop."""
        jobs.cancel(self.folder.parents[1])


def _array_size(*, dry_run: bool) -> int:
    if dry_run and not jobs.is_here():
        return jobs.DEFAULT_ARRAY_SIZE
    return jobs.array_size()


def _described(study: StudyWork, out: Path, name: str, stage: str) -> scripts.Study:
    """Returns the study as its scripts name it.

    Args:
        study: the runs.
        out: its folder, as all nodes see it.
        name: of the jobs.
        stage: folder on a node's own disk that prepared data are copied to, or "".
    """
    code: tuple[str, ...] = ()
    if study.run_code:
        code = ("--run-code",)
    prepare: tuple[str, ...] | None = None
    if any(run.folder is None for run in study.runs):
        prepare = code
        if study.skip_refused:
            prepare = ("--skip-refused", *code)
    environment = {}
    for key in _PLACES:
        if key in os.environ:
            environment[key] = os.environ[key]
    environment[cache.ENVIRONMENT] = str(cache.root().absolute())
    if stage:
        environment[cache.STAGE] = stage
    return scripts.Study(
        out=out,
        name=name,
        seen=jobs.seen_file(out),
        program=_program(),
        folder=Path.cwd(),
        environment=environment,
        flags=(*_FLAGS[study.rule], *code),
        prepare=prepare,
    )


def _program() -> tuple[str, ...]:
    """Returns the words that start initbench on a node as it was started here."""
    beside = Path(sys.executable).with_name("initbench")
    if beside.is_file():
        return (str(beside),)
    return (sys.executable, "-m", "initbench")
