"""Chooses the encoder levels that an order prediction asks, and the slabs that follow from them.

LWI asks every level of the encoder (section 3.2.2), and its table VIII is best with all of them. Its own networks and patches
leave room for that. Elsewhere the deepest level may be so coarse that one of its slabs is thicker than half a training volume,
and then there is nothing to order. So the deepest levels are left out where all of them together leave no two slabs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from initbench.errors import UsageError
from initbench.protocols import Level

Levels = Mapping[int, Level]
"""Levels by their numbers from 1 (shallow)."""


@dataclass(frozen=True)
class Slabs:
    """The slabs that are shuffled, and the levels that are asked for their order.

    Attributes:
        levels: the levels that are asked.
        count: slabs of a patch.
        thickness: slices of a slab.
        left_out: numbers of the levels that are not asked because they leave no two slabs.
    """

    levels: Levels
    count: int
    thickness: int
    left_out: tuple[int, ...] = ()

    def summary(self) -> str:
        """Returns a line for people."""
        line = f"order of {self.count} slabs of {self.thickness} slices, asked on {_numbered(self.levels)}"
        if not self.left_out:
            return line
        return f"{line} ({_numbered(self.left_out)} left out, as all levels together leave no two slabs)"

    def details(self) -> dict[str, Any]:
        """Returns the same as JSON values."""
        return {
            "taps": list(self.levels),
            "taps_left_out": list(self.left_out),
            "slabs": self.count,
            "slab_slices": self.thickness,
        }


def choose_slabs(asked: Sequence[int] | None, levels: Sequence[Level], depth: int, volumes: Sequence[int] = ()) -> Slabs:
    """Chooses levels and slabs: the levels that the user names, or all, or as many as leave two slabs.

    All levels are asked where the deepest training volume holds two of their slabs; shallower volumes are then not drawn from.
    Otherwise the deepest levels are left out, one after the other, until two slabs fit into the shallowest volume. Where even the
    first level alone does not fit there, they are left out until two slabs fit into the deepest volume.

    Args:
        asked: numbers of levels from 1 (shallow); None where nobody names any.
        levels: of the encoder, shallow to deep.
        depth: slices of a patch.
        volumes: slices of each training volume; none where padding counts as image, so that every slab of a patch is whole.

    Raises:
        UsageError: a level that does not exist, or no two slabs; names what works.
    """
    if not levels:
        raise UsageError(
            "order prediction asks encoder levels, and the network declares none: declare them (Structure.levels), or "
            "take mae or tube"
        )
    every = dict(enumerate(levels, start=1))
    chosen = every
    if asked is not None:
        chosen = _named(asked, every)
    if _fit(chosen, depth, max(volumes, default=None)):
        return _slabs(chosen, depth)
    fitting = _as_many_as_fit(every, depth, volumes)
    if asked is None and fitting:
        left_out = tuple(number for number in every if number not in fitting)
        return _slabs(fitting, depth, left_out)
    raise _refusal(chosen, depth, volumes, fitting)


def slab_count(depth: int, levels: Levels) -> int:
    """Returns B, the largest common divisor of the depths of the patch and of all levels that are asked.

    Args:
        depth: slices of the patch.
        levels: that are asked.
    """
    count = depth
    for level in levels.values():
        count = math.gcd(count, level.grid[0])
    return count


def _named(numbers: Sequence[int], every: Levels) -> dict[int, Level]:
    """Returns the levels of some numbers, in the order of the numbers.

    Raises:
        UsageError: a number has no level, or comes twice.
    """
    wrong = [number for number in numbers if number not in every]
    if wrong:
        raise UsageError(f"taps {wrong}: the backbone has levels 1 to {len(every)} (shallow to deep)")
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"taps {list(numbers)}: name each level once")
    return {number: every[number] for number in numbers}


def _slabs(levels: Levels, depth: int, left_out: tuple[int, ...] = ()) -> Slabs:
    """Divides a patch of `depth` slices into the slabs of some levels."""
    count = slab_count(depth, levels)
    return Slabs(levels, count, depth // count, left_out)


def _fit(levels: Levels, depth: int, slices: int | None) -> bool:
    """Returns whether a patch has two slabs of these levels, and a volume holds two of them.

    Args:
        levels: that are asked.
        depth: slices of the patch.
        slices: of the volume; None where padding counts as image.
    """
    count = slab_count(depth, levels)
    return count >= 2 and (slices is None or 2 * (depth // count) <= slices)


def _as_many_as_fit(levels: Levels, depth: int, volumes: Sequence[int]) -> dict[int, Level]:
    """Leaves out as few deep levels as needed for two slabs; returns none where not even the first level gives two.

    Args:
        levels: all levels, shallow to deep.
        depth: slices of a patch.
        volumes: slices of each training volume.
    """
    for slices in (min(volumes, default=None), max(volumes, default=None)):
        kept = dict(levels)
        while kept and not _fit(kept, depth, slices):
            kept.popitem()
        if kept:
            return kept
    return {}


def _refusal(chosen: Levels, depth: int, volumes: Sequence[int], fitting: Levels) -> UsageError:
    """Returns an error that says why the chosen levels leave no two slabs, and what works.

    Args:
        chosen: the levels that do not fit.
        depth: slices of a patch.
        volumes: slices of each training volume, where they matter.
        fitting: levels that do fit, if there are any.
    """
    count = slab_count(depth, chosen)
    works = []
    if count < 2:
        found = [level.grid[0] for level in chosen.values()]
        why = f"has nothing to order: a patch of depth {depth} leaves the tapped levels {found} slices deep, so one slab"
        works += _patch_depths(chosen, depth, volumes)
    else:
        why = f"needs two slabs of {depth // count} slices inside a volume, and the deepest training volume has {max(volumes)}"
        works.append("Use a finer spacing along depth (--set preprocess.spacing=D,H,W).")
    if fitting:
        works.append(f"Tap the levels that can be divided, as in order(taps={tuple(fitting)})")
    return UsageError(f"order prediction {why}. {' '.join(works) or 'Choose another backbone'}")


def _patch_depths(levels: Levels, depth: int, volumes: Sequence[int]) -> list[str]:
    """Names patch depths that give two slabs and more, in a sentence; no sentence where a level does not divide the depth.

    Args:
        levels: that are asked; nnFormer of ACDC has some that do not divide the depth evenly.
        depth: slices of a patch.
        volumes: slices of each training volume.
    """
    stride = 1
    for level in levels.values():
        cells = level.grid[0]
        if depth % cells:
            return []
        stride = math.lcm(stride, depth // cells)
    if volumes and 2 * stride > max(volumes):
        return []
    return [f"Patch depths that work: {2 * stride}, {4 * stride}, {6 * stride}, ... (--set patch.size=D,H,W)."]


def _numbered(numbers: Levels | Sequence[int]) -> str:
    """Names levels by their numbers, for people."""
    listed = ", ".join(map(str, numbers))
    if len(numbers) == 1:
        return f"level {listed}"
    return f"levels {listed}"
