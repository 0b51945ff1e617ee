"""The grids of preprocessed volumes, one a class, each with the way there and the way back.

- `HalfPixelGrid`, ours: both grids cover the same box, so the outer faces of the outer voxels lie on one another.
- `NnunetGrid`: `resample_patient` of nnU-Net v1 (MIC-DKFZ/nnUNet@078bf9c:nnunet/preprocessing), which UNETR++ and nnFormer carry
  along.
- `CornerGrid`: MONAI's `Spacingd(bilinear, nearest)`, as MONAI 1.6.1 computes it for
  ShahinaKK/LWI-VMS@7f21654:UNETR/BTCV/utils/data_utils.py.
- `SliceGrid`: `scipy.ndimage.zoom` of each slice in Beckschen/TransUNet@02ef0010:datasets/dataset_synapse.py, which Swin-Unet and
  MISSFormer carry along.

Written from the descriptions of those rules, and checked against the libraries themselves (tests/preprocessing/test_grids.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from initbench.datasets import geometry
from initbench.protocols import Grid, Spacing

if TYPE_CHECKING:
    from torch import Tensor  # the ways back import it when a network has predicted

Label = TypeVar("Label", bound=np.integer[Any])
Value = TypeVar("Value", bound=np.generic)
Bounds = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Positions = NDArray[np.float64]
SAME_SPACING = 1e-3  # mm: MONAI keeps a spacing that is this close to the asked one


@dataclass(frozen=True)
class HalfPixelGrid:
    """A grid that covers the box of the native voxels, as ``torch.nn.functional.interpolate(align_corners=False)`` has it.

    Attributes:
        native: (D, H, W) of the native volume, after its crop.
        shape: (D, H, W) of the preprocessed volume.
    """

    native: Grid
    shape: Grid

    def image(self, volume: NDArray[np.float32], order: int) -> NDArray[np.float32]:
        """Resamples a channel ``(D, H, W)`` from the native grid by a spline of `order`."""
        return geometry.resample(volume, self.shape, order)

    def label(self, labels: NDArray[Label]) -> NDArray[Label]:
        """Resamples labels ``(D, H, W)`` from the native grid."""
        return geometry.resample(labels, self.shape, order=0)

    def positions(self, axis: int, native: Positions | None = None) -> Positions:
        """Returns where native voxels lie in the preprocessed volume along an axis (D, H, W), in its voxels.

        Args:
            axis: 0 to 2.
            native: places in native voxels, from the centre of the first one; by default every voxel.
        """
        return (self._native(axis, native) + 0.5) * self.shape[axis] / self.native[axis] - 0.5

    def reaches(self, axis: int, position: Positions) -> NDArray[np.bool_]:
        """Returns which positions along an axis the preprocessed volume reaches: here all."""
        return np.ones(position.shape, bool)

    def probability_back(self, probability: Tensor) -> Tensor:
        """Resamples the probability of a class ``(D, H, W)`` to the native grid, linearly."""
        from torch.nn import functional

        if tuple(probability.shape) == self.native:
            return probability
        return functional.interpolate(probability[None, None], size=self.native, mode="trilinear", align_corners=False)[0, 0]

    def labels_back(self, labels: Tensor) -> Tensor:
        """Resamples labels ``(D, H, W)`` to the native grid, each from the nearest voxel."""
        import torch

        for axis, count in enumerate(self.shape):
            nearest = np.floor(self.positions(axis) + 0.5).astype(np.int64).clip(0, count - 1)
            labels = labels.index_select(axis, torch.from_numpy(nearest).to(labels.device))
        return labels

    def without_margin(self, labels: Tensor) -> Tensor:
        """Returns native labels with background where the preprocessed volume does not reach."""
        return labels

    def stored(self) -> dict[str, Any]:
        """Returns what a JSON table keeps of the grid, beside its shape."""
        return {}

    def _native(self, axis: int, native: Positions | None) -> Positions:
        if native is None:
            return np.arange(self.native[axis], dtype=np.float64)
        return native


@dataclass(frozen=True)
class NnunetGrid(HalfPixelGrid):
    """nnU-Net's grid: images by splines, labels by class, and along a coarse axis whole slices are repeated.

    Attributes:
        coarse: the axis along which nothing is interpolated; None to interpolate along all.
    """

    coarse: int | None

    def image(self, volume: NDArray[np.float32], order: int) -> NDArray[np.float32]:
        """Resamples a channel by a spline that is kept within the range of its input; along `coarse`, slices are repeated."""
        if volume.shape == self.shape:
            return volume
        if self.coarse is None:
            return _within(volume, self.shape, order)
        flat = tuple(np.delete(self.shape, self.coarse))
        slices = [_within(np.ascontiguousarray(piece), flat, order) for piece in np.moveaxis(volume, self.coarse, 0)]
        return self._repeated(np.stack(slices))

    def label(self, labels: NDArray[Label]) -> NDArray[Label]:
        """Resamples each class linearly; a voxel gets the class that has one half of it or more."""
        if labels.shape == self.shape:
            return labels
        if self.coarse is None:
            return _by_class(labels, self.shape)
        flat = tuple(np.delete(self.shape, self.coarse))
        slices = [_by_class(np.ascontiguousarray(piece), flat) for piece in np.moveaxis(labels, self.coarse, 0)]
        return self._repeated(np.stack(slices))

    def probability_back(self, probability: Tensor) -> Tensor:
        """Resamples the probability of a class to the native grid, linearly, but along `coarse` from the nearest slice."""
        import torch

        if self.coarse is not None and probability.shape[self.coarse] != self.native[self.coarse]:
            slices, wanted = probability.shape[self.coarse], self.native[self.coarse]
            middles = torch.arange(wanted, device=probability.device) * 2 + 1
            nearest = torch.div(middles * slices, 2 * wanted, rounding_mode="floor")
            probability = probability.index_select(self.coarse, nearest.clamp(max=slices - 1))
        return super().probability_back(probability)

    def stored(self) -> dict[str, Any]:
        """Returns the coarse axis, where there is one."""
        if self.coarse is None:
            return {}
        return {"coarse": self.coarse}

    def _repeated(self, slices: NDArray[Value]) -> NDArray[Value]:
        """Returns slices, first axis first, put back in place and repeated by the half-pixel rule."""
        assert self.coarse is not None  # noqa: S101 - its callers have looked
        return geometry.resample(np.ascontiguousarray(np.moveaxis(slices, 0, self.coarse)), self.shape, order=0)


@dataclass(frozen=True)
class CornerGrid(HalfPixelGrid):
    """A grid whose first voxel lies on the first native one.

    Attributes:
        steps: native voxels from one voxel of the grid to the next, along (D, H, W).
        first: (D, H, W) of the first voxel that a cut after resampling kept.
    """

    steps: Spacing
    first: Grid = (0, 0, 0)

    @classmethod
    def by_spacing(cls, native: Grid, spacing: Spacing, target: Spacing) -> Self:
        """Returns MONAI's grid: from the centre of the first native voxel to about the centre of the last.

        Args:
            native: voxels of the native grid.
            spacing: of the native grid in mm.
            target: wanted spacing in mm.
        """
        steps, counts = [], []
        for voxels, size, wanted in zip(native, spacing, target, strict=True):
            step = 1.0
            if abs(size - wanted) > SAME_SPACING:
                step = wanted / size
            steps.append(step)
            counts.append(round((voxels - 1) / step + 1))
        return cls(native, (counts[0], counts[1], counts[2]), (steps[0], steps[1], steps[2]))

    def image(self, volume: NDArray[np.float32], order: int) -> NDArray[np.float32]:
        """Interpolates a channel linearly in float64, whatever the `order`, along D, then H, then W; edges are repeated."""
        depth, rows, columns = map(_Between.of, volume.shape, self.shape, self.steps)
        out = np.empty(self.shape, np.float32)
        volume = np.ascontiguousarray(volume)  # `take` would copy the whole of a turned one for each slice
        for number, target in enumerate(out):  # a slice at a time: in float64 whole volumes would leave the processor's cache
            if depth.is_native:
                plane: NDArray[np.floating[Any]] = volume[number]
            else:
                plane = depth.only(number).blend(volume, 0)[0]
            target[:] = columns.blend(rows.blend(plane, 0), 1)
        return out

    def label(self, labels: NDArray[Label]) -> NDArray[Label]:
        """Takes the nearest voxel; of two that are as near, the even one (as torch rounds)."""
        index = []
        for size, count, step in zip(labels.shape, self.shape, self.steps, strict=True):
            # The scale is a quotient of rounded numbers: what is a tie up to that rounding is one.
            index.append(np.clip(np.rint(np.round(np.arange(count) * step, 9)).astype(np.int64), 0, size - 1))
        return labels[np.ix_(*index)]

    def cut(self, bounds: Bounds) -> Self:
        """Returns the grid of a part of the preprocessed volume; it is for the way back alone."""
        (d0, d1), (h0, h1), (w0, w1) = bounds
        return replace(self, shape=(d1 - d0, h1 - h0, w1 - w0), first=(d0, h0, w0))

    def positions(self, axis: int, native: Positions | None = None) -> Positions:
        """Returns where native voxels lie in the preprocessed volume, as `HalfPixelGrid.positions` does."""
        return self._native(axis, native) / self.steps[axis] - self.first[axis]

    def reaches(self, axis: int, position: Positions) -> NDArray[np.bool_]:
        """Returns which positions lie within the voxels that the cut kept."""
        return (position >= -0.5) & (position <= self.shape[axis] - 0.5)

    def probability_back(self, probability: Tensor) -> Tensor:
        """Resamples the probability of a class to the native grid, linearly; edges are repeated."""
        import torch

        for axis in range(3):
            last = probability.shape[axis] - 1
            inside = torch.from_numpy(self.positions(axis)).clamp(0, last)
            low = inside.floor().long()
            part = (inside - low).to(probability.dtype).view(geometry.shape_along(axis)).to(probability.device)
            low = low.to(probability.device)
            below, above = probability.index_select(axis, low), probability.index_select(axis, (low + 1).clamp(max=last))
            probability = below + (above - below) * part
        return probability

    def without_margin(self, labels: Tensor) -> Tensor:
        """Returns native labels with background where the cut after resampling left the volume out."""
        import torch

        out = torch.zeros_like(labels)
        window = []
        for axis in range(3):
            reached = np.flatnonzero(self.reaches(axis, self.positions(axis)))
            if not reached.size:
                return out
            window.append(slice(int(reached[0]), int(reached[-1]) + 1))
        out[tuple(window)] = labels[tuple(window)]
        return out

    def stored(self) -> dict[str, Any]:
        """Returns the steps and the first voxel."""
        return {"corners": {"steps": self.steps, "first": self.first}}


@dataclass(frozen=True)
class SliceGrid(CornerGrid):
    """A grid whose slices are resized in plane, the corner pixels of both grids on one another, as TransUNet has it."""

    @classmethod
    def by_plane(cls, native: Grid, plane: tuple[int, int]) -> Self:
        """Returns the grid with as many slices as `native`, each resized to `plane` (H, W)."""
        depth, height, width = native
        steps = (1.0, _corner_step(height, plane[0]), _corner_step(width, plane[1]))
        return cls(native, (depth, *plane), steps)

    def image(self, volume: NDArray[np.float32], order: int) -> NDArray[np.float32]:
        """Resizes every slice by a spline; a spline of order 3 leaves the range of its input, as in the release."""
        return self._resized(volume, order)

    def label(self, labels: NDArray[Label]) -> NDArray[Label]:
        """Resizes every slice, each pixel from the nearest one."""
        return self._resized(labels, 0)

    def _resized(self, volume: NDArray[Value], order: int) -> NDArray[Value]:
        from scipy import ndimage  # takes long to import, and a run with prepared data needs none of it

        _, height, width = self.shape
        factors = (height / volume.shape[1], width / volume.shape[2])
        out = np.empty(self.shape, volume.dtype)
        for target, source in zip(out, volume, strict=True):
            ndimage.zoom(source, factors, output=target, order=order)  # type: ignore[call-overload]
        return out


@dataclass(frozen=True)
class _Between:
    """Voxels of a grid along an axis, each between two native ones.

    Attributes:
        low: index of the native voxel below.
        high: index of the native voxel above.
        part: share of the one above.
        is_native: whether each voxel is the native one of its number.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    part: NDArray[np.float64]
    is_native: bool

    @classmethod
    def of(cls, size: int, count: int, step: float) -> Self:
        """Returns the voxels of an axis.

        Args:
            size: native voxels.
            count: voxels of the grid.
            step: native voxels from one of them to the next.
        """
        position = np.clip(np.arange(count) * step, 0, size - 1)
        low = np.floor(position).astype(np.int64)
        return cls(low, np.minimum(low + 1, size - 1), position - low, is_native=step == 1.0 and count == size)

    def only(self, number: int) -> _Between:
        """Returns one of the voxels."""
        one = slice(number, number + 1)
        return _Between(self.low[one], self.high[one], self.part[one], is_native=False)

    def blend(self, values: NDArray[np.floating[Any]], axis: int) -> NDArray[np.floating[Any]]:
        """Interpolates `values` along an axis."""
        if self.is_native:
            return values
        shape = [1] * values.ndim
        shape[axis] = -1
        part = self.part.reshape(shape)
        blended: NDArray[np.floating[Any]] = values.take(self.low, axis) * (1 - part) + values.take(self.high, axis) * part
        return blended


def restored_grid(native: Grid, shape: Grid, stored: dict[str, Any]) -> HalfPixelGrid:
    """Returns a grid for the way back, from what a JSON table keeps of it.

    Args:
        native: (D, H, W) of the native volume, after its crop.
        shape: (D, H, W) of the preprocessed volume.
        stored: what `HalfPixelGrid.stored` gave, with whatever is beside it.
    """
    corners = stored.get("corners")
    if corners:
        return CornerGrid(native, shape, tuple(corners["steps"]), tuple(corners["first"]))
    if stored.get("coarse") is not None:
        return NnunetGrid(native, shape, int(stored["coarse"]))
    return HalfPixelGrid(native, shape)


def nonzero_mask(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns the voxels that differ from 0 in any channel, holes filled (nnU-Net's ``create_nonzero_mask``)."""
    from scipy import ndimage  # takes long to import, and a run with prepared data needs none of it

    return np.asarray(ndimage.binary_fill_holes((image != 0).any(axis=0)), bool)


def coarse_axis(spacing: Spacing, target: Spacing) -> int | None:
    """Returns the axis along which nnU-Net does not interpolate; None where there is none.

    It is the coarsest axis of the file where that is above 3 : 1, else of the target.

    Args:
        spacing: of the file, in mm along (D, H, W).
        target: likewise.
    """
    for sizes in (spacing, target):
        if max(sizes) / min(sizes) > geometry.ANISOTROPY:
            coarsest = [axis for axis, size in enumerate(sizes) if max(sizes) / size == 1]
            if len(coarsest) == 1:
                return coarsest[0]
            return None
    return None


def _corner_step(native: int, count: int) -> float:
    """Returns the native pixels from one pixel to the next along an axis of `count` pixels."""
    if native > 1 and count > 1:
        return (native - 1) / (count - 1)
    return 1.0


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
