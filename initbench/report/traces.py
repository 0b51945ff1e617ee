"""Values of runs over their steps or their time: a thin line for each run, a thick one for the mean over the seeds of an init."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from initbench.report import svg
from initbench.report.content import Row
from initbench.report.figure import Name, Plane, group, leader, least_height
from initbench.report.svg import Scale

Across = Literal["steps", "time"]
Array = NDArray[np.float64]

_MINUTES_FROM, _HOURS_FROM = 300, 3 * 3600  # seconds


@dataclass(frozen=True)
class Trace:
    """The values of a run.

    Attributes:
        steps: at which the values were taken, [point].
        seconds: since the run began, [point].
        values: [point].
    """

    steps: Array
    seconds: Array
    values: Array

    def along(self, across: Across) -> Array:
        """Returns the points of the line, [point, (place across, value)]."""
        places = self.steps
        if across == "time":
            places = self.seconds
        return np.stack([places, self.values], -1)


@dataclass(frozen=True)
class Traced:
    """An init with the values of its runs; at least one run, with at least one value each.

    Attributes:
        begins: whether a dotted line over time shows where its values begin.
        mean: of the runs, where it is known; else it is computed from them point by point.
    """

    row: Row
    traces: tuple[Trace, ...]
    begins: bool = False
    mean: Trace | None = None

    def middle(self, across: Across) -> Array:
        """Returns the line of the mean over seeds, [point, (place across, value)].

        Where runs end early, as diverged ones do, it goes as far as all of them go.
        """
        if self.mean is not None:
            return self.mean.along(across)
        lines = [trace.along(across) for trace in self.traces]
        shortest = min(map(len, lines))
        return np.asarray(np.mean([line[:shortest] for line in lines], axis=0), np.float64)


@dataclass(frozen=True)
class Panel:
    """A plane with the values of some inits.

    Attributes:
        found: the inits.
        title: of the axis of the values.
        step_title: of the axis of the steps.
        least: pixels of the height, at least.
        losses: whether the values are losses, which fall by much and may be very high at first.
    """

    found: Sequence[Traced]
    title: str
    step_title: str
    least: float
    losses: bool = True

    def end(self, across: Across) -> float:
        """Returns the last step, or the last second."""
        last = 0.0
        for item in self.found:
            for trace in item.traces:
                last = max(last, float(trace.along(across)[-1, 0]))
        return last

    def drawn(self, across: Across, end: float) -> Markup:
        """Draws the lines of all inits; the axis across goes from 0 to `end`."""
        divisor, unit, title = 1.0, "step", self.step_title
        if across == "time":
            divisor, unit = time_unit(end)
            title = f"time since the run began ({unit})"
        plane = self._plane(max(end / divisor, 1e-9), title)
        means, ends = [], []
        for item in self.found:
            mean = item.middle(across)
            means.append(mean)
            ends.append(float(mean[-1, 1]))
        heights = plane.heights(ends)
        parts, names = [], []
        for item, mean, name_at in zip(self.found, means, heights, strict=True):
            row = item.row
            lines = []
            for trace in item.traces:
                points = _places(trace.along(across), plane, divisor)
                lines.append(svg.path(points))
            drawn = _places(mean, plane, divisor)
            inside = [svg.stretched(plane.height, svg.tag("g", *lines, class_="thin"), svg.path(drawn, "thick"))]
            if item.begins and across == "time":
                inside.append(svg.line(drawn[0][0], 0, drawn[0][0], plane.height, "begin"))
            inside.append(leader(*drawn[-1], name_at))
            parts.append(group(row.init, row.style, *inside))
            names.append(Name(row.init, row.style, row.label, name_at, svg.dashes()))
        return plane.drawn(parts, names, readable_as=unit)

    def _plane(self, end: float, title: str) -> Plane:
        """Returns the plane, whose axis across goes from 0 to `end` and has a title."""
        height = least_height(self.least, len(self.found))
        values: list[float] = []
        for item in self.found:
            for trace in item.traces:
                values += trace.values.tolist()
        if self.losses:
            y = loss_scale(values, height)
        else:
            y = Scale(*svg.padded(values), height, 0.0)
        return Plane(Scale(0.0, end, 0.0, 100.0), y, title, self.title, height)


def switched(key: str, drawn: Mapping[Across, Sequence[Markup]], *, crowded: bool = False) -> Markup:
    """Puts drawings over steps and over time together, with a switch that shows the ones or the others and needs no script.

    Args:
        key: tells the switch from all others of the page.
        drawn: the drawings.
        crowded: whether there are too many lines for each to be seen.
    """
    choices, parts = [], []
    for across, planes in drawn.items():
        checked = None
        if across == "steps":
            checked = "checked"
        button = svg.tag("input", type="radio", name=f"{key}-across", value=across, checked=checked)
        choices.append(svg.tag("label", button, f" over {across}"))
        parts.append(svg.tag("div", *planes, class_=f"by-{across}"))
    classes = "switched"
    if crowded:
        classes += " crowded"
    return svg.tag("div", svg.tag("div", *choices, class_="switch"), *parts, class_=classes)


def _places(line: Array, plane: Plane, divisor: float) -> list[tuple[float, float]]:
    """Returns the places of points on a plane; values beyond the axis lie at its end.

    Args:
        line: the points, [point, (place across, value)].
        plane: on which they are drawn.
        divisor: the unit across.
    """
    places = []
    for at, value in line:
        places.append((plane.x(at / divisor), plane.y(plane.y.held(value))))
    return places


def loss_scale(values: Iterable[float], height: float) -> Scale:
    """Returns an axis of losses without the few highest ones; logarithmic where they fall by much.

    Args:
        values: the losses.
        height: of the plot, in pixels.
    """
    found = np.array(list(values))
    low, high = float(found.min()), float(np.quantile(found, 0.995))
    if low > 0 and high / low > 4:
        return Scale(low / 1.05, high * 1.05, height, 0.0, log=True)
    return Scale(*svg.padded((low, high), least=1e-3), height, 0.0)


def time_unit(longest: float) -> tuple[float, str]:
    """Returns the seconds of the unit for times up to the longest, which is in seconds, and the unit's name."""
    if longest < _MINUTES_FROM:
        return 1.0, "seconds"
    if longest < _HOURS_FROM:
        return 60.0, "minutes"
    return 3600.0, "hours"
