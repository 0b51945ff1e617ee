"""A network of slices as a network of volumes: the adapter that every 2D backbone uses.

The slices of a volume lie along D. The adapter puts them into the batch, calls the network, and stacks what it gives. So the
training loop, the sliding window and the evaluation see a network of volumes whose patches are one slice deep.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

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
    """Slices ``(N * D, K, H, W)`` as volumes ``(N, K, D, H, W)``."""
    return output.reshape(count, depth, *output.shape[1:]).transpose(1, 2)
