"""Dice against the number of training cases, a line per init."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Block, Content, Row
from initbench.report.figure import Figure, group, together
from initbench.report.svg import Scale
from initbench.tables import words
from initbench.tables.leaderboard_subsets import Subsets, groups
from initbench.tables.titles import settings, title

_LABELS = 190.0
_WIDE = 900.0
_APART = 4.0  # pixels between the intervals of two inits


def subsets(content: Content) -> list[Figure]:
    """A chart for all blocks that differ in the number of training cases alone."""
    blocks = {id(block.table): block for block in content.blocks}
    return [
        _figure(found, {cases: blocks[id(table)] for cases, table in found.tables.items()}) for found in groups(content.study)
    ]


def _figure(found: Subsets, blocks: Mapping[int, Block]) -> Figure:
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
    """The complete rows of each init by number of cases; the best at the most cases first."""
    found: dict[str, list[tuple[int, Row]]] = {}
    for cases, block in blocks.items():
        for row in block.complete:
            found.setdefault(row.init, []).append((cases, row))
    return sorted(found.values(), key=lambda line: (-line[-1][0], -line[-1][1].standing.dice.value))


def _drawn(lines: Sequence[Sequence[tuple[int, Row]]], numbers: Sequence[int]) -> Markup:
    means = [row.standing.dice for line in lines for _, row in line]
    left, right, top = 46.0, _WIDE - _LABELS, 30.0
    bottom = top + max(260.0, 15.0 * len(lines))
    low, high = min(numbers), max(numbers)
    x = Scale(low / 1.1, high * 1.1, left, right, log=True)
    y = Scale(*svg.padded([value for mean in means for value in (mean.low, mean.value, mean.high)]), bottom, top)
    parts = [_axis(x, numbers, top, bottom), svg.y_axis(y, left, right, "Dice (points)")]
    labels = svg.spread_out([y(line[-1][1].standing.dice.value) for line in lines], 15, top, bottom)
    for number, (line, label) in enumerate(zip(lines, labels, strict=True)):
        shift = _APART * (number - (len(lines) - 1) / 2)
        parts.append(group(line[0][1].init, line[0][1].style, *_line(line, x, y, shift, label)))
    return together(parts, _WIDE, bottom + 40, "Dice against the number of training cases")


def _axis(x: Scale, numbers: Sequence[int], top: float, bottom: float) -> Markup:
    """Ticks at the numbers that there are."""
    parts = []
    for number in numbers:
        parts.append(svg.line(x(number), top, x(number), bottom, "grid"))
        parts.append(svg.text(x(number), bottom + 15, str(number), "tick", text_anchor="middle"))
    said = svg.text((x.start + x.end) / 2, bottom + 32, "training cases, log scale", "axis", text_anchor="middle")
    return svg.joined([*parts, said])


def _line(line: Sequence[tuple[int, Row]], x: Scale, y: Scale, shift: float, label: float) -> list[Markup]:
    points = [(x(cases) + shift, y(row.standing.dice.value)) for cases, row in line]
    parts = [svg.path(points, "thick")]
    for (cases, row), (at, height) in zip(line, points, strict=True):
        dice = row.standing.dice
        if dice.low == dice.low:  # one seed has no interval
            parts.append(svg.line(at, y(dice.low), at, y(dice.high), "thin"))
        tip = f"{row.init}, {cases} training cases: {words.dice(dice)}, {words.count(row.standing.seeds, 'seed')}"
        parts.append(svg.mark("circle", at, height, 4, "dot large", tip))
    row, (at, height) = line[-1][1], points[-1]
    parts.append(svg.path([(at + 6, height), (x.end + 4, label), (x.end + 26, label)], "leader"))
    parts.append(svg.line(x.end + 8, label, x.end + 26, label, "thick"))
    parts.append(svg.text(x.end + 30, label + 4, svg.short(row.label, _LABELS - 34), "label", data_tip=row.init))
    return parts
