"""The cases that inits differ on most, as images with the outlines of reference and prediction."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import contourpy
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from initbench.plots import COLOURS, OPPOSITE_SIDES, SIDES_BY_DEPTH, orientation
from initbench.report import svg
from initbench.report.content import Block, Row
from initbench.report.figure import Figure
from initbench.report.heat import Cases, telling
from initbench.runs import store
from initbench.runs.read import load_slice
from initbench.tables import words

CASES = 3
_TITLE = "Where the inits differ most"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """A case: its image and reference, and the prediction and Dice of each init.

    Attributes:
        sides: of the patient that (D, H, W) of the volume grow towards; empty where no record says which axis D is.
    """

    name: str
    image: Bytes
    reference: Bytes
    predictions: tuple[tuple[Row, Bytes, float], ...]
    sides: tuple[str, ...]


def overlays(block: Block, classes: Mapping[int, str], most: int = CASES) -> Figure:
    """The cases of a block on which inits differ most, as far as runs kept slices of them.

    Args:
        block: whose runs they are.
        classes: names by label, for the key.
        most: number of cases that are drawn; 0 for none.
    """
    candidates = telling(block, len(block.table.cases))
    if candidates is None or most == 0:
        why = (
            "No case is scored for all runs of an init."
            if most
            else "Left out: a report of so many blocks shows the first ones alone."
        )
        return Figure("overlays", _TITLE, why, wide=True)
    seeds = set.intersection(*({run.seed for run in row.runs} for row in candidates.rows))
    seed = min(seeds) if seeds else None
    shown = _read(block, candidates, seed, most)
    if not shown:
        return Figure("overlays", _TITLE, "No pictures: these runs kept no slices, as those of older versions.", wide=True)
    which = f"seed {seed}" if seed is not None else "the first seed of each init"
    alone = len(candidates.rows) == 1
    sort = "of lowest Dice" if alone else "whose mean Dice differs most"
    caption = (
        f"The slice with most reference of the cases {sort}, runs of {which}. Solid: prediction; dotted: reference. The number "
        "is the Dice of the run on the whole case."
    )
    for sides in dict.fromkeys(case.sides for case in shown if case.sides):
        caption += f" {orientation(sides)}"
    used = sorted({int(value) for case in shown for value in np.unique(case.reference)} - {0})
    key = _legend(used, classes)
    drawings = [_drawn(case, f"{block.key}-{number}") for number, case in enumerate(shown)]
    return Figure(
        "overlays",
        "The hardest cases" if alone else _TITLE,
        caption,
        svg.joined([key, svg.tag("div", *drawings, class_="cases")]),
        wide=True,
    )


def _read(block: Block, found: Cases, seed: int | None, most: int) -> list[Shown]:
    shown: list[Shown] = []
    for name in found.names[: 3 * most]:
        case = _case(block, found.rows, name, seed)
        if case is not None:
            shown.append(case)
        if len(shown) == most:
            break
    return shown


def _case(block: Block, rows: Sequence[Row], name: str, seed: int | None) -> Shown | None:
    predictions, first = [], None
    sides: tuple[str, ...] = ()
    for row in rows:
        run = next((run for run in row.runs if seed is None or run.seed == seed), None)
        if run is None or run.status != "ok":
            continue
        planes = load_slice(run.path, name)
        if planes is None or planes.ndim != 3 or len(planes) != 3 or (first is not None and planes.shape != first.shape):
            continue
        if first is None:
            first, sides = planes, _sides(run.path)
        number = block.number(row)
        dice = float(block.table.y[number, block.table.seeds[number].index(run.seed), block.table.cases.index(name)])
        predictions.append((row, planes[2], dice))
    return None if first is None else Shown(name, first[0], first[1], tuple(predictions), sides)


def _sides(run: str) -> tuple[str, ...]:
    record = store.read_record(Path(run))
    depth = record.resolved.preprocess.get("depth_axis") if record else None
    return SIDES_BY_DEPTH.get(str(depth), ())


def _drawn(case: Shown, key: str) -> Markup:
    """The image once, shown again in every panel; outlines as lines, sharp at any size."""
    height, width = case.image.shape
    size = {"width": width, "height": height}
    image = svg.tag("image", href=_png(case.image), id=f"slice-{key}", preserveAspectRatio="none", **size)
    reference = svg.tag("g", *_outlines(case.reference, "reference"), id=f"reference-{key}")
    marks = _marks(case.sides)
    shared = svg.tag("defs", image, reference)
    own = _outlines(case.reference, "prediction")
    panels = [_panel("reference", "", (width, height), [shared, svg.tag("use", href=f"#slice-{key}"), *own], marks)]
    for row, labels, dice in case.predictions:
        layers = [svg.tag("use", href=f"#slice-{key}"), svg.tag("use", href=f"#reference-{key}")]
        panels.append(
            _panel(row.label, words.number(dice, 1), (width, height), [*layers, *_outlines(labels, "prediction")], marks)
        )
    return svg.tag("div", svg.tag("p", case.name, class_="heading"), svg.tag("div", *panels, class_="panels"), class_="case")


def _panel(name: str, dice: str, size: tuple[int, int], layers: Sequence[Markup], marks: Sequence[Markup]) -> Markup:
    """A picture with its name and its Dice above it."""
    width, height = size
    said = [svg.tag("span", name, data_tip=name), *([" ", svg.tag("span", dice, class_="strong")] if dice else [])]
    label = f"Outlines: {name}"
    # Pictures of a case are equally large: as wide as their column, or as high as it is wide.
    share = f"--share:{min(1.0, width / height):.4f}"
    picture = svg.tag("svg", *layers, viewBox=f"0 0 {width} {height}", role="img", aria_label=label)
    framed = svg.tag("div", picture, *marks, class_="picture", style=share)
    return svg.tag("div", svg.tag("p", *said), framed, class_="panel")


def _turned(plane: Bytes) -> Bytes:
    """A slice as radiologists look at it: rows of slices grow upwards, columns towards what they have at the left."""
    return plane[::-1, ::-1]


def _marks(sides: Sequence[str]) -> list[Markup]:
    """The letters of the patient's sides at the edges of a picture."""
    if not sides:
        return []
    _, top, left = sides
    places = (("left", left), ("right", OPPOSITE_SIDES[left]), ("top", top), ("bottom", OPPOSITE_SIDES[top]))
    return [svg.tag("span", letter, class_=f"side {place}") for place, letter in places]


def _outlines(labels: Bytes, kind: str) -> list[Markup]:
    """The outlines of every class, turned as the picture of a run has them."""
    framed = np.pad(_turned(labels), 1)
    found = []
    for value in np.unique(labels):
        if value == 0:
            continue
        generator = contourpy.contour_generator(z=(framed == value).astype(np.float64), line_type=contourpy.LineType.Separate)
        traced = cast(list[NDArray[np.float64]], generator.lines(0.5))
        d = "".join("M" + "L".join(f"{svg.px(x - 0.5)} {svg.px(y - 0.5)}" for x, y in points) for points in traced)
        colour = COLOURS[(int(value) - 1) % len(COLOURS)]
        found.append(svg.tag("path", d=d, class_=f"outline {kind}", stroke=colour))
    return found


def _png(image: Bytes) -> str:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(_turned(image))).save(out, "PNG", optimize=True)
    return svg.bytes_uri(out.getvalue())


def _legend(used: Sequence[int], classes: Mapping[int, str]) -> Markup:
    """The colours of the classes."""
    parts = []
    for value in used:
        colour = COLOURS[(value - 1) % len(COLOURS)]
        box = svg.tag("svg", svg.tag("rect", width=20, height=12, fill=colour), width=20, height=12, aria_hidden="true")
        parts.append(svg.tag("li", box, svg.tag("span", classes.get(value, f"class {value}"))))
    return svg.tag("ul", *parts, class_="key")
