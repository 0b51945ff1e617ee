"""Samplers: the batches of a stage, drawn and cut from the training volumes.

Patches of volumes that are not on the device are sent there ahead of the step that needs them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initbench import seeding
from initbench.errors import DataError
from initbench.protocols import Grid, Patches
from initbench.recipes.settings import Augment
from initbench.recipes.settings import Patch as PatchSettings
from initbench.sampling import augment_monai as augment
from initbench.sampling import augment_nnunet as nnunet_augment
from initbench.sampling import augment_slices
from initbench.sampling.ahead import Ahead
from initbench.sampling.memory import BatchMemory
from initbench.sampling.volumes import Volume, cut

Made = TypeVar("Made")
Allowed = Callable[[tuple[int, ...]], bool]
_BACKGROUND_TRIES = 64  # a background voxel is drawn by rejection; volumes are mostly background


@dataclass(frozen=True)
class Batch:
    """Supervised patches: image ``(N, C, D, H, W)`` float32, label ``(N, D, H, W)`` uint8, as the loss reads it."""

    image: Tensor
    label: Tensor


def clamp_start(centre: int, patch: int, size: int) -> int:
    """Returns the first voxel of a patch around `centre`, inside the volume; a smaller volume lies in the middle of the patch.

    Args:
        centre: voxel along one axis.
        patch: voxels of the patch along it.
        size: voxels of the volume along it.
    """
    if size <= patch:
        return -((patch - size) // 2)
    return min(max(centre - patch // 2, 0), size - patch)


def _any_start(rng: np.random.Generator, patch: int, size: int) -> int:
    """Draws the first voxel of a patch along one axis; where the volume is no longer than the patch there is one alone."""
    if size > patch:
        return int(rng.integers(size - patch + 1))
    return clamp_start(0, patch, size)


def _voxel(index: np.integer[Any], shape: Grid) -> Grid:
    """Returns the position of a voxel from its flat index."""
    rest, w = divmod(int(index), shape[2])
    d, h = divmod(rest, shape[1])
    return d, h, w


def _ahead_of(volumes: Sequence[Volume], make: Callable[[int, int], Made]) -> Ahead[Made] | None:
    """Makes batches ahead where volumes are streamed to a GPU. Others are there at once, and the CPU has nothing to wait with."""
    for volume in volumes:
        if volume.streamed_to is not None and volume.device.type == "cuda":
            return Ahead(make)
    return None


def _positive(volume: Volume) -> Allowed:
    """Returns a function that says of a voxel whether any channel is positive there. On a GPU it asks a mask on the host."""
    if volume.image.device.type != "cpu":
        mask = (volume.image > 0).any(0).cpu().numpy()
        return lambda voxel: bool(mask[voxel])
    channels = [channel.numpy() for channel in volume.image]
    return lambda voxel: any(bool(channel[voxel] > 0) for channel in channels)


def whole_patch(patch: Grid) -> NDArray[np.int64]:
    """Returns ``(3, 2)`` first and one-past-last voxel of a patch without padding, as `Patches.inside` has them."""
    return np.stack((np.zeros(3, np.int64), np.array(patch, np.int64)), axis=1)


@dataclass(frozen=True)
class _Slices:
    """Slices of several volumes: rows (number of the volume, index along D). `filled` are those that hold foreground."""

    every: NDArray[np.int64]
    filled: NDArray[np.int64]

    @staticmethod
    def of(volumes: Sequence[Volume]) -> _Slices:
        every: list[tuple[int, int]] = []
        filled: list[tuple[int, int]] = []
        for number, volume in enumerate(volumes):
            has_foreground: NDArray[np.bool_] = np.any(volume.host_label, axis=(1, 2))
            for depth in range(volume.shape[0]):
                every.append((number, depth))
                if has_foreground[depth]:
                    filled.append((number, depth))
        return _Slices(np.array(every, np.int64), np.array(filled, np.int64))


class PatchSampler:
    """Batches of the supervised stage, each a function of (root seed, step) alone."""

    def __init__(self, volumes: Sequence[Volume], patch: PatchSettings, augmentation: Augment, root: int) -> None:
        self._volumes = volumes
        self._patch = patch
        self._augmentation = augmentation
        self._root = root
        self._memory = BatchMemory()
        self._allowed: list[Allowed | None] = [None] * len(volumes)
        if patch.background == "positive":
            self._allowed = [_positive(volume) for volume in volumes]
        self._ahead = _ahead_of(volumes, self._made)

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step: placed by the labels, augmented."""
        if self._ahead is None:
            return self._made(step)
        return self._ahead.take(step)

    @seeding.unfilled()  # every voxel of a batch is written
    def _made(self, step: int, slab: int = 1) -> Batch:
        """Makes the batch, whoever asks for it; a supervised one has no slabs."""
        order = self._rng("order", step)
        places = self._places(order)
        if self._augmentation.family == "nnunet":
            return self._as_nnunet(step, places)
        if self._augmentation.family in ("transunet", "missformer"):
            return self._in_plane(step, places)
        size, count = self._patch.size, self._patch.batch
        moves = augment.draw(self._rng("augment", step), count, size, self._augmentation)
        first = places[0][0]
        shape = (count, len(first.image), *size)
        image, label = self._memory.take(first.device, (shape, first.image.dtype), ((count, *size), first.label.dtype))
        if image.device.type == "cpu":
            self._write_on_host(image, label, places, moves)
        else:
            for n, (volume, start) in enumerate(places):
                image[n] = augment.move(volume.cut_image(start, size), moves.order(n))
                label[n] = augment.move(volume.cut_label(start, size), moves.order(n))
        negative_zero = [volume.negative_zero for volume, _ in places]
        return Batch(augment.adjust(image, moves.scale, moves.shift, negative_zero=negative_zero), label)

    def _write_on_host(
        self, image: Tensor, label: Tensor, places: Sequence[tuple[Volume, list[int]]], moves: augment.Draw
    ) -> None:
        """Writes the patches into a batch on the CPU. Windows of arrays are made in a fifth of the time of windows of tensors."""
        images, labels, size = image.numpy(), label.numpy(), self._patch.size
        for n, (volume, start) in enumerate(places):
            order = moves.order(n)
            augment.place(images[n], cut(volume.host_image, start, size), order)
            augment.place(labels[n], cut(volume.host_label, start, size), order)

    def _rng(self, stream: Literal["order", "augment"], step: int) -> np.random.Generator:
        return seeding.rng(self._root, stream, step)

    def _seed(self, step: int) -> int:
        """Returns the seed of what is drawn on the device."""
        return seeding.torch_seed(self._root, "augment", step, "device")

    def _as_nnunet(self, step: int, places: Sequence[tuple[Volume, list[int]]]) -> Batch:
        size, settings = self._patch.size, self._augmentation.nnunet
        device = places[0][0].device
        drawn = nnunet_augment.draw(self._rng("augment", step), len(places), len(places[0][0].image), size, settings)
        images, labels = self._cut(places)
        moved: list[int] = np.flatnonzero(drawn.moved).tolist()
        if moved:
            margin = nnunet_augment.margins(drawn, size)
            larger = size[0] + 2 * margin[0], size[1] + 2 * margin[1], size[2] + 2 * margin[2]
            image_regions, label_regions = [], []
            for n in moved:
                volume, start = places[n]
                outer = np.subtract(start, margin).tolist()
                image_regions.append(volume.cut_image(outer, larger))
                label_regions.append(volume.cut_label(outer, larger))
            marks = torch.stack(label_regions)[:, None].float()
            places_of_voxels = nnunet_augment.positions(marks, drawn.matrix[moved], size)
            turned = nnunet_augment.sample(torch.stack(image_regions), places_of_voxels, "bilinear")
            turned_labels = nnunet_augment.sample(marks, places_of_voxels, "nearest")[:, 0]
            for k, n in enumerate(moved):
                images[n], labels[n] = turned[k], turned_labels[k].to(labels[n].dtype)
        images = nnunet_augment.adjust(images, drawn, torch.Generator(device).manual_seed(self._seed(step)))
        image = nnunet_augment.mirror_each(images, drawn)
        label = nnunet_augment.mirror_each(labels, drawn)
        return Batch(image, label)

    def _cut(self, places: Sequence[tuple[Volume, list[int]]]) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the images and the labels of the patches at some places."""
        size = self._patch.size
        images = [volume.cut_image(start, size) for volume, start in places]
        labels = [volume.cut_label(start, size) for volume, start in places]
        return images, labels

    def _in_plane(self, step: int, places: Sequence[tuple[Volume, list[int]]]) -> Batch:
        plane, rng = self._patch.size[1:], self._rng("augment", step)
        images, labels = self._cut(places)
        if self._augmentation.family == "transunet":
            for n, turn in enumerate(augment_slices.draw_turns(rng, len(places), plane)):
                images[n], labels[n] = augment_slices.turn(images[n], turn), augment_slices.turn(labels[n], turn)
        else:
            generator = torch.Generator(images[0].device).manual_seed(self._seed(step))
            for n, change in enumerate(augment_slices.draw_changes(rng, len(places), plane)):
                images[n], labels[n] = augment_slices.change(images[n], labels[n], change, generator)
        return Batch(torch.stack(images), torch.stack(labels))

    def _places(self, rng: np.random.Generator) -> list[tuple[Volume, list[int]]]:
        """Draws volume and first voxel of each patch of a batch."""
        places, index, count = [], 0, self._patch.batch
        for n in range(count):
            if n % self._patch.per_volume == 0:
                index = int(rng.integers(len(self._volumes)))
            volume = self._volumes[index]
            holds_foreground = n >= round(count * (1 - self._patch.foreground))
            if self._patch.sampling == "slices":
                volume, start = self._in_a_slice(rng, holds_foreground=holds_foreground)
            elif self._patch.sampling == "nnunet":
                start = self._anywhere(rng, volume, holds_foreground=holds_foreground)
            else:
                start = self._around_a_voxel(rng, index)
            places.append((volume, start))
        return places

    def _around_a_voxel(self, rng: np.random.Generator, index: int) -> list[int]:
        volume = self._volumes[index]
        positive = bool(rng.random() < self._patch.foreground) and volume.foreground.size > 0
        if positive:
            return self._start(self._foreground(rng, volume), volume)
        return self._start(self._background(rng, volume, self._allowed[index]), volume)

    def _anywhere(self, rng: np.random.Generator, volume: Volume, *, holds_foreground: bool) -> list[int]:
        if holds_foreground and volume.foreground.size:
            voxels = volume.by_class[int(rng.integers(len(volume.by_class)))]
            index = voxels[int(rng.integers(voxels.size))]
            return self._start(_voxel(index, volume.shape), volume)
        return [_any_start(rng, patch, size) for patch, size in zip(self._patch.size, volume.shape, strict=True)]

    @functools.cached_property
    def _slices(self) -> _Slices:
        """The slices of all volumes; looked for when a batch is made of slices."""
        return _Slices.of(self._volumes)

    def _in_a_slice(self, rng: np.random.Generator, *, holds_foreground: bool) -> tuple[Volume, list[int]]:
        """Draws a volume and the first voxel of a patch: of any slice, or around a foreground voxel of a slice that holds one."""
        chosen = self._slices.every
        if holds_foreground and len(self._slices.filled):
            chosen = self._slices.filled
        index, depth = chosen[int(rng.integers(len(chosen)))].tolist()
        volume = self._volumes[index]
        rows, columns = np.nonzero(volume.host_label[depth])
        if holds_foreground and len(rows):
            voxel = int(rng.integers(len(rows)))
            return volume, self._start((depth, int(rows[voxel]), int(columns[voxel])), volume)
        start = self._anywhere(rng, volume, holds_foreground=False)
        start[0] = clamp_start(depth, self._patch.size[0], volume.shape[0])
        return volume, start

    def _start(self, centre: Sequence[int], volume: Volume) -> list[int]:
        return [clamp_start(c, p, s) for c, p, s in zip(centre, self._patch.size, volume.shape, strict=True)]

    @staticmethod
    def _foreground(rng: np.random.Generator, volume: Volume) -> tuple[int, ...]:
        index = volume.foreground[int(rng.integers(volume.foreground.size))]
        return _voxel(index, volume.shape)

    @staticmethod
    def _background(rng: np.random.Generator, volume: Volume, allowed: Allowed | None) -> tuple[int, ...]:
        centre: tuple[int, ...] = ()
        for candidate in rng.integers(0, volume.shape, (_BACKGROUND_TRIES, 3)):
            centre = tuple(candidate.tolist())
            if volume.host_label[centre] == 0 and (allowed is None or allowed(centre)):
                break
        return centre


class GuidedSampler(PatchSampler):
    """Crops of a pretext as LWI's release cuts them: around labels, flipped along every axis, padding treated as image."""

    def patches(self, step: int) -> Patches:
        """Returns the images of a step's batch."""
        image = self.batch(step).image
        whole = whole_patch(self._patch.size)
        return Patches(image, np.broadcast_to(whole, (len(image), 3, 2)).copy())

    def _rng(self, stream: Literal["order", "augment"], step: int) -> np.random.Generator:
        return seeding.rng(self._root, "pretext", stream, step)

    def _seed(self, step: int) -> int:
        return seeding.torch_seed(self._root, "pretext", "augment", step, "device")


class UnlabelledSampler:
    """Batches of a pretext: uniform over the training volumes, no label read, no depth flip.

    The depth inside the volume is a whole number of slabs and starts at the patch's first slice, so that padding is never part
    of a slab: on padded volumes the padding alone would give the order away.
    """

    def __init__(self, volumes: Sequence[Volume], patch: Grid, batch: int, augmentation: Augment, root: int) -> None:
        self._volumes = volumes
        self._patch = patch
        self._count = batch
        self._augmentation = augmentation
        self._root = root
        self._memory = BatchMemory()
        self._ahead = _ahead_of(volumes, self._made)

    def batch(self, step: int, slab: int = 1) -> Patches:
        """Returns the batch of a step.

        Raises:
            DataError: no training volume holds two slabs.
        """
        if self._ahead is None:
            return self._made(step, slab)
        return self._ahead.take(step, slab)

    @seeding.unfilled()  # every voxel of a batch is written
    def _made(self, step: int, slab: int) -> Patches:
        eligible = self._volumes
        if slab > 1:
            eligible = [volume for volume in self._volumes if volume.shape[0] >= 2 * slab]
        if not eligible:
            deepest = max(volume.shape[0] for volume in self._volumes)
            raise DataError(
                f"order prediction needs two slabs of {slab} slices inside a volume, and the deepest training volume has "
                f"{deepest} slices. Use a finer spacing along depth (--set preprocess.spacing=...), a smaller patch depth, or "
                "shallower levels (taps=...)"
            )
        rng = seeding.rng(self._root, "pretext", "patches", step)
        moves = augment.draw(rng, self._count, self._patch, self._augmentation, flip_depth=False)
        first = eligible[0]
        shape = (self._count, len(first.image), *self._patch)
        (image,) = self._memory.take(first.device, (shape, first.image.dtype))
        insides = np.zeros((self._count, 3, 2), np.int64)
        negative_zero = []
        for n in range(self._count):
            volume = eligible[int(rng.integers(len(eligible)))]
            window, insides[n] = self._cut(rng, volume, slab)
            if window.device.type == "cpu":
                augment.place(image[n].numpy(), window.numpy(), moves.order(n))
            else:
                image[n] = augment.move(window, moves.order(n))
            insides[n] = _move_inside(insides[n], self._patch, moves.flips[n], int(moves.turns[n]))
            negative_zero.append(volume.negative_zero)
        augment.adjust(image, moves.scale, moves.shift, negative_zero=negative_zero)
        patches = Patches(image, insides)
        if (insides != whole_patch(self._patch)).any():
            # Padding stays 0 under a shift: scaling and shifting it would draw the volume's outline.
            image.masked_fill_(~patches.inside_mask(), 0.0)
        return patches

    def _cut(self, rng: np.random.Generator, volume: Volume, slab: int) -> tuple[Tensor, NDArray[np.int64]]:
        patch, size = self._patch, volume.shape
        depth = min(patch[0], size[0] // slab * slab)
        first = int(rng.integers(size[0] - depth + 1))
        start, inside = [0], [(0, depth)]
        for p, s in zip(patch[1:], size[1:], strict=True):
            begin = _any_start(rng, p, s)
            start.append(begin)
            inside.append((max(0, -begin), min(p, s - begin)))
        whole = (first, start[1], start[2]), (depth, patch[1], patch[2])
        window = volume.cut_image(*whole)
        # Slices behind the last whole slab lie in the volume, and are padding nevertheless.
        return cut(window, (0, 0, 0), patch), np.array(inside, np.int64)


def _move_inside(inside: NDArray[np.int64], patch: Grid, flips: NDArray[np.bool_], turns: int) -> NDArray[np.int64]:
    """Returns where the volume lies after `augment.move`."""
    out = inside.copy()
    for axis in range(3):
        if flips[axis]:
            out[axis] = patch[axis] - out[axis, ::-1]
    height, width = patch[1:]
    for _ in range(turns):  # a quarter turn sends (h, w) to (W - 1 - w, h), and the patch's sides change places
        h, w = out[1].copy(), out[2].copy()
        out[1], out[2] = width - w[::-1], h
        height, width = width, height
    return out
