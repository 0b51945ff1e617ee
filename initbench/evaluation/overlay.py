"""overlay.png: image, reference and prediction of the best, the median and the worst case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure
from numpy.typing import NDArray

from initbench.evaluation.grid import plane
from initbench.plots import COLOURS
from initbench.preprocessing.preprocess import Placement


@dataclass(frozen=True)
class OverlayCase:
    """A case to draw: a title, the preprocessed image ``(C, D, H, W)``, and native label maps with their placement."""

    title: str
    image: NDArray[np.float32]
    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    placement: Placement
    affine: NDArray[np.float64]


def draw(cases: Sequence[OverlayCase], classes: Sequence[str], path: Path) -> None:
    """Draws one row a case: the slice with most reference, then the slice where reference and prediction differ most.

    Args:
        cases: from top to bottom.
        classes: names by label, the background first.
        path: of the picture.
    """
    figure = Figure(figsize=(13, 3.4 * len(cases) + 0.5), layout="constrained")
    grid = figure.subplots(len(cases), 4, squeeze=False)
    for row, case in zip(grid, cases, strict=True):
        _draw_case(row, case)
    used = sorted({int(v) for case in cases for v in np.unique(case.reference)} - {0})
    handles = [_patch(k, classes[k]) for k in used]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 7), frameon=False)
    figure.savefig(path, dpi=80)


def _patch(index: int, name: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=COLOURS[(index - 1) % len(COLOURS)], linewidth=3, label=name)


def _draw_case(row: Sequence[Plot], case: OverlayCase) -> None:
    axes = case.placement.axes
    window = tuple(slice(low, high) for low, high in case.placement.bounds)
    reference, prediction = axes.apply(case.reference)[window], axes.apply(case.prediction)[window]
    main, error = informative_slices(reference, prediction)
    spacing = axes.spacing(case.affine)
    aspect = spacing[1] / spacing[2]
    height, width = reference.shape[1:]
    panels = (
        (main, (), f"slice {main}"),
        (main, ((reference, "solid"),), "reference"),
        (main, ((prediction, "solid"),), "prediction"),
        (error, ((reference, "solid"), (prediction, "dashed")), f"slice {error}: reference —, prediction - -"),
    )
    for plot, (index, maps, title) in zip(row, panels, strict=True):
        shown = plane(case.image, case.placement, index, np.arange(height, dtype=float), np.arange(width, dtype=float))
        plot.imshow(shown, cmap="gray", origin="lower", aspect=aspect)
        for label_map, style in maps:
            _contours(plot, label_map[index], style)
        plot.set_title(title, fontsize=9)
        plot.set_xticks([])
        plot.set_yticks([])
    row[0].set_ylabel(case.title, fontsize=9)


def _contours(plot: Plot, labels: NDArray[np.uint8], style: str) -> None:
    for value in np.unique(labels):
        if value:
            colour = COLOURS[(int(value) - 1) % len(COLOURS)]
            plot.contour(labels == value, levels=[0.5], colors=[colour], linewidths=1.4, linestyles=style)


def informative_slices(reference: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> tuple[int, int]:
    """Slice index along D with most reference voxels, and the one with most disagreeing voxels."""
    filled = np.count_nonzero(reference, axis=(1, 2))
    if not filled.any():
        filled = np.count_nonzero(prediction, axis=(1, 2))
    wrong = np.count_nonzero(reference != prediction, axis=(1, 2))
    return int(filled.argmax()), int(wrong.argmax())
