"""Time and peak memory of the commands that read whole studies, on made-up ones: ``python -m benchmarks.large_study``.

Every command runs as people run it, in a process of its own, twice: its first run reads files that may not be in memory and
finds no cache of its own; the second finds what the first one left. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.synthetic_study import Design, write_study

STUDIES = {200: Design(), 10_000: Design(datasets=5, backbones=10, inits=20, seeds=10)}
_GIB = 2**30


@dataclass(frozen=True)
class Goal:
    """What a command may take."""

    seconds: float
    gib: float


GOALS = {
    ("leaderboard", 200): Goal(2, 2),
    ("leaderboard", 10_000): Goal(10, 2),
    ("report", 10_000): Goal(30, 2),
}
WITH_FILE = ("report",)  # commands that write a page


@dataclass(frozen=True)
class Measured:
    """A process: seconds from start to end, those of a processor, bytes at its peak, and how it ended."""

    seconds: float
    busy: float
    peak: int
    code: int
    said: str


def measure(command: list[str]) -> Measured:
    """Runs a command; its children count for its peak where they are larger."""
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)  # noqa: S603
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return Measured(
            seconds,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024,
            process.returncode,
            said.read().decode(errors="replace"),
        )


_INITBENCH = [sys.executable, "-m", "initbench"]


def lines(commands: list[str], sizes: list[int], folder: Path) -> Iterator[tuple[str, bool]]:
    """Rows of the table, and whether each is within its goal."""
    for size in sizes:
        study = folder / f"study-{size}"
        started = time.perf_counter()
        count = write_study(study, STUDIES[size])
        print(f"{count} runs written in {time.perf_counter() - started:.1f} s", file=sys.stderr)
        for name in commands:
            page = ["--file", str(folder / f"{name}-{size}.html")] if name in WITH_FILE else []
            for turn in ("first", "again"):
                found = measure([*_INITBENCH, name, "--out", str(study), *page])
                yield _row(name, count, turn, found), _fits(found, GOALS.get((name, size)))


def _row(name: str, runs: int, turn: str, found: Measured) -> str:
    if found.code:
        return f"| `{name}` | {runs:,} | {turn} | exit code {found.code}: {found.said.strip().splitlines()[-1:]} | | | |"
    goal = GOALS.get((name, runs))
    wanted = f"{goal.seconds:g} s, {goal.gib:g} GiB" if goal else ""
    return f"| `{name}` | {runs:,} | {turn} | {found.seconds:.1f} | {found.busy:.1f} | {found.peak / _GIB:.2f} | {wanted} |"


def _fits(found: Measured, goal: Goal | None) -> bool:
    return not found.code and (goal is None or (found.seconds < goal.seconds and found.peak < goal.gib * _GIB))


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", action="append", help="of initbench; by default leaderboard and report")
    parser.add_argument("--runs", type=int, action="append", choices=list(STUDIES), help="by default all")
    parser.add_argument("--keep", type=Path, help="folder in which the studies stay")
    given = parser.parse_args()
    commands = given.command or ["leaderboard", "report"]
    folder = given.keep or Path(tempfile.mkdtemp(prefix="initbench-study-"))
    print("| command | runs | turn | seconds | of a processor | peak, GiB | goal |\n|" + " --- |" * 7)
    fits = True
    try:
        for row, good in lines(commands, given.runs or list(STUDIES), folder):
            print(row, flush=True)
            fits &= good
    finally:
        if given.keep is None:
            shutil.rmtree(folder)
    sys.exit(0 if fits else 1)


if __name__ == "__main__":
    main()
