"""Dice against the number of training cases, a line per init."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Block, Content, Row
from initbench.report.figure import Axis, Figure, Name, Plane, group, leader, least_height
from initbench.report.svg import Scale
from initbench.tables import words
from initbench.tables.leaderboard_subsets import Subsets, groups
from initbench.tables.titles import settings, title

_APART = 0.6  # per cent of the plot between the intervals of two inits


def subsets(content: Content) -> list[Figure]:
    """Draws a chart for each group of blocks that differ in the number of training cases alone."""
    block_of = {id(block.table): block for block in content.blocks}
    figures = []
    for found in groups(content.study):
        blocks = {}
        for cases, table in found.tables.items():
            blocks[cases] = block_of[id(table)]
        figures.append(_figure(found, blocks))
    return figures


def _figure(found: Subsets, blocks: Mapping[int, Block]) -> Figure:
    """Draws the chart of a group, with its blocks by number of training cases."""
    heading = f"{title(found.block)}: Dice against training cases"
    lines = _lines(blocks)
    if not lines:
        return Figure("subsets", heading, "No init has all its runs at any number of training cases.", wide=True)
    caption = (
        f"{settings(found.block)}. Means with 95 % intervals for new seeds and new cases. Subsets lie in each other, and all are "
        "reported on the same cases, so neighbouring points are not independent."
    )
    return Figure("subsets", heading, caption, _drawn(lines, list(blocks)), wide=True)


def _lines(blocks: Mapping[int, Block]) -> list[list[tuple[int, Row]]]:
    """Returns the complete rows of each init by number of cases; first the inits with most cases, the best of them first."""
    found: dict[str, list[tuple[int, Row]]] = {}
    for cases, block in blocks.items():
        for row in block.complete:
            found.setdefault(row.init, []).append((cases, row))
    return sorted(found.values(), key=lambda line: (-line[-1][0], -line[-1][1].standing.dice.value))


def _drawn(lines: Sequence[Sequence[tuple[int, Row]]], numbers: Sequence[int]) -> Markup:
    """Draws the lines of the inits; `numbers` are all numbers of training cases."""
    values, ends = [], []
    for line in lines:
        ends.append(line[-1][1].standing.dice.value)
        for _, row in line:
            dice = row.standing.dice
            values += [dice.low, dice.value, dice.high]
    height = least_height(260.0, len(lines))
    plane = Plane(
        x=Scale(min(numbers) / 1.1, max(numbers) * 1.1, 0.0, 100.0, log=True),
        y=Scale(*svg.padded(values), height, 0.0),
        x_title="training cases",
        y_title="Dice (points)",
        height=height,
    )
    heights = plane.heights(ends)
    parts, names = [], []
    for number, (line, at) in enumerate(zip(lines, heights, strict=True)):
        shift = _APART * (number - (len(lines) - 1) / 2)
        row = line[-1][1]
        parts.append(group(row.init, row.style, *_line(line, plane, shift, at)))
        names.append(Name(row.init, row.style, row.label, at, svg.dashes()))
    return plane.drawn(parts, names, _axis(plane, numbers))


def _axis(plane: Plane, numbers: Sequence[int]) -> Markup:
    """Draws ticks at the numbers of training cases that were run."""
    parts = []
    for number in numbers:
        x = plane.x(number)
        parts.append(svg.line(x, 0, x, plane.height, "grid"))
        parts.append(svg.text(x, plane.height + Axis.BASELINE, str(number), "tick", text_anchor="middle"))
    return svg.joined(parts)


def _line(line: Sequence[tuple[int, Row]], plane: Plane, shift: float, name_at: float) -> list[Markup]:
    """Draws the means of an init with their intervals.

    Args:
        line: its rows by number of training cases.
        plane: where they are drawn.
        shift: to the right, in percent, so that the intervals of several inits do not lie on each other.
        name_at: the height at which its name stands.
    """
    points = []
    for cases, row in line:
        x = plane.x(cases) + shift
        points.append((x, plane.y(row.standing.dice.value)))
    parts = [svg.stretched(plane.height, svg.path(points, "thick"))]
    for (cases, row), (across, down) in zip(line, points, strict=True):
        dice = row.standing.dice
        if not math.isnan(dice.low):  # one seed has no interval
            parts.append(svg.line(across, plane.y(dice.low), across, plane.y(dice.high), "thin"))
        tip = f"{row.init}, {cases} training cases: {words.dice(dice)}, {words.count(row.standing.seeds, 'seed')}"
        parts.append(svg.mark(row.style.shape, across, down, 4, "dot large", tip))
    parts.append(leader(*points[-1], name_at))
    return parts
