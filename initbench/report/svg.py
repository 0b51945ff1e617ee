"""Drawing: elements, scales, ticks. All text is escaped unless it is markup already.

A picture takes the width of its place: places are percent across and pixels down. So it fits a phone and a desk, while text and
marks keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

START, END = 2.0, 98.0  # per cent of a plot between which values lie, so that marks at its ends are not cut
_DOWN = 5  # ticks of an axis that goes down, about
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
# Corners of marks of radius 1 around (0, 0); a closed line through them.
_CLOSED = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "diamond": [(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)],
    "up": [(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
    "down": [(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
}
# The same for open lines: a cross, and arrows that say that something goes on to the left or to the right.
_OPEN = {
    "cross": [[(-1.0, -1.0), (1.0, 1.0)], [(-1.0, 1.0), (1.0, -1.0)]],
    "left": [[(1.0, -0.8), (0.0, 0.0), (1.0, 0.8)]],
    "right": [[(-1.0, -0.8), (0.0, 0.0), (-1.0, 0.8)]],
}


def px(value: float) -> str:
    """Writes a coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def percent(value: float) -> str:
    """Writes a place across, in percent of the width, to a hundredth of a per cent."""
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"


def tag(name: str, /, *inside: str, **attributes: str | float | None) -> Markup:
    """Writes an element. Underscores of attribute names become hyphens, a last one is dropped; None leaves an attribute out."""
    parts = []
    for key, value in attributes.items():
        if value is None:
            continue
        said: str = escape(value)
        if isinstance(value, int | float):
            said = px(value)
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{said}"')
    body = "".join(map(str, map(escape, inside)))
    start = f"<{name}{''.join(parts)}"
    if not body and name not in _HTML:  # only an element of SVG may end without an end tag of its own
        return Markup(f"{start}/>")  # noqa: S704 - every part is escaped above
    return Markup(f"{start}>{body}</{name}>")  # noqa: S704 - likewise


_HTML = frozenset(("div", "span", "ul", "li", "p", "table", "thead", "tbody", "tr", "th", "td"))


def joined(parts: Iterable[str]) -> Markup:
    """Writes elements one after the other."""
    return Markup("").join(parts)


def plot(height: float | str, *inside: str, **attributes: str | float | None) -> Markup:
    """Draws a picture as wide as its place. It has no name, as the words beside it say what it shows."""
    return tag("svg", *inside, class_="plot", height=height, aria_hidden="true", **attributes)


def stretched(height: float, *inside: str) -> Markup:
    """Draws into a plot by paths, whose coordinates cannot be in percent: 100 units across are the width of the plot."""
    return tag("svg", *inside, viewBox=f"0 0 100 {px(height)}", width="100%", height=height, preserveAspectRatio="none")


def text(x: float, y: float, content: str, class_: str | None = None, **attributes: str | float | None) -> Markup:
    """Writes a line of text, its baseline at `y`; `x` in percent."""
    return tag("text", content, x=percent(x), y=y, class_=class_, **attributes)


def line(x1: float, y1: float, x2: float, y2: float | str, class_: str, **attributes: str | float | None) -> Markup:
    """Draws a straight line between places in percent across and pixels down; `y2` may be a share of the height, as 100%."""
    return tag("line", x1=percent(x1), y1=y1, x2=percent(x2), y2=y2, class_=class_, **attributes)


def path(points: Sequence[tuple[float, float]], class_: str | None = None, **attributes: str | float | None) -> Markup:
    """Draws a line through points, for a `stretched` picture; nothing for a single point."""
    if len(points) < 2:
        return Markup("")
    d = "M" + "L".join(f"{x:.2f} {px(y)}" for x, y in points)
    return tag("path", d=d, class_=class_, **attributes)


def mark(shape: str, x: float, y: float, r: float, class_: str, tip: str | None = None) -> Markup:
    """Draws a mark.

    Args:
        shape: circle, square, diamond, up, down, cross, left or right.
        x: its place across, in percent.
        y: its place down, in pixels.
        r: its radius, in pixels.
        class_: for CSS.
        tip: the text at the pointer.
    """
    if shape == "circle":
        return tag("circle", cx=percent(x), cy=y, r=r, class_=class_, data_tip=tip)
    return tag("svg", tag("path", d=outline(shape, r), class_=class_, data_tip=tip), x=percent(x), y=y, class_="at")


def sample(shape: str, class_: str = "dot") -> Markup:
    """Draws a mark as a key shows it, in a picture of its own."""
    return tag("svg", mark(shape, 50, 6, 5, class_), class_="sample", width=22, height=12, aria_hidden="true")


def dashes() -> Markup:
    """Draws a piece of the line of an init, as a key shows it."""
    return tag(
        "svg", tag("line", x1=1, y1=6, x2=21, y2=6, class_="thick"), class_="sample", width=22, height=12, aria_hidden="true"
    )


def outline(shape: str, r: float) -> str:
    """Returns the path of a mark of radius `r` around (0, 0)."""
    if shape in _CLOSED:
        return f"{through(_CLOSED[shape], r)}Z"
    drawn = ""
    for corners in _OPEN[shape]:
        drawn += through(corners, r)
    return drawn


def through(points: Iterable[Iterable[float]], scale: float = 1.0) -> str:
    """Returns the path through points (x, y), in pixels once they are multiplied by a scale."""
    return "M" + "L".join(f"{px(scale * x)} {px(scale * y)}" for x, y in points)


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Returns places at least `gap` apart and as near as may be to wanted ones, in [low, high] where there is room.

    Args:
        wanted: the places that are wanted, in any order.
        gap: from one place to the next, at least.
        low: the first place.
        high: the last place.

    Returns:
        A place for each wanted one, in their order.
    """
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    clusters: list[tuple[float, int]] = []  # centre and number of places that touch
    for k in order:
        centre, size = wanted[k], 1
        while clusters and clusters[-1][0] + (clusters[-1][1] + size) * gap / 2 > centre:
            other, count = clusters.pop()
            centre, size = (other * count + centre * size) / (count + size), count + size
        clusters.append((centre, size))
    spaced = []
    for centre, size in clusters:
        for i in range(size):
            spaced.append(centre + gap * (i - (size - 1) / 2))
    for i, value in enumerate(spaced):  # what sticks out below pushes up, what sticks out above pushes down
        spaced[i] = max(value, low + i * gap)
    for i in range(len(spaced) - 1, -1, -1):
        spaced[i] = min(spaced[i], max(high - (len(spaced) - 1 - i) * gap, low + i * gap))
    found = [0.0] * len(wanted)
    for place, k in zip(spaced, order, strict=True):
        found[k] = place
    return found


@dataclass(frozen=True)
class Scale:
    """From values to places: percent across, or pixels down.

    Attributes:
        low: value at place `start`; likewise `high` and `end`.
        log: whether equal factors are equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Returns the place of a value."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def held(self, value: float) -> float:
        """Returns the value, or the end of the scale that is nearest to it."""
        return min(max(value, self.low), self.high)

    def ticks(self, count: int = 6) -> list[float]:
        """Returns about `count` round values to label."""
        if self.log:
            return _decades(self.low, self.high)
        return round_steps(self.low, self.high, count)

    def label(self, value: float, count: int = 6) -> str:
        """Writes a tick with the digits that tell it from the next; `count` as for `ticks`."""
        ticks = self.ticks(count)
        if self.log or len(ticks) < 2:
            return f"{value:g}"
        step = ticks[1] - ticks[0]
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        digits += round(step * 10**digits, 6) % 1 > 1e-6
        return f"{value:.{digits}f}"


def round_steps(low: float, high: float, count: int = 6) -> list[float]:
    """Returns multiples of 1, 2, 2.5 or 5 times a power of ten in [low, high], about `count`."""
    if not high > low:
        return [low]
    size = 10.0 ** math.floor(math.log10((high - low) / count))
    step = size
    for factor in _STEPS:
        step = size * factor
        if (high - low) / step <= count + 0.5:
            break
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Returns round values in [low, high] for a logarithmic scale: powers of ten, and as many between them as make three."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        found = []
        for power in range(first, last + 1):
            for factor in factors:
                value = factor * 10.0**power
                if low * 0.999 <= value <= high * 1.001:
                    found.append(value)
        if len(found) >= 3:
            return found
    return round_steps(low, high, 4)


def padded(values: Iterable[float], share: float = 0.06, least: float = 1.0) -> tuple[float, float]:
    """Returns a range around the finite ones of some values, with some room.

    Args:
        values: some of which may be NaN.
        share: of the range of the values, how much room each side has.
        least: width of the range, at least.
    """
    found = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(found), max(found)
    room = max((high - low) * share, (least - (high - low)) / 2)
    return low - room, high + room


def grid(scale: Scale, bottom: float | str, count: int = 6) -> Markup:
    """Draws vertical lines at the ticks of a scale, from the top to `bottom`."""
    parts = []
    for value in scale.ticks(count):
        x = scale(value)
        parts.append(line(x, 0, x, bottom, "grid"))
    return joined(parts)


def x_ticks(scale: Scale, y: float, count: int = 6) -> Markup:
    """Writes the labels of a scale that goes across, their baseline at `y`."""
    parts = []
    for value in scale.ticks(count):
        label = scale.label(value, count)
        parts.append(text(scale(value), y, label, "tick", text_anchor="middle"))
    return joined(parts)


def y_axis(scale: Scale) -> Markup:
    """Draws horizontal lines with tick labels to the left of the plot."""
    parts = []
    for value in scale.ticks(_DOWN):
        y = scale(value)
        parts.append(line(0, y, 100, y, "grid"))
        parts.append(text(0, y + 4, scale.label(value, _DOWN), "tick", text_anchor="end", dx=-6))
    return joined(parts)


def bytes_uri(png: bytes) -> str:
    """Returns a picture as an address that needs no file."""
    import base64

    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
