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
from initbench.report.figure import Figure, together
from initbench.report.heat import Cases, telling
from initbench.runs import store
from initbench.runs.read import load_slice
from initbench.tables import words

CASES = 3
_PANEL, _GAP, _HEAD = 190.0, 12.0, 22.0
_PER_LINE = 6
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
    key = svg.svg(_width(shown), 20, "Classes", *_legend(used, classes))
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


def _width(shown: Sequence[Shown]) -> float:
    panels = min(_PER_LINE, 1 + max(len(case.predictions) for case in shown))
    return panels * (_PANEL + _GAP) - _GAP


def _drawn(case: Shown, key: str) -> Markup:
    """The image once, shown again in every panel; outlines as lines, sharp at any size."""
    height, width = case.image.shape
    scale = _PANEL / max(height, width)
    image = svg.tag("image", href=_png(case.image), width=width, height=height, id=f"slice-{key}", preserveAspectRatio="none")
    marks = _marks(case.sides, width * scale, height * scale)
    reference = svg.tag("g", *_outlines(case.reference, "reference"), id=f"reference-{key}")
    panels: list[tuple[str, str, Sequence[Markup]]] = [("reference", "", _outlines(case.reference, "prediction"))]
    panels += [
        (row.label, words.number(dice, 1), [svg.tag("use", href=f"#reference-{key}"), *_outlines(labels, "prediction")])
        for row, labels, dice in case.predictions
    ]
    line = _HEAD + height * scale + _GAP
    parts = [svg.tag("defs", image, reference)]
    for number, (name, dice, lines) in enumerate(panels):
        x, y = number % _PER_LINE * (_PANEL + _GAP), 20 + number // _PER_LINE * line
        said = [svg.short(name, _PANEL - 40), *([svg.tag("tspan", dice, dx=8, class_="strong")] if dice else [])]
        parts.append(svg.tag("text", *said, x=x, y=y + 14, class_="label", data_tip=name))
        inside = [svg.tag("use", href=f"#slice-{key}"), *lines]
        parts.append(svg.tag("g", *inside, transform=f"translate({svg.px(x)} {svg.px(y + _HEAD)}) scale({scale:.4f})"))
        parts.append(svg.tag("g", *marks, transform=f"translate({svg.px(x)} {svg.px(y + _HEAD)})"))
    whole = 20 + line * -(-len(panels) // _PER_LINE)
    panels_wide = min(_PER_LINE, len(panels)) * (_PANEL + _GAP) - _GAP
    return together([svg.text(0, 13, case.name, "axis"), *parts], panels_wide, whole, f"Outlines of case {case.name}")


def _turned(plane: Bytes) -> Bytes:
    """A slice as radiologists look at it: rows of slices grow upwards, columns towards what they have at the left."""
    return plane[::-1, ::-1]


def _marks(sides: Sequence[str], width: float, height: float) -> list[Markup]:
    """The letters of the patient's sides at the edges of a picture."""
    if not sides:
        return []
    _, top, left = sides
    middle, inset = height / 2 + 4, 8
    places = (
        (left, inset, middle),
        (OPPOSITE_SIDES[left], width - inset, middle),
        (top, width / 2, 14),
        (OPPOSITE_SIDES[top], width / 2, height - 6),
    )
    return [svg.tag("text", letter, x=x, y=y, class_="mark") for letter, x, y in places]


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


def _legend(used: Sequence[int], classes: Mapping[int, str]) -> list[Markup]:
    x, parts = 0.0, []
    for value in used:
        name = classes.get(value, f"class {value}")
        colour = COLOURS[(value - 1) % len(COLOURS)]
        parts.append(svg.tag("rect", x=x, y=3, width=20, height=12, fill=colour))
        parts.append(svg.text(x + 26, 14, name, "label"))
        x += 26 + len(name) * svg.CHARACTER + 22
    return parts
