"""The scripts that hand a study to Slurm, as text that a person can read and edit.

prepare.sh   prepares the data and finds out where the results go
run.sh       does one run in each task of an array
submit.sh    submits both, and notes the jobs in the file `jobs`
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from initbench import digest
from initbench.clusters.settings import SlurmSettings

PREPARE, RUN, SUBMIT = "prepare.sh", "run.sh", "submit.sh"
JOBS = "jobs"
LOGS = "logs"
_LEAD = 120  # seconds before the end of its time at which a task is warned
_LEAD_SHARE = 4  # and no more than a quarter of its time: else a short task would be warned when it begins
_WEEK = 7 * 86400  # seconds, the longest limit that `work` takes
_RESTARTS = 20  # times that a run which is longer than the time of a task is begun again


@dataclass(frozen=True)
class Study:
    """What the scripts have to know of a study.

    Attributes:
        out: its folder, as an absolute path.
        name: of the jobs.
        seen: a file in `out` that a node has to see.
        program: words that start initbench.
        folder: where the jobs work: names of files are read from there.
        environment: variables that every job has.
        flags: more options of `initbench work`.
        prepare: options of `initbench work` of the job that prepares the data; None where there is nothing to prepare.
    """

    out: Path
    name: str
    seen: Path
    program: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    prepare: tuple[str, ...] | None = ()


@dataclass(frozen=True)
class Array:
    """An array of tasks. Task i does run ``first + i``.

    Attributes:
        indices: as sbatch takes them, ``0-3,7``.
        feature: that its nodes have to have; "" for any.
    """

    first: int
    indices: str
    feature: str = ""


def arrays(runs: Mapping[int, str], settings: SlurmSettings, size: int) -> list[Array]:
    """Divides a study into arrays. No index is above the limit of the site, and runs of one block and seed have one kind.

    Args:
        runs: by number, what the runs have in common that have to be on one kind of device.
        settings: its kinds have arrays of their own.
        size: how many indices an array has, from 0 on.
    """
    features = settings.features
    members: dict[tuple[str, int], list[int]] = {}
    for number, group in runs.items():
        # A digest, so that runs which are submitted again later come to the kind that the others of their group were on.
        feature = features[int(digest.of_json(group), 16) % len(features)]
        members.setdefault((feature, number // size), []).append(number % size)
    found = []
    for (feature, part), indices in sorted(members.items()):
        found.append(Array(part * size, ranges(indices), feature))
    return found


def ranges(numbers: Sequence[int]) -> str:
    """Writes numbers as sbatch takes them: ``0-3,7``."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    written = []
    for first, last in found:
        if first == last:
            written.append(str(first))
        else:
            written.append(f"{first}-{last}")
    return ",".join(written)


def scripts(study: Study, settings: SlurmSettings, parts: Sequence[Array]) -> dict[str, str]:
    """Writes the scripts of a study.

    Args:
        study: what the scripts have to know of it.
        settings: of the jobs.
        parts: the arrays that are submitted.

    Returns:
        The text of each script, by the name of its file.
    """
    found = {RUN: _run(study, settings), SUBMIT: _submit(study, settings, parts)}
    if study.prepare is not None:
        found[PREPARE] = _prepare(study, settings)
    return found


def resources(settings: SlurmSettings, feature: str = "") -> list[str]:
    """Returns the options of sbatch and srun that say what a task asks for, its time not among them."""
    asked = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": feature or settings.constraint,
        "gpus": settings.gpus,
        "cpus-per-task": settings.cpus,
        "mem": settings.mem,
    }
    options = []
    for key, value in asked.items():
        if value:
            options.append(f"--{key}={value}")
    return options


def time_option(settings: SlurmSettings) -> list[str]:
    """Returns the option of sbatch that says how long a task may take; none where the site decides."""
    if settings.seconds is None:
        return []
    return [f"--time={_clock(settings.seconds)}"]


def _head(study: Study, settings: SlurmSettings, log: str) -> list[str]:
    """Returns the lines for sbatch. Paths are relative to the folder of the scripts, where `submit.sh` submits them."""
    lines = [f"--job-name={study.name}", "--ntasks=1", *resources(settings), *time_option(settings)]
    lines += [f"--output={LOGS}/{log}.txt", "--open-mode=append", "--requeue", *settings.options]
    return [f"#SBATCH {line}" for line in lines]


def _begin(study: Study, settings: SlurmSettings) -> list[str]:
    """Returns what every job does first."""
    seen, folder = shlex.quote(str(study.seen)), shlex.quote(str(study.folder))
    missing = shlex.quote(f"initbench: this node does not see {study.out}: take a folder that all nodes see (--out)")
    lines = ["set -eu", f"[ -e {seen} ] || {{ echo {missing}; exit 1; }}", f"cd {folder}"]
    for key, value in study.environment.items():
        lines.append(f"export {key}={shlex.quote(value)}")
    return [*lines, *settings.setup.splitlines()]


def _work(study: Study, settings: SlurmSettings) -> str:
    program = settings.command or shlex.join(study.program)
    return f"exec {program} work {shlex.quote(str(study.out))}"


def _prepare(study: Study, settings: SlurmSettings) -> str:
    # It asks for what the runs ask for: the precision of a run may depend on its device, and the place of its result on that.
    lines = [
        "#!/bin/bash",
        "# Prepares the data of a study, and notes where its results go. submit.sh submits it.",
        *_head(study, settings, "prepare-%j"),
        "",
        *_begin(study, settings),
        f"{_work(study, settings)} {shlex.join(['--prepare', *(study.prepare or ())])}",
    ]
    return "\n".join(lines) + "\n"


def _run(study: Study, settings: SlurmSettings) -> str:
    lead = _LEAD
    limit: list[str] = []
    if settings.seconds is not None:
        lead = max(1, min(_LEAD, settings.seconds // _LEAD_SHARE))
        limit = ["--time-limit", f"{min(settings.seconds, _WEEK)}s"]
    words = shlex.join(["--or-next", "--requeue", str(_RESTARTS), *limit, *study.flags])
    lines = [
        "#!/bin/bash",
        "# One run of a study in each task of an array. Task N does run N + $1, as `initbench status` counts them. Where that is",
        "# done or in other hands, it does the next run that is free. submit.sh submits it.",
        *_head(study, settings, "%A_%a"),
        f"#SBATCH --signal=B:USR1@{lead}",
        "",
        *_begin(study, settings),
        "# A task that Slurm has started again waits for its run: the first copy of it may live on, on a node that Slurm lost.",
        "wait=--no-wait",
        'if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then wait=; fi',
        "# exec: the signals of Slurm then reach the run, which saves and stops.",
        f'{_work(study, settings)} --run "$((SLURM_ARRAY_TASK_ID + $1))" $wait {words}',
    ]
    return "\n".join(lines) + "\n"


def _submit(study: Study, settings: SlurmSettings, parts: Sequence[Array]) -> str:
    lines = [
        "#!/bin/bash",
        "# Submits the jobs of a study. Each line of the file jobs is a job and its first run; `initbench status` reads it.",
        "set -eu",
        'cd "$(dirname "$0")"',
        f"mkdir -p {LOGS}",
        "prepare=",
        "submit() {",
        '  job=$(sbatch --parsable "$@") || { if [ "$prepare" ]; then scancel "$prepare"; fi; exit 1; }',
        "  job=${job%%;*}  # where there are several clusters, the name of one comes after it",
        '  echo "$job"',
        "}",
    ]
    wait = ""
    if study.prepare is not None:
        lines += [f"submit {PREPARE}", f'prepare=$job; echo "$job" >>{JOBS}']
        wait = '--dependency="afterok:$prepare" --kill-on-invalid-dep=yes '
    most = ""
    if settings.max_parallel:
        most = f"%{max(1, settings.max_parallel // max(1, len(parts)))}"
    for part in parts:
        options = f"{wait}--array={part.indices}{most}"
        if part.feature:
            options = f"{wait}--constraint={shlex.quote(part.feature)} --array={part.indices}{most}"
        lines.append(f"submit {options} {RUN} {part.first}")
        lines.append(f'echo "$job {part.first}" >>{JOBS}')
    return "\n".join(lines) + "\n"


def _clock(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours // 24}-{hours % 24:02}:{minutes:02}:{seconds:02}"
