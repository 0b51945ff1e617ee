"""Sliding-window inference and the way back to the native grid.

The windows, their overlap and both blendings follow MONAI's ``sliding_window_inference`` (checked against it in the tests);
mirroring is nnU-Net's.

The recipe says what is averaged where windows overlap (`inference.average`). MONAI's window averages what its network gives, so
UNETR and Swin-UNETR average logits. nnU-Net's first version, which UNETR++ and nnFormer are built on, averages probabilities. The
eight mirrorings of a window are averaged first, in the same space as the windows: nnU-Net's first version does so with
probabilities, its second version with logits, and MONAI mirrors nothing. Whatever is averaged, this module returns probabilities:
of averaged logits it takes the softmax at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from initbench.datasets.geometry import shape_along
from initbench.preprocessing.preprocess import Placement
from initbench.protocols import Grid
from initbench.recipes.settings import Inference
from initbench.training.precision import Precision, autocast

_SIGMA = 0.125  # of the window's edge, for the Gaussian blending: MONAI's default


def window_starts(size: int, patch: int, overlap: float) -> list[int]:
    """Returns the first voxels of the windows along one axis; the last window ends at the volume's end.

    Args:
        size: voxels of the volume along the axis.
        patch: voxels of a window along it.
        overlap: share of a window that the next one covers, from 0 to below 1.
    """
    if size <= patch:
        return [0]
    step = max(1, int(patch * (1 - overlap)))
    return sorted({min(start, size - patch) for start in range(0, size - patch + step, step)})


def forward_passes(size: Grid, patch: Grid, settings: Inference) -> int:
    """Counts the patches that the network sees when it predicts a volume.

    Args:
        size: (D, H, W) of the volume.
        patch: (D, H, W) of a window.
        settings: overlap and mirroring.
    """
    windows = 1
    for whole, edge in zip(size, patch, strict=True):
        windows *= len(window_starts(whole, edge, settings.overlap))
    if settings.mirror:
        windows *= len(_mirrorings(patch))
    return windows


def importance(patch: Grid, blend: Literal["constant", "gaussian"], device: torch.device) -> Tensor:
    """Returns the weight of each voxel of a window, ``(D, H, W)``.

    Args:
        patch: (D, H, W) of the window.
        blend: ``constant`` gives all voxels 1, ``gaussian`` less towards the borders.
        device: of the result.
    """
    weight = torch.ones(patch, device=device)
    if blend == "constant":
        return weight
    for axis, size in enumerate(patch):
        position = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2
        profile = torch.exp(-0.5 * (position / (_SIGMA * size)) ** 2)
        weight = weight * profile.view(shape_along(axis))
    # As in MONAI. The sum of the weights divides: where only corners of windows meet, it must not vanish.
    return weight.clamp(min=1e-3)


@torch.inference_mode()
def predict_probabilities(model: nn.Module, image: Tensor, patch: Grid, settings: Inference, precision: Precision) -> Tensor:
    """Predicts class probabilities ``(K, D, H, W)`` float32 of a volume ``(C, D, H, W)``; pads a volume smaller than the patch.

    Args:
        model: the network, in evaluation mode. What it returns may be overwritten, as MONAI's sliding window does, so it must not
            return memory that it keeps, such as a buffer.
        image: the volume, on the network's device.
        patch: (D, H, W) of a window.
        settings: overlap, blending, mirroring, what is averaged, and windows at a time.
        precision: of the forward pass.
    """
    padded, inner = _padded(image, patch)
    along = []
    for size, edge in zip(padded.shape[1:], patch, strict=True):
        along.append(window_starts(size, edge, settings.overlap))
    starts = list(product(*along))
    weight = importance(patch, settings.blend, image.device)
    total: Tensor | None = None
    for first in range(0, len(starts), settings.batch):
        chunk = starts[first : first + settings.batch]
        outputs = _windows(model, padded, chunk, patch, settings, precision)
        if settings.blend == "gaussian":
            outputs *= weight  # in place, as MONAI does it: a copy would cost more than the product
        if total is None:
            total = torch.zeros((outputs.shape[1], *padded.shape[1:]), device=image.device)
        for start, output in zip(chunk, outputs, strict=True):
            total[(slice(None), *_window(start, patch))].add_(output)
    if total is None:
        raise ValueError("a volume without voxels")
    norm = _sum_of_weights(padded.shape[1:], along, weight, settings.blend)
    averaged = total.div_(norm)[(slice(None), *inner)]
    if settings.average == "logits":
        # Into the same memory: a whole-body CT with many classes takes gigabytes, and it need not be there twice.
        return torch.softmax(averaged, 0, out=averaged)
    return averaged


def _padded(image: Tensor, patch: Grid) -> tuple[Tensor, tuple[slice, ...]]:
    """Returns the volume, padded with zeros on both sides to at least a window, and where the volume lies in it."""
    pads: list[int] = []
    inner = []
    for size, edge in zip(image.shape[1:], patch, strict=True):
        margin = max(0, edge - size)
        low = margin // 2
        pads = [low, margin - low, *pads]  # torch pads the last axis first
        inner.append(slice(low, low + size))
    if any(pads):
        image = functional.pad(image, pads)
    return image, tuple(inner)


def _window(start: Sequence[int], patch: Grid) -> tuple[slice, ...]:
    """Returns the voxels along (D, H, W) of the window whose first voxel is `start`."""
    return tuple(slice(first, first + edge) for first, edge in zip(start, patch, strict=True))


def _sum_of_weights(
    size: Sequence[int], along: Sequence[Sequence[int]], weight: Tensor, blend: Literal["constant", "gaussian"]
) -> Tensor:
    """Returns the sum of the weights of all windows at each voxel, ``(D, H, W)``.

    Args:
        size: (D, H, W) of the volume.
        along: first voxels of the windows along each axis.
        weight: ``(D, H, W)`` of a window.
        blend: as for `importance`.
    """
    patch: Grid = (weight.shape[0], weight.shape[1], weight.shape[2])
    if blend == "gaussian":
        total = torch.zeros(tuple(size), device=weight.device)
        for start in product(*along):
            total[_window(start, patch)] += weight
        return total
    # Each window counts 1: the windows over a voxel are as many as over its place along D, times H, times W.
    total = torch.ones(tuple(size), device=weight.device)
    for axis, firsts in enumerate(along):
        count = torch.zeros(size[axis], device=weight.device)
        for first in firsts:
            count[first : first + patch[axis]] += 1
        total *= count.view(shape_along(axis))
    return total


def _windows(
    model: nn.Module, padded: Tensor, starts: Sequence[Sequence[int]], patch: Grid, settings: Inference, precision: Precision
) -> Tensor:
    """Returns logits or probabilities, whichever are averaged, ``(N, K, D, H, W)`` of the windows that begin at `starts`."""
    crops = torch.stack([padded[(slice(None), *_window(start, patch))] for start in starts])
    if not settings.mirror:
        return _output(model, crops, settings, precision)
    total = _output(model, crops, settings, precision).clone()  # the network may keep its own
    mirrorings = _mirrorings(patch)
    for axes in mirrorings[1:]:  # one after the other: eight times the batch would be eight times the memory
        total.add_(_output(model, crops.flip(axes), settings, precision).flip(axes))
    return total / len(mirrorings)


def _mirrorings(patch: Grid) -> list[tuple[int, ...]]:
    """Returns every choice of the axes of ``(N, C, D, H, W)`` that are longer than one voxel, no axis first."""
    turned = [axis for axis, size in enumerate(patch, start=2) if size > 1]
    choices: list[tuple[int, ...]] = []
    for count in range(len(turned) + 1):
        choices.extend(combinations(turned, count))
    return choices


def _output(model: nn.Module, crops: Tensor, settings: Inference, precision: Precision) -> Tensor:
    with autocast(crops.device, precision):
        output = model(crops)
    if not isinstance(output, Tensor):
        output = output[0]  # deep supervision: the finest level is first
    logits: Tensor = output.float()
    if settings.average == "logits":
        return logits
    return logits.softmax(1)


@torch.inference_mode()
def to_native(
    probabilities: Tensor, placement: Placement, back: Literal["probabilities", "label-nearest"] = "probabilities"
) -> NDArray[np.uint8]:
    """Returns the label map on the case's native grid: probabilities are resampled linearly by class, and the largest wins.

    Args:
        probabilities: ``(K, D, H, W)`` on the preprocessed grid.
        placement: of that grid.
        back: as the recipe has it; ``label-nearest`` takes the largest first and carries the labels back by the nearest voxel.
    """
    grid = placement.grid
    if back == "label-nearest":
        labels = grid.labels_back(probabilities.argmax(0).to(torch.uint8))
        return placement.restore(grid.without_margin(labels).cpu().numpy())
    best = grid.probability_back(probabilities[0])
    labels = torch.zeros(grid.native, dtype=torch.uint8, device=probabilities.device)
    for index, probability in enumerate(probabilities[1:], start=1):
        resampled = grid.probability_back(probability)
        better = resampled > best
        best = torch.where(better, resampled, best)
        labels.masked_fill_(better, index)
    return placement.restore(grid.without_margin(labels).cpu().numpy())
