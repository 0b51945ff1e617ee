"""Lets a network of slices take volumes: the adapter that every 2D backbone uses.

The slices of a volume lie along D. The adapter puts them into the batch, calls the network, and stacks its outputs. So the
training loop, the sliding window and the evaluation see a network of volumes whose patches are one slice deep.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

COLOURS = 3
Outputs = Tensor | list[Tensor]


def slice_by_slice(network: Callable[[Tensor], Outputs], volume: Tensor) -> Outputs:
    """Applies a 2D network to every slice of a batch of volumes.

    Args:
        network: ``(N, C, H, W)`` to ``(N, K, H, W)``, or to a list of such tensors.
        volume: ``(N, C, D, H, W)``.

    Returns:
        ``(N, K, D, H, W)``, or a list of that where the network gives one.
    """
    count, depth = volume.shape[0], volume.shape[2]
    slices = volume.transpose(1, 2).flatten(0, 1)
    outputs = network(slices)
    if isinstance(outputs, Tensor):
        return _stacked(outputs, count, depth)
    return [_stacked(output, count, depth) for output in outputs]


def _stacked(output: Tensor, count: int, depth: int) -> Tensor:
    """Stacks slices ``(N * D, K, H, W)`` to volumes ``(N, K, D, H, W)``."""
    return output.reshape(count, depth, *output.shape[1:]).transpose(1, 2)


class SliceNetwork(nn.Module, ABC):
    """A network of slices that takes volumes. A subclass says what it makes of slices (`of_slices`)."""

    def __init__(self, *, as_list: bool) -> None:
        super().__init__()
        self.as_list = as_list

    def forward(self, volume: Tensor) -> Outputs:
        """Returns the logits ``(N, K, D, H, W)`` of a volume, slice by slice; with `as_list` a list of one."""
        logits = slice_by_slice(self.of_slices, volume)
        if self.as_list and isinstance(logits, Tensor):
            return [logits]
        return logits

    @abstractmethod
    def of_slices(self, image: Tensor) -> Tensor:
        """Returns logits ``(N, K, H, W)`` of slices ``(N, C, H, W)``: the network as it was released."""


def colours_of(channels: int) -> int:
    """Returns the input channels of a network for colour images: three where a slice has one, which is then repeated."""
    if channels == 1:
        return COLOURS
    return channels


def in_colours(image: Tensor) -> Tensor:
    """Repeats slices ``(N, 1, H, W)`` to three colours; slices of several channels stay."""
    if image.shape[1] == 1:
        return image.expand(-1, COLOURS, -1, -1)
    return image


def exits_of(model: nn.Module, layers: tuple[str, ...], unused: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the parameters of all layers that end a residual branch.

    Args:
        model: the network.
        layers: endings of the names of such layers.
        unused: parameters that are left out.
    """
    found = []
    for name, _ in model.named_parameters():
        if name not in unused and name.rpartition(".")[0].endswith(layers):
            found.append(name)
    return tuple(found)
