"""Reads a page of HTML as a browser does: elements, attributes, text, and the rows of its leaderboards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Element:
    """An element of a page with its attributes, the elements inside it, and its own pieces of text."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def all(self, tag: str, class_: str = "") -> Iterator[Element]:
        """The elements inside this one, at any depth, with a tag and a class."""
        for child in self.children:
            if child.tag == tag and (not class_ or class_ in child.attributes.get("class", "").split()):
                yield child
            yield from child.all(tag, class_)

    @property
    def text(self) -> str:
        """All text inside the element, with single spaces."""
        return " ".join(" ".join([*self.said, *(child.text for child in self.children)]).split())


class Reader(HTMLParser):
    """Builds elements from HTML; scripts and styles are text.

    Asserts that every element is closed by its own end tag and has no attribute twice.
    """

    EMPTY = ("meta", "input", "img", "br", "link", "hr")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.top = Element("", {})
        self.open = [self.top]
        self.feed(html)
        self.close()
        assert [item.tag for item in self.open] == [""], "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = Element(tag, {key: value or "" for key, value in attrs})
        assert len(found.attributes) == len(attrs), "an attribute twice"
        self.open[-1].children.append(found)
        if tag not in self.EMPTY:
            self.open.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"{tag} closes {self.open[-1].tag}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].said.append(data)


def read(html: str) -> Element:
    """The top of a page: an element without a tag that holds all others."""
    return Reader(html).top


def rows(document: Element, table: str) -> dict[str, dict[str, Element]]:
    """The cells of a leaderboard of the report, by init and column; `table` is its id, as `b1`."""
    (found,) = (item for item in document.all("table") if item.attributes.get("id") == f"{table}-board")
    made = {}
    for row in next(found.all("tbody")).all("tr"):
        cells = [child for child in row.children if child.tag in ("td", "th")]
        made[row.attributes["data-init"]] = {
            next((name[2:] for name in cell.attributes.get("class", "").split() if name.startswith("c-")), cell.tag): cell
            for cell in cells
        }
    return made


def figures(document: Element, name: str) -> list[Element]:
    """The figures of one kind, such as `forest`."""
    return list(document.all("figure", name))


def elements(drawing: str) -> list[Element]:
    """All elements of an SVG drawing."""
    return list(everything(read(str(drawing))))


def everything(element: Element) -> Iterator[Element]:
    """All elements inside one, at any depth, in the order of the page."""
    for child in element.children:
        yield child
        yield from everything(child)


def across(element: Element, name: str) -> float:
    """A place of a drawing across, in percent."""
    return float(element.attributes[name].removesuffix("%"))
