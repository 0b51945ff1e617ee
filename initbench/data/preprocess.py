"""Preprocessing: numeric parameters from the training cases, then one pure function per case.

Sources of the rules: LWI/MONAI recipe R1 (fixed window to [0, 1]); nnU-Net v1 (foreground percentiles and z-score for CT,
z-score per case for MR).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench import digest
from initbench.data import geometry
from initbench.data.geometry import Axes
from initbench.data.limits import check_memory
from initbench.errors import DataError
from initbench.protocols import Case, Grid, Spacing
from initbench.recipe import Preprocess

REVISION = 1  # raised whenever the same parameters give other voxels
SAMPLES_PER_CASE = 10_000
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
    """

    depth_axis: str
    spacing: Spacing | None
    clip: tuple[float, float] | None
    scale: tuple[float, float] | None
    percentiles: tuple[float, float]
    crop_above: float | None
    image_order: int

    def digest(self) -> str:
        """Digest of the numbers and the revision of the code that uses them."""
        return digest.of_json({**asdict(self), "revision": REVISION})


@dataclass(frozen=True)
class Placement:
    """Where a preprocessed volume lies in its native array: the way back for a prediction."""

    native_shape: Grid
    axes: Axes
    bounds: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    shape: Grid

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
        """Plain values for a JSON table."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> Placement:
        """The inverse of `to_json`."""
        axes = Axes(tuple(values["axes"]["permutation"]), tuple(values["axes"]["flips"]))
        bounds = tuple((int(low), int(high)) for low, high in values["bounds"])
        return Placement(tuple(values["native_shape"]), axes, bounds, tuple(values["shape"]))  # type: ignore[arg-type]


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
    if settings.crop:
        crop_above = (clip or settings.window)[0] if modality == "CT" else 0.0
    return Parameters(
        depth_axis=depth,
        spacing=_target_spacing(settings, depth, spacing_xyz),
        clip=clip,
        scale=scale,
        percentiles=settings.percentiles,
        crop_above=crop_above,
        image_order=settings.image_order,
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
    """Orients, crops, clips, resamples and scales one case.

    Raises:
        DataError: at the target spacing the case does not fit into memory.
    """
    axes = geometry.bind_axes(case.affine, parameters.depth_axis)
    image, label = axes.apply(case.image), axes.apply(case.label)
    bounds = _bounds(image, parameters.crop_above)
    window = tuple(slice(low, high) for low, high in bounds)
    image, label = image[(slice(None), *window)], label[window]
    spacing = axes.spacing(case.affine)
    shape = geometry.resampled_shape(label.shape, spacing, parameters.spacing or spacing)
    check_memory(
        shape,
        _WHILE_RESAMPLING * len(image),
        f"case {case.id}: resampling {label.shape} voxels of {_mm(spacing)} to {_mm(parameters.spacing or spacing)}",
        "check the spacing in the file's header and in the recipe (--set preprocess.spacing=D,H,W)",
    )
    channels = [_channel(np.ascontiguousarray(channel), shape, parameters) for channel in image]
    native = case.label.shape
    return Preprocessed(
        np.stack(channels),
        np.ascontiguousarray(geometry.resample(label, shape, order=0)),
        Placement((native[0], native[1], native[2]), axes, bounds, shape),
    )


def _mm(spacing: Spacing) -> str:
    return f"{' × '.join(f'{size:.3g}' for size in spacing)} mm"


def _bounds(image: NDArray[np.float32], above: float | None) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    mask = np.zeros(image.shape[1:], bool) if above is None else (image > above).any(axis=0)
    if not mask.any():
        d, h, w = mask.shape
        return (0, d), (0, h), (0, w)
    spans = []
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        hit = np.flatnonzero(np.any(np.any(mask, axis=second), axis=first))
        spans.append((int(hit[0]), int(hit[-1]) + 1))
    return spans[0], spans[1], spans[2]


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
