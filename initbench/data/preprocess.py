"""Preprocessing: numeric parameters from the training cases, then one pure function per case.

Sources of the rules: LWI/MONAI recipe R1 (fixed window to [0, 1]); nnU-Net v1 (foreground percentiles and z-score for CT,
z-score per case for MR). Where the papers' grids differ from ours, `published` has theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from initbench import digest
from initbench.data import geometry, published
from initbench.data.geometry import Axes
from initbench.data.limits import check_memory
from initbench.data.published import Bounds
from initbench.errors import DataError
from initbench.protocols import Case, Grid, Spacing
from initbench.recipe import Preprocess

REVISION = 1  # raised whenever the same parameters give other voxels
SAMPLES_PER_CASE = 10_000
_REGIONS: Final[Mapping[str, Literal["whole", "nonzero"]]] = {"zscore": "whole", "nonzero-zscore": "nonzero"}
_WHILE_RESAMPLING = 8  # bytes per voxel and channel: the channel and the stack of all of them, float32


@dataclass(frozen=True)
class CaseScan:
    """What the data-set-wide parameters need from one training case."""

    spacing_xyz: NDArray[np.float64]
    foreground: NDArray[np.float32]


@dataclass(frozen=True)
class Parameters:
    """Resolved numbers: all that the voxels depend on beside the files.

    Attributes:
        spacing: (D, H, W) mm, or None for each case's own.
        clip: intensity bounds, or None where each case has its own percentiles.
        scale: x -> (x - scale[0]) / scale[1] after clipping, or None for each case's own mean and SD.
        crop_above: crop to voxels above this value, None for no cropping.
        resampling: grid and order of the steps, as `recipe.Preprocess` has them.
        crop_nonzero: crop to voxels that differ from 0 in a channel.
        region: where `clip` and `scale` are each case's own: those of the case clipped to its percentiles, of the whole case, or
            of its nonzero voxels.
    """

    depth_axis: str
    spacing: Spacing | None
    clip: tuple[float, float] | None
    scale: tuple[float, float] | None
    percentiles: tuple[float, float]
    crop_above: float | None
    image_order: int
    resampling: Literal["half-pixel", "monai", "nnunet"] = "half-pixel"
    crop_nonzero: bool = False
    region: Literal["clipped", "whole", "nonzero"] = "clipped"

    def digest(self) -> str:
        """Digest of the numbers and the revision of the code that uses them; what came later is in it where it is not default."""
        later = {item.name for item in fields(self) if item.default is not MISSING and getattr(self, item.name) == item.default}
        return digest.of_json({k: v for k, v in asdict(self).items() if k not in later} | {"revision": REVISION})


@dataclass(frozen=True)
class Corners:
    """A grid whose first voxel lies on the first native one, cut after resampling.

    Attributes:
        steps: native voxels from one voxel of the grid to the next.
        first: (D, H, W) of the cut, in voxels of the grid.
    """

    steps: Spacing
    first: Grid


@dataclass(frozen=True)
class Placement:
    """Where a preprocessed volume lies in its native array: the way back for a prediction.

    Attributes:
        bounds: of the crop, in native voxels along (D, H, W).
        shape: (D, H, W) of the preprocessed volume.
        coarse: the axis along which slices were repeated and not interpolated.
        corners: where the grid is not the half-pixel one.
    """

    native_shape: Grid
    axes: Axes
    bounds: Bounds
    shape: Grid
    coarse: int | None = None
    corners: Corners | None = None

    @property
    def cropped_shape(self) -> Grid:
        """(D, H, W) before resampling."""
        (d0, d1), (h0, h1), (w0, w1) = self.bounds
        return d1 - d0, h1 - h0, w1 - w0

    def restore(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A label map on the cropped grid back to the native array; outside the crop is background."""
        d, h, w = (self.native_shape[axis] for axis in self.axes.permutation)
        full = np.zeros((d, h, w), np.uint8)
        full[tuple(slice(low, high) for low, high in self.bounds)] = labels
        return np.ascontiguousarray(self.axes.invert(full))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON table; without what is at its default, as it was before there was more than one grid."""
        values = asdict(self)
        return {key: value for key, value in values.items() if value is not None}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Placement:
        """The inverse of `to_json`."""
        axes = Axes(tuple(values["axes"]["permutation"]), tuple(values["axes"]["flips"]))
        bounds = tuple((int(low), int(high)) for low, high in values["bounds"])
        corners = values.get("corners")
        return Placement(
            native_shape=tuple(values["native_shape"]),
            axes=axes,
            bounds=bounds,  # type: ignore[arg-type]
            shape=tuple(values["shape"]),
            coarse=values.get("coarse"),
            corners=Corners(tuple(corners["steps"]), tuple(corners["first"])) if corners else None,
        )


@dataclass(frozen=True)
class Preprocessed:
    """Network input ``(C, D, H, W)`` float32, its label ``(D, H, W)`` uint8, and the way back."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    placement: Placement


def scan(case: Case) -> CaseScan:
    """Spacing and an even sample of the foreground intensities of one case."""
    axes = geometry.bind_axes(case.affine, "z")
    d, h, w = axes.spacing(case.affine)
    values = case.image[0][case.label > 0]
    stride = max(1, values.size // SAMPLES_PER_CASE)
    return CaseScan(np.array([w, h, d]), values[::stride])


def resolve(settings: Preprocess, modality: str, scans: Iterable[CaseScan]) -> Parameters:
    """The numbers of a data set from its training cases.

    Raises:
        DataError: percentiles of the foreground are asked for, and no training case has any.
    """
    scans = list(scans)
    spacing_xyz = np.median([item.spacing_xyz for item in scans], axis=0)
    depth = geometry.choose_depth(spacing_xyz) if settings.depth_axis == "auto" else settings.depth_axis
    clip: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    if settings.intensity == "window":
        low, high = settings.window
        clip, scale = (low, high), (low, high - low)
    elif settings.intensity == "percentile":
        values = np.concatenate([item.foreground for item in scans]).astype(np.float64)
        if not values.size:
            raise DataError(
                "no training case has a foreground voxel, so its percentiles are not known: check the labels, or set fixed "
                "bounds (--set preprocess.intensity=window --set preprocess.window=low,high)"
            )
        low, high = np.percentile(values, settings.percentiles)
        clip, scale = (float(low), float(high)), (float(values.mean()), max(float(values.std()), 1e-8))
    crop_above = None
    if settings.crop is True:
        crop_above = (clip or settings.window)[0] if modality == "CT" else 0.0
    return Parameters(
        depth_axis=depth,
        spacing=_target_spacing(settings, depth, spacing_xyz),
        clip=clip,
        scale=scale,
        percentiles=settings.percentiles,
        crop_above=crop_above,
        image_order=settings.image_order,
        resampling=settings.resampling,
        crop_nonzero=settings.crop == "nonzero",
        region=_REGIONS.get(settings.intensity, "clipped"),
    )


def _target_spacing(settings: Preprocess, depth: str, spacing_xyz: NDArray[np.float64]) -> Spacing | None:
    if settings.spacing == "native":
        return None
    if settings.spacing != "median":
        return settings.spacing
    first = "xyz".index(depth)
    d, h, w = (round(float(spacing_xyz[axis]), 4) for axis in (first, *(a for a in (2, 1, 0) if a != first)))
    return d, h, w


def preprocess(case: Case, parameters: Parameters) -> Preprocessed:
    """Orients, crops, resamples and scales one case, in the order that goes with `parameters.resampling`.

    Raises:
        DataError: at the target spacing the case does not fit into memory.
    """
    axes = geometry.bind_axes(case.affine, parameters.depth_axis)
    x, y, z = case.label.shape
    make = {"half-pixel": _half_pixel, "monai": _monai, "nnunet": _nnunet}[parameters.resampling]
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
        window = tuple(slice(low, high) for low, high in bounds)
        return self.image[(slice(None), *window)], self.label[window]

    def check(self, shape: Grid, now: Grid, target: Spacing) -> None:
        check_memory(
            shape,
            _WHILE_RESAMPLING * len(self.image),
            f"case {self.id}: resampling {now} voxels of {_mm(self.spacing)} to {_mm(target)}",
            "check the spacing in the file's header and in the recipe (--set preprocess.spacing=D,H,W)",
        )


def _half_pixel(case: _Oriented, parameters: Parameters) -> Preprocessed:
    bounds = _bounds(case.image, parameters)
    image, label = case.cut(bounds)
    target = parameters.spacing or case.spacing
    shape = geometry.resampled_shape(label.shape, case.spacing, target)
    case.check(shape, label.shape, target)
    channels = [_channel(np.ascontiguousarray(channel), shape, parameters) for channel in image]
    label = np.ascontiguousarray(geometry.resample(label, shape, order=0))
    return Preprocessed(np.stack(channels), label, Placement(case.native_shape, case.axes, bounds, shape))


def _monai(case: _Oriented, parameters: Parameters) -> Preprocessed:
    target = parameters.spacing or case.spacing
    grid = published.corner_grid(case.label.shape, case.spacing, target)
    case.check(grid.shape, case.label.shape, target)
    image = np.stack([_scaled(published.at_corners(channel, grid), parameters) for channel in case.image])
    label = published.nearest_at_corners(case.label, grid)
    d, h, w = case.label.shape
    kept = np.ones(grid.shape, bool) if parameters.crop_above is None else np.asarray(np.any(image > 0, axis=0))
    inner = geometry.box(kept)
    window = tuple(slice(low, high) for low, high in inner)
    image, label = np.ascontiguousarray(image[(slice(None), *window)]), np.ascontiguousarray(label[window])
    (d0, _), (h0, _), (w0, _) = inner
    whole = ((0, d), (0, h), (0, w))
    corners = Corners(grid.steps, (d0, h0, w0))
    return Preprocessed(image, label, Placement(case.native_shape, case.axes, whole, label.shape, corners=corners))


def _nnunet(case: _Oriented, parameters: Parameters) -> Preprocessed:
    bounds = _bounds(case.image, parameters)
    image, label = case.cut(bounds)
    target = parameters.spacing or case.spacing
    shape = geometry.resampled_shape(label.shape, case.spacing, target)
    case.check(shape, label.shape, target)
    coarse = published.coarse_axis(case.spacing, target)
    region = _region(image, label, shape, coarse) if parameters.region == "nonzero" else np.ones(shape, bool)
    channels = []
    for channel in image:
        made = published.spline(np.ascontiguousarray(channel), shape, parameters.image_order, coarse)
        channels.append(_scaled(made, parameters) if parameters.clip else _zscored(made, region))
    label = np.ascontiguousarray(published.one_hot(np.ascontiguousarray(label), shape, coarse))
    return Preprocessed(np.stack(channels), label, Placement(case.native_shape, case.axes, bounds, shape, coarse=coarse))


def _region(image: NDArray[np.float32], label: NDArray[np.uint8], shape: Grid, coarse: int | None) -> NDArray[np.bool_]:
    """Where nnU-Net takes a case's mean and SD: what is nonzero or labelled, resampled as one more class is."""
    marked = label.astype(np.int16)
    marked[(label == 0) & ~published.nonzero_mask(image)] = -1
    return published.one_hot(marked, shape, coarse) >= 0


def _scaled(volume: NDArray[np.float32], parameters: Parameters) -> NDArray[np.float32]:
    """Clipped and scaled by the data set's numbers; a window's ends are 0 and 1 exactly."""
    if parameters.clip is None or parameters.scale is None:
        raise ValueError("numbers of the data set are needed")
    offset, width = parameters.scale
    scaled: NDArray[np.float32] = (np.clip(volume, *parameters.clip) - np.float32(offset)) / np.float32(width)
    return scaled.astype(np.float32, copy=False)


def _zscored(volume: NDArray[np.float32], region: NDArray[np.bool_]) -> NDArray[np.float32]:
    inside = volume[region]
    out = np.zeros_like(volume)
    if inside.size:
        out[region] = (inside - np.float32(inside.mean(dtype=np.float64))) / np.float32(inside.std(dtype=np.float64) + 1e-8)
    return out


def _mm(spacing: Spacing) -> str:
    return f"{' × '.join(f'{size:.3g}' for size in spacing)} mm"


def _bounds(image: NDArray[np.float32], parameters: Parameters) -> Bounds:
    if parameters.crop_nonzero:
        return geometry.box(np.asarray(np.any(image != 0, axis=0)))
    if parameters.crop_above is None:
        d, h, w = image.shape[1:]
        return (0, d), (0, h), (0, w)
    return geometry.box(np.asarray(np.any(image > parameters.crop_above, axis=0)))


def _channel(channel: NDArray[np.float32], shape: Grid, parameters: Parameters) -> NDArray[np.float32]:
    clip = parameters.clip
    if clip is None:
        low, high = np.percentile(channel, parameters.percentiles)
        clip = (float(low), float(high))
    clipped = np.clip(channel, *clip)
    # Cubic interpolation overshoots, so the bounds hold again after it.
    resampled = np.clip(geometry.resample(clipped, shape, parameters.image_order), *clip)
    if parameters.scale is not None:
        offset, width = parameters.scale
    else:
        offset, width = float(resampled.mean(dtype=np.float64)), max(float(resampled.std(dtype=np.float64)), 1e-8)
    scaled: NDArray[np.float32] = (resampled - np.float32(offset)) / np.float32(width)
    return scaled.astype(np.float32, copy=False)
