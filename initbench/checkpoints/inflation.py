"""A 2D kernel or table of positions as a 3D one: the arithmetic of ``inflate-2d``.

In plane, an image's axes are the volume's (H, W); depth D is what an image does not have. Everything here is in that order;
a network that sees volumes as (W, H, D) gets the result turned (`turned`).

By which rule Messaoudi et al. ("Cross-dimensional transfer learning in medical image segmentation with deep learning", Medical
Image Analysis 2023, arXiv:2307.15872) extrapolate the kernels of their EfficientNet is neither in the paper nor in the release:
the rules here are what is known elsewhere, and none is said to be theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from initbench.checkpoints.quiet_timm import import_timm
from initbench.protocols import Axes, Grid


def repeat(kernel: Tensor, depth: int) -> Tensor:
    """Puts a kernel ``(out, in, kh, kw)`` into each of `depth` slices, divided by their number: ``(out, in, depth, kh, kw)``.

    Where the volume is constant along depth, the 3D convolution gives what the 2D one does. Source: Carreira & Zisserman, "Quo
    Vadis, Action Recognition?" (I3D), CVPR 2017, arXiv:1705.07750, section 2.4.1.
    """
    return kernel[:, :, None].repeat(1, 1, depth, 1, 1) / depth


def centre(kernel: Tensor, depth: int) -> Tensor:
    """Puts a kernel ``(out, in, kh, kw)`` into the middle of `depth` slices of zeros: ``(out, in, depth, kh, kw)``.

    At first, the 3D convolution is the 2D one slice by slice. An even number of slices has two in the middle, and each gets half
    of the kernel: then the two convolutions agree where the volume is constant along depth.
    """
    volume = kernel.new_zeros(*kernel.shape[:2], depth, *kernel.shape[2:])
    middle = slice((depth - 1) // 2, depth // 2 + 1)
    volume[:, :, middle] = repeat(kernel, 2 - depth % 2)
    return volume


def axis_average(kernel: Tensor, depth: int) -> Tensor:
    """Averages a kernel ``(out, in, k, k)`` that is repeated across each of the three planes: ``(out, in, k, k, k)``.

    ``K[d, h, w] = (k[h, w] + k[d, w] + k[d, h]) / 3k``: rows of the image are the earlier of the plane's two axes in (D, H, W).
    The sum over the kernel stays what it was.

    Raises:
        ValueError: the kernel would not be a cube.
    """
    if not depth == kernel.shape[2] == kernel.shape[3]:
        raise ValueError(f"axis-average needs a kernel of one size along all axes, got {(depth, *kernel.shape[2:])} (D, H, W)")
    return (kernel[:, :, None] + kernel[:, :, :, None] + kernel[..., None]) / (3 * depth)


Rule = Callable[[Tensor, int], Tensor]
RULES: dict[str, Rule] = {"repeat": repeat, "centre": centre, "axis-average": axis_average}


def inflate(kernel: Tensor, channels: int, size: Grid, rule: Rule) -> Tensor:
    """Makes a 3D kernel ``(out, channels, *size)`` of a 2D one.

    Args:
        kernel: ``(out, in, kh, kw)``.
        channels: input channels of the 3D kernel.
        size: (D, H, W) of the 3D kernel.
        rule: spreads the kernel over the slices.
    """
    return rule(in_plane(with_channels(kernel, channels), (size[1], size[2])), size[0])


def with_channels(kernel: Tensor, channels: int) -> Tensor:
    """Gives a kernel ``(out, in, kh, kw)`` another number of input channels: each gets the sum over `in`, divided by the number.

    One channel gets the sum: a grey image gives what its three equal colours gave. Several channels that hold one image give that
    too; no modality is red, so none gets the kernel of a colour (timm tiles the colours instead). Where the numbers agree, the
    kernel stays.
    """
    if kernel.shape[1] == channels:
        return kernel
    return kernel.sum(1, keepdim=True).repeat(1, channels, 1, 1) / channels


def in_plane(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes a kernel ``(out, in, kh, kw)`` in plane, by pseudo-inverse resizing.

    A larger kernel gives on an image enlarged with it (bicubic) what the kernel gave on the image; a smaller one comes as close
    to that as it can. Source: Beyer et al., "FlexiViT: One Model for All Patch Sizes", CVPR 2023, arXiv:2212.08013, section 3.4;
    timm==1.0.22:timm.layers.resample_patch_embed.
    """
    if kernel.shape[2:] == size:
        return kernel
    resized: Tensor = import_timm().layers.resample_patch_embed(kernel, list(size))
    return resized


def positions(table: Tensor, prefix: int, grid: Grid, *, linear: bool = False) -> Tensor | None:
    """Makes positions ``(1, D, H, W, dim)`` of a volume from positions ``(1, prefix + n·n, dim)`` of an image.

    The `prefix` rows of class tokens are dropped where the table has them. In plane the rest is interpolated as timm does
    (timm==1.0.22:timm.layers.resample_abs_pos_embed: bicubic, antialiased), or `linear`, its corners on the corners of the grid;
    every depth gets the same.

    Args:
        table: the positions of the image.
        prefix: number of class tokens of the encoder.
        grid: (D, H, W) tokens of the volume.
        linear: whether to interpolate in lines.

    Returns:
        The positions; None where the rows that remain are no square, so that their arrangement is not known.
    """
    if table.ndim != 3:
        return None
    rows = table.shape[1]
    n = _edge(rows - prefix) or _edge(rows)
    if n == 0:
        return None
    depth, height, width = grid
    plane = table[:, -n * n :].float().reshape(1, n, n, -1).movedim(-1, 1)
    if (height, width) != (n, n) and linear:
        plane = functional.interpolate(plane, (height, width), mode="bilinear", align_corners=True)
    elif (height, width) != (n, n):
        plane = functional.interpolate(plane, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return plane.movedim(1, -1)[:, None].repeat(1, depth, 1, 1, 1)


def _edge(number: int) -> int:
    """Returns the edge of a square of `number` tokens, 0 where they make no square."""
    if number <= 0:
        return 0
    edge = math.isqrt(number)
    if edge**2 != number:
        return 0
    return edge


def turned(volume: Tensor, axes: Axes, first: int) -> Tensor:
    """Turns the spatial axes of a tensor from (D, H, W) into the order in which a network sees them.

    Args:
        volume: the tensor.
        axes: the network's order.
        first: place of D among the axes of the tensor; H and W follow.
    """
    if axes == "DHW":
        return volume
    return volume.transpose(first, first + 2)
