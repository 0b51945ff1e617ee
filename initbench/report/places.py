"""The places that inits may have: a line per init, from the best place that it may have to the worst."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Block, Row
from initbench.report.figure import DOWN, Axis, Figure, Line, lines
from initbench.report.svg import Scale
from initbench.stats.design import Refused
from initbench.stats.ranks import InitRank

_TITLE = "Places"
_LABELLED = 10  # labels that fit below the plot on a phone


def places(block: Block) -> Figure:
    """Draws a line per init over the places that it may have, with a mark at its rank by Dice."""
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
    """Draws the places of the inits of a block, in the order of the ranking."""
    rows = {row.init: row for row in block.rows}
    count = len(ranking)
    scale = Scale(0.5, count + 0.5, svg.START, svg.END)
    every = -(-count // _LABELLED)
    labels, behind = [], []
    for place in range(1, count + 1):
        behind.append(svg.line(scale(place), 0, scale(place), DOWN, "grid"))
        if (place - 1) % every == 0:
            labels.append(svg.text(scale(place), Axis.BASELINE, str(place), "tick", text_anchor="middle"))
    axis = Axis(svg.joined(labels), svg.joined(behind), "place (1: highest Dice)")
    made = []
    for item in ranking:
        row = rows[item.init]
        made.append(_line(row, item, scale))
    return lines(f"{block.key}-places", made, axis, words=len(f"{count} to {count}") + 1)


def _line(row: Row, item: InitRank, scale: Scale) -> Line:
    """Draws the places of an init."""
    said = f"{item.low} to {item.high}"
    if item.low == item.high:
        said = f"{item.low}"
    tip = f"{item.init}: rank {item.rank:g} by Dice, may have place {said}"
    span = svg.line(scale(item.low), 0, scale(item.high), 0, "whisker")
    mark = svg.mark(row.style.shape, scale(item.rank), 0, 5, "dot", tip)
    return Line(row.label, item.init, svg.joined([span, mark]), said, item.init, row.style)
