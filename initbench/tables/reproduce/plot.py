"""A published figure beside what was measured: values against the parameter, or row by row where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from initbench.errors import InitbenchError
from initbench.plots import COLOURS
from initbench.published.tables import Row
from initbench.tables.reproduce.measured import Answer, Asked, MeasuredRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_APART = 0.12  # of two lines at one category
_WIDTH = 90  # letters of a line over the picture


@dataclass(frozen=True)
class Point:
    """A row: its place, its published value, and what was measured."""

    x: float
    published: float | None
    measured: MeasuredRow | None


def draw(asked: Asked, answers: Sequence[Answer], path: Path) -> None:
    """Writes the picture: measured means with their intervals for new seeds and new cases, and published values, as crosses.

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
    """The points of each line."""
    found: dict[str, list[Point]] = {}
    for place, row in enumerate(asked.table.row):
        if row.init:
            item = measured.get(row.label)
            x = float(place) if row.x is None else row.x if item is None else item.x
            found.setdefault(row.series, []).append(Point(x, row.value, item))
    return found


def _panel(axes: Axes, asked: Asked, measured: Mapping[str, MeasuredRow]) -> None:
    for place, (name, points) in enumerate(series(asked, measured).items()):
        colour, shift = COLOURS[(4, 5, 2)[place % 3]], _APART * place if _categorical(asked.table.row) else 0.0
        known = [point for point in points if point.measured is not None and math.isfinite(point.measured.mean.value)]
        style = "o" if _categorical(asked.table.row) else "o-"
        axes.errorbar(
            [point.x + shift for point in known],
            [point.measured.mean.value for point in known if point.measured],
            yerr=_reach(known),
            fmt=style,
            color=colour,
            capsize=3,
            label=f"{name} measured, 95 % for new seeds and cases".strip(),
        )
        stated = [point for point in points if point.published is not None]
        if stated:
            paper = [point.published for point in stated if point.published is not None]
            label = f"{name} published".strip()
            axes.plot([point.x + shift for point in stated], paper, "x", color=colour, markersize=9, mew=2, label=label)
    if _categorical(asked.table.row):
        rows = [(place, row) for place, row in enumerate(asked.table.row) if row.init]
        axes.set_xticks([place for place, _ in rows], [row.label for _, row in rows], rotation=20, ha="right")
    axes.set_xlabel(asked.table.parameter)
    axes.set_ylabel("Dice points")


def _title(asked: Asked, precision: str) -> str:
    """What it shows; and that published values are of another question, where they are."""
    lines = [f"{asked.table.full_name} · {asked.table.title} ({precision})"]
    instead = asked.overrides.words()
    if instead:
        lines += wrap(f"measured with {', '.join(instead)}: published values are of another question", _WIDTH)
    return "\n".join(lines)


def _categorical(rows: Sequence[Row]) -> bool:
    return all(row.x is None for row in rows)


def _reach(points: Sequence[Point]) -> list[list[float]]:
    means = [point.measured.mean for point in points if point.measured]
    bounds = [(mean.value - mean.low, mean.high - mean.value) for mean in means]
    return [[0.0 if math.isnan(item[side]) else item[side] for item in bounds] for side in (0, 1)]
