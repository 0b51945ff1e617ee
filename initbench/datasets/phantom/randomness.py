"""Random numbers of a case: the same bits on every machine.

They are built from the raw words of a Philox counter, which NumPy promises to keep (it does not promise that for the
distributions of `numpy.random.Generator`).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from initbench.datasets.phantom.shapes import Array, Point, VoxelGrid, blur, unit


class Draw:
    """Random numbers of one case, each a fixed function of raw Philox words."""

    def __init__(self, case_id: str) -> None:
        key = int.from_bytes(hashlib.sha256(case_id.encode()).digest()[:16], "little")
        self._bits = np.random.Philox(key=key)

    def _words(self, n: int) -> NDArray[np.uint64]:
        return np.asarray(self._bits.random_raw(n), dtype=np.uint64)

    def uniform(self, low: float, high: float) -> float:
        """A number in ``[low, high)``."""
        return low + (high - low) * (int(self._words(1)[0]) >> 11) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self._words(1)[0]) % (high - low + 1)

    def bell(self, *shape: int) -> Array:
        """Bell-shaped numbers of mean 0 and variance 1.

        The sum of four 16-bit uniforms: integers only, so exact, and close enough to a normal for noise.
        """
        parts = self._words(math.prod(shape)).view(np.uint16).reshape(-1, 4)
        total = parts.sum(axis=1, dtype=np.int64)
        bell: Array = ((total - 131070) * (math.sqrt(3.0) / 65536.0)).reshape(shape)
        return bell

    def direction(self) -> Point:
        """A unit vector."""
        x, y, z = (float(v) for v in self.bell(3))
        return unit((x, y, z))

    def texture(self, shape: tuple[int, int, int], sigma: float) -> Array:
        """Smooth noise of about unit variance, correlated over `sigma` voxels in-plane and half as many in depth."""
        sigmas = (sigma, sigma, 0.5 * sigma)
        # The variance that white noise keeps under a Gaussian, per axis; below 0.5 voxels the formula runs high.
        gain = math.prod(math.sqrt(2.0 * math.sqrt(math.pi) * max(s, 0.5)) for s in sigmas)
        return blur(self.bell(*shape), sigmas) * gain


def pick(grid: VoxelGrid, flat: NDArray[np.int64], draw: Draw) -> Point:
    """Position (mm) of one of the voxels with the flat indices `flat`."""
    x, y, z = np.unravel_index(int(flat[draw.integer(0, len(flat) - 1)]), grid.shape)
    return grid.point((int(x), int(y), int(z)))
