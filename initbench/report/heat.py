"""Which cases inits differ on, and which flip with the seed: a heat map of cases and inits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from initbench.report import svg
from initbench.report.content import Block, Row
from initbench.report.figure import Figure, together
from initbench.report.places import cell
from initbench.stats.components import case_instability
from initbench.tables import words

SHOWN = 60
_TITLE = "Cases"
_ROW = 17.0
_HEAD = 104.0
_FULL = 1216.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cases:
    """The cases on which inits differ most, first.

    Attributes:
        rows: the inits, in the order of the columns.
        mean: Dice points over seeds, [case, init]; `sd` likewise, NaN with one seed.
        reach: the largest mean less the smallest, [case].
        steady: which columns the order and the shades of the SD go by: those of inits without diverged runs, where there are two.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    mean: Array
    sd: Array
    reach: Array
    steady: NDArray[np.intp]


def telling(block: Block, most: int) -> Cases | None:
    """The `most` cases whose Dice differs most between inits; None where nothing is scored."""
    rows = block.complete
    if not rows or not block.table.cases or np.isnan(block.table.y).any():
        return None
    y = block.table.y[[block.number(row) for row in rows]]
    mean, sd = y.mean(1).T, case_instability(y).T
    # A diverged run scores 0 on every case: the order would be that of the cases' difficulty.
    whole = ~block.table.diverged[[block.number(row) for row in rows]].any(1)
    steady = np.flatnonzero(whole) if whole.sum() > 1 else np.arange(len(rows))
    reach = mean[:, steady].max(1) - mean[:, steady].min(1)
    order = np.argsort(-reach if len(rows) > 1 else mean[:, 0], kind="stable")[:most]
    return Cases(tuple(block.table.cases[k] for k in order), rows, mean[order], sd[order], reach[order], steady)


def heat(block: Block, most: int = SHOWN) -> Figure:
    """Mean Dice and seed SD of cases by init."""
    found = telling(block, most)
    if found is None:
        return Figure("heat", _TITLE, "No case is scored for all runs of an init.", wide=True)
    count = len(block.table.cases)
    sort = "those on which the inits differ most first" if len(found.rows) > 1 else "the hardest first"
    which = (
        f"All {count} cases"
        if len(found.names) == count
        else f"The {len(found.names)} of {count} cases that tell the inits apart best"
    )
    caption = f"{which}, {sort}: mean Dice over seeds at the left, a stronger shade is more"
    caption += (
        "; at the right the SD over seeds in Dice points: cases that flip with the seed."
        if not np.isnan(found.sd).all()
        else ". One seed: no SD over seeds."
    )
    if len(found.steady) < len(found.rows):
        caption += " Order and range leave out inits with diverged runs, which score 0 on every case."
    return Figure("heat", _TITLE, caption, _drawn(found), wide=True)


@dataclass(frozen=True)
class _Layout:
    """Widths of the parts of one column of the picture."""

    names: float
    size: float
    inits: int

    @property
    def matrix(self) -> float:
        return self.size * self.inits

    @property
    def width(self) -> float:
        return self.names + 2 * self.matrix + 18 + 44


def _drawn(found: Cases) -> Markup:
    inits = len(found.rows)
    names = svg.label_width(found.names, 150) + 8
    layout = _Layout(names, min(46.0, max(15.0, 190.0 / inits)), inits)
    two = layout.width * 2 + 30 <= _FULL and len(found.names) > 20
    if not two:
        layout = _Layout(names, min(46.0, max(13.0, (_FULL - 100 - names) / inits / 2)), inits)
    half = (len(found.names) + 1) // 2 if two else len(found.names)
    low, high = float(found.mean.min()), float(found.mean.max())
    worst = 0.0 if np.isnan(found.sd).all() else float(np.nanmax(found.sd[:, found.steady]))
    parts = []
    for number, start in enumerate(range(0, len(found.names), half)):
        left = number * (layout.width + 30)
        parts.append(_column(found, range(start, min(start + half, len(found.names))), left, layout, (low, high), worst))
    width = layout.width * (2 if two else 1) + (30 if two else 0)
    return together(parts, width + 40, _HEAD + _ROW * half + 8, "Dice of cases by init")


def _column(found: Cases, which: range, left: float, layout: _Layout, ends: tuple[float, float], worst: float) -> Markup:
    start = left + layout.names
    second = start + layout.matrix + 18
    stable = worst > 0
    parts = [svg.text(start, 12, "mean Dice", "axis"), _heads(found.rows, start, layout.size)]
    if stable:
        parts += [svg.text(second, 12, "seed SD", "axis"), _heads(found.rows, second, layout.size)]
    last = second + (layout.matrix + 6 if stable else -12)
    compared = len(found.rows) > 1
    if compared:
        parts.append(svg.text(last + 36, _HEAD - 6, "range", "tick", text_anchor="end"))
    for k, index in enumerate(which):
        y = _HEAD + _ROW * k
        name = found.names[index]
        parts.append(
            svg.text(start - 6, y + _ROW / 2 + 4, svg.short(name, layout.names - 8), "case", text_anchor="end", data_tip=name)
        )
        parts += _cells(found, index, y, start, layout.size, found.mean[index], ends, "mean Dice")
        if stable:
            parts += _cells(found, index, y, second, layout.size, found.sd[index], (0.0, worst), "seed SD")
        if compared:
            parts.append(
                svg.text(last + 36, y + _ROW / 2 + 4, words.number(float(found.reach[index]), 1), "case", text_anchor="end")
            )
    return svg.joined(parts)


def _cells(
    found: Cases, index: int, y: float, left: float, size: float, values: Array, ends: tuple[float, float], what: str
) -> list[Markup]:
    parts = []
    for k, (row, value) in enumerate(zip(found.rows, values, strict=True)):
        share = (float(value) - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else 0.0
        said = words.number(float(value), 1) if size >= 30 else ""
        share = min(max(share, 0.0), 1.0)
        tip = f"{found.names[index]}, {row.init}: {what} {words.number(float(value), 1)}"
        parts.append(cell(left + k * size, y, size - 1, _ROW - 1, 0.04 + 0.96 * share, said, tip))
    return parts


def _heads(rows: Sequence[Row], left: float, size: float) -> Markup:
    """Names that rise to the right, so that long ones fit."""
    parts = []
    for k, row in enumerate(rows):
        x, y = left + (k + 0.5) * size, _HEAD - 6
        label = svg.text(
            x, y, svg.short(row.label, 100), "tick", transform=f"rotate(-50 {svg.px(x)} {svg.px(y)})", data_tip=row.init
        )
        parts.append(label)
    return svg.joined(parts)
