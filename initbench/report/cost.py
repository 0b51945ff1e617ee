"""What Dice costs: score against time, a point per run, both protocols in one chart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Family, Row, Run
from initbench.report.curves import time_unit
from initbench.report.figure import Figure, group, together
from initbench.report.svg import Scale
from initbench.tables import words

SHAPES = {"any": "circle", "equal-total": "up", "equal-finetune": "square"}
_TITLE = "Dice against cost"
_LABELS = 190.0
_WIDE = 900.0


@dataclass(frozen=True)
class Point:
    """An init under a protocol: its runs, and their mean."""

    row: Row
    runs: tuple[Run, ...]
    seconds: float
    dice: float

    @property
    def shape(self) -> str:
        """By the protocol."""
        return SHAPES.get(self.row.protocol, "diamond")


def cost(family: Family) -> Figure:
    """Dice against the time of a run, for all protocols of a family."""
    points = list(_points(family))
    if not points:
        return Figure("cost", _TITLE, "No run has both a score and a time.")
    runs = [run for point in points for run in point.runs]
    where = _where(runs)
    caption = (
        f"Time of a run on {where}: init stage, training and evaluation. A small mark is a run, a large one the mean of an init."
    )
    if any(run.status == "diverged" for run in runs):
        caption += " Diverged runs score 0 and count in the mean; what lies below the axis is hollow, with an arrow, or left out."
    if where == "CPU and GPU":
        caption += " Runs of both kinds are mixed: their times do not compare."
    return Figure("cost", _TITLE, caption, _drawn(points, where, _WIDE if family.paired else svg.WIDTH), wide=family.paired)


def _where(runs: Sequence[Run]) -> str:
    kinds = {run.gpu for run in runs}
    return "CPU and GPU" if len(kinds) > 1 else "the GPU" if True in kinds else "the CPU"


def _points(family: Family) -> list[Point]:
    """An init that learns nothing has the same runs in all blocks of a family."""
    rows = {row.standing.cell: row for block in family.blocks for row in block.rows}
    found = []
    for row in rows.values():
        known = [run for run in row.runs if math.isfinite(run.dice) and math.isfinite(run.seconds)]
        runs = tuple(run for run in known if run.counted or row.standing.role == "withheld")
        if runs:
            seconds, dice = np.mean([(run.seconds, run.dice) for run in runs], axis=0)
            found.append(Point(row, runs, float(seconds), float(dice)))
    return found


def _drawn(points: Sequence[Point], where: str, width: float) -> Markup:
    times = [run.seconds for point in points for run in point.runs]
    divisor, unit = time_unit(max(times))
    low, high = min(times) / divisor, max(times) / divisor
    left, right, top, bottom = 46.0, width - _LABELS, 48.0, 48.0 + max(300.0, 15.0 * len(points))
    wide = low > 0 and high / low > 5
    x = Scale(low / 1.15, high * 1.15, left, right, log=True) if wide else Scale(*_room(low, high), left, right)
    y = Scale(*svg.padded([run.dice for p in points for run in p.runs if run.status != "diverged"] or [0.0]), bottom, top)
    parts = [
        svg.x_axis(x, top, bottom, f"time of a run on {where} ({unit})" + (", log scale" if wide else "")),
        svg.y_axis(y, left, right, "Dice (points)"),
        _legend(points, left),
    ]
    labels = svg.spread_out([y(_inside(point.dice, y)) for point in points], 15, top, bottom)
    often = Counter(point.row.init for point in points)
    for point, label in zip(points, labels, strict=True):
        told = f", {point.row.protocol}" if often[point.row.init] > 1 else ""
        parts.append(group(point.row.init, point.row.style, *_marks(point, x, y, divisor, (label, told))))
    return together(parts, width, bottom + 40, "Dice against cost")


def _marks(point: Point, x: Scale, y: Scale, divisor: float, labelled: tuple[float, str]) -> list[Markup]:
    parts, (label, told) = [], labelled
    for run in point.runs:
        if y.low <= run.dice <= y.high:
            tip = f"{point.row.init}, seed {run.seed}: {words.number(run.dice, 1)} in {words.duration(run.seconds)}"
            parts.append(svg.mark(point.shape, x(run.seconds / divisor), y(run.dice), 3, "dot faint", tip))
    at = (x(point.seconds / divisor), min(y(_inside(point.dice, y)), y.start - 8))
    tip = f"{point.row.init}: mean {words.number(point.dice, 1)} in {words.duration(point.seconds)} ({point.row.protocol})"
    parts.append(svg.path([at, (x.end + 4, label), (x.end + 10, label)], "leader"))
    below = f" ({words.number(point.dice, 1)} ↓)" if point.dice < y.low else ""
    told += below
    parts.append(svg.mark(point.shape, *at, 6, "dot large hollow" if below else "dot large", tip))
    name = svg.short(point.row.label, _LABELS - 14 - len(told) * svg.CHARACTER) + told
    parts.append(svg.text(x.end + 14, label + 4, name, "label", data_tip=tip))
    return parts


def _legend(points: Sequence[Point], left: float) -> Markup:
    names = {"any": "no init stage to pay for"}
    x, parts = left, []
    for protocol in sorted({point.row.protocol for point in points}):
        name = names.get(protocol, protocol)
        parts.append(svg.mark(SHAPES.get(protocol, "diamond"), x + 5, 14, 5, "dot plain"))
        parts.append(svg.text(x + 16, 18, name, "label"))
        x += 16 + len(name) * svg.CHARACTER + 24
    return svg.joined(parts)


def _room(low: float, high: float) -> tuple[float, float]:
    found = svg.padded((low, high), share=0.1, least=0.1 * high or 1.0)
    return max(0.0, found[0]), found[1]


def _inside(value: float, scale: Scale) -> float:
    return min(max(value, scale.low), scale.high)
