"""Finds the numeric parameters of preprocessing from the training cases, and applies them to a case by one pure function.

Sources of the rules: LWI/MONAI recipe R1 (fixed window to [0, 1]); nnU-Net v1 (foreground percentiles and z-score for CT,
z-score per case for MR). `grids` has our grid and the papers' own. Where channels are not alike, the rule of a channel goes by
its name, as in nnU-Net v2 (MIC-DKFZ/nnUNet:nnunetv2/preprocessing/normalization).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from initbench import digest
from initbench.datasets import geometry
from initbench.datasets.geometry import Axes
from initbench.errors import DataError
from initbench.limits import check_memory
from initbench.preprocessing.grids import (
    Bounds,
    CornerGrid,
    HalfPixelGrid,
    NnunetGrid,
    SliceGrid,
    coarse_axis,
    nonzero_mask,
    restored_grid,
)
from initbench.protocols import Case, Grid, Spacing
from initbench.recipes.settings import Preprocess, Resampling

REVISION = 1  # raised whenever the same parameters give other voxels
SAMPLES_PER_CASE = 10_000  # foreground voxels, at least, that a case adds to the numbers of its data set where it has them
_REGIONS: Final[Mapping[str, Literal["whole", "nonzero"]]] = {"zscore": "whole", "nonzero-zscore": "nonzero"}
_WHOLE_RANGE = (0.0, 100.0)  # percentiles that clip nothing
_WHILE_RESAMPLING = 8  # bytes per voxel and channel: the channel and the stack of all of them, float32


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


@dataclass(frozen=True)
class Placement:
    """Where a preprocessed volume lies in its native array: the way back for a prediction.

    Attributes:
        native_shape: of the array in the file, along its own axes.
        bounds: of the crop, in native voxels along (D, H, W).
        grid: of the preprocessed volume, over the crop.
    """

    native_shape: Grid
    axes: Axes
    bounds: Bounds
    grid: HalfPixelGrid

    @property
    def shape(self) -> Grid:
        """(D, H, W) of the preprocessed volume."""
        return self.grid.shape

    @property
    def cropped_shape(self) -> Grid:
        """(D, H, W) before resampling."""
        return self.grid.native

    def crop(self, native: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the crop ``(D, H, W)`` of a native label map."""
        return self.axes.apply(native)[self._window()]

    def restore(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns a label map on the cropped grid as a native array; outside the crop is background."""
        d, h, w = self.axes.permutation
        full = np.zeros((self.native_shape[d], self.native_shape[h], self.native_shape[w]), np.uint8)
        full[self._window()] = labels
        return np.ascontiguousarray(self.axes.invert(full))

    def _window(self) -> tuple[slice, ...]:
        return _slices(self.bounds)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for a JSON table."""
        axes = asdict(self.axes)
        return {
            "native_shape": self.native_shape,
            "axes": axes,
            "bounds": self.bounds,
            "shape": self.shape,
            **self.grid.stored(),
        }

    @staticmethod
    def from_json(values: dict[str, Any]) -> Placement:
        """Reads what `to_json` returned, with the grid as its way back needs it."""
        axes = Axes(tuple(values["axes"]["permutation"]), tuple(values["axes"]["flips"]))
        (d0, d1), (h0, h1), (w0, w1) = values["bounds"]
        native = (d1 - d0, h1 - h0, w1 - w0)
        grid = restored_grid(native, tuple(values["shape"]), values)
        return Placement(tuple(values["native_shape"]), axes, ((d0, d1), (h0, h1), (w0, w1)), grid)


@dataclass(frozen=True)
class Preprocessed:
    """Network input ``(C, D, H, W)`` float32, its label ``(D, H, W)`` uint8, and the way back."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    placement: Placement


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


def preprocess(case: Case, parameters: Parameters) -> Preprocessed:
    """Orients, crops, resamples and scales one case, in the order that goes with `parameters.resampling`.

    Raises:
        DataError: at the target spacing the case does not fit into memory.
    """
    axes = geometry.bind_axes(case.affine, parameters.depth_axis)
    x, y, z = case.label.shape
    makers = {"half-pixel": _half_pixel, "monai": _monai, "nnunet": _nnunet, "slice-resize": _slice_resize}
    make = makers[parameters.resampling]
    oriented = _Oriented(
        case.id, axes.apply(case.image), axes.apply(case.label), axes.spacing(case.affine), axes, native_shape=(x, y, z)
    )
    return make(oriented, parameters)


@dataclass(frozen=True)
class _Oriented:
    """A case with its axes as (D, H, W)."""

    id: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    spacing: Spacing
    axes: Axes
    native_shape: Grid

    def cut(self, bounds: Bounds) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        window = _slices(bounds)
        return self.image[(slice(None), *window)], self.label[window]

    def check(self, shape: Grid, now: Grid, target: Spacing) -> None:
        """Refuses a case for which resampling would take more memory than there is.

        Args:
            shape: (D, H, W) of the resampled volume.
            now: (D, H, W) of the volume as it is.
            target: mm along (D, H, W) after resampling.

        Raises:
            DataError: names the case and both spacings.
        """
        check_memory(
            shape,
            _WHILE_RESAMPLING * len(self.image),
            f"case {self.id}: resampling {now} voxels of {_mm(self.spacing)} to {_mm(target)}",
            "check the spacing in the file's header and in the recipe (--set preprocess.spacing=D,H,W)",
        )


def _slices(bounds: Bounds) -> tuple[slice, ...]:
    return tuple(slice(low, high) for low, high in bounds)


def _half_pixel(case: _Oriented, parameters: Parameters) -> Preprocessed:
    bounds = _bounds(case.image, parameters)
    image, label = case.cut(bounds)
    target = parameters.spacing or case.spacing
    shape = geometry.resampled_shape(label.shape, case.spacing, target)
    if parameters.plane is not None:
        shape = (shape[0], *parameters.plane)
    case.check(shape, label.shape, target)
    rules = parameters.of_channels(len(image))
    order = parameters.image_order
    grid = HalfPixelGrid(label.shape, shape)
    channels = []
    for channel, rule in zip(image, rules, strict=True):
        channels.append(_channel(np.ascontiguousarray(channel), grid, rule, order))
    label = np.ascontiguousarray(grid.label(label))
    return Preprocessed(np.stack(channels), label, Placement(case.native_shape, case.axes, bounds, grid))


def _slice_resize(case: _Oriented, parameters: Parameters) -> Preprocessed:
    bounds = _bounds(case.image, parameters)
    image, label = case.cut(bounds)
    grid = SliceGrid.by_plane(label.shape, parameters.plane or label.shape[1:])
    case.check(grid.shape, label.shape, case.spacing)
    everywhere = np.ones(label.shape, bool)
    channels = []
    for channel, rule in zip(image, parameters.of_channels(len(image)), strict=True):
        scaled = _scaled(channel, rule, everywhere)
        channels.append(grid.image(scaled, parameters.image_order))
    return Preprocessed(np.stack(channels), grid.label(label), Placement(case.native_shape, case.axes, bounds, grid))


def _monai(case: _Oriented, parameters: Parameters) -> Preprocessed:
    target = parameters.spacing or case.spacing
    grid = CornerGrid.by_spacing(case.label.shape, case.spacing, target)
    case.check(grid.shape, case.label.shape, target)
    rules = parameters.of_channels(len(case.image))
    everywhere = np.ones(grid.shape, bool)
    channels = []
    for channel, rule in zip(case.image, rules, strict=True):
        resampled = grid.image(channel, parameters.image_order)
        channels.append(_scaled(resampled, rule, everywhere))
    image = np.stack(channels)
    label = grid.label(case.label)
    d, h, w = case.label.shape
    asked = []
    for index, rule in enumerate(rules):
        if rule.crop_above is not None:
            asked.append(index)
    kept = everywhere
    if asked:
        kept = np.asarray(np.any(image[asked] > 0, axis=0))
    inner = geometry.box(kept)
    window = _slices(inner)
    image, label = np.ascontiguousarray(image[(slice(None), *window)]), np.ascontiguousarray(label[window])
    whole = ((0, d), (0, h), (0, w))
    return Preprocessed(image, label, Placement(case.native_shape, case.axes, whole, grid.cut(inner)))


def _nnunet(case: _Oriented, parameters: Parameters) -> Preprocessed:
    bounds = _bounds(case.image, parameters)
    image, label = case.cut(bounds)
    target = parameters.spacing or case.spacing
    shape = geometry.resampled_shape(label.shape, case.spacing, target)
    case.check(shape, label.shape, target)
    grid = NnunetGrid(label.shape, shape, coarse_axis(case.spacing, target))
    rules = parameters.of_channels(len(image))
    regions = {rule.region: np.ones(shape, bool) for rule in rules}
    if "nonzero" in regions:
        regions["nonzero"] = _region(image, label, grid)
    channels = []
    for channel, rule in zip(image, rules, strict=True):
        made = grid.image(np.ascontiguousarray(channel), parameters.image_order)
        channels.append(_scaled(made, rule, regions[rule.region]))
    label = np.ascontiguousarray(grid.label(np.ascontiguousarray(label)))
    return Preprocessed(np.stack(channels), label, Placement(case.native_shape, case.axes, bounds, grid))


def _region(image: NDArray[np.float32], label: NDArray[np.uint8], grid: NnunetGrid) -> NDArray[np.bool_]:
    """Returns where nnU-Net takes a case's mean and SD: what is nonzero or labelled, resampled as one more class is."""
    marked = label.astype(np.int16)
    marked[(label == 0) & ~nonzero_mask(image)] = -1
    return grid.label(marked) >= 0


def _scaled(volume: NDArray[np.float32], rule: Channel, region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Clips and scales by the data set's numbers, else by the case's own; a window's ends become 0 and 1 exactly."""
    if rule.scale is None and rule.region != "range":
        return _zscored(volume, region)
    offset, width = rule.scale or _range(volume)
    if rule.clip is not None:
        volume = np.clip(volume, *rule.clip)
    scaled: NDArray[np.float32] = (volume - np.float32(offset)) / np.float32(width)
    return scaled.astype(np.float32, copy=False)


def _range(volume: NDArray[np.float32]) -> tuple[float, float]:
    """Returns the least value, and how far the greatest is above it."""
    low, high = float(volume.min()), float(volume.max())
    return low, max(high - low, 1e-8)


def _zscored(volume: NDArray[np.float32], region: NDArray[np.bool_]) -> NDArray[np.float32]:
    inside = volume[region]
    out = np.zeros_like(volume)
    if inside.size:
        out[region] = (inside - np.float32(inside.mean(dtype=np.float64))) / np.float32(inside.std(dtype=np.float64) + 1e-8)
    return out


def _mm(spacing: Spacing) -> str:
    d, h, w = spacing
    return f"{d:.3g} × {h:.3g} × {w:.3g} mm"


def _bounds(image: NDArray[np.float32], parameters: Parameters) -> Bounds:
    d, h, w = image.shape[1:]
    if parameters.crop_nonzero:
        return geometry.box(np.asarray(np.any(image != 0, axis=0)))
    above = []
    for channel, rule in zip(image, parameters.of_channels(len(image)), strict=True):
        if rule.crop_above is not None:
            above.append(channel > rule.crop_above)
    if not above:
        return (0, d), (0, h), (0, w)
    return geometry.box(np.asarray(np.any(above, axis=0)))


def _channel(channel: NDArray[np.float32], grid: HalfPixelGrid, rule: Channel, order: int) -> NDArray[np.float32]:
    clip = rule.clip
    if clip is None:
        low, high = np.percentile(channel, rule.percentiles)
        clip = (float(low), float(high))
    clipped = np.clip(channel, *clip)
    # Cubic interpolation overshoots, so the bounds hold again after it.
    resampled = np.clip(grid.image(clipped, order), *clip)
    if rule.scale is not None:
        offset, width = rule.scale
    elif rule.region == "range":
        offset, width = _range(resampled)
    else:
        offset, width = float(resampled.mean(dtype=np.float64)), max(float(resampled.std(dtype=np.float64)), 1e-8)
    scaled: NDArray[np.float32] = (resampled - np.float32(offset)) / np.float32(width)
    return scaled.astype(np.float32, copy=False)
