"""Which places the inits may have: a line per init, from the best place that it may have to the worst."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Block
from initbench.report.figure import TOP, Figure, Lines, group, together
from initbench.stats.design import Refused
from initbench.stats.ranks import InitRank

_TITLE = "Places"


def places(block: Block) -> Figure:
    """A line per init over the places that it may have, with a mark at its rank by Dice."""
    if isinstance(block.found, Refused):
        return Figure("places", _TITLE, f"No ranks: {block.found.reason}.")
    if isinstance(block.found.ranking, Refused):
        return Figure("places", _TITLE, f"No ranks: {block.found.ranking.reason}.")
    caption = (
        "The places that an init may have (95 %), for new seeds and new cases, from its differences to all other inits; the mark "
        "is its rank by Dice. A line that reaches 1: the init may be the best."
    )
    return Figure("places", _TITLE, caption, _drawn(block, block.found.ranking))


def _drawn(block: Block, ranking: Sequence[InitRank]) -> Markup:
    rows = {row.init: row for row in block.rows}
    frame = Lines(tuple(rows[item.init].label for item in ranking), right=72)
    count = len(ranking)
    scale = frame.scale(0.5, count + 0.5)
    parts = []
    for place in range(1, count + 1):
        parts.append(svg.line(scale(place), TOP - 4, scale(place), frame.bottom, "grid"))
        parts.append(svg.text(scale(place), frame.bottom + 15, str(place), "tick", text_anchor="middle"))
    for number, item in enumerate(ranking):
        y = frame.y(number)
        said = f"{item.low}" if item.low == item.high else f"{item.low} to {item.high}"
        tip = f"{item.init}: rank {item.rank:g} by Dice, may have place {said}"
        line = svg.line(scale(item.low), y, scale(item.high), y, "whisker")
        mark = svg.mark("circle", scale(item.rank), y, 5, "dot", tip)
        parts.append(
            group(item.init, rows[item.init].style, frame.name(number, full=item.init), line, mark, frame.words(number, said))
        )
    middle = (scale(1) + scale(count)) / 2
    parts.append(svg.text(middle, frame.bottom + 32, "place (1: highest Dice)", "axis", text_anchor="middle"))
    return together(parts, frame.width, frame.height, "Places that inits may have")


def cell(x: float, y: float, width: float, height: float, share: float, content: str, tip: str) -> Markup:
    """A cell that is the darker the larger a share is, with text that can be read on it."""
    base = svg.tag("rect", x=x, y=y, width=width, height=height, class_="cell", data_tip=tip)
    shade = svg.tag("rect", x=x, y=y, width=width, height=height, class_="shade", fill_opacity=f"{share:.2f}")
    dark = " dark" if share > 0.55 else ""
    said = svg.text(x + width / 2, y + height / 2 + 4, content, f"incell{dark}", text_anchor="middle") if content else ""
    return svg.joined([base, shade, said])
