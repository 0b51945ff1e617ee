"""A commented recipe for a data set, from its training cases, for people to edit.

Unedited it is the generic recipe of the modality with its plan carried out, so the same numbers come from the same rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from initbench import registry
from initbench.catalog import BACKBONES
from initbench.datasets import splits
from initbench.datasets.geometry import bind_axes
from initbench.datasets.open import open_dataset
from initbench.harness.choose import planning_rule
from initbench.preprocessing.auto_settings import Grids, fill_auto_settings, median_shape, target_spacing
from initbench.preprocessing.parameters import CaseScan, Parameters, resolve_parameters, scan
from initbench.protocols import Case, Dataset, Grid, Size, Split
from initbench.recipes.files import listing
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Preprocess, Recipe
from initbench.spec import Spec


@dataclass(frozen=True)
class Seen:
    """What the training cases are like."""

    split: Split
    grids: Grids
    foreground: float
    parameters: Parameters

    @property
    def spacing(self) -> NDArray[np.float64]:
        """In mm, [case, (D, H, W)]."""
        order = [2, 1, 0]
        first = "xyz".index(self.parameters.depth_axis)
        order.remove(first)
        return self.grids.spacings[:, [first, *order]]


def write(name: str, data_root: Path | None) -> str:
    """Reads every training case of a data set, and returns the text of a recipe for it.

    Raises:
        UsageError: no such data set. DataError: it is not here, or a case is unusable.
    """
    dataset = open_dataset(name, data_root)
    generic = "generic-mr"
    if dataset.modality.upper() == "CT":
        generic = "generic-ct"
    settings = _generic(generic, "tiny").preprocess
    seen = look(dataset, settings)
    made = [
        *_head(dataset, generic, seen), *_preprocess(settings, seen), *_paper(generic, seen), *_tiny(generic), *_steps()
    ]  # fmt: skip
    return "\n".join(made) + "\n"


def _generic(name: str, size: Size, backbone: str = "") -> Recipe:
    return load_recipe(name, size=size, backbone=backbone, budget="paper")


def look(dataset: Dataset, settings: Preprocess) -> Seen:
    """Reads the training cases of the usual split, and no other: what a recipe knows of the reported ones would leak."""
    split = splits.resolve_split(dataset, None)
    scans: list[CaseScan] = []
    shapes, spacings, filled = [], [], []
    for case_id in split.train:
        case = dataset.load(case_id)
        scans.append(scan(case))
        shapes.append(_shape(case))
        spacings.append(scans[-1].spacing_xyz)
        filled.append(float((case.label > 0).mean()))
    parameters = resolve_parameters(settings, dataset.modality, scans, dataset.channels)
    grids = Grids(np.array(shapes), np.array(spacings))
    return Seen(split, grids, float(np.median(filled)), parameters)


def _shape(case: Case) -> tuple[int, int, int]:
    z, y, x = bind_axes(case.affine, "z").permutation
    shape = case.label.shape
    return shape[x], shape[y], shape[z]


def _head(dataset: Dataset, generic: str, seen: Seen) -> Iterator[str]:
    cases, classes = len(seen.split.train), dataset.classes[1:]
    text = (
        f"{dataset.name}: {dataset.modality}, channels {', '.join(dataset.channels)}; classes {', '.join(classes)}. Written from "
        f"{cases} training cases of split {seen.split.name}."
    )
    if dataset.name in dict(listing()):
        text += f" A recipe of this name comes with initbench: initbench recipe show {dataset.name}."
    yield "# Edit this, then: initbench run --recipe THIS_FILE --dataset ... (initbench recipe show THIS_FILE says what holds)."
    yield "# What is not here is as in base.toml: networks, optimizers, augmentation, losses, the pretext."
    yield f"# Unedited it gives the runs of {generic} on this split. For other splits and folds {generic} plans the numbers anew,"
    yield "# and this file keeps them."
    yield f"name = {json.dumps(dataset.name, ensure_ascii=False)}"
    yield "version = 1"
    yield f"source = {json.dumps(text, ensure_ascii=False)}"


def _preprocess(settings: Preprocess, seen: Seen) -> Iterator[str]:
    median = _row(np.median(seen.spacing, axis=0))
    least, most = _row(seen.spacing.min(axis=0)), _row(seen.spacing.max(axis=0))
    yield ""
    yield "[preprocess]"
    yield f"# (D, H, W) in mm, D along {seen.parameters.depth_axis}: median {median}, from {least} to {most}."
    yield "# At tiny size; paper size has its own below."
    yield f'# "median" is that of the training cases; or fix it: spacing = [{median}]; or "native".'
    yield 'spacing = "median"'
    if settings.intensity == "percentile" and seen.parameters.clip is not None and seen.parameters.scale is not None:
        (low, high), (mean, sd) = seen.parameters.clip, seen.parameters.scale
        yield f"# Clipped to the foreground's percentiles 0.5 and 99.5 (of the training cases {low:.4g} to {high:.4g}), then"
        yield f'# z-scored with its mean and SD ({mean:.4g}, {sd:.4g}). Or intensity = "window" with'
        yield "# window = [-175.0, 250.0] HU, as for the abdomen: to [0, 1]."
    else:
        yield "# Every case by its own percentiles, mean and SD: MR has no common scale."
    yield f'intensity = "{settings.intensity}"'
    yield "# Cut to the voxels above the lower clip (CT) or above zero."
    yield f"crop = {json.dumps(settings.crop)}"
    yield ""
    yield "[patch]"
    yield f"# Share of patches around foreground, which fills {100 * seen.foreground:.2g} % of a volume (median)."
    yield "# Nothing here: MONAI's family takes 0.5, nnU-Net's 0.33 (base.toml). To change both:"
    yield "# foreground = 0.67"


def _paper(generic: str, seen: Seen) -> Iterator[str]:
    spacing = target_spacing(seen.grids)
    yield ""
    yield "# Paper size, planned by the rule of initbench/preprocessing/auto_settings.py: the median spacing, finer along an axis"
    yield "# that is much coarser than the others; patches (D, H, W) as cubic in mm as the volume, within the voxels that a"
    yield "# network is known to train with; steps by the number of training cases where the network's authors count so."
    yield f"# At this spacing a volume has {_row(median_shape(seen.grids, spacing))} voxels (median); smaller ones are padded."
    yield "# For networks that are not named below, as those of plug-ins, the patch is planned when they are run."
    yield "[[override]]"
    yield 'when = { size = "paper" }'
    yield f"preprocess.spacing = {list(spacing)}"
    yield "plan.patch = true"
    yield ""
    yield "# MONAI's networks average logits where windows overlap, as MONAI does, and all others probabilities."
    yield "[[override]]"
    yield f'when = {{ size = "paper", backbone = {json.dumps(_averaging_logits(generic))} }}'
    yield 'inference.average = "logits"'
    yield ""
    yield "# Patches are what the first variant of each network takes."
    for (patch, steps), names in _by_numbers(generic, seen.grids).items():
        yield "[[override]]"
        yield f'when = {{ size = "paper", backbone = {json.dumps(names)} }}'
        yield "plan.patch = false"
        yield f"patch.size = {list(patch)}"
        yield f"steps.paper = {steps}"
        yield ""


def _averaging_logits(generic: str) -> list[str]:
    """Returns the networks that average logits at paper size by the generic recipe."""
    return [name for name in BACKBONES if _generic(generic, "paper", name).inference.average == "logits"]


def _by_numbers(generic: str, grids: Grids) -> dict[tuple[Grid, int], list[str]]:
    """Groups networks by the patch and the steps that the generic recipe plans for them at paper size."""
    found: dict[tuple[Grid, int], list[str]] = {}
    for name in BACKBONES:
        rule = planning_rule(registry.find("backbone", Spec(name)).info)
        recipe = fill_auto_settings(_generic(generic, "paper", name), grids, rule)
        found.setdefault((recipe.patch.size, recipe.steps.paper), []).append(name)
    return found


def _tiny(generic: str) -> Iterator[str]:
    usual = _generic(generic, "tiny").patch.size
    own: dict[Grid, list[str]] = {}
    for name in BACKBONES:
        own.setdefault(_generic(generic, "tiny", name).patch.size, []).append(name)
    yield "# Tiny size: patches that two CPU cores train."
    yield "[[override]]"
    yield 'when = { size = "tiny" }'
    yield f"patch.size = {list(usual)}"
    for patch, names in own.items():
        if patch != usual:
            yield ""
            yield "[[override]]"
            yield f'when = {{ size = "tiny", backbone = {json.dumps(names)} }}'
            yield f"patch.size = {list(patch)}"


def _steps() -> Iterator[str]:
    yield ""
    yield "# Steps of the budgets smoke and short, and at tiny size, are those of base.toml. To change them for all networks:"
    yield "# [steps]"
    yield "# short = 2000"


def _row(values: NDArray[np.float64] | Grid) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
