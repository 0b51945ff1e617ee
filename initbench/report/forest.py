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
from initbench.report.figure import DOWN, Axis, Figure, Line, lines
from initbench.report.svg import Scale
from initbench.stats.analysis import Analysis
from initbench.stats.compare import Verdict
from initbench.stats.design import Refused
from initbench.stats.summary import Interval
from initbench.tables import words

# By the kind of a verdict (see cells.py).
_SHAPES = {"better": "up", "worse": "down", "equivalent": "square", "undecided": "circle", "untestable": "circle"}
_TITLE = "Differences"
_VERDICT = 12  # characters of the longest verdict; report.css has a column for them
_TICKS = 4  # about, as names and words leave little room


@dataclass(frozen=True)
class Item:
    """A line of the plot: the difference of an init to the reference, in Dice points, and what it says."""

    row: Row
    estimate: Interval
    verdict: Verdict
    says: str


def forest(block: Block, margin: float) -> Figure:
    """Draws the differences of a block to `default`, or to the best init where the block has no `default`.

    Args:
        block: the block.
        margin: Dice points within which two inits are equivalent.
    """
    if isinstance(block.found, Refused):
        return Figure("forest", _TITLE, f"No differences: {block.found.reason}.")
    reference, items = differences(block, block.found)
    if not items:
        reason = ""
        for item in block.found.comparison.differences:
            reason = reason or item.reason
        if not reason:
            reason = "one init: nothing to compare"
        return Figure("forest", _TITLE, f"No differences: {reason}.")
    name = words.label(reference)
    crossed = ""
    if block.interactions:
        crossed = " and the interactions"
    caption = f"Dice points above or below {name}, with 95 % intervals for {block.found.comparison.claim}. "
    caption += (
        f"Shaded: within ±{margin:g} points, where two inits count as equivalent. An interval and its verdict hold for all of "
        f"its family at once: the differences to default{crossed}, or all pairs of inits; the placebo is judged by itself."
    )
    if reference != block.against:
        caption = f"The block has no default: compared with its best init, {name}, over all pairs. {caption}"
    return Figure("forest", f"Difference to {name}", caption, _drawn(block.key, items, name, margin))


def differences(block: Block, found: Analysis) -> tuple[str, list[Item]]:
    """Returns the name of the init with which all others are compared, and the others, best first."""
    rows = {row.init: row for row in block.complete}
    reference = block.against or next(iter(rows))
    items = []
    for item in found.comparison.differences:
        if reference not in (item.first, item.second) or not {item.first, item.second} <= set(rows):
            continue
        if not math.isfinite(item.estimate.value):
            continue
        own = item
        if item.second != reference:
            own = item.turned()
        items.append(Item(rows[own.first], own.estimate, own.verdict, own.says))
    return reference, sorted(items, key=lambda item: -item.estimate.value)


def _drawn(key: str, items: Sequence[Item], reference: str, margin: float) -> Markup:
    """Draws the lines of the plot.

    Args:
        key: of the block.
        items: the lines.
        reference: name of the init with which all are compared.
        margin: Dice points within which two inits are equivalent.
    """
    scale = Scale(*_range(items, margin), svg.START, svg.END)
    across = svg.percent(scale(margin) - scale(-margin))
    band = svg.tag("rect", x=svg.percent(scale(-margin)), y=0, width=across, height=DOWN, class_="band")
    zero = svg.line(scale(0), 0, scale(0), DOWN, "zero")
    behind = svg.joined([band, svg.grid(scale, DOWN, _TICKS), zero])
    axis = Axis(svg.x_ticks(scale, Axis.BASELINE, _TICKS), behind, f"Dice points above {reference}")
    rows, longest = [], 0
    for item in items:
        rows.append(_line(item, scale))
        longest = max(longest, len(words.difference(item.estimate)))
    return lines(f"{key}-forest", rows, axis, words=longest + _VERDICT + 1)


def _line(item: Item, scale: Scale) -> Line:
    """Draws a difference with its interval and its verdict."""
    found, of = item.estimate, kind(item.verdict)
    said = words.difference(found)
    tip = f"{item.row.init}: {said}, {item.says}"
    classes = f"verdict {of}"
    if of == "untestable":
        classes += " hollow"
    mark = svg.mark(_SHAPES[of], scale(scale.held(found.value)), 0, 5, classes, tip)
    return Line(
        name=item.row.label,
        full=item.row.init,
        drawing=svg.joined([*_whiskers(found, scale), mark]),
        words=svg.joined([svg.tag("span", said, class_="value"), Markup(" "), svg.tag("span", _word(item), class_=f"word {of}")]),
        init=item.row.init,
        style=item.row.style,
    )


def _word(item: Item) -> str:
    """Returns the verdict for little room: `equivalent +` is equivalent, but above 0."""
    if item.verdict == "equivalent, but above 0":
        return "equivalent +"
    if item.verdict == "equivalent, but below 0":
        return "equivalent −"
    return item.verdict


def _whiskers(found: Interval, scale: Scale) -> list[Markup]:
    """Draws an interval, with an arrow where it goes on outside the plot."""
    if math.isnan(found.low):
        return []
    low, high = scale(scale.held(found.low)), scale(scale.held(found.high))
    parts = [svg.line(low, 0, high, 0, "whisker")]
    for x, goes_on, arrow in ((low, found.low < scale.low, "left"), (high, found.high > scale.high, "right")):
        if goes_on:
            parts.append(svg.mark(arrow, x, 0, 5, "whisker"))
        else:
            parts.append(svg.line(x, -4, x, 4, "whisker"))
    return parts


def _range(items: Sequence[Item], margin: float) -> tuple[float, float]:
    """Returns the ends of the axis: symmetric enough to show zero. Intervals that are wide beside the others go on as arrows."""
    values, bounds = [], []
    for item in items:
        values.append(item.estimate.value)
        for bound in (item.estimate.low, item.estimate.high):
            if math.isfinite(bound):
                bounds.append(bound)
    reach = max(1.6 * margin, 1.25 * float(np.max(np.abs(values))))
    if bounds:
        reach = max(reach, min(float(np.max(np.abs(bounds))), 3 * float(np.median(np.abs(bounds)))))
    low, high = -1.6 * margin, 1.6 * margin
    for place in (*bounds, *values):
        low = min(low, max(place, -reach))
        high = max(high, min(place, reach))
    room = 0.04 * (high - low)
    return low - room, high + room
