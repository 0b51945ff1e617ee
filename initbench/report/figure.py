"""A chart with its caption, and the frame that charts of one line per init share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from initbench.report import svg
from initbench.report.svg import Scale

ROW = 26.0
TOP = 14.0
NOTHING = Markup("")


@dataclass(frozen=True)
class Figure:
    """A chart.

    Attributes:
        name: of its kind, for tests and styles.
        title: what it shows, in few words.
        caption: how to read it.
        drawing: the picture; nothing where `caption` says why there is none.
        wide: whether it takes a line of its own.
    """

    name: str
    title: str
    caption: str
    drawing: Markup = NOTHING
    wide: bool = False


@dataclass(frozen=True)
class Lines:
    """The frame of a chart with a line per init: names at the left, the plot, words at the right."""

    labels: tuple[str, ...]
    right: float = 0.0
    width: float = svg.WIDTH
    row: float = ROW

    @property
    def left(self) -> float:
        """Where the plot begins."""
        return svg.label_width(self.labels) + 10

    @property
    def end(self) -> float:
        """Where the plot ends."""
        return self.width - self.right - 8

    @property
    def bottom(self) -> float:
        """Below the last line."""
        return TOP + self.row * len(self.labels)

    @property
    def height(self) -> float:
        """Of the whole, with the axis."""
        return self.bottom + 40

    def y(self, number: int) -> float:
        """The middle of a line."""
        return TOP + self.row * (number + 0.5)

    def scale(self, low: float, high: float) -> Scale:
        """Values along the plot."""
        return Scale(low, high, self.left + 6, self.end - 6)

    def name(self, number: int, *, full: str | None = None) -> Markup:
        """The name of a line."""
        label = self.labels[number]
        return svg.text(
            self.left - 10,
            self.y(number) + 4,
            svg.short(label, self.left - 12),
            "label",
            text_anchor="end",
            data_tip=full or label,
        )

    def words(self, number: int, content: str, class_: str = "value") -> Markup:
        """What is said at the right of a line."""
        return svg.text(self.width, self.y(number) + 4, content, class_, text_anchor="end")


def group(init: str, style: str, *inside: str) -> Markup:
    """What belongs to an init: it is lit and dimmed together."""
    return svg.tag("g", *inside, class_=f"init {style}", data_init=init)


def together(parts: Sequence[str], width: float, height: float, title: str) -> Markup:
    """A picture of parts."""
    return svg.svg(width, height, title, *parts)
