"""Runs with distances and without, and what lies in their folders."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from initbench.evaluation.distances import (
    Distances,
    distances_per_class,
)
from initbench.runs import store
from tests.runs_factory import THIRTY_STEPS, run


def started(data: Path, out: Path, **options: Any) -> Path:
    """Trains one run of 30 steps, which may diverge, and returns its folder."""
    [outcome] = run(data, out, settings=THIRTY_STEPS, **options)
    assert outcome.folder is not None, outcome.message
    assert outcome.state in ("ok", "diverged")
    return outcome.folder


def copy(folder: Path, tmp_path: Path) -> Path:
    """Copies a run into an output folder of its own."""
    to = tmp_path.joinpath("runs", *folder.parts[-4:])
    shutil.copytree(folder, to)
    return to


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The rows of the run's table of cases, as text."""
    with (folder / store.CASES).open(newline="") as file:
        return list(csv.DictReader(file))


def directly(data: Path, predictions: Path, tolerance: float) -> dict[str, list[Distances]]:
    """The distances of every prediction in a folder by case, computed from the label maps alone; `tolerance` in mm."""
    found = {}
    for path in sorted(predictions.glob("*.nii.gz")):
        label = nibabel.load(data / "labelsTr" / path.name)
        maps = [np.asarray(image.dataobj, np.uint8) for image in (label, nibabel.load(path))]
        found[path.name.removesuffix(".nii.gz")] = distances_per_class(maps[0], maps[1], label.affine, 3, tolerance)
    return found
