"""Differences to `default` with their intervals, the band of equivalence, and the verdicts in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from initbench.report import svg
from initbench.report.cells import kind
from initbench.report.content import Block, Row
from initbench.report.figure import TOP, Figure, Lines, group, together
from initbench.report.svg import Scale
from initbench.stats.analysis import Analysis
from initbench.stats.compare import Verdict
from initbench.stats.design import Refused
from initbench.stats.summary import Interval
from initbench.tables import words

# By the kind of a verdict (see cells.py).
_SHAPES = {"better": "up", "worse": "down", "equivalent": "square", "undecided": "circle", "untestable": "circle"}
_TITLE = "Differences"


@dataclass(frozen=True)
class Item:
    """A line of the plot: an init less the reference."""

    row: Row
    estimate: Interval
    verdict: Verdict
    says: str


def forest(block: Block, margin: float) -> Figure:
    """The differences of a block to `default`, or to the best init where the block has no `default`."""
    if isinstance(block.found, Refused):
        return Figure("forest", _TITLE, f"No differences: {block.found.reason}.")
    reference, items = differences(block, block.found)
    if not items:
        reason = next((item.reason for item in block.found.comparison.differences if item.reason), "one init: nothing to compare")
        return Figure("forest", _TITLE, f"No differences: {reason}.")
    name = words.label(reference)
    crossed = " and the interactions" if block.interactions else ""
    caption = f"Dice points above or below {name}, with 95 % intervals for {block.found.comparison.claim}. "
    caption += (
        f"Shaded: within ±{margin:g} points, where two inits count as equivalent. An interval and its verdict hold for all of "
        f"its family at once: the differences to default{crossed}, or all pairs of inits; the placebo is judged by itself."
    )
    if reference != block.against:
        caption = f"The block has no default: compared with its best init, {name}, over all pairs. {caption}"
    return Figure("forest", f"Difference to {name}", caption, _drawn(items, name, margin))


def differences(block: Block, found: Analysis) -> tuple[str, list[Item]]:
    """The init that is compared with, and the others, best first."""
    rows = {row.init: row for row in block.complete}
    reference = block.against or next(iter(rows))
    items = []
    for item in found.comparison.differences:
        if reference not in (item.first, item.second) or not {item.first, item.second} <= set(rows):
            continue
        if not math.isfinite(item.estimate.value):
            continue
        own = item if item.second == reference else item.turned()
        items.append(Item(rows[own.first], own.estimate, own.verdict, own.says))
    return reference, sorted(items, key=lambda item: -item.estimate.value)


def _drawn(items: Sequence[Item], reference: str, margin: float) -> Markup:
    frame = Lines(tuple(item.row.label for item in items), right=208)
    low, high = _range(items, margin)
    scale = frame.scale(low, high)
    band = svg.tag(
        "rect", x=scale(-margin), y=TOP, width=scale(margin) - scale(-margin), height=frame.bottom - TOP, class_="band"
    )
    axis = svg.x_axis(scale, TOP, frame.bottom, f"Dice points above {reference}")
    zero = svg.line(scale(0), TOP - 4, scale(0), frame.bottom, "zero")
    lines = [group(item.row.init, item.row.style, *_line(item, number, frame, scale)) for number, item in enumerate(items)]
    return together([band, axis, zero, *lines], frame.width, frame.height, f"Differences to {reference}")


def _line(item: Item, number: int, frame: Lines, scale: Scale) -> list[Markup]:
    y, found = frame.y(number), item.estimate
    said = words.difference(found)
    parts = [frame.name(number, full=item.row.init), *_whiskers(found, y, scale)]
    inside = min(max(found.value, scale.low), scale.high)
    of = kind(item.verdict)
    hollow = " hollow" if of == "untestable" else ""
    tip = f"{item.row.init}: {said}, {item.says}"
    parts.append(svg.mark(_SHAPES[of], scale(inside), y, 5, f"verdict {of}{hollow}", tip))
    parts.append(svg.text(frame.width - 78, y + 4, said, "value", text_anchor="end"))
    parts.append(svg.text(frame.width - 70, y + 4, _word(item), f"word {of}"))
    return parts


def _word(item: Item) -> str:
    """The verdict where there is little room: `equivalent +` is equivalent, but above 0."""
    if item.verdict == "equivalent, but above 0":
        return "equivalent +"
    return "equivalent −" if item.verdict == "equivalent, but below 0" else item.verdict


def _whiskers(found: Interval, y: float, scale: Scale) -> list[Markup]:
    """The interval; an arrow where it goes on outside the plot."""
    if math.isnan(found.low):
        return []
    ends = [min(max(bound, scale.low), scale.high) for bound in (found.low, found.high)]
    parts = [svg.line(scale(ends[0]), y, scale(ends[1]), y, "whisker")]
    for shown, bound, way in zip(ends, (found.low, found.high), (-1, 1), strict=True):
        x = scale(shown)
        if shown == bound:
            parts.append(svg.line(x, y - 4, x, y + 4, "whisker"))
        else:
            parts.append(svg.path([(x - 5 * way, y - 4), (x, y), (x - 5 * way, y + 4)], "whisker"))
    return parts


def _range(items: Sequence[Item], margin: float) -> tuple[float, float]:
    """Symmetric enough to show zero; intervals that are wide beside the others go on as arrows."""
    values = [item.estimate.value for item in items]
    bounds = [bound for item in items for bound in (item.estimate.low, item.estimate.high) if math.isfinite(bound)]
    reach = max([1.6 * margin, *(1.25 * abs(value) for value in values)])
    if bounds:
        reach = max(reach, min(float(np.max(np.abs(bounds))), 3 * float(np.median(np.abs(bounds)))))
    low = min([-1.6 * margin, *(max(bound, -reach) for bound in [*bounds, *values])])
    high = max([1.6 * margin, *(min(bound, reach) for bound in [*bounds, *values])])
    room = 0.04 * (high - low)
    return low - room, high + room
