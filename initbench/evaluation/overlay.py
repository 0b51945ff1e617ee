"""overlay.png: image, reference and prediction of the best, the median and the worst case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import obliquity
from numpy.typing import NDArray

from initbench.evaluation.grid import plane
from initbench.plots import COLOURS, OPPOSITE_SIDES, orientation
from initbench.preprocessing.prepare import PreparedCase

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot  # a run imports it when it draws: it takes as long as what training needs

Labels = NDArray[np.uint8]

_TILTED = 1.0  # degrees between a voxel axis and the nearest axis of the body, from which on the picture says so
_MARK: dict[str, Any] = {
    "color": "white",
    "fontsize": 10,
    "family": "monospace",  # its I has serifs, and is no bar
    "fontweight": "bold",
}


@dataclass(frozen=True)
class PredictedSlice:
    """A slice of a prediction: its index along D and its labels ``(H, W)``, both within `Placement.bounds`."""

    index: int
    labels: Labels


@dataclass(frozen=True)
class Telling:
    """The slices of a prediction that a picture shows: the one with most reference, and the one with most mistakes."""

    main: PredictedSlice
    error: PredictedSlice


@dataclass(frozen=True)
class OverlayCase:
    """A case to draw under a title."""

    title: str
    case: PreparedCase
    shown: Telling


def telling_slices(case: PreparedCase, prediction: Labels) -> Telling:
    """Copies the two slices of a prediction that a picture would show.

    They are small, so a run keeps them of every case until it knows the best and the worst.

    Args:
        case: the case that was predicted.
        prediction: labels on the native grid.
    """
    predicted = case.placement.crop(prediction)
    main, error = informative_slices(case.placement.crop(case.reference), predicted)
    return Telling(PredictedSlice(main, predicted[main].copy()), PredictedSlice(error, predicted[error].copy()))


def informative_slices(reference: Labels, prediction: Labels) -> tuple[int, int]:
    """Returns the index along D of the slice with most reference voxels, and of the slice with most disagreeing voxels."""
    filled = np.count_nonzero(reference, axis=(1, 2))
    if not filled.any():
        filled = np.count_nonzero(prediction, axis=(1, 2))
    wrong = np.count_nonzero(reference != prediction, axis=(1, 2))
    return int(filled.argmax()), int(wrong.argmax())


def choose(dice: Mapping[str, float]) -> dict[str, str]:
    """Chooses the cases of a run that are drawn, from top to bottom, by the name of their place: best, median and worst.

    Args:
        dice: of each case; NaN where none of its classes is scored. Such a case is left out.
    """
    ranked = []
    for case_id, value in dice.items():
        if not math.isnan(value):
            ranked.append((value, case_id))
    ranked.sort()
    if not ranked:
        return {}
    (_, worst), (_, best) = ranked[0], ranked[-1]
    if len(ranked) == 1:
        return {"the only case": best}
    if len(ranked) == 2:
        return {"best": best, "worst": worst}
    return {"best": best, "median": ranked[len(ranked) // 2][1], "worst": worst}


def draw(cases: Sequence[OverlayCase], classes: Sequence[str], path: Path) -> None:
    """Draws a row for each case: the slice with most reference, then the slice where reference and prediction differ most.

    Pictures are oriented as radiologists look at them, whatever the order in which a file holds its voxels. The title says so.

    Args:
        cases: from top to bottom.
        classes: names by label, the background first.
        path: of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.4 * len(cases) + 0.7), layout="constrained")
    grid = figure.subplots(len(cases), 4, squeeze=False)
    for row, case in zip(grid, cases, strict=True):
        _draw_case(row, case)
    statements = dict.fromkeys(orientation(sides_of(item.case)) for item in cases)
    figure.suptitle("\n".join(statements), fontsize=9)
    used: set[int] = set()
    for item in cases:
        used.update(np.unique(item.case.reference).tolist())
    handles = [_patch(label, classes[label]) for label in sorted(used - {0})]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 7), frameon=False)
    figure.savefig(path, dpi=80)


def _patch(index: int, name: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=COLOURS[(index - 1) % len(COLOURS)], linewidth=3, label=name)


def sides_of(case: PreparedCase) -> tuple[str, str, str]:
    """Returns the sides of the patient that (D, H, W) of a case grow towards by its affine, each one of R, A and S."""
    return case.placement.axes.towards(case.affine)


def _draw_case(row: Sequence[Plot], item: OverlayCase) -> None:
    case, main, error = item.case, item.shown.main, item.shown.error
    reference = case.placement.crop(case.reference)
    panels = (
        (main.index, (), f"slice {main.index}"),
        (main.index, ((reference[main.index], "solid"),), "reference"),
        (main.index, ((main.labels, "solid"),), "prediction"),
        (
            error.index,
            ((reference[error.index], "solid"), (error.labels, "dashed")),
            f"slice {error.index}: reference —, prediction - -",
        ),
    )
    height, width = reference.shape[1:]
    spacing = case.placement.axes.spacing(case.affine)
    for plot, (index, maps, title) in zip(row, panels, strict=True):
        shown = plane(case.image, case.placement.grid, index, np.arange(height, dtype=float), np.arange(width, dtype=float))
        plot.imshow(shown, cmap="gray", origin="lower", aspect=spacing[1] / spacing[2])
        for labels, style in maps:
            _contours(plot, labels, style)
        _turn(plot, sides_of(case))
        plot.set_title(title, fontsize=9)
        plot.set_xticks([])
        plot.set_yticks([])
    row[0].set_ylabel(item.title + _tilt(case), fontsize=9)


def _turn(plot: Plot, sides: Sequence[str]) -> None:
    """Puts the patient's right (in sagittal slices anterior) at the left, as radiologists look at slices, and marks the edges."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=2, foreground="black")]
    plot.invert_xaxis()
    _, top, left = sides
    for letter, x, y, across, along in (
        (left, 0.02, 0.5, "left", "center"),
        (OPPOSITE_SIDES[left], 0.98, 0.5, "right", "center"),
        (top, 0.5, 0.98, "center", "top"),
        (OPPOSITE_SIDES[top], 0.5, 0.02, "center", "bottom"),
    ):
        plot.text(x, y, letter, transform=plot.transAxes, ha=across, va=along, path_effects=outline, **_MARK)


def _tilt(case: PreparedCase) -> str:
    """Returns a line about a volume that does not lie along the axes of the body, where the marks name the nearest sides."""
    degrees = float(np.degrees(obliquity(case.affine)).max())
    if degrees < _TILTED:
        return ""
    return f"\ntilted by {degrees:.0f}°"


def _contours(plot: Plot, labels: Labels, style: str) -> None:
    for value in np.unique(labels):
        if value:
            colour = COLOURS[(int(value) - 1) % len(COLOURS)]
            plot.contour(labels == value, levels=[0.5], colors=[colour], linewidths=1.4, linestyles=style)
