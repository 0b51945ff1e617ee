"""Distances of a run: what is recorded of them, and how they are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import fmean
from typing import Any

from initbench.evaluation.distances import PERCENTILE, TOOL, Distances, measure
from initbench.evaluation.evaluate import Scored

CaseDistances = dict[str, list[Distances]]


def of_case(scored: Scored, tolerance_mm: float) -> list[Distances]:
    """Distances of a scored case, per foreground class or region."""
    classes = len(scored.counts) + 1
    return measure(scored.case.reference, scored.prediction, scored.case.affine, classes, tolerance_mm, scored.regions)


def recorded(distances: CaseDistances | None, classes: Sequence[str], tolerance_mm: float) -> dict[str, Any]:
    """The record's entries: how it was measured, and means per class; null where it was not."""
    if distances is None:
        return {"distances": None, "hd95_mm_per_class": None, "nsd_per_class": None}
    entry = {"tool": TOOL, "version": version(TOOL), "percentile": PERCENTILE, "nsd_tolerance_mm": tolerance_mm}
    return {"distances": entry, **means(distances, classes)}


def means(distances: Mapping[str, Sequence[Distances]], classes: Sequence[str]) -> dict[str, Any]:
    """Means per class over the cases that have a value, with how many have one and why the others have none."""
    hd95, nsd = {}, {}
    for name, column in zip(classes[1:], zip(*distances.values(), strict=True), strict=True):
        absent = sum(item.nsd is None for item in column)
        missed = sum(item.hd95_mm is None for item in column) - absent
        hd95[name] = {**_mean([item.hd95_mm for item in column]), "reference_empty": absent, "prediction_empty": missed}
        nsd[name] = {**_mean([item.nsd for item in column]), "reference_empty": absent}
    return {"hd95_mm_per_class": hd95, "nsd_per_class": nsd}


def _mean(column: Sequence[float | None]) -> dict[str, Any]:
    values = [value for value in column if value is not None]
    return {"mean": fmean(values) if values else None, "cases": len(values)}
