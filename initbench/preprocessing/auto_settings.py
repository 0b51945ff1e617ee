"""Settings of a data set without a recipe of its own, from the grids of its training cases.

The rule, after nnU-Net v1's planner (MIC-DKFZ/nnUNet@4c90678:nnunet/experiment_planning/experiment_planner_baseline_3DUNet.py)
where that does not depend on its network:

1. Spacing: the median of each axis. Where one is coarser than three times the others, and has less than a third of their voxels,
   that axis takes the tenth percentile of its spacings, but is not made finer than the others.
2. Patch: begins at the smallest that the network takes, and grows by one step along the axis of which it sees least in mm, until
   it holds the median volume or the voxels of the recipe's own `patch.size`, which is what the network is known to train with at
   that size. The network's rule says how long a step is; along an axis of 64 voxels or more it is at least 16 voxels, from 32 on
   at least 8: so four or three halvings are left to networks that choose them by the patch.
3. Steps: `plan.epochs` over the training cases, as MONAI's recipes count, but no fewer than the ``short`` budget has and no more
   than `plan.most_steps`; as the recipe has them where `plan.epochs` is 0, as nnU-Net counts.

What is assigned by hand stays. The numbers replace the rule in the recipe, so runs are named by them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench import cache, digest
from initbench.datasets import geometry
from initbench.preprocessing.prepare import load_known
from initbench.protocols import Dataset, Grid, NoProgress, PatchRule, Progress, Spacing
from initbench.recipes.settings import AutoSettings, Recipe

_STEPS = ((64, 16), (32, 8))  # voxels of an axis, and the least step of a patch along it
_FINER = 10.0  # percentile of the spacings of a coarse axis


@dataclass(frozen=True)
class Grids:
    """Grids of training cases along the axes x, y, z of the RAS volume: voxels ``(N, 3)`` and mm ``(N, 3)``."""

    shapes: NDArray[np.int64]
    spacings: NDArray[np.float64]


def read_grids(
    dataset: Dataset,
    cases: Sequence[str],
    digests: Mapping[str, str],
    progress: Progress | None = None,
    source: str | None = None,
) -> Grids:
    """Reads the grids of cases.

    Args:
        dataset: it reads the cases that the cache lacks.
        cases: their ids.
        digests: of each case, by id; the cache knows a grid by it.
        progress: told of cases that are read.
        source: as for `prepare.case_digests`, which gave `digests`.

    Raises:
        DataError: a case is unusable, or its files are no longer those that its digest was taken of.
    """
    progress = progress or NoProgress()
    keys: dict[str, str] = {}
    tables: dict[str, dict[str, Any]] = {}
    missing = []
    for case_id in cases:
        keys[case_id] = digest.of_json([digests[case_id], "grid-1"])[:32]
        item = cache.read_item("grids", keys[case_id])
        if item is None:
            missing.append(case_id)
        else:
            tables[case_id] = item.meta
    if missing:
        progress.start(f"reading grids of {dataset.name}", len(missing))
    for done, case_id in enumerate(missing, start=1):
        case, _ = load_known(dataset, case_id, digests[case_id], source)
        axes = geometry.bind_axes(case.affine, "z")
        z, y, x = axes.permutation
        shape = case.label.shape
        tables[case_id] = {"shape": [shape[x], shape[y], shape[z]], "spacing": list(reversed(axes.spacing(case.affine)))}
        cache.write("grids", keys[case_id], {}, tables[case_id])
        progress.advance(done, {})
    shapes, spacings = [], []
    for case_id in cases:
        shapes.append(tables[case_id]["shape"])
        spacings.append(tables[case_id]["spacing"])
    return Grids(np.array(shapes), np.array(spacings))


def target_spacing(grids: Grids) -> Spacing:
    """Chooses the spacing (D, H, W) in mm, rounded to 0.1 µm."""
    median, voxels = np.median(grids.spacings, axis=0), np.median(grids.shapes, axis=0)
    worst = int(np.argmax(median))
    others = np.delete(median, worst)
    if median[worst] > geometry.ANISOTROPY * others.max() and 3 * voxels[worst] < np.delete(voxels, worst).min():
        median[worst] = max(float(np.percentile(grids.spacings[:, worst], _FINER)), float(others.max()))
    d, h, w = _depth_first(grids, median)
    return round(d, 4), round(h, 4), round(w, 4)


def median_shape(grids: Grids, spacing: Spacing) -> Grid:
    """Returns the shape (D, H, W) of the median volume at a spacing."""
    mm = _depth_first(grids, np.median(grids.shapes * grids.spacings, axis=0))
    sizes = np.maximum(np.rint(np.divide(mm, spacing)), 1)
    d, h, w = sizes.astype(int).tolist()
    return d, h, w


def _depth_first(grids: Grids, xyz: NDArray[np.float64]) -> tuple[float, float, float]:
    """Brings x, y, z into the data set's order (D, H, W), which preprocessing chooses likewise."""
    depth = geometry.choose_depth(np.median(grids.spacings, axis=0))
    d, h, w = xyz[list(geometry.world_order(depth))].tolist()
    return d, h, w


def patch_for(shape: Grid, spacing: Spacing, voxels: int, rule: PatchRule) -> Grid:
    """Plans the patch for a median volume: as cubic in mm as the volume and the network allow.

    Args:
        shape: (D, H, W) of the volume.
        spacing: (D, H, W) in mm.
        voxels: of the patch at most, unless the smallest patch of the network has more.
        rule: which patches the network takes.
    """
    steps = [_step(rule, axis, shape[axis]) for axis in range(3)]
    # Steps count from 0: 8, 24 and 40 could be halved less often than 16, 32 and 48.
    patch = list(rule.at_least((1, 1, 1)))
    free = [0, 1, 2]
    if rule.depth:
        free.remove(0)
    for axis in free:
        if not rule.remainder[axis]:
            patch[axis] = math.ceil(patch[axis] / steps[axis]) * steps[axis]
    while True:
        for axis in sorted(free, key=lambda a: (patch[a] * spacing[a], a)):
            grown = list(patch)
            grown[axis] += steps[axis]
            if patch[axis] < shape[axis] and math.prod(grown) <= voxels:
                patch = grown
                break
        else:
            return patch[0], patch[1], patch[2]


def _step(rule: PatchRule, axis: int, size: int) -> int:
    multiple = rule.multiple[axis]
    if not rule.remainder[axis]:
        for voxels, step in _STEPS:
            if size >= voxels:
                return multiple * math.ceil(step / multiple)
    return multiple


def fill_auto_settings(recipe: Recipe, grids: Grids, rule: PatchRule, assigned: Iterable[str] = ()) -> Recipe:
    """Returns the recipe with numbers in place of its plan.

    Args:
        recipe: with a `plan`.
        grids: of the training cases.
        rule: which patches the network takes.
        assigned: settings that were given by hand (``section.field``) and stay.
    """
    kept = set(assigned)
    preprocess, patch, steps = recipe.preprocess, recipe.patch, recipe.steps
    if recipe.plan.patch:
        if preprocess.spacing == "median":
            preprocess = preprocess.model_copy(update={"spacing": target_spacing(grids)})
        spacing = preprocess.spacing
        if not isinstance(spacing, tuple):
            spacing = _own_spacing(grids)
        if "patch.size" not in kept:
            size = patch_for(median_shape(grids, spacing), spacing, math.prod(patch.size), rule)
            patch = patch.model_copy(update={"size": size})
    if recipe.plan.epochs and "steps.paper" not in kept:
        wanted = recipe.plan.epochs * len(grids.shapes)
        steps = steps.model_copy(update={"paper": min(max(wanted, steps.short), recipe.plan.most_steps)})
    return recipe.model_copy(update={"preprocess": preprocess, "patch": patch, "steps": steps, "plan": AutoSettings()})


def _own_spacing(grids: Grids) -> Spacing:
    return _depth_first(grids, np.median(grids.spacings, axis=0))
