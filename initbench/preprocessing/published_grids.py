"""Grids and orders of steps as the papers' code has them, where they differ from ours.

- ``monai``: `LoadImaged, Orientationd(RAS), Spacingd(bilinear, nearest), ScaleIntensityRanged, CropForegroundd` of
  ShahinaKK/LWI-VMS@7f21654:UNETR/BTCV/utils/data_utils.py, as MONAI 1.6.1 computes them.
- ``nnunet``: `crop_to_nonzero, resample_patient, GenericPreprocessor` of nnU-Net v1
  (MIC-DKFZ/nnUNet@078bf9c:nnunet/preprocessing), which UNETR++ and nnFormer carry along.
- ``slice-resize``: `scipy.ndimage.zoom` of each slice in Beckschen/TransUNet@02ef0010:datasets/dataset_synapse.py, which
  Swin-Unet and MISSFormer carry along.

Written from the descriptions of those rules, and checked against the libraries themselves
(tests/preprocessing/test_published_grids.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from initbench.datasets import geometry
from initbench.protocols import Grid, Spacing

Label = TypeVar("Label", bound=np.integer[Any])
Value = TypeVar("Value", bound=np.generic)
Pixel = TypeVar("Pixel", np.float32, np.uint8)
Bounds = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
SAME_SPACING = 1e-3  # mm: MONAI keeps a spacing that is this close to the asked one


@dataclass(frozen=True)
class CornerGrid:
    """A grid whose first voxel is the native first voxel: `steps` native voxels from one of its voxels to the next."""

    shape: Grid
    steps: Spacing


def corner_grid(shape: Grid, spacing: Spacing, target: Spacing) -> CornerGrid:
    """MONAI's grid: from the centre of the first voxel to about the centre of the last.

    Args:
        shape: voxels of the native grid.
        spacing: of the native grid in mm.
        target: wanted spacing in mm.
    """
    pairs = zip(spacing, target, strict=True)
    d, h, w = (1.0 if abs(size - wanted) <= SAME_SPACING else wanted / size for size, wanted in pairs)
    steps = (d, h, w)
    d_, h_, w_ = (round((count - 1) / step + 1) for count, step in zip(shape, steps, strict=True))
    return CornerGrid((d_, h_, w_), steps)


def at_corners(volume: NDArray[np.float32], grid: CornerGrid) -> NDArray[np.float32]:
    """Linear interpolation of ``(D, H, W)`` in float64, along D, then H, then W; edges repeated."""
    depth, *in_plane = (_Between.of(*axis) for axis in zip(volume.shape, grid.shape, grid.steps, strict=True))
    out = np.empty(grid.shape, np.float32)
    volume = np.ascontiguousarray(volume)  # `take` would copy the whole of a turned one for each slice
    for number, target in enumerate(out):  # a slice at a time: in float64 whole volumes would leave the processor's cache
        plane = volume[number] if depth.is_native else depth.only(number).blend(volume, 0)[0]
        for axis, between in enumerate(in_plane):
            plane = between.blend(plane, axis)
        target[:] = plane
    return out


@dataclass(frozen=True)
class _Between:
    """Voxels of a grid along an axis, each between two native ones.

    Attributes:
        low: index of the native voxel below. high: of the one above.
        part: share of the one above.
        is_native: whether each voxel is the native one of its number.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    part: NDArray[np.float64]
    is_native: bool

    @classmethod
    def of(cls, size: int, count: int, step: float) -> _Between:
        """The voxels of an axis.

        Args:
            size: native voxels.
            count: voxels of the grid.
            step: native voxels from one of them to the next.
        """
        position = np.clip(np.arange(count) * step, 0, size - 1)
        low = np.floor(position).astype(np.int64)
        return cls(low, np.minimum(low + 1, size - 1), position - low, is_native=step == 1.0 and count == size)

    def only(self, number: int) -> _Between:
        """One of the voxels."""
        one = slice(number, number + 1)
        return _Between(self.low[one], self.high[one], self.part[one], is_native=False)

    def blend(self, values: NDArray[np.floating[Any]], axis: int) -> NDArray[np.floating[Any]]:
        """Interpolates along an axis."""
        if self.is_native:
            return values
        shape = [1] * values.ndim
        shape[axis] = -1
        part = self.part.reshape(shape)
        blended: NDArray[np.floating[Any]] = values.take(self.low, axis) * (1 - part) + values.take(self.high, axis) * part
        return blended


def nearest_at_corners(labels: NDArray[np.uint8], grid: CornerGrid) -> NDArray[np.uint8]:
    """The nearest voxel; of two that are as near, the even one (as torch rounds)."""
    index = []
    for size, count, step in zip(labels.shape, grid.shape, grid.steps, strict=True):
        # The scale is a quotient of rounded numbers: what is a tie up to that rounding is one.
        index.append(np.clip(np.rint(np.round(np.arange(count) * step, 9)).astype(np.int64), 0, size - 1))
    return labels[np.ix_(*index)]


def corner_step(native: int, count: int) -> float:
    """Native pixels from one pixel to the next along an axis of `count` pixels, the first and the last ones on one another."""
    return (native - 1) / (count - 1) if native > 1 and count > 1 else 1.0


def slices_by_corners(volume: NDArray[Pixel], plane: tuple[int, int], order: int) -> NDArray[Pixel]:
    """Resizes every slice of ``(D, H, W)`` to `plane` (H, W) by a spline, the corner pixels of both grids on one another.

    A spline of order 3 leaves the range of its input, as in the release.
    """
    from scipy import ndimage  # takes long to import, and a run with prepared data needs none of it

    factors = (plane[0] / volume.shape[1], plane[1] / volume.shape[2])
    out = np.empty((len(volume), *plane), volume.dtype)
    for target, source in zip(out, volume, strict=True):
        ndimage.zoom(source, factors, output=target, order=order)  # type: ignore[call-overload]
    return out


def nonzero_mask(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels that differ from 0 in any channel, holes filled (``create_nonzero_mask``)."""
    from scipy import ndimage  # takes long to import, and a run with prepared data needs none of it

    return np.asarray(ndimage.binary_fill_holes((image != 0).any(axis=0)), bool)


def coarse_axis(spacing: Spacing, target: Spacing) -> int | None:
    """The axis along which nnU-Net does not interpolate: the one coarsest of the file, else of the target, if above 3 : 1."""
    for sizes in (spacing, target):
        if max(sizes) / min(sizes) > geometry.ANISOTROPY:
            coarsest = [axis for axis, size in enumerate(sizes) if max(sizes) / size == 1]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def spline(volume: NDArray[np.float32], shape: Grid, order: int, coarse: int | None) -> NDArray[np.float32]:
    """``resample_data_or_seg`` for images: a spline kept within the range of its input, or `coarse`: slice by slice, repeated."""
    if volume.shape == shape:
        return volume
    if coarse is None:
        return _within(volume, shape, order)
    flat = tuple(np.delete(shape, coarse))
    slices = [_within(np.ascontiguousarray(piece), flat, order) for piece in np.moveaxis(volume, coarse, 0)]
    return _repeated(np.stack(slices), shape, coarse)


def one_hot(labels: NDArray[Label], shape: Grid, coarse: int | None) -> NDArray[Label]:
    """``resample_data_or_seg`` for labels: each class linearly; where it has one half or more of a voxel, that is its class.

    Args:
        labels: ``(D, H, W)``.
        shape: (D, H, W) of the result.
        coarse: the axis whose slices are repeated, None to interpolate along all.
    """
    if labels.shape == shape:
        return labels
    if coarse is None:
        return _by_class(labels, shape)
    flat = tuple(np.delete(shape, coarse))
    slices = [_by_class(np.ascontiguousarray(piece), flat) for piece in np.moveaxis(labels, coarse, 0)]
    return _repeated(np.stack(slices), shape, coarse)


def _within(volume: NDArray[np.float32], shape: Sequence[int], order: int) -> NDArray[np.float32]:
    if volume.shape == tuple(shape):
        return volume
    return np.asarray(np.clip(geometry.zoom(volume, shape, order), volume.min(), volume.max()), volume.dtype)


def _by_class(labels: NDArray[Label], shape: Sequence[int]) -> NDArray[Label]:
    if labels.shape == tuple(shape):
        return labels
    out = np.zeros(shape, labels.dtype)
    for value in np.unique(labels):
        out[geometry.zoom((labels == value).astype(np.float64), shape, 1) >= 0.5] = value
    return out


def _repeated(slices: NDArray[Value], shape: Grid, coarse: int) -> NDArray[Value]:
    """Slices, first axis first, put back in place and repeated to `shape` by the half-pixel rule."""
    return geometry.resample(np.ascontiguousarray(np.moveaxis(slices, 0, coarse)), shape, order=0)
