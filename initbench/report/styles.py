"""The colour, dashes and mark of an init: the same in every chart and in every report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from initbench.choices import BASELINE
from initbench.stats.blocks import is_placebo

HUES = 8  # report.css has a colour for each, in the light and in the dark
_SHAPES = ("circle", "square", "up", "diamond", "down")  # one with each kind of dashes


@dataclass(frozen=True)
class Style:
    """How an init is drawn.

    Attributes:
        hue: the name of its colour in report.css.
        variant: which dashes its lines have, and which shape its marks.
    """

    hue: str
    variant: int

    @property
    def classes(self) -> str:
        """The classes for CSS."""
        return f"k{self.hue} v{self.variant}"

    @property
    def shape(self) -> str:
        """The shape of its marks."""
        return _SHAPES[self.variant]


# Inits that are often compared with each other have different colours. A new built-in takes a pair that no other has.
BUILT_IN = {
    BASELINE: Style("d", 0),
    "lwi": Style("0", 0),
    "kaiming-normal": Style("1", 0),
    "mae": Style("2", 0),
    "xavier-uniform": Style("3", 0),
    "orthogonal": Style("4", 0),
    "tube": Style("5", 0),
    "order": Style("6", 0),
    "lsuv": Style("7", 0),
    "lwi-as-released": Style("0", 1),
    "kaiming-uniform": Style("1", 1),
    "images": Style("2", 1),
    "xavier-normal": Style("3", 1),
    "zero-residual": Style("4", 1),
    "swin-ssl": Style("5", 1),
    "trunc-normal": Style("6", 1),
    "he-leaky": Style("7", 1),
    "shuffled": Style("0", 2),
    "uniform": Style("1", 2),
    "checkpoint": Style("2", 2),
    "inflate-2d": Style("3", 2),
    "transfer": Style("6", 2),
}
PLACEBO = Style("p", 1)


def styles(inits: Iterable[str]) -> dict[str, Style]:
    """Returns the style of each init.

    The built-ins have theirs from the table above. The colour of every other one follows from its name alone. Where another init
    of the same report has that colour with the same mark already, it gets the next mark that is free.
    """
    wanted = sorted(set(inits))
    found = {}
    for init in wanted:
        fixed = _fixed(init)
        if fixed is not None:
            found[init] = fixed
    for init in wanted:
        if init not in found:
            found[init] = _free(_by_name(init), set(found.values()))
    return found


def _fixed(init: str) -> Style | None:
    """Returns the style of a placebo or of a built-in; None for any other init."""
    if is_placebo(init):
        return PLACEBO
    return BUILT_IN.get(init)


def _by_name(init: str) -> Style:
    """Returns a style that no built-in has. Its hue depends on the name alone, so that a new built-in changes no colour."""
    number = int.from_bytes(hashlib.sha256(init.encode()).digest()[:8])
    hue = str(number % HUES)
    variants = [variant for variant in range(len(_SHAPES)) if Style(hue, variant) not in BUILT_IN.values()]
    return Style(hue, variants[number // HUES % len(variants)])


def _free(wanted: Style, taken: set[Style]) -> Style:
    """Returns the wanted style, or its colour with the next mark that nobody has; the wanted one where all are taken."""
    for step in range(len(_SHAPES)):
        style = Style(wanted.hue, (wanted.variant + step) % len(_SHAPES))
        if style not in taken:
            return style
    return wanted
