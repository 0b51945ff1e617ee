"""Finds the numeric parameters of preprocessing from the training cases of a data set.

Sources of the rules: LWI after MONAI (fixed window to [0, 1]); nnU-Net v1 (foreground percentiles and z-score for CT,
z-score per case for MR). Where channels are not alike, the rule of a channel goes by its name, as in nnU-Net v2
(MIC-DKFZ/nnUNet:nnunetv2/preprocessing/normalization).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from initbench import digest
from initbench.datasets import geometry
from initbench.errors import DataError
from initbench.protocols import Case, Spacing
from initbench.recipes.settings import Preprocess, Resampling

REVISION = 1  # raised whenever the same parameters give other voxels
SAMPLES_PER_CASE = 10_000  # foreground voxels, at least, that a case adds to the numbers of its data set where it has them
_REGIONS: Final[Mapping[str, Literal["whole", "nonzero"]]] = {"zscore": "whole", "nonzero-zscore": "nonzero"}
_WHOLE_RANGE = (0.0, 100.0)  # percentiles that clip nothing


@dataclass(frozen=True)
class CaseScan:
    """What one training case adds to the parameters of the whole data set.

    Attributes:
        spacing_xyz: mm along x, y, z of the RAS volume.
        foreground: intensities of foreground voxels, ``(C, N)``, or ``(N,)`` of the first channel alone.
    """

    spacing_xyz: NDArray[np.float64]
    foreground: NDArray[np.float32]


Region = Literal["clipped", "whole", "nonzero", "range"]


@dataclass(frozen=True)
class Channel:
    """How one channel is scaled and cropped, where channels differ; `Parameters` explains the attributes."""

    clip: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    percentiles: tuple[float, float] = _WHOLE_RANGE
    crop_above: float | None = None
    region: Region = "whole"


# Channels that nnU-Net v2 tells by name (any case). CT takes the recipe's rule, others are z-scored; these say their own rule.
_CT = "ct"
_BY_NAME: Final[Mapping[str, Channel]] = {
    "nonorm": Channel(scale=(0.0, 1.0)),
    "rescale_to_0_1": Channel(region="range"),
    "rgb_to_0_1": Channel(scale=(0.0, 255.0)),
}


@dataclass(frozen=True)
class Parameters:
    """Resolved numbers: all that the voxels depend on beside the files.

    Attributes:
        spacing: (D, H, W) mm, or None for each case's own.
        clip: intensity bounds, or None where each case has its own percentiles.
        scale: x -> (x - scale[0]) / scale[1] after clipping, or None for each case's own mean and SD.
        crop_above: crop to voxels above this value in any channel, None for no cropping.
        resampling: grid and order of the steps, as `recipe.Preprocess` has them.
        crop_nonzero: crop to voxels that differ from 0 in a channel.
        region: which voxels give a case its own `clip` and `scale`: the case clipped to its percentiles, the whole case, or its
            nonzero voxels; ``range`` takes its least to 0 and its greatest to 1.
        channels: where channels differ, the numbers of each, which then count in place of `clip`, `scale`, `percentiles`,
            `crop_above` and `region`. These are then the first CT channel's, or the first one's.
        plane: (H, W) that every slice is resized to, in pixels; `spacing` is then of D alone.
    """

    depth_axis: str
    spacing: Spacing | None
    clip: tuple[float, float] | None
    scale: tuple[float, float] | None
    percentiles: tuple[float, float]
    crop_above: float | None
    image_order: int
    resampling: Resampling = "half-pixel"
    crop_nonzero: bool = False
    region: Region = "clipped"
    channels: tuple[Channel, ...] = ()
    plane: tuple[int, int] | None = None

    def of_channels(self, count: int) -> tuple[Channel, ...]:
        """Returns the numbers of each channel of a case with `count` channels."""
        alike = Channel(self.clip, self.scale, self.percentiles, self.crop_above, self.region)
        return self.channels or (alike,) * count

    def digest(self) -> str:
        """Returns the digest of the numbers and of the revision of the code that uses them.

        A number with a default came later than results existed; it is in the digest where it differs from the default.
        """
        values = asdict(self)
        for item in fields(self):
            if item.default is not MISSING and getattr(self, item.name) == item.default:
                del values[item.name]
        return digest.of_json(values | {"revision": REVISION})


def scan(case: Case) -> CaseScan:
    """Reads the spacing and an even sample of the foreground intensities of one case, the same voxels in every channel."""
    axes = geometry.bind_axes(case.affine, "z")
    d, h, w = axes.spacing(case.affine)
    values = case.image[:, case.label > 0]
    stride = max(1, values.shape[1] // SAMPLES_PER_CASE)
    return CaseScan(np.array([w, h, d]), values[:, ::stride])


def resolve_parameters(
    settings: Preprocess, modality: str, scans: Iterable[CaseScan], channels: Sequence[str] = ("",)
) -> Parameters:
    """Finds the numbers of a data set from its training cases.

    Args:
        settings: the recipe's rules.
        modality: of the data set.
        scans: of its training cases.
        channels: their names: where some are CT and some are not, the recipe's rule is the one for CT.

    Raises:
        DataError: percentiles of the foreground are asked for, and no training case has any.
    """
    scans = list(scans)
    spacing_xyz = np.median([item.spacing_xyz for item in scans], axis=0)
    depth: str = settings.depth_axis
    if depth == "auto":
        depth = geometry.choose_depth(spacing_xyz)
    names = [name.casefold() for name in channels]
    rules = _rules(settings, modality, scans, names)
    main = rules[0]
    if _CT in names:
        main = rules[names.index(_CT)]
    own_rules: tuple[Channel, ...] = ()
    if set(rules) != {main}:
        own_rules = rules
    return Parameters(
        depth_axis=depth,
        spacing=_target_spacing(settings, depth, spacing_xyz),
        clip=main.clip,
        scale=main.scale,
        percentiles=main.percentiles,
        crop_above=main.crop_above,
        image_order=settings.image_order,
        resampling=settings.resampling,
        crop_nonzero=settings.crop == "nonzero",
        region=main.region,
        channels=own_rules,
        plane=settings.plane,
    )


def _rules(settings: Preprocess, modality: str, scans: Sequence[CaseScan], names: Sequence[str]) -> tuple[Channel, ...]:
    """Finds the numbers of each channel. It is the one place that decides which rule a channel takes.

    Args:
        settings: the recipe's rules.
        modality: of the data set.
        scans: of its training cases.
        names: of its channels, in lower case.
    """
    mixed = _CT in names and len(set(names)) > 1
    # Numbers of the data set (HU, as a rule) mean nothing on the channels that are no CT; a window set for MR is meant for all.
    of_the_set = settings.intensity in ("window", "percentile")
    rules = []
    for index, name in enumerate(names):
        if name in _BY_NAME and (mixed or settings.intensity != "window"):
            rules.append(_BY_NAME[name])
        elif mixed and of_the_set and name != _CT:
            rules.append(Channel())
        elif mixed and name == _CT:
            rules.append(_recipe_rule(settings, "CT", scans, index))
        else:
            rules.append(_recipe_rule(settings, modality, scans, index))
    if mixed and settings.crop is True:
        # What lies above air is asked of the CT: nearly all of the others lies above any bound in HU.
        for index, name in enumerate(names):
            if name != _CT:
                rules[index] = replace(rules[index], crop_above=None)
    return tuple(rules)


def _recipe_rule(settings: Preprocess, modality: str, scans: Sequence[CaseScan], channel: int) -> Channel:
    """Returns the recipe's own rule, with the numbers of a channel."""
    clip: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    if settings.intensity == "window":
        low, high = settings.window
        least, most = settings.window_to
        width = (high - low) / (most - least)
        clip, scale = (low, high), (low - least * width, width)
    elif settings.intensity == "percentile":
        values = np.concatenate([np.atleast_2d(item.foreground)[channel] for item in scans]).astype(np.float64)
        if not values.size:
            raise DataError(
                "no training case has a foreground voxel, so its percentiles are not known: check the labels, or set fixed "
                "bounds (--set preprocess.intensity=window --set preprocess.window=low,high)"
            )
        low, high = np.percentile(values, settings.percentiles)
        clip, scale = (float(low), float(high)), (float(values.mean()), max(float(values.std()), 1e-8))
    crop_above = None
    if settings.crop is True:
        crop_above = 0.0
        if modality == "CT":
            crop_above, _ = clip or settings.window
    return Channel(clip, scale, settings.percentiles, crop_above, _REGIONS.get(settings.intensity, "clipped"))


def _target_spacing(settings: Preprocess, depth: str, spacing_xyz: NDArray[np.float64]) -> Spacing | None:
    if settings.spacing == "native":
        return None
    if settings.spacing != "median":
        return settings.spacing
    d, h, w = spacing_xyz[list(geometry.world_order(depth))].tolist()
    return round(d, 4), round(h, 4), round(w, 4)
