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
        self._free: defaultdict[int, list[Tensor]] = defaultdict(list)

    def take(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Lends a tensor that the caller writes whole. It comes back when the last tensor that shares its memory is gone.

        Views and what autograd keeps for the backward pass share it, too.

        Args:
            shape: of the tensor.
            dtype: of its values.
            device: where it lies.
        """
        if device.type != "cpu":
            return unwritten(shape, dtype, device)
        size = math.prod(shape) * dtype.itemsize
        free = self._free[size]
        if free:
            block = free.pop()
        else:
            block = unwritten([size], torch.uint8, device)
        lease: NDArray[np.uint8] = block.numpy().view()  # nobody but the memory of the tensor below keeps this array alive
        weakref.finalize(lease, free.append, block).atexit = False
        return torch.from_numpy(lease).view(dtype).view(tuple(shape))


def unwritten(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Makes a tensor that the caller writes whole. Under deterministic algorithms torch would fill it first, a pass for nothing.

    Args:
        shape: of the tensor.
        dtype: of its values.
        device: where it lies.
    """
    with seeding.unfilled():
        return torch.empty(tuple(shape), dtype=dtype, device=device)
