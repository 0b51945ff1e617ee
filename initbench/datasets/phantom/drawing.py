"""What the phantom is drawn with: random numbers, the voxel grid of a case, and shapes on it.

A shape is an array of signed distances in mm to its border, negative inside, over the whole volume.

Every machine has to draw the same bytes. So random numbers are raw words of a Philox counter, which NumPy promises to keep (it
does not promise to keep its distributions), and shapes are made of +, -, *, / and square roots, which IEEE 754 rounds in one way.
Only the weights of Gaussian filters may differ in the last bit, and HU are rounded to whole numbers after the filters.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Draw:
    """The random numbers of one case."""

    def __init__(self, case_id: str) -> None:
        key = int.from_bytes(hashlib.sha256(case_id.encode()).digest()[:16], "little")
        self._bits = np.random.Philox(key=key)

    def uniform(self, low: float, high: float) -> float:
        """Draws a number in ``[low, high)``."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """Draws a whole number from `low` to `high`, both included."""
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def noise(self, shape: tuple[int, ...]) -> Array:
        """Draws bell-shaped numbers of mean 0 and variance 1: each is the exact sum of four uniform 16-bit numbers."""
        words = np.asarray(self._bits.random_raw(math.prod(shape)), dtype=np.uint64)
        total = words.view(np.uint16).reshape(*shape, 4).sum(axis=-1, dtype=np.int64)
        return np.asarray((total - 131070) * (math.sqrt(3.0) / 65536.0))

    def texture(self, shape: tuple[int, ...], sigma: float) -> Array:
        """Draws noise of variance 1, or nearly so, that is smooth over `sigma` voxels."""
        shrinkage = math.sqrt(2.0 * math.sqrt(math.pi) * sigma) ** 3  # a Gaussian filter divides the SD of white noise by it
        return np.asarray(smoothed(self.noise(shape), sigma) * shrinkage)


class Grid:
    """The voxels of one case. Positions are in mm from the middle of the volume: x to the patient's right, y forward, z up."""

    def __init__(self, draw: Draw) -> None:
        # At the median spacing, too, each case has more than 64 slices: the deepest order pretexts need two slabs of 32.
        self.shape = (draw.integer(72, 80), draw.integer(72, 80), draw.integer(68, 74))
        in_plane = draw.uniform(3.2, 3.5)
        self.spacing: Array = np.array([in_plane, in_plane, draw.uniform(4.2, 4.6)])
        self.half: Array = 0.5 * (np.array(self.shape) - 1) * self.spacing  # from the middle to the last voxel
        index = np.ogrid[: self.shape[0], : self.shape[1], : self.shape[2]]
        self.x: Array = index[0] * self.spacing[0] - self.half[0]
        self.y: Array = index[1] * self.spacing[1] - self.half[1]
        self.z: Array = index[2] * self.spacing[2] - self.half[2]

    def choose(self, mask: NDArray[np.bool_], draw: Draw) -> Array:
        """Draws one voxel of a mask and returns its position ``(3,)``."""
        voxels = np.argwhere(mask)
        return np.asarray(voxels[draw.integer(0, len(voxels) - 1)] * self.spacing - self.half)

    def ellipsoid(self, centre: Array | tuple[float, ...], radii: tuple[Array | float, ...]) -> Array:
        """Returns an ellipsoid, with distances to first order. An infinite radius makes it a column along that axis."""
        value, slope = np.full(self.shape, -1.0), np.full(self.shape, 1e-12)
        for axis, middle, radius in zip((self.x, self.y, self.z), centre, radii, strict=True):
            scaled = (axis - middle) / radius
            value += scaled**2
            slope += (scaled / radius) ** 2
        # The slope vanishes at the centre; a point there only has to be far inside.
        return np.asarray(np.maximum(value / (2.0 * np.sqrt(slope)), -60.0))

    def paint(self, hu: Array, shape: Array, value: float | Array, opacity: float | Array = 1.0) -> None:
        """Paints the inside of a shape with `value`, in place. A voxel that the border cuts is mixed, as in a scanner."""
        inside = np.clip(0.5 - shape / self.spacing[0], 0.0, 1.0)
        hu += inside * opacity * (value - hu)

    def filled(self, points: Array, volumes: Array) -> Array:
        """Returns the share of each voxel, 0 to 1, that drops of these volumes (mm3, ``(N,)``) at points ``(N, 3)`` fill."""
        index = np.rint((points + self.half) / self.spacing).astype(np.int64)
        flat = np.ravel_multi_index(tuple(index.T), self.shape)
        total = np.bincount(flat, volumes, math.prod(self.shape)).reshape(self.shape)
        return np.minimum(smoothed(total / math.prod(self.spacing), 0.6), 1.0)


def smoothed(volume: Array, sigma: float) -> Array:
    """Returns a volume after a Gaussian filter of `sigma` voxels."""
    from scipy import ndimage  # takes long to import, and what was drawn and prepared before needs none of it

    return np.asarray(ndimage.gaussian_filter(volume, sigma))


def common(*shapes: Array) -> Array:
    """Returns the part that all shapes have in common."""
    return np.asarray(np.maximum.reduce(np.broadcast_arrays(*shapes)))
