"""Ratios of ours to peers, measured by turns, for `benchmarks.ratios`."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from initbench.protocols import Grid

Target = Callable[[int], object]
# Runs a command and waits for all that it leaves: by PR_SET_CHILD_SUBREAPER (36) of Linux it inherits whoever loses a parent.
_AWAIT_ALL = """
import contextlib, ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
ended = subprocess.call(sys.argv[1:])
with contextlib.suppress(ChildProcessError):
    while True:
        os.wait()
sys.exit(ended)
"""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        part: of the table.
        what: was done, and where.
        peer: what initbench is compared with.
        ours: median seconds. theirs: likewise.
        ratio: median of theirs / ours. least, largest: of it.
        interval: of the median, with 95 % confidence; None where there are too few turns for one.
    """

    part: str
    what: str
    peer: str
    ours: float
    theirs: float
    ratio: float
    least: float
    largest: float
    interval: tuple[float, float] | None = None

    def as_markdown(self) -> str:
        """The row of a table."""
        about = f"{self.part} | {self.what} | {self.peer} | {1e3 * self.ours:.3g} | {1e3 * self.theirs:.3g}"
        within = f"; {self.interval[0]:.2f} to {self.interval[1]:.2f}" if self.interval else ""
        return f"| {about} | {self.ratio:.2f} ({self.least:.2f} to {self.largest:.2f}{within}) |"


HEAD = "| part | what | peer | initbench, ms | peer, ms | peer / initbench |\n| --- | --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class Setting:
    """Where and how much is measured.

    Attributes:
        scale: shortens edges of volumes and patches, for trying the script.
        steps: of whole runs.
    """

    device: torch.device
    turns: int = 9
    repeats: int = 12
    scale: float = 1.0
    steps: int = 120

    def grid(self, d: int, h: int, w: int) -> Grid:
        """A grid, scaled, in multiples of 16."""
        edges = [max(16, int(edge * self.scale) // 16 * 16) for edge in (d, h, w)]
        return edges[0], edges[1], edges[2]


def in_turns(targets: Mapping[str, Target], setting: Setting) -> dict[str, list[float]]:
    """Seconds of one call of each target, by turn. Each turn calls each target some times; the first turn does not count."""
    cuda = setting.device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    found: dict[str, list[float]] = {name: [] for name in targets}
    for turn in range(setting.turns + 1):
        for name, target in targets.items():
            started = clock()
            for repeat in range(setting.repeats):
                target(turn * setting.repeats + repeat)
            if cuda:
                torch.cuda.synchronize(setting.device)
            if turn:
                found[name].append((clock() - started) / setting.repeats)
    return found


def compare(part: str, what: str, ours: Target, peers: Mapping[str, Target], setting: Setting) -> list[Row]:
    """A row for each peer."""
    seconds = in_turns({"initbench": ours, **peers}, setting)
    own = seconds.pop("initbench")
    return [row_of(part, f"{what}, {setting.device.type}", peer, own, theirs) for peer, theirs in seconds.items()]


def row_of(part: str, what: str, peer: str, ours: Sequence[float], theirs: Sequence[float]) -> Row:
    """The row of measured seconds, turn by turn."""
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    middle = statistics.median(ratios)
    bounds = min(ratios), max(ratios)
    return Row(part, what, peer, statistics.median(ours), statistics.median(theirs), middle, *bounds, interval_of(ratios))


# Of so many sorted values, the place of the lower end of a 95 % interval of the median, by the binomial distribution.
LOWER_ENDS = {6: 0, 7: 0, 8: 0, 9: 1, 10: 1, 11: 1, 12: 2, 13: 2, 14: 2, 15: 3, 16: 3, 17: 4, 18: 4, 19: 4, 20: 5}


def interval_of(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of a median, which supposes nothing about how the values are spread; None for too few or too many."""
    if len(values) not in LOWER_ENDS:
        return None
    place = LOWER_ENDS[len(values)]
    return sorted(values)[place], sorted(values)[-1 - place]


def seconds_of(command: Sequence[str], cache: Path | None = None) -> float:
    """Processor seconds of a command and of every process that it leaves, such as the one that workers are forked from.

    Args:
        command: it has to succeed.
        cache: folder of prepared data.

    Raises:
        RuntimeError: it failed.
    """
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    if cache is not None:
        variables["INITBENCH_CACHE"] = str(cache)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([sys.executable, "-c", _AWAIT_ALL, *command], capture_output=True, check=False, env=variables)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        said = ended.stderr.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}: {said}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
