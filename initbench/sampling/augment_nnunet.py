"""nnU-Net's augmentation ("moreDA"): numbers drawn on the CPU, applied on the device to a batch at once.

Sources: MIC-DKFZ/nnUNet@4c90678:nnunet/training/data_augmentation/data_augmentation_moreDA.py for the order, the probabilities
and the ranges; the functions of batchgenerators 0.25 for what each does. Written anew on tensors; the tests compare each with
numpy and scipy. What differs, for speed on the device: images are interpolated linearly and labels by the nearest voxel (there:
splines of order 3 and 1), the low resolution comes back linearly (there: order 3; as in nnU-Net v2), what a turned patch needs
is cut out of the volume, so its corners are real wherever the volume has them, and patches are cut inside the volume.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from initbench.protocols import Grid
from initbench.recipes.settings import NnUnetAugment

DUMMY_2D_ABOVE = 3.0  # patches whose longest edge is more than this many times their depth are turned in plane alone
_SPACE = (2, 3, 4)  # D, H and W of ``(N, C, D, H, W)``
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """The numbers of N patches of C channels. What has no flag of its own is neutral where nothing is done.

    Attributes:
        moved: ``(N,)``, whether `matrix` ``(N, 3, 3)`` is not the identity; it takes positions in the patch, from its centre, to
            positions in the volume.
        noise: ``(N,)`` standard deviations, 0 for none.
        sigma: ``(N, C)`` of the blur in voxels, 0 for none.
        brightness: ``(N, C)`` factors. contrast: likewise, where `contrasted` ``(N,)``.
        sizes: ``(N, C, 3)`` voxels of the low resolution; the patch's own for none.
        inverted_gamma: ``(N, C)``, 1 for none. gamma: likewise.
        mirror: ``(N, 3)``.
    """

    moved: Flags
    matrix: Numbers
    noise: Numbers
    sigma: Numbers
    brightness: Numbers
    contrasted: Flags
    contrast: Numbers
    sizes: NDArray[np.int64]
    inverted_gamma: Numbers
    gamma: Numbers
    mirror: Flags


def in_plane(patch: Grid, settings: NnUnetAugment) -> bool:
    """Returns whether patches are turned and scaled in (H, W) alone."""
    if settings.dummy_2d == "auto":
        return max(patch) / patch[0] > DUMMY_2D_ABOVE
    return settings.dummy_2d == "always"


def draw(rng: np.random.Generator, count: int, channels: int, patch: Grid, settings: NnUnetAugment) -> Draw:
    """Draws the numbers of one batch; the same count of them whatever comes out, so that no number shifts another.

    Args:
        rng: its state decides the numbers.
        count: patches of the batch.
        channels: of a patch.
        patch: (D, H, W) in voxels.
        settings: probabilities and ranges.
    """
    each, flat = (count, channels), in_plane(patch, settings)
    turned, scaled = rng.random(count) < settings.rotate, rng.random(count) < settings.scale
    degrees = settings.degrees
    if flat:
        degrees = settings.degrees_in_plane
    angles = rng.uniform(-1, 1, (count, 3)) * degrees
    matrix = _matrices(np.where(turned[:, None], angles, 0.0), flat)
    factor = np.where(scaled, _around_one(rng, (count,), settings.scale_range), 1.0)
    matrix *= np.where([[flat, False, False]], 1.0, factor[:, None])[:, :, None]
    noisy = rng.random(count) < settings.noise
    noise = np.where(noisy, rng.uniform(*settings.noise_sd, count), 0.0)
    blurred = (rng.random(count) < settings.blur)[:, None] & (rng.random(each) < settings.blur_channel)
    sigma = np.where(blurred, rng.uniform(*settings.blur_sigma, each), 0.0)
    brighter = (rng.random(count) < settings.brightness)[:, None]
    brightness = np.where(brighter, rng.uniform(*settings.brightness_range, each), 1.0)
    contrasted = rng.random(count) < settings.contrast
    contrast = _around_one(rng, each, settings.contrast_range)
    coarse = (rng.random(count) < settings.lowres)[:, None] & (rng.random(each) < settings.lowres_channel)
    zoom = np.where(coarse, rng.uniform(*settings.lowres_range, each), 1.0)
    sizes = np.maximum(np.round(zoom[..., None] * np.array(patch)), 1).astype(np.int64)
    if flat:
        sizes[..., 0] = patch[0]
    inverted = (rng.random(count) < settings.gamma_inverted)[:, None]
    inverted_gamma = np.where(inverted, _around_one(rng, each, settings.gamma_range), 1.0)
    plain = (rng.random(count) < settings.gamma)[:, None]
    gamma = np.where(plain, _around_one(rng, each, settings.gamma_range), 1.0)
    mirror = rng.random((count, 3)) < settings.mirror
    return Draw(
        turned | scaled, matrix, noise, sigma, brightness, contrasted, contrast, sizes, inverted_gamma, gamma, mirror
    )  # fmt: skip


def _around_one(rng: np.random.Generator, shape: tuple[int, ...], bounds: tuple[float, float]) -> Numbers:
    """Draws numbers below 1 as often as above it, uniformly on each side."""
    low, high = bounds
    below = (rng.random(shape) < 0.5) & (low < 1)
    return np.where(below, rng.uniform(min(low, 1.0), 1.0, shape), rng.uniform(max(low, 1.0), max(high, 1.0), shape))


def _matrices(degrees: Numbers, flat: bool) -> Numbers:
    """Returns rotations about D, H and W, one after the other; about D alone if `flat`."""
    out = np.broadcast_to(np.eye(3), (len(degrees), 3, 3)).copy()
    planes = [(1, 2), (0, 2), (0, 1)]
    if flat:
        planes = planes[:1]
    for axis, (first, second) in enumerate(planes):
        angle = np.deg2rad(degrees[:, axis])
        step = np.broadcast_to(np.eye(3), out.shape).copy()
        step[:, first, first] = step[:, second, second] = np.cos(angle)
        step[:, first, second], step[:, second, first] = -np.sin(angle), np.sin(angle)
        out = out @ step
    return out


def margins(drawn: Draw, patch: Grid) -> Grid:
    """Returns how many voxels beyond the patch, on each side, its turned and scaled patches reach."""
    half = (np.array(patch) - 1) / 2
    reach = half
    if drawn.moved.any():
        reach = (np.abs(drawn.matrix[drawn.moved]) @ half).max(axis=0)
    beyond = np.maximum(np.ceil(reach - half - 1e-6), 0) + 1
    d, h, w = beyond.astype(int).tolist()
    return d, h, w


def resample(regions: Tensor, matrix: Numbers, patch: Grid, mode: str) -> Tensor:
    """Cuts turned and scaled patches out of larger regions with the same centre; 0 beyond the region.

    Args:
        regions: ``(M, C, ...)``.
        matrix: ``(M, 3, 3)``, from a patch's axes to its region's.
        patch: (D, H, W) in voxels.
        mode: ``bilinear`` or ``nearest``.
    """
    return sample(regions, positions(regions, matrix, patch), mode)


def positions(regions: Tensor, matrix: Numbers, patch: Grid) -> Tensor:
    """Returns ``(M, *patch, 3)`` places in regions, as `grid_sample` has them, from which turned and scaled patches take voxels.

    Args:
        regions: ``(M, C, ...)``, of which the shape and the device count.
        matrix: as for `resample`.
        patch: (D, H, W) in voxels.
    """
    scale = 2.0 / (np.array(regions.shape[2:]) - 1)
    half = (np.array(patch) - 1) / 2
    theta = np.zeros((len(matrix), 3, 4), np.float32)
    theta[:, :, :3] = (scale[:, None] * matrix * half)[:, ::-1, ::-1]  # torch counts axes from the last
    with warnings.catch_warnings():
        # torch warns of patches of one slice: of where it puts that slice, which `half`, 0 there, makes irrelevant.
        warnings.filterwarnings("ignore", "Since version 1.3.0, affine_grid behavior has changed for unit-size grids")
        return functional.affine_grid(_to(theta, regions), [len(matrix), 1, *patch], align_corners=True)


def sample(regions: Tensor, places: Tensor, mode: str) -> Tensor:
    """Takes the values of regions at `positions`; 0 beyond the region.

    Args:
        regions: ``(M, C, ...)``.
        places: ``(M, *patch, 3)``.
        mode: ``bilinear`` or ``nearest``.
    """
    return functional.grid_sample(regions, places, mode=mode, padding_mode="zeros", align_corners=True)


def add_noise(images: Tensor, sd: Numbers, generator: torch.Generator) -> Tensor:
    """Adds white noise. What batchgenerators calls its variance is its standard deviation.

    Args:
        images: ``(M, C, D, H, W)``.
        sd: ``(M,)``, the standard deviation in units of the network's input.
        generator: on the device of the images.
    """
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return images + noise * _each(sd[:, None], images)


def blur(images: Tensor, sigma: Numbers) -> Tensor:
    """Blurs by a Gaussian as scipy has it: cut off at 4 sigma, mirrored at the borders; sigma 0 changes nothing."""
    reach = int(4 * sigma.max() + 0.5)
    offsets = np.arange(-reach, reach + 1)
    safe = np.where(sigma > 0, sigma, 1.0)[..., None]
    kernel = np.exp(-0.5 * (offsets / safe) ** 2) * (np.abs(offsets) <= np.floor(4 * safe + 0.5))
    kernel = np.where(sigma[..., None] > 0, kernel / kernel.sum(-1, keepdims=True), offsets == 0)
    weights = _to(kernel, images)
    for axis in _SPACE:
        size = images.shape[axis]
        index = np.arange(-reach, size + reach) % (2 * size)
        padded = images.index_select(axis, _to(np.where(index < size, index, 2 * size - 1 - index), images))
        total = torch.zeros_like(images)
        for k in range(len(offsets)):
            total.addcmul_(padded.narrow(axis, k, size), weights[:, :, k, None, None, None])
        images = total
    return images


def brighten(images: Tensor, factors: Numbers) -> Tensor:
    """Multiplies each channel."""
    return images * _each(factors, images)


def change_contrast(images: Tensor, factors: Numbers) -> Tensor:
    """Stretches each channel about its mean, inside the range it had."""
    mean = images.mean(_SPACE, keepdim=True)
    stretched = (images - mean) * _each(factors, images) + mean
    return torch.minimum(torch.maximum(stretched, images.amin(_SPACE, keepdim=True)), images.amax(_SPACE, keepdim=True))


def lower_resolution(images: Tensor, sizes: NDArray[np.int64]) -> Tensor:
    """Brings each channel to a coarser grid by the nearest voxel, and back linearly: one axis after the other."""
    for axis in _SPACE:
        full, coarse = images.shape[axis], sizes[..., axis - 2, None]
        position = np.maximum((np.arange(full) + 0.5) * coarse / full - 0.5, 0)
        low = np.minimum(np.floor(position).astype(np.int64), coarse - 1)
        high = np.minimum(low + 1, coarse - 1)
        below = _taken(images, axis, (2 * low + 1) * full // (2 * coarse))
        above = _taken(images, axis, (2 * high + 1) * full // (2 * coarse))
        images = torch.lerp(below, above, _along(axis, position - low, images))
    return images


def _taken(images: Tensor, axis: int, voxels: NDArray[np.int64]) -> Tensor:
    """Takes voxels along an axis, in each channel those that `voxels` ``(N, C, size of the axis)`` names."""
    return images.gather(axis, _along(axis, voxels, images).expand_as(images))


def _along(axis: int, values: NDArray[np.generic], images: Tensor) -> Tensor:
    """Sends values ``(N, C, size of the axis)`` to the device, in a shape that goes with the images."""
    shape = [*values.shape[:2], 1, 1, 1]
    shape[axis] = values.shape[2]
    return _to(values, images).view(shape)


def change_gamma(images: Tensor, gamma: Numbers, *, inverted: bool) -> Tensor:
    """Raises each channel's range to a power, upside down if `inverted`; its mean and standard deviation stay."""
    if inverted:
        images = -images
    mean, sd = images.mean(_SPACE, keepdim=True), images.std(_SPACE, keepdim=True, correction=0)
    low = images.amin(_SPACE, keepdim=True)
    # The two small numbers are batchgenerators'; they keep a flat image from dividing by 0.
    width = images.amax(_SPACE, keepdim=True) - low
    bent = ((images - low) / (width + 1e-7)).pow(_each(gamma, images)) * width + low
    bent = (bent - bent.mean(_SPACE, keepdim=True)) / (bent.std(_SPACE, keepdim=True, correction=0) + 1e-8) * sd + mean
    if inverted:
        bent = -bent
    return bent


def adjust(images: list[Tensor], drawn: Draw, generator: torch.Generator) -> list[Tensor]:
    """Changes the intensities of patches in nnU-Net's order, each step on the patches that it was drawn for.

    Args:
        images: patches ``(C, D, H, W)``; the list is not changed.
        drawn: how strongly each step changes each patch.
        generator: of the noise, on the device of the patches.
    """
    noise = partial(add_noise, generator=generator)
    inverted_gamma = partial(change_gamma, inverted=True)
    gamma = partial(change_gamma, inverted=False)
    steps: list[tuple[Flags, Callable[[Tensor, NDArray[Any]], Tensor], NDArray[Any]]] = [
        (drawn.noise > 0, noise, drawn.noise),
        (_some(drawn.sigma > 0), blur, drawn.sigma),
        (_some(drawn.brightness != 1), brighten, drawn.brightness),
        (drawn.contrasted, change_contrast, drawn.contrast),
        (_some(drawn.sizes != images[0].shape[1:]), lower_resolution, drawn.sizes),
        (_some(drawn.inverted_gamma != 1), inverted_gamma, drawn.inverted_gamma),
        (_some(drawn.gamma != 1), gamma, drawn.gamma),
    ]
    images = list(images)
    for chosen, step, strengths in steps:
        places = np.flatnonzero(chosen)
        if not len(places):
            continue
        changed = step(torch.stack([images[place] for place in places]), strengths[places])
        for place, image in zip(places, changed, strict=True):
            images[place] = image
    return images


def mirror_each(volumes: Sequence[Tensor], drawn: Draw) -> Tensor:
    """Mirrors each volume as it was drawn for it, and stacks them."""
    mirrored = []
    for volume, axes in zip(volumes, drawn.mirror, strict=True):
        mirrored.append(mirror(volume, axes.tolist()))
    return torch.stack(mirrored)


def mirror(volume: Tensor, axes: Sequence[bool]) -> Tensor:
    """Mirrors the last three axes, each where `axes` says so."""
    chosen = []
    for axis in range(3):
        if axes[axis]:
            chosen.append(axis - 3)
    if not chosen:
        return volume
    return torch.flip(volume, chosen)


def _some(flags: Flags) -> Flags:
    """Returns ``(N,)``, whether any flag of a patch is up."""
    return np.asarray(flags.reshape(len(flags), -1).any(axis=1))


def _each(values: Numbers, images: Tensor) -> Tensor:
    return _to(values, images)[:, :, None, None, None]


def _to(values: NDArray[np.generic], like: Tensor) -> Tensor:
    """Sends values to the device of `like`, floats in its type; the copy is queued, nobody waits for the device."""
    made = torch.from_numpy(np.ascontiguousarray(values))
    dtype = made.dtype
    if made.is_floating_point():
        dtype = like.dtype
    return made.to(like.device, dtype, non_blocking=True)
