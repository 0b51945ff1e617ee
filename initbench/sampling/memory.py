"""Memory of batches: taken without being filled, and on the CPU used again by later batches."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initbench import seeding


class BatchMemory:
    """Hands out memory for batches, and hands it out again when no tensor uses it any more.

    On the CPU some megabytes of fresh memory cost more than the patches that are written there: the system maps and clears its
    pages. CUDA has an allocator that keeps blocks, so there this class does nothing but leave out the filling.
    """

    def __init__(self) -> None:
        self._free: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)

    def take(self, device: torch.device, *parts: tuple[Sequence[int], torch.dtype]) -> list[Tensor]:
        """Lends tensors that the caller writes whole. They come back together, when no tensor shares their memory any more.

        Views and what autograd keeps for the backward pass share it, too.

        Args:
            device: where they lie.
            parts: shape and type of each tensor, the widest type first, as they lie one behind the other.
        """
        if device.type != "cpu":
            return [unwritten(shape, dtype, device) for shape, dtype in parts]
        counts = [math.prod(shape) for shape, _ in parts]
        lent = self._lend(sum(count * dtype.itemsize for count, (_, dtype) in zip(counts, parts, strict=True)))
        tensors, first = [], 0
        for count, (shape, dtype) in zip(counts, parts, strict=True):
            tensors.append(torch.frombuffer(lent, dtype=dtype, count=count, offset=first).view(tuple(shape)))
            first += count * dtype.itemsize
        return tensors

    def _lend(self, size: int) -> NDArray[np.uint8]:
        """Lends bytes until the array and all that is made of it are gone."""
        free = self._free[size]
        if free:
            block = free.pop()
        else:
            block = unwritten([size], torch.uint8, torch.device("cpu")).numpy()
        lent = block.view()  # nobody but what is made of it keeps this array alive
        weakref.finalize(lent, free.append, block).atexit = False
        return lent


def unwritten(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Makes a tensor that the caller writes whole. Under deterministic algorithms torch would fill it first, a pass for nothing.

    Args:
        shape: of the tensor.
        dtype: of its values.
        device: where it lies.
    """
    with seeding.unfilled():
        return torch.empty(tuple(shape), dtype=dtype, device=device)
