"""Where the spread of Dice comes from: variance components as bars, a bar a block."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from initbench.leaderboard import words
from initbench.leaderboard.spread import SOURCES
from initbench.report import svg
from initbench.report.content import Block
from initbench.report.figure import Figure, together
from initbench.stats.analysis import Analysis
from initbench.stats.components import Component, Components

_LARGE = ("case", "residual")  # of one case in one run: beside them the others are slivers
_ROW, _BAR, _TOP = 30.0, 18.0, 52.0
_WIDTH = 1216.0
_GAP = 64.0


def sources(blocks: Sequence[Block], named: Sequence[str]) -> Figure:
    """All blocks in one chart: all sources at the left, those that move an init's mean at the right."""
    title = "Where the spread of Dice comes from"
    found = [(name, block, _components(block)) for name, block in zip(named, blocks, strict=True)]
    if not any(parts for _, _, parts in found):
        return Figure("sources", title, "No variance components: they need two seeds and two cases.", wide=True)
    caption = (
        "Shares of the variance of one case in one run (left), and the same without the differences between cases and the "
        "residual, which averaging over cases makes small (right). Estimates below 0 count as 0; initbench variance says how "
        "uncertain they are."
    )
    return Figure("sources", title, caption, _drawn(found), wide=True)


def _components(block: Block) -> dict[str, Component]:
    if not isinstance(block.found, Analysis) or not isinstance(block.found.components, Components):
        return {}
    return {name: part for name in SOURCES if (part := getattr(block.found.components, name)) is not None}


def _drawn(found: Sequence[tuple[str, Block, dict[str, Component]]]) -> Markup:
    left = svg.label_width((name for name, _, _ in found), 340) + 10
    half = (_WIDTH - left - _GAP - 20) / 2
    panels = (
        (left, tuple(SOURCES), "all sources"),
        (left + half + _GAP, tuple(n for n in SOURCES if n not in _LARGE), "without case and residual"),
    )
    height = _TOP + _ROW * len(found) + 40
    parts = [_patterns(), _legend([name for name in SOURCES if any(name in shown for _, _, shown in found)])]
    for x, _, title in panels:
        scale = svg.Scale(0, 100, x, x + half)
        parts.append(svg.x_axis(scale, _TOP - 6, height - 40, f"share of variance, {title}", " %"))
    for number, (name, block, shown) in enumerate(found):
        y = _TOP + _ROW * number
        label = svg.text(left - 10, y + _BAR / 2 + 4, svg.short(name, left - 12), "label", text_anchor="end", data_tip=name)
        bars = [_bar(shown, names, x, half, y) for x, names, _ in panels] if shown else [_none(block, left, y)]
        about = block.table.block
        parts.append(svg.tag("g", label, *bars, data_dataset=str(about["dataset"]), data_backbone=str(about["backbone"])))
    return together(parts, _WIDTH, height, "Variance components of every block")


def _none(block: Block, x: float, y: float) -> Markup:
    found = block.found.components if isinstance(block.found, Analysis) else block.found
    reason = getattr(found, "reason", "")
    return svg.text(x + 4, y + _BAR / 2 + 4, svg.short(f"none: {reason}", _WIDTH - x), "value")


def _bar(shown: dict[str, Component], names: Sequence[str], x: float, width: float, y: float) -> Markup:
    whole = sum(shown[name].value for name in names if name in shown)
    if whole <= 0:
        return svg.text(x + 4, y + _BAR / 2 + 4, "no variance found", "value")
    parts = []
    for name in names:
        if name not in shown or shown[name].value <= 0:
            continue
        share = shown[name].value / whole
        size = share * width
        tip = f"{SOURCES[name]}: {100 * share:.1f} %, SD {words.interval(shown[name].sd)} points"
        parts.append(svg.tag("rect", x=x, y=y, width=size, height=_BAR, class_=f"source {name}", data_tip=tip))
        if size > 34:
            parts.append(svg.text(x + size / 2, y + _BAR / 2 + 4, f"{100 * share:.0f} %", f"inside {name}", text_anchor="middle"))
        x += size
    return svg.joined(parts)


def _legend(names: Sequence[str]) -> Markup:
    x, parts = 0.0, []
    for name in names:
        parts.append(svg.tag("rect", x=x, y=4, width=22, height=14, class_=f"source {name}"))
        parts.append(svg.text(x + 28, 15, SOURCES[name], "label"))
        x += 28 + len(SOURCES[name]) * svg.CHARACTER + 22
    return svg.joined(parts)


def _patterns() -> Markup:
    """Hatches, so that no source depends on its colour. Fills name them by the class of the source."""
    marks = {
        "p-seed": svg.line(0, 0, 0, 7, "hatch", stroke_width=2.5),
        "p-seed_init": svg.joined([svg.line(0, 0, 0, 7, "hatch", stroke_width=2), svg.line(0, 0, 7, 0, "hatch", stroke_width=2)]),
        "p-init_case": svg.tag("circle", cx=3.5, cy=3.5, r=1.5, class_="hatched"),
        "p-seed_case": svg.line(0, 0, 0, 7, "hatch", stroke_width=1.5),
    }
    turned = {"p-seed": "rotate(45)", "p-seed_init": "rotate(45)", "p-seed_case": "rotate(90)"}
    made = [
        svg.tag(
            "pattern",
            svg.tag("rect", width=7, height=7, class_=f"ground {key[2:]}"),
            drawn,
            id=key,
            width=7,
            height=7,
            patternUnits="userSpaceOnUse",
            patternTransform=turned.get(key),
        )
        for key, drawn in marks.items()
    ]
    return svg.tag("defs", *made)
