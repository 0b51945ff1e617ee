"""A chart with its caption, and the frames that charts share: a line for each init, or a plane with two axes.

Names and words are text of the page beside the drawings: a browser breaks their lines, and puts them above on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from initbench.report import svg
from initbench.report.styles import Style
from initbench.report.svg import Scale

HALF = 13.0  # pixels from the middle of a line to its upper and lower end, where its name takes one line
DOWN = "100%"  # to the lower end of a line, however high it is
NOTHING = Markup("")
_MOST = 24  # characters of a name on one line
_AXIS = 22.0  # pixels below a plot for the labels of its ticks
_TICKS = 5
_NAME = 16.0  # pixels from the name of one line to the next


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
class Line:
    """A line of a chart.

    Attributes:
        name: as written.
        full: the name that is shown at the pointer.
        drawing: stands on the line; 0 pixels down is its middle.
        words: stand at its end.
        init: whose line it is, with its `style`; empty where it is no init's.
        attributes: of a line that is no init's, as `svg.tag` names them.
    """

    name: str
    full: str
    drawing: Markup
    words: Markup | str = ""
    init: str = ""
    style: Style | None = None
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Axis:
    """The axis below the lines of a chart, and the drawing behind them.

    Attributes:
        labels: of the ticks, drawn at the baseline `BASELINE`.
        behind: is drawn behind each line.
        title: of the axis.
    """

    labels: Markup
    behind: Markup
    title: str

    BASELINE = 15.0


def lines(key: str, items: Sequence[Line], axis: Axis, *, words: int) -> Markup:
    """Draws a chart of lines: names at the left, the plot, words at the right.

    Args:
        key: tells the chart from all others of the page.
        items: the lines, from above.
        axis: lies below and behind them.
        words: characters of the longest words at the right.
    """
    rows, longest = [], 0
    for item in items:
        rows.append(_line(item, key))
        longest = max(longest, len(item.name))
    # The drawing behind the lines is drawn once and shown again in each.
    shared = svg.tag("defs", svg.tag("g", axis.behind, id=f"{key}-behind"))
    labels = svg.tag("div", svg.plot(_AXIS, shared, axis.labels), class_="track")
    rows.append(svg.tag("div", svg.tag("span"), labels, svg.tag("span", axis.title, class_="axis"), class_="line below"))
    return svg.tag("div", *rows, class_="lines", style=f"--name:{min(longest, _MOST) + 1}ch;--words:{words}ch")


def _line(item: Line, key: str) -> Markup:
    """Draws a line of the chart with this key."""
    name = svg.tag("span", item.name, class_="name", data_tip=item.full)
    own = svg.tag("svg", item.drawing, y="50%", class_="at")
    drawn = svg.tag("div", svg.plot(DOWN, svg.tag("use", href=f"#{key}-behind"), own), class_="track")
    words = svg.tag("span", item.words, class_="words")
    if item.style is None:
        return svg.tag("div", name, drawn, words, class_="line", **dict(item.attributes))
    return svg.tag("div", name, drawn, words, class_=f"line init {item.style.classes}", data_init=item.init)


def group(init: str, style: Style, *inside: str) -> Markup:
    """Returns all that belongs to an init in a drawing as one element, which is lit and dimmed together."""
    return svg.tag("g", *inside, class_=f"init {style.classes}", data_init=init)


@dataclass(frozen=True)
class Name:
    """The name of an init beside a plane.

    Attributes:
        text: as written.
        height: where it stands, in pixels from the top of the plane.
        sample: a piece of the line or a mark that it names.
    """

    init: str
    style: Style
    text: str
    height: float
    sample: Markup


@dataclass(frozen=True)
class Plane:
    """A plot with two axes, and the names of inits at its right, or below it where there is no room.

    Attributes:
        x: the scale across, in percent; `y` likewise down, in pixels.
        x_title: the quantity across; `y_title` the quantity down. A plane says itself where a scale is logarithmic.
        height: of the plot in pixels, without the labels below it.
    """

    x: Scale
    y: Scale
    x_title: str
    y_title: str
    height: float

    def heights(self, wanted: Sequence[float]) -> list[float]:
        """Returns the heights, in pixels, of names that belong to values: beside them, as far as the names do not touch."""
        return svg.spread_out([self.y(self.y.held(value)) for value in wanted], _NAME, 4, self.height)

    def drawn(
        self, inside: Sequence[str], names: Sequence[Name], labels: Markup | None = None, readable_as: str | None = None
    ) -> Markup:
        """Draws the plane.

        Args:
            inside: the drawings in it.
            names: of the inits that are in it.
            labels: the ticks below it, where these are not the ticks of its scale.
            readable_as: the unit across, where the script of the page may read values off the thick lines.
        """
        own = [svg.grid(self.x, self.height, _TICKS), svg.x_ticks(self.x, self.height + Axis.BASELINE, _TICKS)]
        below = labels or svg.joined(own)
        ends = None
        if readable_as:
            ends = f"{self.y.low:g} {self.y.high:g} {int(self.y.log)} {self.height:g}"
        read = {"data_unit": readable_as, "data_to": f"{self.x.high:g}", "data_y": ends}
        plot = svg.plot(self.height + _AXIS, below, svg.y_axis(self.y), *inside, **read)
        above = svg.tag("span", _titled(self.y_title, self.y), class_="axis")
        under = svg.tag("span", _titled(self.x_title, self.x), class_="axis below")
        area = svg.tag("div", above, plot, under, class_="area")
        beside = svg.tag("ul", *map(_name, names), class_="names")
        return svg.tag("div", area, beside, class_="plane")


def _titled(title: str, scale: Scale) -> str:
    """Returns the title of a scale, which says where it is logarithmic."""
    if scale.log:
        return f"{title}, log scale"
    return title


def least_height(wanted: float, names: int) -> float:
    """Returns the height of a plane that leaves room for a number of names beside it."""
    return max(wanted, _NAME * names + 8)


def leader(x: float, y: float, height: float) -> Markup:
    """Draws a faint line from a place of a plane to the name that belongs to it.

    Args:
        x: of the place, in percent.
        y: of the place, in pixels.
        height: of the name, in pixels.
    """
    return svg.line(x, y, 100, height, "leader")


def _name(item: Name) -> Markup:
    """Writes the name of an init beside a plane."""
    return svg.tag(
        "li",
        item.sample,
        svg.tag("span", item.text),
        class_=f"init {item.style.classes}",
        style=f"top:{svg.px(item.height)}px",
        data_init=item.init,
        data_tip=item.init,
    )
