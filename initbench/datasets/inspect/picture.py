"""Draws a data set: a typical case with its labels, and how large each class is."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import Patch
from matplotlib.ticker import LogFormatter

from initbench import plots
from initbench.datasets.inspect.fingerprint import Fingerprint, slice_of
from initbench.plots import COLOURS
from initbench.protocols import Case

_SHADE = 0.45  # of a label over the image
_BINS = 20  # of the histograms of volumes


def draw(found: Fingerprint, case: Case, classes: tuple[str, ...], path: Path) -> None:
    """Draws the slice of `case` with most foreground, plain and with its labels, and a histogram of volumes per class.

    Raises:
        UsageError: the file's ending says no form, or it cannot be written.
    """
    plots.check(path)
    rows = len(found.reported)
    figure = Figure(figsize=(13, max(4.5, 0.5 * rows + 1.5)), layout="constrained")
    left, right = np.ravel(np.asarray(figure.subfigures(1, 2, width_ratios=(1.35, 1)), object))
    _slices(left, found, case, classes)
    _histograms(right, found)
    with plots.written(path), matplotlib.rc_context({"svg.hashsalt": "initbench"}):
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


def _slices(figure: FigureBase, found: Fingerprint, case: Case, classes: tuple[str, ...]) -> None:
    image, label, aspect = slice_of(case)
    low, high = np.percentile(image, (0.5, 99.5))
    grey = np.repeat(((image - low) / max(float(high - low), 1e-6)).clip(0, 1)[..., None], 3, axis=2)
    shown = grey.copy()
    present: list[int] = np.unique(label[label > 0]).tolist()
    for value in present:
        shown[label == value] = (1 - _SHADE) * shown[label == value] + _SHADE * np.array(to_rgb(_colour(value - 1)))
    for plot, pixels in zip(figure.subplots(1, 2), (grey, shown), strict=True):
        plot.imshow(pixels, origin="lower", aspect=aspect, interpolation="nearest")
        plot.set_axis_off()
    figure.suptitle(f"{found.name}: {case.id}, {found.channels[0]}", fontsize=10)
    if present:
        handles = [Patch(color=_colour(value - 1), label=classes[value]) for value in present]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _histograms(figure: FigureBase, found: Fingerprint) -> None:
    volumes = np.array([case.volumes_ml for case in found.cases])
    held = volumes[volumes > 0]
    low, high = (float(held.min()), float(held.max())) if held.size else (1.0, 10.0)
    bins = np.geomspace(low / 1.1, high * 1.1, _BINS + 1)
    plots = figure.subplots(len(found.reported), 1, sharex=True, squeeze=False)[:, 0]
    for k, (plot, name) in enumerate(zip(plots, found.reported, strict=True)):
        own = volumes[volumes[:, k] > 0, k]
        plot.hist(own, bins=bins, color=_colour(k), edgecolor="black", linewidth=0.4)
        plot.set_xscale("log")
        plot.set_yticks([])
        plot.set_ylabel(f"{name}\n{own.size} of {len(volumes)}", rotation=0, ha="right", va="center", fontsize=8)
        for side in ("top", "right", "left"):
            plot.spines[side].set_visible(False)
    for which in (plots[-1].xaxis.set_major_formatter, plots[-1].xaxis.set_minor_formatter):
        which(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    plots[-1].set_xlabel("volume in a case (ml)")
    figure.suptitle("cases by volume of a class; beside it, how many hold it", fontsize=10)
