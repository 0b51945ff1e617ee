"""``orthogonal``: every linear map of the network has orthonormal rows or columns.

Paper: Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", ICLR
2014, arXiv:1312.6120. Drawn as `torch.nn.init.orthogonal_` does it: QR of a normal matrix with the signs of R's diagonal taken
out, which makes it uniform over the group (Mezzadri 2007, arXiv:math-ph/0609050); without that, the signs are LAPACK's.

What differs from torch is which matrix is drawn. torch flattens every weight as (first axis, the rest). That is the map of a
linear layer and of a plain convolution, and those are torch's bit for bit. It is not the map where

- a convolution has groups: each group is a map of its own, and the rows of all groups lie in the same columns;
- a convolution is transposed: the weight is (in, out, kernel), so torch makes orthogonal what no output sums. An output voxel
  sums, of the kernel, the taps that its position modulo the stride leaves; these taps and the input channels are its fan-in.
  There are as many maps as positions, stride³ of them: with kernel = stride each is a single tap, (out, in);
- a bare projection is (in, out).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn

from initbench.initializers._layers import Bias, Draw, Scope, check_number, draw_layers
from initbench.protocols import InitContext, Site, initializer


@initializer(paper="Saxe et al. 2014, arXiv:1312.6120; Mezzadri 2007")
def orthogonal(
    model: nn.Module, ctx: InitContext, /, *, gain: float = 1.0, scope: Scope = "linear+conv", bias: Bias = "zero"
) -> None:
    """Each map is `gain` times a semi-orthogonal matrix (out, fan_in), uniform among these."""
    draw_layers(model, ctx, draw_orthogonal(model, gain), scope, bias)


def draw_orthogonal(model: nn.Module, gain: float) -> Draw:
    """Returns what fills a weight of `model` with semi-orthogonal maps.

    Args:
        model: the network.
        gain: factor on the maps, above 0.

    Raises:
        UsageError: `gain` is no number above 0.
    """
    scale = check_number("gain", gain)

    def draw(tensor: Tensor, site: Site, generator: torch.Generator) -> None:
        """Fills the weight `tensor` of a `site`, one map after another."""
        for part in maps(model, site, tensor):
            matrix = part.new_empty(part.shape[0], part[0].numel())
            part.copy_(nn.init.orthogonal_(matrix, scale, generator=generator).view(part.shape))

    return draw


def maps(model: nn.Module, site: Site, weight: Tensor) -> Iterator[Tensor]:
    """Yields the linear maps that a weight holds, as views ``(out, in, *taps)``; each value belongs to exactly one map.

    Args:
        model: the network.
        site: the weight's place and role in it.
        weight: its values.
    """
    if site.role == "projection":
        yield weight.t()
        return
    layer = model.get_submodule(site.name.rpartition(".")[0])
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        for group in weight.chunk(layer.groups):
            yield from _phases(layer, group.transpose(0, 1))
    elif isinstance(layer, nn.modules.conv._ConvNd):
        yield from weight.chunk(layer.groups)
    else:
        yield weight


def _phases(layer: nn.modules.conv._ConvTransposeNd, group: Tensor) -> Iterator[Tensor]:
    """Yields the taps that meet in an output voxel, for each position of the voxel modulo the stride.

    Args:
        layer: the transposed convolution.
        group: its weight ``(out, in, *kernel)``, or one group of it.
    """
    axes = [_slices(*axis) for axis in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)]
    for taps in product(*axes):
        yield group[(slice(None), slice(None), *taps)]


def _slices(kernel: int, stride: int, dilation: int) -> list[slice]:
    """Groups the taps of one axis by the position that they write to: tap k writes to ``input · stride + k · dilation``."""
    first: dict[int, int] = {}
    for tap in range(kernel):
        first.setdefault(tap * dilation % stride, tap)
    period = len(first)  # the positions repeat, in the same order, as soon as one does
    return [slice(tap, None, period) for tap in first.values()]
