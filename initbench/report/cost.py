"""Dice against cost: the score of each run against its time, both protocols in one chart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Family, Row, Run
from initbench.report.figure import Figure, Name, Plane, group, leader, least_height
from initbench.report.svg import Scale
from initbench.report.traces import time_unit
from initbench.tables import words

_TITLE = "Dice against cost"
_HOLLOW = "equal-finetune"  # whose marks are hollow
_HEIGHT = 280.0


@dataclass(frozen=True)
class Point:
    """An init under a protocol: its runs, their mean time in seconds, and their mean Dice in points."""

    row: Row
    runs: tuple[Run, ...]
    seconds: float
    dice: float

    @property
    def kind(self) -> str:
        """The class of its marks, by the protocol."""
        if self.row.protocol == _HOLLOW:
            return "dot hollow"
        return "dot"


def cost(family: Family) -> Figure:
    """Draws Dice against the time of a run, for all protocols of a family."""
    points = _points(family)
    if not points:
        return Figure("cost", _TITLE, "No run has both a score and a time.")
    runs: list[Run] = []
    for point in points:
        runs += point.runs
    where = _where(runs)
    caption = (
        f"Time of a run on {where}: init stage, training and evaluation. A small mark is a run, a large one the mean of an init."
    )
    if any(point.row.protocol == _HOLLOW for point in points):
        caption += f" Hollow: {_HOLLOW}."
    if any(run.is_diverged for run in runs):
        caption += " Diverged runs score 0 and count in the mean; a mean below the axis has an arrow, a run there is left out."
    if where == "CPU and GPU":
        caption += " Runs of both kinds are mixed: their times do not compare."
    return Figure("cost", _TITLE, caption, _drawn(points, runs, where), wide=family.paired)


def _where(runs: Sequence[Run]) -> str:
    """Returns the kind of device of some runs, in words."""
    on_gpu = sum(run.gpu for run in runs)
    if on_gpu == 0:
        return "the CPU"
    if on_gpu == len(runs):
        return "the GPU"
    return "CPU and GPU"


def _points(family: Family) -> list[Point]:
    """Returns the inits of a family that have runs with a score and a time.

    An init that learns nothing has the same runs in all blocks of a family, and is drawn once.
    """
    rows: dict[str, Row] = {}
    for block in family.blocks:
        for row in block.rows:
            rows[row.standing.cell] = row
    found = []
    for row in rows.values():
        runs = []
        for run in row.runs:
            counts = run.counted or row.standing.role == "withheld"
            if counts and run.is_scored and math.isfinite(run.seconds):
                runs.append(run)
        if runs:
            seconds, dice = np.mean([(run.seconds, run.dice) for run in runs], axis=0)
            found.append(Point(row, tuple(runs), float(seconds), float(dice)))
    return found


def _drawn(points: Sequence[Point], runs: Sequence[Run], where: str) -> Markup:
    """Draws the plane.

    Args:
        points: the inits.
        runs: all of their runs.
        where: the kind of device, in words.
    """
    times, shown = [], []
    for run in runs:
        times.append(run.seconds)
        if not run.is_diverged:
            shown.append(run.dice)
    divisor, unit = time_unit(max(times))
    low, high = min(times) / divisor, max(times) / divisor
    log = low > 0 and high / low > 5
    x_ends = _room(low, high)
    if log:
        x_ends = (low / 1.15, high * 1.15)
    height = least_height(_HEIGHT, len(points))
    plane = Plane(
        x=Scale(*x_ends, 0.0, 100.0, log=log),
        y=Scale(*svg.padded(shown), height, 0.0),
        x_title=f"time of a run on {where} ({unit})",
        y_title="Dice (points)",
        height=height,
    )
    often: Counter[str] = Counter()
    means = []
    for point in points:
        often[point.row.init] += 1
        means.append(point.dice)
    heights = plane.heights(means)
    parts, names = [], []
    for point, at in zip(points, heights, strict=True):
        parts.append(group(point.row.init, point.row.style, *_marks(point, plane, divisor, at)))
        told = point.row.label
        if often[point.row.init] > 1:
            told += f", {point.row.protocol}"
        if point.dice < plane.y.low:
            told += f" ({words.number(point.dice, 1)} ↓)"
        sample = svg.sample(point.row.style.shape, point.kind)
        names.append(Name(point.row.init, point.row.style, told, at, sample))
    return plane.drawn(parts, names)


def _marks(point: Point, plane: Plane, divisor: float, name_at: float) -> list[Markup]:
    """Draws the runs of an init, and their mean with a line to its name.

    Args:
        point: the init.
        plane: on which it is drawn.
        divisor: seconds of the unit of time.
        name_at: the height at which its name stands.
    """
    shape, x, y = point.row.style.shape, plane.x, plane.y
    parts = []
    for run in point.runs:
        if y.low <= run.dice <= y.high:
            tip = f"{point.row.init}, seed {run.seed}: {words.number(run.dice, 1)} in {words.measured_time(run.seconds)}"
            parts.append(svg.mark(shape, x(run.seconds / divisor), y(run.dice), 3, f"{point.kind} faint", tip))
    across, down = x(point.seconds / divisor), min(y(y.held(point.dice)), plane.height - 8)
    tip = f"{point.row.init}: mean {words.number(point.dice, 1)} in {words.measured_time(point.seconds)} ({point.row.protocol})"
    parts.append(leader(across, down, name_at))
    parts.append(svg.mark(shape, across, down, 6, f"{point.kind} large", tip))
    return parts


def _room(low: float, high: float) -> tuple[float, float]:
    """Returns the ends of an axis of times with some room beyond the shortest and the longest, and none below 0."""
    found = svg.padded((low, high), share=0.1, least=0.1 * high or 1.0)
    return max(0.0, found[0]), found[1]
