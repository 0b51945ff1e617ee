"""Where the spread of Dice comes from: the SD that each source leaves in the mean of an init."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Block
from initbench.report.figure import DOWN, Axis, Figure, Line, lines
from initbench.report.svg import Scale
from initbench.stats.design import Refused
from initbench.stats.summary import Interval
from initbench.tables import words
from initbench.tables.variance import SOURCES

_TICKS = 4
_WORDS = 6
_REACH = 4.0  # The axis ends at this many times the median SD. An interval that goes on beyond it ends in an arrow.
_TITLE = "Where the spread of Dice comes from"


@dataclass(frozen=True)
class _Shown:
    """A block with its name and its SDs by source, in Dice points; without SDs, `reason` says why there are none."""

    name: str
    block: Block
    parts: dict[str, Interval]
    reason: str


def sources(blocks: Sequence[Block], named: Sequence[str]) -> Figure:
    """Draws all blocks in one figure: a chart for each source, with a line for each block; for one block a chart of its sources.

    Args:
        blocks: the blocks.
        named: their names.
    """
    told, missing = [], ""
    for name, block in zip(named, blocks, strict=True):
        item = _shown(name, block)
        if item.parts:
            told.append(item)
        else:
            missing += f" {name}: none, {item.reason}."
    if not told:
        return Figure("sources", _TITLE, "No variance components: they need two seeds and two cases.", wide=True)
    caption = (
        "SD in Dice points, with 95 % intervals, that each source leaves in the mean of an init over the seeds and cases of its "
        "block. The choice of the init shows in a table as far as it stands out from the others; what a seed or a case does to "
        "all inits alike (seed, case) moves all means together and no difference. Estimates below 0 are shown as 0."
    )
    return Figure("sources", _TITLE, caption + missing, _drawn(told), wide=len(told) > 1)


def _shown(name: str, block: Block) -> _Shown:
    """Returns a block with its SDs by source, or with the reason why it has none."""
    if isinstance(block.found, Refused):
        return _Shown(name, block, {}, block.found.reason)
    parts = block.found.components
    if isinstance(parts, Refused):
        return _Shown(name, block, {}, parts.reason)
    return _Shown(name, block, parts.left_in_mean(), "")


def _drawn(found: Sequence[_Shown]) -> Markup:
    """Draws the charts of blocks that have SDs."""
    every: list[Interval] = []
    for item in found:
        every += item.parts.values()
    scale = Scale(0.0, _end(every), svg.START, svg.END)
    axis = Axis(svg.x_ticks(scale, Axis.BASELINE, _TICKS), svg.grid(scale, DOWN, _TICKS), "points")
    if len(found) == 1:
        (item,) = found
        rows = [_line(SOURCES[name], name, item, scale) for name in item.parts]
        return lines("sources", rows, axis, words=_WORDS)
    charts = []
    for name, title in SOURCES.items():
        rows = []
        for item in found:
            if name in item.parts:
                rows.append(_line(item.name, name, item, scale))
        if rows:
            heading = svg.tag("p", title, class_="heading")
            charts.append(svg.tag("div", heading, lines(f"sources-{name}", rows, axis, words=_WORDS)))
    return svg.tag("div", *charts, class_="several")


def _end(shown: Sequence[Interval]) -> float:
    """Returns the end of the axis, in Dice points: behind every SD, and behind most ends of intervals."""
    values = sorted(part.value for part in shown)
    highs = sorted(part.high for part in shown)
    usual = _REACH * max(values[len(values) // 2], 0.25)
    return max(1.1 * values[-1], min(highs[-1], usual), 1.0)


def _line(label: str, source: str, item: _Shown, scale: Scale) -> Line:
    """Draws an SD with its interval, and an arrow where the interval goes on outside the plot.

    Args:
        label: the name of the line.
        source: the source of the SD.
        item: the block.
        scale: of the axis.
    """
    part = item.parts[source]
    tip = f"{SOURCES[source]}: SD {words.sd(part)} points in the mean of an init"
    low, high = scale(scale.held(part.low)), scale(scale.held(part.high))
    drawn = [svg.line(low, 0, high, 0, "whisker")]
    if part.high > scale.high:
        drawn.append(svg.mark("right", high, 0, 5, "whisker"))
    drawn.append(svg.mark("circle", scale(part.value), 0, 4.5, "dot", tip))
    about = item.block.table.block
    of = (("data_dataset", str(about["dataset"])), ("data_backbone", str(about["backbone"])))
    return Line(label, item.name, svg.joined(drawn), words.number(part.value, 2), attributes=of)
