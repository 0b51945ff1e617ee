"""Preprocessing of a case: one pure function of the case and the parameters of its data set.

`grids` has our grid and the papers' own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench.datasets import geometry
from initbench.datasets.geometry import Axes
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
from initbench.preprocessing.parameters import Channel, Parameters
from initbench.protocols import Case, Grid, Spacing

_WHILE_RESAMPLING = 8  # bytes per voxel and channel: the channel and the stack of all of them, float32


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
