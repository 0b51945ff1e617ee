"""A heat map of cases and inits: on which cases the inits differ, and which cases flip with the seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from initbench.report import svg
from initbench.report.content import Block, Row
from initbench.report.figure import Figure
from initbench.stats.components import case_instability
from initbench.tables import words

SHOWN = 60
_TITLE = "Cases"
_PART = 25  # cases of a table at most: they fit on a sheet of paper
_ON_A_PHONE, _ON_A_DESK = 6, 14  # inits whose numbers fit into cells
_NAME = 16  # characters of a case on one line
_CELL = 5  # characters of a cell
_DARK = 0.55  # share of the shade on which text is light

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cases:
    """The cases on which inits differ most, first.

    Attributes:
        rows: the inits, in the order of the columns.
        mean: Dice points over seeds, [case, init]; `sd` likewise, NaN with one seed.
        reach: the largest mean less the smallest, [case].
        steady: the columns by which the cases are ordered and the SD is shaded: inits without diverged runs, where there are two
            or more, else all inits.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    mean: Array
    sd: Array
    reach: Array
    steady: NDArray[np.intp]


def telling(block: Block, most: int) -> Cases | None:
    """Returns the `most` cases whose Dice differs most between inits; None where nothing is scored."""
    rows = block.complete
    if not rows or not block.table.cases or np.isnan(block.table.y).any():
        return None
    places = [block.number(row) for row in rows]
    y = block.table.y[places]
    mean, sd = y.mean(1).T, case_instability(y).T
    # A diverged run scores 0 on every case, so that the easiest cases would differ most.
    whole = ~block.table.diverged[places].any(1)
    steady = np.arange(len(rows))
    if whole.sum() > 1:
        steady = np.flatnonzero(whole)
    reach = mean[:, steady].max(1) - mean[:, steady].min(1)
    by = -reach
    if len(rows) == 1:
        by = mean[:, 0]
    order = np.argsort(by, kind="stable")[:most]
    names = []
    for place in order:
        names.append(block.table.cases[place])
    return Cases(tuple(names), rows, mean[order], sd[order], reach[order], steady)


def heat(block: Block, most: int = SHOWN) -> Figure:
    """Draws mean Dice and seed SD of at most `most` cases by init."""
    found = telling(block, most)
    if found is None:
        return Figure("heat", _TITLE, "No case is scored for all runs of an init.", wide=True)
    count = len(block.table.cases)
    which = f"The {len(found.names)} of {count} cases that tell the inits apart best"
    if len(found.names) == count:
        which = f"All {count} cases"
    sort = "those on which the inits differ most first"
    if len(found.rows) == 1:
        sort = "the hardest first"
    caption = f"{which}, {sort}: mean Dice over seeds, a stronger shade is more"
    if np.isnan(found.sd).all():
        caption += ". One seed: no SD over seeds."
    else:
        caption += "; and the SD over seeds in Dice points: cases that flip with the seed."
    if len(found.steady) < len(found.rows):
        caption += " Order and range leave out inits with diverged runs, which score 0 on every case."
    return Figure("heat", _TITLE, caption, _drawn(found), wide=True)


def _drawn(found: Cases) -> Markup:
    """Draws tables of mean Dice and of the seed SD; long ones in parts, which stand beside each other where there is room."""
    mean = _Values("mean Dice", found.mean, float(found.mean.min()), float(found.mean.max()))
    largest_sd = 0.0
    if not np.isnan(found.sd).all():
        largest_sd = float(np.nanmax(found.sd[:, found.steady]))
    parts = -(-len(found.names) // _PART)
    share = -(-len(found.names) // parts)
    tables = []
    for start in range(0, len(found.names), share):
        cases = range(start, min(start + share, len(found.names)))
        tables.append(_table(found, cases, mean))
        if largest_sd > 0:
            tables.append(_table(found, cases, _Values("seed SD", found.sd, 0.0, largest_sd)))
    inits = len(found.rows)
    longest = min(max(len(mean.what), *map(len, found.names)), _NAME)
    least = f"{longest + _CELL * min(inits, _ON_A_DESK) + 6}ch"
    classes = f"maps {_numbers(inits)}"
    if parts > 1:
        classes += " long"
    return svg.tag("div", *tables, class_=classes, style=f"--case:{longest + 1}ch;--least:{least}")


def _numbers(inits: int) -> str:
    """Returns the class that says how wide a place has to be for numbers in its cells."""
    if inits <= _ON_A_PHONE:
        return "few"
    if inits <= _ON_A_DESK:
        return "some"
    return "many"


@dataclass(frozen=True)
class _Values:
    """The values of a table.

    Attributes:
        what: their name, as `mean Dice`.
        values: of all cases, [case, init].
        low: value of the weakest shade; `high` likewise.
    """

    what: str
    values: Array
    low: float
    high: float

    def share(self, value: float) -> float:
        """Returns how strong the shade of a value is, from 0 to 1."""
        if self.high <= self.low:
            return 0.0
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def _table(found: Cases, cases: range, of: _Values) -> Markup:
    """Draws a table of some cases by init; a stronger shade is more. Means are followed by their range over the inits.

    Args:
        found: all cases.
        cases: places of the cases of this table.
        of: the values.
    """
    with_range = of.values is found.mean and len(found.rows) > 1
    heads = [svg.tag("th", of.what, scope="col", class_="corner")]
    for row in found.rows:
        heads.append(svg.tag("th", svg.tag("span", row.label), scope="col", data_tip=row.init))
    if with_range:
        heads.append(svg.tag("th", svg.tag("span", "range"), scope="col"))
    rows = []
    for index in cases:
        name = found.names[index]
        cells = [svg.tag("th", name, scope="row", data_tip=name)]
        for row, value in zip(found.rows, of.values[index], strict=True):
            said = words.number(float(value), 1)
            cells.append(_cell(of.share(float(value)), said, f"{name}, {row.init}: {of.what} {said}"))
        if with_range:
            cells.append(svg.tag("td", words.number(float(found.reach[index]), 1), class_="range"))
        rows.append(svg.tag("tr", *cells))
    return svg.tag("table", svg.tag("thead", svg.tag("tr", *heads)), svg.tag("tbody", *rows))


def _cell(share: float, said: str, tip: str) -> Markup:
    """Draws a cell that is the darker the larger its share is, with text that can be read on it.

    Args:
        share: how strong its shade is, from 0 to 1.
        said: its text.
        tip: the text at the pointer.
    """
    dark: str | None = None
    if share > _DARK:
        dark = "dark"
    return svg.tag("td", svg.tag("span", said), class_=dark, style=f"--share:{0.04 + 0.96 * share:.2f}", data_tip=tip)
