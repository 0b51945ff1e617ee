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
from initbench.report.content import Block, Row, Run
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
        name: of the case.
        image: the slice; `reference` likewise, with labels.
        predictions: row, labels and Dice points of each init.
        sides: the sides of the patient towards which (D, H, W) of the volume grow; empty where no record says which axis D is.
    """

    name: str
    image: Bytes
    reference: Bytes
    predictions: tuple[tuple[Row, Bytes, float], ...]
    sides: tuple[str, ...]


def overlays(block: Block, classes: Mapping[int, str], most: int = CASES) -> Figure:
    """Draws the cases of a block on which inits differ most, as far as runs kept slices of them.

    Args:
        block: whose runs they are.
        classes: names by label, for the key.
        most: number of cases that are drawn; 0 for none.
    """
    candidates = telling(block, len(block.table.cases))
    if most == 0:
        why = "Left out: a report of so many blocks shows the first ones alone."
        return Figure("overlays", _TITLE, why, wide=True)
    if candidates is None:
        return Figure("overlays", _TITLE, "No case is scored for all runs of an init.", wide=True)
    seed = _shared_seed(candidates.rows)
    shown = _read(block, candidates, seed, most)
    if not shown:
        return Figure("overlays", _TITLE, "No pictures: these runs kept no slices, as those of older versions.", wide=True)
    which = "the first seed of each init"
    if seed is not None:
        which = f"seed {seed}"
    heading, sort = _TITLE, "whose mean Dice differs most"
    if len(candidates.rows) == 1:
        heading, sort = "The hardest cases", "of lowest Dice"
    caption = (
        f"The slice with most reference of the cases {sort}, runs of {which}. Solid: prediction; dotted: reference. The number "
        "is the Dice of the run on the whole case."
    )
    all_sides: dict[tuple[str, ...], None] = {}  # in the order of the cases
    used: set[int] = set()
    drawings = []
    for number, case in enumerate(shown):
        all_sides[case.sides] = None
        used.update(np.unique(case.reference).tolist())
        drawings.append(_drawn(case, f"{block.key}-{number}"))
    for sides in all_sides:
        if sides:
            caption += f" {orientation(sides)}"
    key = _legend(sorted(used - {0}), classes)
    drawing = svg.joined([key, svg.tag("div", *drawings, class_="cases")])
    return Figure("overlays", heading, caption, drawing, wide=True)


def _shared_seed(rows: Sequence[Row]) -> int | None:
    """Returns the first seed of which all rows have a run; None where there is none."""
    seeds = {run.seed for run in rows[0].runs}
    for row in rows[1:]:
        seeds &= {run.seed for run in row.runs}
    return min(seeds, default=None)


def _read(block: Block, found: Cases, seed: int | None, most: int) -> list[Shown]:
    """Reads the first `most` cases of which runs kept slices; `seed` is None for the first seed of each init."""
    shown: list[Shown] = []
    for name in found.names[: 3 * most]:
        case = _case(block, found.rows, name, seed)
        if case is not None:
            shown.append(case)
        if len(shown) == most:
            break
    return shown


def _run_of(row: Row, seed: int | None) -> Run | None:
    """Returns the run of a seed, or the first run where `seed` is None; None where the row has no such run."""
    for run in row.runs:
        if seed is None or run.seed == seed:
            return run
    return None


def _case(block: Block, rows: Sequence[Row], name: str, seed: int | None) -> Shown | None:
    """Reads a case from the slices of runs; None where no run kept one.

    Args:
        block: whose runs they are.
        rows: the inits.
        name: of the case.
        seed: of the runs; None for the first seed of each init.
    """
    predictions, first = [], None
    sides: tuple[str, ...] = ()
    for row in rows:
        run = _run_of(row, seed)
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
    if first is None:
        return None
    return Shown(name, first[0], first[1], tuple(predictions), sides)


def _sides(run: str) -> tuple[str, ...]:
    """Returns the sides of the patient towards which the axes of a run's volumes grow; empty where its record does not say."""
    record = store.read_record(Path(run))
    if not record:
        return ()
    return SIDES_BY_DEPTH.get(str(record.resolved.preprocess.get("depth_axis")), ())


def _drawn(case: Shown, key: str) -> Markup:
    """Draws a case: its image once, shown again in every panel; outlines as lines, sharp at any size."""
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
    """Draws a picture with its name and its Dice above it.

    Args:
        name: of the picture.
        dice: in words; empty for none.
        size: width and height in pixels of the slice.
        layers: the drawings that lie on each other, from below.
        marks: at the edges of the picture.
    """
    width, height = size
    said: list[str] = [svg.tag("span", name, data_tip=name)]
    if dice:
        said += [" ", svg.tag("span", dice, class_="strong")]
    label = f"Outlines: {name}"
    # Pictures of a case are equally large: as wide as their column, or as high as it is wide.
    share = f"--share:{min(1.0, width / height):.4f}"
    picture = svg.tag("svg", *layers, viewBox=f"0 0 {width} {height}", role="img", aria_label=label)
    framed = svg.tag("div", picture, *marks, class_="picture", style=share)
    return svg.tag("div", svg.tag("p", *said), framed, class_="panel")


def _turned(plane: Bytes) -> Bytes:
    """Returns a slice as radiologists look at it: both of its axes are turned round."""
    return plane[::-1, ::-1]


def _marks(sides: Sequence[str]) -> list[Markup]:
    """Writes the letters of the patient's sides at the edges of a picture."""
    if not sides:
        return []
    _, top, left = sides
    letters = {"left": left, "right": OPPOSITE_SIDES[left], "top": top, "bottom": OPPOSITE_SIDES[top]}
    marks = []
    for place, letter in letters.items():
        marks.append(svg.tag("span", letter, class_=f"side {place}"))
    return marks


def _colour(value: int) -> str:
    """Returns the colour of a class by its label."""
    return COLOURS[(value - 1) % len(COLOURS)]


def _outlines(labels: Bytes, kind: str) -> list[Markup]:
    """Draws the outlines of every class, turned as the picture of a run has them; `kind` is their class for CSS."""
    framed = np.pad(_turned(labels), 1)
    found = []
    for value in np.unique(labels):
        if value == 0:
            continue
        generator = contourpy.contour_generator(z=(framed == value).astype(np.float64), line_type=contourpy.LineType.Separate)
        traced = cast(list[NDArray[np.float64]], generator.lines(0.5))
        d = ""
        for points in traced:
            d += svg.through(points - 0.5)
        found.append(svg.tag("path", d=d, class_=f"outline {kind}", stroke=_colour(int(value))))
    return found


def _png(image: Bytes) -> str:
    """Returns a slice as the address of a PNG that needs no file."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(_turned(image))).save(out, "PNG", optimize=True)
    return svg.bytes_uri(out.getvalue())


def _legend(used: Sequence[int], classes: Mapping[int, str]) -> Markup:
    """Writes the key: the colour of each class that is used, by its label, and its name."""
    parts = []
    for value in used:
        swatch = svg.tag("rect", width=20, height=12, fill=_colour(value))
        box = svg.tag("svg", swatch, width=20, height=12, aria_hidden="true")
        parts.append(svg.tag("li", box, svg.tag("span", classes.get(value, f"class {value}"))))
    return svg.tag("ul", *parts, class_="key")
