"""Jobs of Slurm that work on a study: how they are submitted, what the queue says of them, and how they are stopped.

OUT/.slurm/name          the name of all jobs of the study
OUT/.slurm/<n>/          scripts of a submission, its logs, and the file `jobs`: a job in each line, and the run of its task 0
OUT/.slurm/queue         what squeue said last; every command that asks within `FRESH` seconds reads it there

The run folders say what is true. The queue only says which runs need not be submitted again, and needs no accounting.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from initbench.clusters import scripts
from initbench.errors import InitbenchError, UsageError
from initbench.limits import MAX_NOTE, MAX_STATE, read_regular
from initbench.printable import printable

FOLDER = ".slurm"
FRESH = 30.0  # seconds: many commands may watch a study, and squeue is asked twice a minute
_NAME, _QUEUE = "name", "queue"
_PATIENCE = 30.0  # seconds for a command of Slurm; its controller may be busy
_ANSWER = 6.0  # and those until somebody who mistyped an option is told so
_PROBE = 6.0  # seconds for the look at a node
_PROBE_IDLE = 4  # and those in which a node has to be idle
DEFAULT_ARRAY_SIZE = 1001  # Slurm's own default of MaxArraySize
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("RECONFIG_FAIL", "REVOKED", "TIMEOUT"),
}
_NEVER = "DependencyNeverSatisfied"


@dataclass(frozen=True)
class Job:
    """A job of a study.

    Attributes:
        first: the run of its task 0; None for the job that prepares the data.
    """

    id: str
    first: int | None
    folder: Path


@dataclass(frozen=True)
class Task:
    """What the queue says of a task.

    Attributes:
        id: as scancel takes it.
        state: as Slurm says it, as RUNNING.
        reason: why it waits, or how it ended.
    """

    id: str
    state: str
    reason: str

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or will."""
        return self.state not in _ENDED and self.reason != _NEVER

    def __str__(self) -> str:
        said = f"Slurm {self.id} {self.state.lower()}"
        if self.reason not in ("", "None"):
            said += f", {self.reason}"
        return said


def is_used(out: Path) -> bool:
    """Returns whether a study was ever written down for Slurm."""
    return (out / FOLDER / _NAME).is_file()


def is_here() -> bool:
    """Returns whether this machine can talk to a Slurm."""
    return shutil.which("squeue") is not None


def check_here() -> None:
    """Refuses to submit where there is no Slurm.

    Raises:
        UsageError: there is no `sbatch`.
    """
    if shutil.which("sbatch") is None:
        raise UsageError(
            "there is no sbatch here: run it on a machine that submits to Slurm, load the site's module for it, or write the "
            "scripts alone (--dry-run)"
        )


def check_accepted(asked: Sequence[str]) -> None:
    """Asks Slurm whether it would take a job, which is not submitted.

    Args:
        asked: what the job asks for, as sbatch takes it.

    Raises:
        UsageError: there is no Slurm here, or it would not.
        InitbenchError: Slurm gives no answer.
    """
    check_here()
    done = _run("sbatch", "--test-only", *asked, "--wrap=true", patience=_ANSWER)
    if done.returncode:
        raise UsageError(f"Slurm refuses such jobs: {_complaint(done.stderr)}; change --slurm or the site file")


def name_of(out: Path) -> str:
    """Returns the name of the jobs of a study, which is made when it is first asked for.

    Raises:
        OSError: the folder of the study cannot be written.
    """
    path = out / FOLDER / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), path.open("x", encoding="ascii") as file:
        file.write(f"initbench-{uuid.uuid4().hex[:8]}")
    return read_regular(path, MAX_STATE).decode("ascii", "replace").strip()


def seen_file(out: Path) -> Path:
    """Returns a file that is there once the study has a name: who does not see it does not see the study."""
    return out / FOLDER / _NAME


def new_folder(out: Path) -> Path:
    """Makes a new folder for the scripts of a submission."""
    place = out / FOLDER
    number = 1
    for path in place.glob("[0-9]*"):
        if path.name.isdecimal():
            number = max(number, int(path.name) + 1)
    while True:
        folder = place / f"{number:03}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # somebody else submits the same study
            number += 1
        else:
            return folder


def array_size() -> int:
    """Returns how many indices an array may have here, from 0 on; Slurm's default where it does not say."""
    answer = _ask("scontrol", "show", "config")
    for line in answer.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize" and value.strip().isdecimal():
            return max(1, int(value))
    return DEFAULT_ARRAY_SIZE


def check_seen(out: Path, asked: Sequence[str]) -> None:
    """Looks from a node whether it sees the study, where a node is idle; else the jobs look themselves when they begin.

    Args:
        out: the folder of the study.
        asked: what the jobs ask for, as srun takes it.

    Raises:
        UsageError: a node does not see it.
    """
    look = f"if [ -e {shlex.quote(str(seen_file(out)))} ]; then echo seen; else echo hidden on ${{SLURMD_NODENAME:-a node}}; fi"
    command = ["srun", f"--immediate={_PROBE_IDLE}", "--ntasks=1", "--time=1", "--mpi=none", "--quiet", *asked]
    try:
        # From the root folder: a node that does not see the current one would say so first.
        done = _run(*command, "--chdir=/", "sh", "-c", look, patience=_PROBE)
    except InitbenchError:
        return
    if done.stdout.startswith("hidden"):
        where = printable(done.stdout.removeprefix("hidden on").strip())
        raise UsageError(f"node {where} does not see {out}: take a folder that all nodes see (--out)")


def submit(folder: Path) -> list[str]:
    """Runs the script that submits, and returns the ids of the jobs.

    Raises:
        UsageError: Slurm refuses a job.
        InitbenchError: Slurm gives no answer.
    """
    (folder.parent / _QUEUE).unlink(missing_ok=True)  # it does not know the jobs that come
    done = _run("bash", str(folder / scripts.SUBMIT))
    if done.returncode:
        raise UsageError(f"Slurm refuses the job: {_complaint(done.stderr)}; change --slurm or the site file (scripts: {folder})")
    return done.stdout.split()


def jobs_of(out: Path) -> list[Job]:
    """Returns the jobs that were submitted for a study, in their order."""
    found = []
    for path in sorted((out / FOLDER).glob(f"*/{scripts.JOBS}")):
        try:
            lines = read_regular(path, MAX_STATE).decode("ascii", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if not words or not all(word.isdecimal() for word in words):
                continue
            first = None
            if len(words) > 1:
                first = int(words[1])
            found.append(Job(words[0], first, path.parent))
    return found


def queue(out: Path, *, now: bool = False) -> dict[int, Task]:
    """Returns what the queue says of the runs of a study, by their numbers: the last task of each, one that lives before others.

    Args:
        out: the folder of the study.
        now: whether an answer of a moment ago does not do.

    Raises:
        InitbenchError: squeue gives no answer.
    """
    jobs = {job.id: job for job in jobs_of(out)}
    found: dict[int, Task] = {}
    for task in _read_queue(out, now=now):
        job, _, index = task.id.partition("_")
        known = jobs.get(job)
        if known is None or known.first is None or not index.isdecimal():
            continue
        number = known.first + int(index)
        before = found.get(number)
        if before is None or task.is_alive or not before.is_alive:
            found[number] = task
    return found


def cancel(out: Path) -> list[str]:
    """Takes the tasks of a study that wait out of the queue, and warns those that run, so that they save and stop.

    Returns:
        The ids of the jobs.

    Raises:
        InitbenchError: scancel gives no answer.
    """
    ids = [job.id for job in jobs_of(out)]
    if ids:
        _ask("scancel", "--quiet", "--state=PENDING", *ids)
        # To the run itself, which is the process of the batch script.
        _ask("scancel", "--quiet", "--state=RUNNING", "--batch", "--signal=USR1", *ids)
        (out / FOLDER / _QUEUE).unlink(missing_ok=True)
    return ids


def requeue(environment: Mapping[str, str], most: int) -> str:
    """Asks Slurm to begin the task of this process again. Slurm ends the process then.

    Args:
        environment: of the process.
        most: times that a task is begun again.

    Returns:
        What became of it, for people.
    """
    array, index = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    job = environment.get("SLURM_JOB_ID", "")
    if array and index:
        job = f"{array}_{index}"
    begun = environment.get("SLURM_RESTART_COUNT", "0")
    if not job:
        return "this is no job of Slurm, so nothing begins it again"
    if begun.isdecimal() and int(begun) >= most:
        return f"it was begun again {begun} times, which is enough; `initbench run` or `retry` goes on"
    try:
        _ask("scontrol", "requeue", job)
    except InitbenchError as error:
        return f"Slurm does not begin it again ({error}); `initbench run` or `retry` goes on"
    return f"Slurm begins task {job} again"


def _read_queue(out: Path, *, now: bool) -> list[Task]:
    """Returns the tasks of a study as squeue says them, or said a moment ago."""
    path = out / FOLDER / _QUEUE
    text = None
    if not now:
        text = _fresh(path)
    if text is None:
        with contextlib.suppress(OSError):
            os.utime(path)  # Others who watch the study read the last answer until this one asks again.
        wanted = name_of(out)
        # With the name, as squeue fails where one of several ids is no longer known.
        text = _ask("squeue", "--noheader", "--array", "--states=all", f"--name={wanted}", "--format=%i|%T|%r")
        _keep(path, text)
    tasks = []
    for line in text.splitlines():
        parts = [printable(part.strip()) for part in line.split("|", 2)]
        if len(parts) == 3:
            tasks.append(Task(*parts))
    return tasks


def _fresh(path: Path) -> str | None:
    """Returns what squeue said last; None where that is too long ago."""
    try:
        if not 0 <= time.time() - path.stat().st_mtime < FRESH:
            return None
        return read_regular(path, MAX_NOTE).decode("utf-8", "replace")
    except OSError:
        return None


def _keep(path: Path, text: str) -> None:
    """Keeps an answer for others. Where the study cannot be written, each asks for itself."""
    with contextlib.suppress(OSError):
        descriptor, name = tempfile.mkstemp(prefix=".queue-", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)


def _ask(*command: str) -> str:
    """Runs a command of Slurm and returns what it prints.

    Raises:
        InitbenchError: it is not here, gives no answer, or fails.
    """
    done = _run(*command)
    if done.returncode:
        reason = _complaint(done.stderr)
        raise InitbenchError(f"{command[0]}: {reason}; mend it, or ask those who run this Slurm")
    return done.stdout


def _run(*command: str, patience: float = _PATIENCE) -> subprocess.CompletedProcess[str]:
    """Runs a command and returns what became of it.

    Args:
        *command: its words.
        patience: seconds until it is given up.

    Raises:
        InitbenchError: it is not here, or gives no answer.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=patience)  # noqa: S603
    except FileNotFoundError:
        raise InitbenchError(f"there is no {command[0]} here; run this on a machine that talks to Slurm") from None
    except (OSError, subprocess.TimeoutExpired):
        raise InitbenchError(f"{command[0]} gives no answer within {patience:.0f} s; ask again later") from None


def _complaint(text: str) -> str:
    """Returns what a command of Slurm complained of last, in a line."""
    for line in reversed(text.splitlines()):
        said = line.partition("error:")[2].strip() or line.strip()
        if said:
            return printable(said)
    return "it does not say why"
