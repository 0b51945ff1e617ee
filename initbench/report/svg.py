"""Drawing: elements, scales, ticks, text that fits. Everything that goes in is escaped unless it is markup already."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 600.0  # of a chart that shares a line with another
CHARACTER = 7.0  # pixels of an average character of a label
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def px(value: float) -> str:
    """A coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def tag(name: str, *inside: str, **attributes: str | float | None) -> Markup:
    """An element. Underscores of attribute names are hyphens, a last one is dropped; None leaves an attribute out."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{px(value) if isinstance(value, int | float) else escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    body = "".join(str(escape(item)) for item in inside)
    start = f"<{name}{''.join(parts)}"
    return Markup(f"{start}>{body}</{name}>" if body else f"{start}/>")  # noqa: S704 - every part is escaped above


def joined(parts: Iterable[str]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def svg(width: float, height: float, title: str, *inside: str) -> Markup:
    """A picture of so many pixels, named for those who cannot see it."""
    return tag(
        "svg",
        *inside,
        viewBox=f"0 0 {px(width)} {px(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
    )


def text(x: float, y: float, content: str, class_: str | None = None, **attributes: str | float | None) -> Markup:
    """A line of text, its baseline at `y`."""
    return tag("text", content, x=x, y=y, class_=class_, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **attributes: str | float | None) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, **attributes)


def path(points: Sequence[tuple[float, float]], class_: str, *, close: bool = False, **attributes: str | float | None) -> Markup:
    """A line through points; a path of one point is nothing."""
    if len(points) < 2:
        return Markup("")
    d = "M" + "L".join(f"{px(x)} {px(y)}" for x, y in points) + ("Z" if close else "")
    return tag("path", d=d, class_=class_, **attributes)


def mark(shape: str, x: float, y: float, r: float, class_: str, tip: str | None = None) -> Markup:
    """A symbol of a radius: circle, square, diamond, up, down or cross."""
    if shape == "circle":
        return tag("circle", cx=x, cy=y, r=r, class_=class_, data_tip=tip)
    corners = {
        "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
        "diamond": [(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)],
        "up": [(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        "down": [(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
    }
    if shape == "cross":
        d = f"M{px(x - r)} {px(y - r)}L{px(x + r)} {px(y + r)}M{px(x - r)} {px(y + r)}L{px(x + r)} {px(y - r)}"
        return tag("path", d=d, class_=f"{class_} cross", data_tip=tip)
    return path([(x + r * dx, y + r * dy) for dx, dy in corners[shape]], class_, close=True, data_tip=tip)


def short(label: str, width: float) -> str:
    """A label cut where it needs more than so many pixels."""
    most = max(4, int(width / CHARACTER))
    return label if len(label) <= most else f"{label[: most - 1]}…"


def label_width(labels: Iterable[str], most: float = 190.0) -> float:
    """Pixels for the longest label, within reason."""
    return min(most, max((len(item) for item in labels), default=0) * CHARACTER + 6)


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart and as near as may be to the ones wanted, in [low, high] where there is room."""
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    clusters: list[tuple[float, int]] = []  # centre and number of places that touch
    for k in order:
        centre, size = wanted[k], 1
        while clusters and clusters[-1][0] + (clusters[-1][1] + size) * gap / 2 > centre:
            other, count = clusters.pop()
            centre, size = (other * count + centre * size) / (count + size), count + size
        clusters.append((centre, size))
    spaced = [centre + gap * (i - (size - 1) / 2) for centre, size in clusters for i in range(size)]
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
    """From values to pixels.

    Attributes:
        low: value at pixel `start`; likewise `high` and `end`.
        log: whether equal factors are equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, at = (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 6) -> list[float]:
        """Round values to label."""
        return _decades(self.low, self.high) if self.log else round_steps(self.low, self.high, count)

    def label(self, value: float) -> str:
        """A tick as text, with the digits that tell it from the next."""
        ticks = self.ticks()
        if self.log or len(ticks) < 2:
            return f"{value:g}"
        step = ticks[1] - ticks[0]
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        digits += round(step * 10**digits, 6) % 1 > 1e-6
        return f"{value:.{digits}f}"


def round_steps(low: float, high: float, count: int = 6) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten in [low, high], about `count`."""
    if not high > low:
        return [low]
    size = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(size * factor for factor in _STEPS if (high - low) / (size * factor) <= count + 0.5)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        found = [f * 10.0**k for k in range(first, last + 1) for f in factors]
        found = [value for value in found if low * 0.999 <= value <= high * 1.001]
        if len(found) >= 3:
            return found
    return round_steps(low, high, 4)


def padded(values: Iterable[float], share: float = 0.06, least: float = 1.0) -> tuple[float, float]:
    """A range around finite values with some room; of width `least` at least."""
    found = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(found), max(found)
    room = max((high - low) * share, (least - (high - low)) / 2)
    return low - room, high + room


def x_axis(scale: Scale, top: float, bottom: float, title: str, unit: str = "") -> Markup:
    """Vertical grid lines, tick labels below them, the title below those."""
    parts = []
    for value in scale.ticks():
        x = scale(value)
        parts += [line(x, top, x, bottom, "grid"), text(x, bottom + 15, scale.label(value) + unit, "tick", text_anchor="middle")]
    return joined([*parts, text((scale.start + scale.end) / 2, bottom + 32, title, "axis", text_anchor="middle")])


def y_axis(scale: Scale, left: float, right: float, title: str) -> Markup:
    """Horizontal grid lines with tick labels to the left, the title above."""
    parts = []
    for value in scale.ticks(5):
        y = scale(value)
        parts += [line(left, y, right, y, "grid"), text(left - 6, y + 4, scale.label(value), "tick", text_anchor="end")]
    return joined([*parts, text(left - 6, min(scale.start, scale.end) - 10, title, "axis")])


def bytes_uri(png: bytes) -> str:
    """A picture as an address that needs no file."""
    import base64

    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
