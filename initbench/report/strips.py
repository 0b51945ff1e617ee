"""Every run as a dot: how far the seed alone moves an init."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Block, Row, Run
from initbench.report.figure import TOP, Figure, Lines, group, together
from initbench.report.svg import Scale
from initbench.tables import words

_GUTTER = 64.0
_R = 4.0


def strips(block: Block) -> Figure:
    """A dot per run, a tick for the mean of an init."""
    rows = [row for row in block.rows if any(math.isfinite(run.dice) for run in row.runs)]
    if not rows:
        return Figure("strips", "Runs", "No run of this block has a score.")
    caption = "A dot is a run; the tick is the mean over seeds, its value at the right."
    if any(run.status == "diverged" for row in rows for run in row.runs):
        caption += " ✕: a run that diverged; it scores 0, counts in the mean, and is drawn beside the axis."
    if any(not run.counted and math.isfinite(run.dice) for row in rows for run in row.runs):
        caption += " Hollow: no part of the comparison, as its init lacks runs or other inits lack its seed."
    return Figure("strips", "Dice of every run", caption, _drawn(rows))


def _drawn(rows: Sequence[Row]) -> Markup:
    frame = Lines(tuple(row.label for row in rows), right=44)
    diverged = any(run.status == "diverged" for row in rows for run in row.runs)
    finite = [run.dice for row in rows for run in row.runs if run.status != "diverged"]
    start = frame.left + 6 + (_GUTTER if diverged else 0)
    scale = Scale(*svg.padded(finite), start, frame.end - 6)
    parts = [svg.x_axis(scale, TOP, frame.bottom, "Dice (points)")]
    if diverged:
        parts.append(svg.line(start - 10, TOP, start - 10, frame.bottom, "divider"))
        parts.append(svg.text(frame.left + 26, frame.bottom + 15, "diverged", "tick", text_anchor="middle"))
    for number, row in enumerate(rows):
        parts.append(svg.line(frame.left, frame.y(number), frame.end, frame.y(number), "rail"))
        parts.append(group(row.init, row.style, *_line(row, number, frame, scale)))
    return together(parts, frame.width, frame.height, "Dice of every run by init")


def _line(row: Row, number: int, frame: Lines, scale: Scale) -> list[Markup]:
    y = frame.y(number)
    fine = [run for run in row.runs if run.status != "diverged" and math.isfinite(run.dice)]
    lost = [run for run in row.runs if run.status == "diverged"]
    places = swarm([scale(run.dice) for run in fine], _R, frame.row / 2 - _R)
    parts = [frame.name(number, full=row.init)]
    mean = row.standing.dice.value
    if math.isfinite(mean):
        inside = scale.low <= mean <= scale.high
        x = scale(min(max(mean, scale.low), scale.high))
        parts.append(
            svg.line(x, y - 10, x, y + 10, "mean") if inside else svg.path([(x + 6, y - 6), (x, y), (x + 6, y + 6)], "mean open")
        )
    for run, shift in zip(fine, places, strict=True):
        kind = "dot" if run.counted else "dot hollow"
        parts.append(svg.mark("circle", scale(run.dice), y + shift, _R, kind, _tip(row, run)))
    for k, run in enumerate(lost):
        parts.append(svg.mark("cross", frame.left + 6 + (k + 0.5) * min(12.0, 44 / len(lost)), y, 4, "dot", _tip(row, run)))
    return [*parts, frame.words(number, words.number(mean, 1))]


def _tip(row: Row, run: Run) -> str:
    return f"{row.init}, seed {run.seed}: {words.number(run.dice, 1)}" + (" (diverged)" if run.status == "diverged" else "")


def swarm(places: Sequence[float], radius: float, most: float) -> list[float]:
    """Shifts across, so that symbols of a radius do not cover each other as far as there is room."""
    count = int(most / (radius / 2))
    steps = [0.0, *(sign * k * radius / 2 for k in range(1, count + 1) for sign in (1, -1))]
    taken: list[tuple[float, float]] = []
    found = [0.0] * len(places)
    for index in sorted(range(len(places)), key=lambda k: places[k]):
        x = places[index]
        near = [(a, b) for a, b in taken if x - a < 2 * radius]
        free = [
            dy for dy in steps if abs(dy) <= most and all((x - a) ** 2 + (dy - b) ** 2 >= (1.8 * radius) ** 2 for a, b in near)
        ]
        found[index] = free[0] if free else steps[index % len(steps)]
        taken.append((x, found[index]))
    return found
