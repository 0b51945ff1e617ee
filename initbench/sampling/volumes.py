"""Training volumes, on the device as far as its memory is meant for them, and windows that are cut out of them.

The patches of the other volumes are read from the files of the cache, which are mapped into memory. No worker process decodes
anything.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initbench.preprocessing.prepare import Prepared, PreparedCase
from initbench.protocols import Grid

Window = TypeVar("Window", Tensor, NDArray[Any])
_NEGATIVE_ZERO = -(2**31)  # the bits of -0.0 in float32, read as an integer
_IMAGE_BYTES, _LABEL_BYTES = 4, 1  # of a voxel on the device


@dataclass(frozen=True)
class Volume:
    """One training volume.

    Attributes:
        image: ``(C, D, H, W)`` float32, on the device unless the volume is streamed.
        label: ``(D, H, W)`` uint8 beside it; all zero where there is none.
        foreground: flat indices of foreground voxels, on the host, where positions are drawn.
        host_label: the label on the host.
        streamed_to: the device of the patches, where image and label stay in mapped files of the cache; None where they do not.
    """

    image: Tensor
    label: Tensor
    foreground: NDArray[np.int64]
    host_label: NDArray[np.uint8]
    streamed_to: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """Where patches go."""
        return self.streamed_to or self.image.device

    @property
    def held(self) -> int:
        """Bytes on the device."""
        if self.streamed_to:
            return 0
        return self.image.nbytes + self.label.nbytes

    def cut_image(self, start: Sequence[int], patch: Grid) -> Tensor:
        """Returns ``(C, *patch)`` of the image on the device, as `cut` has it."""
        return self._sent(cut(self.image, start, patch))

    def cut_label(self, start: Sequence[int], patch: Grid) -> Tensor:
        """Returns the label `patch` on the device, as `cut` has it."""
        return self._sent(cut(self.label, start, patch))

    def _sent(self, window: Tensor) -> Tensor:
        """Sends a window to the device. The copy is queued: it leaves from pinned memory, which torch keeps until it is done."""
        if window.device == self.device:
            return window
        pinned = torch.empty(window.shape, dtype=window.dtype, pin_memory=True).copy_(window)
        return pinned.to(self.device, non_blocking=True)

    @property
    def shape(self) -> Grid:
        """(D, H, W)."""
        d, h, w = self.host_label.shape
        return d, h, w

    @functools.cached_property
    def host_image(self) -> NDArray[np.float32]:
        """The image on the host, which it shares memory with; there is none where it lies on a GPU."""
        image: NDArray[np.float32] = self.image.numpy()
        return image

    @functools.cached_property
    def by_class(self) -> tuple[NDArray[np.int64], ...]:
        """`foreground`, a class at a time."""
        values = self.host_label.ravel()[self.foreground]
        return tuple(self.foreground[values == value] for value in np.unique(values))

    @functools.cached_property
    def negative_zero(self) -> bool:
        """Whether the image may hold -0. On a GPU the answer is yes without looking, which would have to wait for the device."""
        if self.device.type != "cpu":
            return True
        return bool((self.image.view(torch.int32) == _NEGATIVE_ZERO).any())


def load_volumes(prepared: Prepared, device: torch.device, neighbours: int = 0, budget: int | None = None) -> list[Volume]:
    """Reads the training volumes from the cache, which checks them, onto the device as far as they fit.

    Args:
        prepared: the data set.
        device: where batches are cut.
        neighbours: slices on either side of each that become further channels of it. Such volumes are always on the device.
        budget: bytes on the device that volumes may take together; None for as many as there are.
    """
    volumes: list[Volume] = []
    held = 0
    for case_id in prepared.split.train:
        case = prepared.case(case_id)
        fits = budget is None or neighbours > 0 or held + case.image.nbytes + case.label.nbytes <= budget
        if fits:
            volume = make_volume(case.image, case.label, device)
            volume = replace(volume, image=with_neighbours(volume.image, neighbours))
        else:
            volume = _streamed(prepared, case, device)
        held += volume.held
        volumes.append(volume)
    return volumes


def _streamed(prepared: Prepared, case: PreparedCase, device: torch.device) -> Volume:
    """Makes a volume that stays in the cache. Its files were checked when `case` was read; it keeps the positions of labels."""
    image, label = prepared.mapped(case.id, "image"), prepared.mapped(case.id, "label")
    return Volume(torch.from_numpy(image), torch.from_numpy(label), np.flatnonzero(case.label), label, device)


def volume_bytes(prepared: Prepared, channels: int) -> int:
    """Computes the bytes that the training volumes take on the device; no volume is read for that.

    Args:
        prepared: the data set.
        channels: of the network's input, neighbours among them.
    """
    voxels = sum(math.prod(grid) for grid in prepared.grids)
    return voxels * (channels * _IMAGE_BYTES + _LABEL_BYTES)


class VolumeShelf:
    """Keeps the training volumes of a run on their device, for the next run of this process on the same data.

    Runs may share them, as nobody changes a volume: patches are copied out of it.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._volumes: list[Volume] = []

    def load(
        self,
        prepared: Prepared,
        device: torch.device,
        neighbours: int,
        asked: float | None,
        most: int,
        budget: int | None = None,
    ) -> list[Volume]:
        """Gives the training volumes, and reads those that are not here.

        Args:
            prepared: as for `load_volumes`.
            device: likewise.
            neighbours: likewise.
            asked: as for `holds`.
            most: bytes on the device that are kept for the next run.
            budget: as for `load_volumes`.
        """
        if self.holds(prepared, device, neighbours, asked):
            return list(self._volumes)
        self.clear()
        volumes = load_volumes(prepared, device, neighbours, budget)
        if sum(volume.held for volume in volumes) <= most:
            self._key, self._volumes = _key(prepared, device, neighbours, asked), volumes
        return list(volumes)

    def holds(self, prepared: Prepared, device: torch.device, neighbours: int, asked: float | None) -> bool:
        """Returns whether the volumes are here.

        Args:
            prepared: as for `load_volumes`.
            device: likewise.
            neighbours: likewise.
            asked: GiB of the device that the user gives volumes, the others are streamed; None where the user gave no number.
        """
        return self._key == _key(prepared, device, neighbours, asked)

    def clear(self) -> None:
        """Gives the memory back."""
        self._key, self._volumes = (), []


def _key(prepared: Prepared, device: torch.device, neighbours: int, asked: float | None) -> tuple[object, ...]:
    """Returns what two runs share if they have the same volumes."""
    return str(device), neighbours, asked, tuple(prepared.keys[case_id] for case_id in prepared.split.train)


def with_neighbours(image: Tensor, count: int) -> Tensor:
    """Gives every slice its neighbours as channels; at the ends of a volume its last slice stands in for those that it lacks.

    Args:
        image: ``(C, D, H, W)``.
        count: neighbours on either side.

    Returns:
        ``(C * (2 * count + 1), D, H, W)``: all channels of the first neighbour, then all of the next, the slice in the middle.
    """
    if count == 0:
        return image
    own = torch.arange(image.shape[1], device=image.device)
    channels = []
    for offset in range(-count, count + 1):
        shifted = (own + offset).clamp(0, len(own) - 1)
        channels.append(image.index_select(1, shifted))
    return torch.cat(channels)


def make_volume(image: NDArray[np.float32], label: NDArray[np.uint8] | None, device: torch.device) -> Volume:
    """Copies a volume to the device.

    Args:
        image: ``(C, D, H, W)``.
        label: ``(D, H, W)``; None where there is none, which counts as background everywhere.
        device: where batches are cut.
    """
    if label is None:
        label = np.zeros(image.shape[1:], np.uint8)
    return Volume(torch.from_numpy(image).to(device), torch.from_numpy(label).to(device), np.flatnonzero(label), label)


def cut(volume: Window, start: Sequence[int], patch: Grid) -> Window:
    """Cuts ``(..., D, H, W)`` at `start`, which may be negative; what lies outside the volume is 0."""
    size = volume.shape[-3:]
    ends = [first + edge for first, edge in zip(start, patch, strict=True)]
    inside = min(start) >= 0 and ends[0] <= size[0] and ends[1] <= size[1] and ends[2] <= size[2]
    if inside:
        return volume[..., start[0] : ends[0], start[1] : ends[1], start[2] : ends[2]]
    shape = (*volume.shape[:-3], *patch)
    if isinstance(volume, Tensor):
        out = volume.new_zeros(shape)
    else:
        out = np.zeros(shape, volume.dtype)
    source, target = [], []
    for first, end, most in zip(start, ends, size, strict=True):
        low, high = max(first, 0), min(end, most)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    out[..., target[0], target[1], target[2]] = volume[..., source[0], source[1], source[2]]
    return out
