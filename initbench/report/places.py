"""How sure the order of the inits is: the share of bootstrap draws in which each has each rank."""

from __future__ import annotations

from markupsafe import Markup

from initbench.report import svg
from initbench.report.content import Block
from initbench.report.figure import TOP, Figure, Lines, group, together
from initbench.stats.design import Refused
from initbench.stats.ranks import Ranking

_TITLE = "Rank distribution"


def places(block: Block) -> Figure:
    """A line per init, a column per rank."""
    if isinstance(block.found, Refused):
        return Figure("places", _TITLE, f"No ranks: {block.found.reason}.")
    if isinstance(block.found.ranking, Refused):
        return Figure("places", _TITLE, f"No ranks: {block.found.ranking.reason}.")
    ranking = block.found.ranking
    caption = (
        f"Share of {ranking.draws} draws of other seeds and cases (bootstrap) in which an init has a rank, in %. "
        "Descriptive: verdicts come from the differences."
    )
    return Figure("places", _TITLE, caption, _drawn(block, ranking))


def _drawn(block: Block, ranking: Ranking) -> Markup:
    rows = {row.init: row for row in block.rows}
    frame = Lines(tuple(rows[item.init].label for item in ranking.inits))
    count = len(ranking.inits)
    size = min(64.0, (frame.end - frame.left) / count)
    parts = []
    for number, item in enumerate(ranking.inits):
        y = frame.y(number) - frame.row / 2 + 1
        cells = [frame.name(number, full=item.init)]
        for place, share in enumerate(item.places):
            x = frame.left + place * size
            tip = f"{item.init}: rank {place + 1} in {100 * share:.1f} % of draws"
            cells.append(cell(x, y, size - 2, frame.row - 2, share, _percent(share, size), tip))
        parts.append(group(item.init, rows[item.init].style, *cells))
    for place in range(count):
        x = frame.left + (place + 0.5) * size - 1
        parts.append(svg.text(x, frame.bottom + 15, str(place + 1), "tick", text_anchor="middle"))
    parts.append(
        svg.text(frame.left + count * size / 2, frame.bottom + 32, "rank (1: highest Dice)", "axis", text_anchor="middle")
    )
    return together([svg.line(0, TOP - 6, 0, TOP - 6, "grid"), *parts], frame.width, frame.height, "Rank distribution")


def _percent(share: float, size: float) -> str:
    if share == 0 or size < 22:
        return ""
    return "<1" if share < 0.005 else f"{100 * share:.0f}"


def cell(x: float, y: float, width: float, height: float, share: float, content: str, tip: str) -> Markup:
    """A cell that is the darker the larger a share is, with text that can be read on it."""
    base = svg.tag("rect", x=x, y=y, width=width, height=height, class_="cell", data_tip=tip)
    shade = svg.tag("rect", x=x, y=y, width=width, height=height, class_="shade", fill_opacity=f"{share:.2f}")
    dark = " dark" if share > 0.55 else ""
    said = svg.text(x + width / 2, y + height / 2 + 4, content, f"incell{dark}", text_anchor="middle") if content else ""
    return svg.joined([base, shade, said])
