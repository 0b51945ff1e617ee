"""A commented recipe for a data set, from its training cases, for people to edit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from initbench import registry
from initbench.catalog import BACKBONES
from initbench.data import splits
from initbench.data.geometry import bind_axes
from initbench.data.preprocess import CaseScan, Parameters, resolve, scan
from initbench.data.sources import open_dataset
from initbench.errors import DataError
from initbench.protocols import Case, Dataset, Grid, Split
from initbench.recipe import Preprocess, load
from initbench.recipe_files import listing
from initbench.spec import Spec

# Edges of a patch where the volumes are larger: MONAI's at paper size, and what two CPU cores train at tiny size.
LARGEST: dict[str, Grid] = {"paper": (96, 96, 96), "tiny": (48, 64, 64)}


@dataclass(frozen=True)
class Seen:
    """What the training cases are like: spacing in mm and shape in voxels by world axis, [case, (x, y, z)]."""

    split: Split
    spacing: NDArray[np.float64]
    shape: NDArray[np.float64]
    foreground: float
    parameters: Parameters

    def ordered(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(x, y, z) as (D, H, W)."""
        first = "xyz".index(self.parameters.depth_axis)
        return values[..., [first, *(axis for axis in (2, 1, 0) if axis != first)]]

    @property
    def volume(self) -> NDArray[np.float64]:
        """The median (D, H, W) at the target spacing, in voxels."""
        extent = self.ordered(self.shape * self.spacing)
        return np.asarray(np.median(extent, axis=0) / np.median(self.ordered(self.spacing), axis=0), np.float64)


def write(name: str, data_root: Path | None) -> str:
    """The text of a recipe for a data set; reads every training case.

    Raises:
        UsageError: no such data set. DataError: it is not here, or a case is unusable.
    """
    dataset = open_dataset(name, data_root)
    generic = "generic-ct" if dataset.modality.upper() == "CT" else "generic-mr"
    settings = load(generic, size="paper", backbone="", budget="paper").preprocess
    seen = look(dataset, settings)
    return "\n".join([*_head(dataset, seen), *_preprocess(settings, seen), *_patches(seen), *_steps()]) + "\n"


def look(dataset: Dataset, settings: Preprocess) -> Seen:
    """Reads the training cases of the usual split, and no other: what a recipe knows of the reported ones would leak."""
    split = splits.resolve(dataset, None)
    scans: list[CaseScan] = []
    shapes, filled = [], []
    for case_id in split.train:
        case = dataset.load(case_id)
        scans.append(scan(case))
        shapes.append(_shape(case))
        filled.append(float((case.label > 0).mean()))
    parameters = resolve(settings, dataset.modality, scans, dataset.channels)
    spacing = np.array([item.spacing_xyz for item in scans])
    return Seen(split, spacing, np.array(shapes, np.float64), float(np.median(filled)), parameters)


def _shape(case: Case) -> tuple[int, int, int]:
    axes = bind_axes(case.affine, "z")
    d, h, w = (case.label.shape[axis] for axis in axes.permutation)
    return w, h, d


def _head(dataset: Dataset, seen: Seen) -> Iterator[str]:
    known = f" A recipe of this name comes with initbench: initbench recipe show {dataset.name}."
    cases, classes = len(seen.split.train), dataset.classes[1:]
    text = (
        f"{dataset.name}: {dataset.modality}, channels {', '.join(dataset.channels)}; classes {', '.join(classes)}. Written from "
        f"{cases} training cases of split {seen.split.name}.{known if dataset.name in dict(listing()) else ''}"
    )
    yield "# Edit this, then: initbench run --recipe THIS_FILE --dataset ... (initbench recipe show THIS_FILE says what holds)."
    yield "# What is not here is as in base.toml: networks, optimizers, augmentation, losses, the pretext, steps."
    yield f"name = {json.dumps(dataset.name, ensure_ascii=False)}"
    yield "version = 1"
    yield f"source = {json.dumps(text, ensure_ascii=False)}"


def _preprocess(settings: Preprocess, seen: Seen) -> Iterator[str]:
    spacing = seen.ordered(seen.spacing)
    median, least, most = (_row(values) for values in (np.median(spacing, axis=0), spacing.min(axis=0), spacing.max(axis=0)))
    yield ""
    yield "[preprocess]"
    yield f"# (D, H, W) in mm, D along {seen.parameters.depth_axis}: median {median}, from {least} to {most}."
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
    yield f"crop = {str(settings.crop).lower()}"
    yield ""
    yield "[patch]"
    yield f"# Share of patches around foreground, which fills {100 * seen.foreground:.2g} % of a volume (median)."
    yield "# Nothing here: MONAI's family takes 0.5, nnU-Net's 0.33 (base.toml). To change both:"
    yield "# foreground = 0.67"


def _patches(seen: Seen) -> Iterator[str]:
    yield ""
    yield f"# Patches (D, H, W) in voxels at the median spacing, where a volume has {_row(seen.volume)} (median). At most"
    yield f"# {LARGEST['paper']} at paper and {LARGEST['tiny']} at tiny size, rounded up to what each network takes; smaller"
    yield "# volumes are padded."
    for size, largest in LARGEST.items():
        wanted = [int(min(most, np.ceil(edge))) for edge, most in zip(seen.volume, largest, strict=True)]
        for patch, names in _by_patch(wanted).items():
            backbones = ", ".join(json.dumps(name) for name in names)
            yield ""
            yield "[[override]]"
            yield f'when = {{ size = "{size}", backbone = [{backbones}] }}'
            yield f"patch.size = {list(patch)}"


def _by_patch(wanted: Sequence[int]) -> dict[Grid, list[str]]:
    """The smallest patch of each network's first variant that holds the one that is wanted."""
    found: dict[Grid, list[str]] = {}
    for name in BACKBONES:
        info = registry.get("backbone", Spec(name)).target.info
        rule = info.patches.get(info.variants[0])
        if rule is None:
            raise DataError(f"{name} does not say which patches it takes")
        found.setdefault(rule.at_least(wanted), []).append(name)
    return found


def _steps() -> Iterator[str]:
    yield ""
    yield "# Steps of each budget are those of base.toml; to change them:"
    yield "# [steps]"
    yield "# paper = 90000"


def _row(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
