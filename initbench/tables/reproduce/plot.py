"""Draws a published figure beside what was measured: against its parameter, or row by row where it has none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from initbench.errors import InitbenchError
from initbench.plots import COLOURS
from initbench.tables.reproduce.measured import Answer, Asked, MeasuredRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_APART = 0.12  # of two lines at one category
_WIDTH = 90  # letters of a line over the picture


@dataclass(frozen=True)
class Point:
    """A row of a figure: its place `x`, its published value in Dice points, and what was measured."""

    x: float
    published: float | None
    measured: MeasuredRow | None


def draw(asked: Asked, answers: Sequence[Answer], path: Path) -> None:
    """Writes the picture: measured means with their intervals for new seeds and new cases, and published values, as crosses.

    Args:
        asked: the table.
        answers: what the runs say to it, a panel each.
        path: of the picture, whose ending says its format.

    Raises:
        InitbenchError: it cannot be written, or not in that format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5 * len(answers)), layout="constrained")
    for place, answer in enumerate(answers):
        axes = figure.add_subplot(len(answers), 1, place + 1)
        _panel(axes, asked, answer.rows)
        axes.set_title(_title(asked, answer.found.precision), fontsize="medium", loc="left")
    figure.legend(*axes.get_legend_handles_labels(), fontsize="small", frameon=False, ncols=2, loc="outside lower center")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InitbenchError(f"--plot {path} cannot be written ({error})") from None


def series(asked: Asked, measured: Mapping[str, MeasuredRow]) -> dict[str, list[Point]]:
    """Returns the points of each line, by its name."""
    found: dict[str, list[Point]] = {}
    for place, row in enumerate(asked.table.row):
        if not row.init:
            continue
        item = measured.get(row.label)
        if row.x is None:
            x = float(place)
        elif item is None:
            x = row.x
        else:
            x = item.x
        found.setdefault(row.series, []).append(Point(x, row.value, item))
    return found


def _panel(axes: Axes, asked: Asked, measured: Mapping[str, MeasuredRow]) -> None:
    is_categorical = all(row.x is None for row in asked.table.row)
    style = "o" if is_categorical else "o-"
    for place, (name, points) in enumerate(series(asked, measured).items()):
        colour = COLOURS[(4, 5, 2)[place % 3]]
        shift = _APART * place if is_categorical else 0.0
        measured_x, means, below, above = [], [], [], []
        paper_x, stated = [], []
        for point in points:
            if point.measured is not None and math.isfinite(point.measured.mean.value):
                mean = point.measured.mean
                measured_x.append(point.x + shift)
                means.append(mean.value)
                below.append(_reach(mean.value - mean.low))
                above.append(_reach(mean.high - mean.value))
            if point.published is not None:
                paper_x.append(point.x + shift)
                stated.append(point.published)
        label = f"{name} measured, 95 % for new seeds and cases".strip()
        axes.errorbar(measured_x, means, yerr=[below, above], fmt=style, color=colour, capsize=3, label=label)
        if stated:
            axes.plot(paper_x, stated, "x", color=colour, markersize=9, mew=2, label=f"{name} published".strip())
    if is_categorical:
        rows = {place: row.label for place, row in enumerate(asked.table.row) if row.init}
        axes.set_xticks(list(rows), list(rows.values()), rotation=20, ha="right")
    axes.set_xlabel(asked.table.parameter)
    axes.set_ylabel("Dice points")


def _reach(distance: float) -> float:
    """Returns how far an interval reaches to one side, 0 for one without bounds."""
    return 0.0 if math.isnan(distance) else distance


def _title(asked: Asked, precision: str) -> str:
    """Returns what it shows; and that published values are of another question, where they are."""
    lines = [f"{asked.table.full_name} · {asked.table.title} ({precision})"]
    instead = asked.overrides.words()
    if instead:
        lines += wrap(f"measured with {', '.join(instead)}: published values are of another question", _WIDTH)
    return "\n".join(lines)
