"""Augmentation of the 2D baselines, in plane alone: numbers drawn on the CPU, applied on the device.

- ``transunet``: Beckschen/TransUNet@02ef0010:datasets/dataset_synapse.py, which Swin-Unet carries along. Half of the slices are
  turned by quarter turns and flipped; of the others half are rotated by whole degrees. Image and label take the nearest pixel.
- ``missformer``: ZhifangDeng/MISSFormer@007424e8, its list for imgaug: up to four of ten operations.

Both are written anew from a description. What differs: they act on the resized slice, not on the native one before it is resized.
Of ``missformer`` nine operations are here. The tenth, a piecewise affine map, is drawn and does nothing. Movements are joined to
one map, so that a slice is interpolated once. Blur, contrast and noise follow in this order, whatever the order that was drawn.
Contrast turns about the middle of the slice's range. What comes in from outside of an image is 0 in ``transunet``, as there, and
the least value of the slice in ``missformer``, which is air.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

DEGREES = 20
"""``transunet``: the largest angle of a rotation."""
MOST = 4
"""``missformer``: operations of a slice, at most."""
OPERATIONS = (
    "flip-rows", "flip-columns", "noise", "blur", "contrast", "scale", "rotate", "shear", "piecewise", "translate",
)  # fmt: skip
FLIP = 0.5
SCALE = (0.5, 2.0)
ROTATE = 40.0
SHEAR = 16.0
TRANSLATE = 0.2
CONTRAST = (0.5, 1.5)
BLUR_SIGMA = 1.0
BLUR_RADIUS = 4
# As released: noise of up to 0.005 * 255 on images from 0 to 1, which drowns them. The release then scales images to -1 to 1,
# which doubles the noise; here images are scaled before.
NOISE = 2 * 0.005 * 255
Numbers = NDArray[np.float64]
_FLIPS = ("flip-rows", "flip-columns")  # along H, and along W


@dataclass(frozen=True)
class Turn:
    """What ``transunet`` does to one slice.

    Attributes:
        quarters: quarter turns in the (H, W) plane.
        flipped: the axis that is flipped, 1 for H or 2 for W of ``(D, H, W)``; None where none is.
        degrees: of a rotation instead.
    """

    quarters: int = 0
    flipped: int | None = None
    degrees: int = 0


def draw_turns(rng: np.random.Generator, count: int, plane: tuple[int, int]) -> list[Turn]:
    """Draws what ``transunet`` does to each slice of a batch. A slice that is not square is turned by 180 degrees only.

    Args:
        rng: its state decides the numbers.
        count: slices of the batch.
        plane: (H, W) in pixels.
    """
    turned, rotated = rng.random(count) < 0.5, rng.random(count) < 0.5
    quarters = rng.integers(0, 4, count)
    if plane[0] != plane[1]:
        quarters = quarters // 2 * 2
    axes = rng.integers(1, 3, count)
    degrees = rng.integers(-DEGREES, DEGREES, count)
    turns = []
    for n in range(count):
        if turned[n]:
            turns.append(Turn(int(quarters[n]), int(axes[n])))
        elif rotated[n]:
            turns.append(Turn(degrees=int(degrees[n])))
        else:
            turns.append(Turn())
    return turns


def turn(volume: Tensor, how: Turn) -> Tensor:
    """Turns, flips or rotates the last two axes of a volume ``(..., D, H, W)``."""
    if how.quarters:
        volume = torch.rot90(volume, how.quarters, (-2, -1))
    if how.flipped is not None:
        volume = torch.flip(volume, [how.flipped - 3])
    if how.degrees:
        volume = _rotated(volume, how.degrees)
    return volume


def _rotated(volume: Tensor, degrees: int) -> Tensor:
    """Rotates as `scipy.ndimage.rotate` with order 0 and the shape kept: the nearest pixel, and 0 from outside."""
    height, width = volume.shape[-2:]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = np.arange(height)[:, None] - (height - 1) / 2
    columns = np.arange(width)[None, :] - (width - 1) / 2
    source_rows = cosine * rows + sine * columns + (height - 1) / 2
    source_columns = -sine * rows + cosine * columns + (width - 1) / 2
    inside = (source_rows >= 0) & (source_rows <= height - 1) & (source_columns >= 0) & (source_columns <= width - 1)
    nearest_row = np.floor(source_rows + 0.5).astype(np.int64).clip(0, height - 1)
    nearest_column = np.floor(source_columns + 0.5).astype(np.int64).clip(0, width - 1)
    index = torch.from_numpy(nearest_row * width + nearest_column).to(volume.device)
    moved = volume.flatten(-2)[..., index.flatten()].reshape(volume.shape)
    return moved * torch.from_numpy(inside).to(volume.device, volume.dtype)


@dataclass(frozen=True)
class Change:
    """What ``missformer`` does to one slice.

    Attributes:
        matrix: ``(3, 3)``, takes positions in the result, as shares of half an edge from the middle, (row, column, 1), to
            positions in the slice.
        contrast: factor, 1 for none.
        blur: whether it is blurred.
        noise: standard deviation, 0 for none.
    """

    matrix: Numbers
    contrast: float = 1.0
    blur: bool = False
    noise: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether pixels change their places."""
        return not np.array_equal(self.matrix, np.eye(3))


def draw_changes(rng: np.random.Generator, count: int, plane: tuple[int, int]) -> list[Change]:
    """Draws what ``missformer`` does to each slice of a batch.

    Args:
        rng: its state decides the numbers.
        count: slices of the batch.
        plane: (H, W) in pixels.
    """
    return [_draw_change(rng, plane) for _ in range(count)]


def _draw_change(rng: np.random.Generator, plane: tuple[int, int]) -> Change:
    chosen = rng.permutation(len(OPERATIONS))[: int(rng.integers(MOST + 1))]
    names = {OPERATIONS[index] for index in chosen}
    matrix = np.eye(3)
    for index in chosen:
        matrix = matrix @ _movement(rng, OPERATIONS[index], plane)
    contrast, noise = 1.0, 0.0
    if "contrast" in names:
        contrast = float(rng.uniform(*CONTRAST))
    if "noise" in names:
        noise = float(rng.uniform(0, NOISE))
    return Change(matrix, contrast, "blur" in names, noise)


def _movement(rng: np.random.Generator, operation: str, plane: tuple[int, int]) -> Numbers:
    """Draws the matrix of one operation; it is the identity where nothing moves."""
    matrix = np.eye(3)
    if operation in _FLIPS:
        if rng.random() < FLIP:
            axis = _FLIPS.index(operation)
            matrix[axis, axis] = -1.0
    elif operation == "scale":
        matrix[0, 0], matrix[1, 1] = 1 / rng.uniform(*SCALE, 2)
    elif operation == "translate":
        matrix[:2, 2] = -2 * rng.uniform(-TRANSLATE, TRANSLATE, 2)
    elif operation == "rotate":
        angle = math.radians(rng.uniform(-ROTATE, ROTATE))
        matrix[:2, :2] = _in_shares([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], plane)
    elif operation == "shear":
        matrix[:2, :2] = _in_shares([[1.0, 0.0], [math.tan(math.radians(rng.uniform(-SHEAR, SHEAR))), 1.0]], plane)
    return matrix


def _in_shares(matrix: Sequence[Sequence[float]], plane: tuple[int, int]) -> Numbers:
    """Turns a matrix of pixels into one of shares of the edges."""
    edges = np.array(plane, np.float64)
    return np.array(matrix) * edges[None, :] / edges[:, None]


def change(image: Tensor, label: Tensor, how: Change, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Moves image and label, and changes the values of the image.

    Args:
        image: ``(C, D, H, W)``.
        label: ``(D, H, W)``.
        how: what is done.
        generator: of the noise, on the image's device.
    """
    if how.moves:
        air = image.amin()
        image = _moved(image - air, how.matrix, "bilinear") + air
        label = _moved(label[None].float(), how.matrix, "nearest")[0].to(label.dtype)
    if how.blur:
        image = _blurred(image)
    if how.contrast != 1.0:
        middle = (image.amin() + image.amax()) / 2
        image = middle + how.contrast * (image - middle)
    if how.noise:
        image = image + how.noise * torch.randn(image.shape, generator=generator, device=image.device)
    return image, label


def _moved(volume: Tensor, matrix: Numbers, mode: str) -> Tensor:
    """Applies a map in plane to ``(C, D, H, W)``; 0 comes in from outside."""
    slices = volume.flatten(0, 1)[:, None]
    # torch has columns before rows.
    swapped = matrix[np.ix_([1, 0], [1, 0, 2])]
    theta = torch.tensor(swapped, dtype=slices.dtype).to(slices.device).expand(len(slices), 2, 3)
    grid = functional.affine_grid(theta, list(slices.shape), align_corners=False)
    return functional.grid_sample(slices, grid, mode=mode, padding_mode="zeros", align_corners=False).reshape(volume.shape)


def _blurred(volume: Tensor) -> Tensor:
    """Blurs by a Gaussian of one pixel in plane; edges are repeated."""
    positions = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, dtype=volume.dtype, device=volume.device)
    weights = torch.exp(-0.5 * (positions / BLUR_SIGMA) ** 2)
    kernel = (weights / weights.sum())[None, None]
    slices = volume.flatten(0, 1)[:, None]
    edges = (BLUR_RADIUS,) * 4
    padded = functional.pad(slices, edges, mode="replicate")
    across = functional.conv2d(padded, kernel[:, :, None])
    return functional.conv2d(across, kernel[..., None]).reshape(volume.shape)
