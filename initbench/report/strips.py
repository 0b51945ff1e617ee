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
    """Draws a mark for each run, and a tick for the mean of each init."""
    rows: list[Row] = []
    runs: list[Run] = []
    for row in block.rows:
        if any(run.is_scored for run in row.runs):
            rows.append(row)
            runs += row.runs
    if not rows:
        return Figure("strips", "Runs", "No run of this block has a score.")
    caption = "A mark is a run; the tick is the mean over seeds, its value at the right."
    if any(run.is_diverged for run in runs):
        caption += " ✕: a run that diverged; it scores 0, counts in the mean, and is drawn left of the axis."
    if any(run.is_scored and not run.counted for run in runs):
        caption += " Hollow: no part of the comparison, as its init lacks runs or other inits lack its seed."
    return Figure("strips", "Dice of every run", caption, _drawn(block.key, rows, runs))


def _drawn(key: str, rows: Sequence[Row], runs: Sequence[Run]) -> Markup:
    """Draws the lines of some inits; `runs` are the runs of all of them."""
    stand = [run.dice for run in runs if not run.is_diverged]
    has_diverged = len(stand) < len(runs)
    start = svg.START
    if has_diverged:
        start += _GUTTER
    scale = Scale(*svg.padded(stand), start, svg.END)
    behind = [svg.grid(scale, DOWN, _TICKS)]
    labels = [svg.x_ticks(scale, Axis.BASELINE, _TICKS)]
    if has_diverged:
        behind.append(svg.line(_GUTTER, 0, _GUTTER, DOWN, "divider"))
        labels.append(svg.text(0, Axis.BASELINE, "diverged", "tick"))
    axis = Axis(svg.joined(labels), svg.joined(behind), "Dice (points)")
    made = []
    for row in rows:
        marks, mean = svg.joined(_marks(row, scale)), words.number(row.standing.dice.value, 1)
        made.append(Line(row.label, row.init, marks, mean, row.init, row.style))
    return lines(f"{key}-strips", made, axis, words=5)


def _marks(row: Row, scale: Scale) -> list[Markup]:
    """Draws the runs of an init, and the tick at their mean."""
    fine, lost, places = [], [], []
    for run in row.runs:
        if run.is_diverged:
            lost.append(run)
        elif run.is_scored:
            fine.append(run)
            places.append(scale(run.dice) * _PHONE / 100)
    # Dots that do not touch on a phone do not touch on a wider plot either.
    shifts = swarm(places, _R, HALF - _R)
    parts = [svg.line(0, 0, 100, 0, "rail")]
    mean = row.standing.dice.value
    if math.isfinite(mean):
        x = scale(scale.held(mean))
        if scale.low <= mean <= scale.high:
            parts.append(svg.line(x, -10, x, 10, "mean"))
        else:
            parts.append(svg.mark("left", x, 0, 6, "mean"))
    for run, shift in zip(fine, shifts, strict=True):
        kind = "dot hollow"
        if run.counted:
            kind = "dot"
        parts.append(svg.mark(row.style.shape, scale(run.dice), shift, _R, kind, _tip(row, run)))
    for k, run in enumerate(lost):
        x = 2 + (k + 0.5) * min(5.0, (_GUTTER - 4) / len(lost))
        parts.append(svg.mark("cross", x, 0, 4, "dot cross", _tip(row, run)))
    return parts


def _tip(row: Row, run: Run) -> str:
    """Returns the text at the pointer on a run."""
    said = f"{row.init}, seed {run.seed}: {words.number(run.dice, 1)}"
    if run.is_diverged:
        said += " (diverged)"
    return said


def swarm(places: Sequence[float], radius: float, most: float) -> list[float]:
    """Returns how far symbols are shifted up or down, so that they do not cover each other as far as there is room.

    Args:
        places: of the symbols along the line, in pixels.
        radius: of the symbols, in pixels.
        most: the largest shift, in pixels.
    """
    steps = [0.0]
    for k in range(1, int(most / (radius / 2)) + 1):
        steps += [k * radius / 2, -k * radius / 2]
    taken: list[tuple[float, float]] = []
    found = [0.0] * len(places)
    for index in sorted(range(len(places)), key=lambda k: places[k]):
        x = places[index]
        found[index] = steps[index % len(steps)]
        for shift in steps:
            if abs(shift) <= most and _is_free(x, shift, taken, radius):
                found[index] = shift
                break
        taken.append((x, found[index]))
    return found


def _is_free(x: float, y: float, taken: Sequence[tuple[float, float]], radius: float) -> bool:
    """Returns whether a symbol of a radius at (x, y) covers nearly nothing of the symbols at taken places."""
    return all((x - a) ** 2 + (y - b) ** 2 >= (1.8 * radius) ** 2 for a, b in taken)
