"""Every run as a mark: how far the seed alone moves an init."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Block, Row, Run
from initbench.report.figure import DOWN, HALF, Axis, Figure, Line, lines
from initbench.report.svg import Scale
from initbench.tables import words

_GUTTER = 24.0  # per cent of the plot, at its left, for runs that diverged: the word fits below on a phone
_R = 4.0
_TICKS = 5
_PHONE = 280.0  # pixels of a plot on a phone


def strips(block: Block) -> Figure:
    """A mark per run, a tick for the mean of an init."""
    rows = [row for row in block.rows if any(math.isfinite(run.dice) for run in row.runs)]
    if not rows:
        return Figure("strips", "Runs", "No run of this block has a score.")
    caption = "A mark is a run; the tick is the mean over seeds, its value at the right."
    if any(run.status == "diverged" for row in rows for run in row.runs):
        caption += " ✕: a run that diverged; it scores 0, counts in the mean, and is drawn left of the axis."
    if any(not run.counted and math.isfinite(run.dice) for row in rows for run in row.runs):
        caption += " Hollow: no part of the comparison, as its init lacks runs or other inits lack its seed."
    return Figure("strips", "Dice of every run", caption, _drawn(block.key, rows))


def _drawn(key: str, rows: Sequence[Row]) -> Markup:
    diverged = any(run.status == "diverged" for row in rows for run in row.runs)
    finite = [run.dice for row in rows for run in row.runs if run.status != "diverged"]
    scale = Scale(*svg.padded(finite), svg.START + (_GUTTER if diverged else 0), svg.END)
    behind = [svg.grid(scale, DOWN, _TICKS)]
    labels = [svg.x_ticks(scale, Axis.BASELINE, _TICKS)]
    if diverged:
        behind.append(svg.line(_GUTTER, 0, _GUTTER, DOWN, "divider"))
        labels.append(svg.text(0, Axis.BASELINE, "diverged", "tick"))
    axis = Axis(svg.joined(labels), svg.joined(behind), "Dice (points)")
    made = []
    for row in rows:
        marks, mean = svg.joined(_marks(row, scale)), words.number(row.standing.dice.value, 1)
        made.append(Line(row.label, row.init, marks, mean, row.init, row.style))
    return lines(f"{key}-strips", made, axis, words=5)


def _marks(row: Row, scale: Scale) -> list[Markup]:
    """The runs of an init, and the tick at their mean."""
    fine = [run for run in row.runs if run.status != "diverged" and math.isfinite(run.dice)]
    lost = [run for run in row.runs if run.status == "diverged"]
    # Where the plot is wider than on a phone, dots that do not touch there do not touch either.
    shifts = swarm([scale(run.dice) * _PHONE / 100 for run in fine], _R, HALF - _R)
    parts = [svg.line(0, 0, 100, 0, "rail")]
    mean = row.standing.dice.value
    if math.isfinite(mean):
        x = scale(scale.held(mean))
        inside = scale.low <= mean <= scale.high
        parts.append(svg.line(x, -10, x, 10, "mean") if inside else svg.mark("left", x, 0, 6, "mean"))
    for run, shift in zip(fine, shifts, strict=True):
        kind = "dot" if run.counted else "dot hollow"
        parts.append(svg.mark(row.style.shape, scale(run.dice), shift, _R, kind, _tip(row, run)))
    for k, run in enumerate(lost):
        x = 2 + (k + 0.5) * min(5.0, (_GUTTER - 4) / len(lost))
        parts.append(svg.mark("cross", x, 0, 4, "dot cross", _tip(row, run)))
    return parts


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
