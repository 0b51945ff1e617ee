"""Where the spread of Dice comes from: what each source leaves in the mean of an init, a line a block."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Block
from initbench.report.figure import Figure, together
from initbench.stats.analysis import Analysis
from initbench.stats.components import Components
from initbench.stats.summary import Interval
from initbench.tables import words
from initbench.tables.variance import SOURCES

_ROW, _TOP = 30.0, 40.0
_WIDTH = 1216.0
_GAP = 14.0
_REACH = 4.0  # The axis ends at this many times the median SD. An interval that goes on beyond it ends in an arrow.
_TITLE = "Where the spread of Dice comes from"


def sources(blocks: Sequence[Block], named: Sequence[str]) -> Figure:
    """All blocks in one chart: a column per source, a line per block, an SD with its interval in each."""
    found = [(name, block, _left(block)) for name, block in zip(named, blocks, strict=True)]
    if not any(parts for _, _, parts in found):
        return Figure("sources", _TITLE, "No variance components: they need two seeds and two cases.", wide=True)
    caption = (
        "SD in Dice points, with 95 % intervals, that each source leaves in the mean of an init over the seeds and cases of its "
        "block. The choice of the init (first column) shows in a table as far as it stands out from the others; what a seed or a "
        "case does to all inits alike (seed, case) moves all means together and no difference. Estimates below 0 are shown as 0."
    )
    return Figure("sources", _TITLE, caption, _drawn(found), wide=True)


def _left(block: Block) -> dict[str, Interval]:
    if not isinstance(block.found, Analysis) or not isinstance(block.found.components, Components):
        return {}
    return block.found.components.left_in_mean()


def _drawn(found: Sequence[tuple[str, Block, dict[str, Interval]]]) -> Markup:
    left = svg.label_width((name for name, _, _ in found), 300) + 10
    names = [name for name in SOURCES if any(name in parts for _, _, parts in found)]
    width = (_WIDTH - left - _GAP * len(names)) / len(names)
    bottom = _TOP + _ROW * len(found)
    end = _end([part for _, _, parts in found for part in parts.values()])
    scales = {}
    parts = []
    for number, name in enumerate(names):
        start = left + number * (width + _GAP)
        scales[name] = svg.Scale(0.0, end, start + 4, start + width - 8)
        parts.append(svg.text(start + width / 2, 16, svg.short(SOURCES[name], width), "label", text_anchor="middle"))
        parts.append(_axis(scales[name], bottom))
    for number, (name, block, shown) in enumerate(found):
        y = _TOP + _ROW * (number + 0.5)
        label = svg.text(left - 10, y + 4, svg.short(name, left - 12), "label", text_anchor="end", data_tip=name)
        drawn = [_mark(SOURCES[source], shown[source], scales[source], y) for source in names if source in shown]
        about = block.table.block
        inside = drawn or [_none(block, left, y)]
        parts.append(svg.tag("g", label, *inside, data_dataset=str(about["dataset"]), data_backbone=str(about["backbone"])))
    return together(parts, _WIDTH, bottom + 40, "SD that every source leaves in the mean of an init, by block")


def _end(shown: Sequence[Interval]) -> float:
    """Where the axis ends: behind every SD, and behind most ends of intervals."""
    values = sorted(part.value for part in shown)
    highs = sorted(part.high for part in shown)
    usual = _REACH * max(values[len(values) // 2], 0.25)
    return max(1.1 * values[-1], min(highs[-1], usual), 1.0)


def _axis(scale: svg.Scale, bottom: float) -> Markup:
    """Grid lines with few labels, as the columns are narrow."""
    parts = []
    for value in scale.ticks(3):
        x = scale(value)
        parts.append(svg.line(x, _TOP - 6, x, bottom, "grid"))
        parts.append(svg.text(x, bottom + 15, scale.label(value), "tick", text_anchor="middle"))
    return svg.joined([*parts, svg.text((scale.start + scale.end) / 2, bottom + 32, "points", "axis", text_anchor="middle")])


def _mark(source: str, part: Interval, scale: svg.Scale, y: float) -> Markup:
    """A dot with its interval; an arrow where that goes on."""
    low, high = scale(min(part.low, scale.high)), scale(min(part.high, scale.high))
    parts = [svg.line(low, y, high, y, "whisker")]
    if part.high > scale.high:
        parts.append(svg.path([(high - 5, y - 4), (high, y), (high - 5, y + 4)], "whisker"))
    tip = f"{source}: SD {words.sd(part)} points in the mean of an init"
    return svg.joined([*parts, svg.mark("circle", scale(part.value), y, 4.5, "dot kd", tip)])


def _none(block: Block, x: float, y: float) -> Markup:
    found = block.found.components if isinstance(block.found, Analysis) else block.found
    reason = getattr(found, "reason", "")
    return svg.text(x + 4, y + 4, svg.short(f"none: {reason}", _WIDTH - x), "value")
