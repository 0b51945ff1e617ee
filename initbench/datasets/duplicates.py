"""Cases that are the same examination: equal voxels on equal grids, whatever their files are called and however they are packed.

A copy that was saved again differs in its bytes, so files do not tell. The voxels are compared as they are read, in one order of
axes, so that a copy whose axes were turned over is found, too. Where a volume lies in space is not compared: copies lose that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import io_orientation

from initbench.datasets.geometry import Axes
from initbench.datasets.grids import NOTED_APART
from initbench.datasets.tables import some
from initbench.errors import DataError
from initbench.protocols import Case, Grid, Spacing, Split

_REMEDY = "remove one of them, or state in patients.json that they are of one patient and divide with --split auto or --fold k/K"


@dataclass(frozen=True)
class Content:
    """What tells one examination from another.

    Attributes:
        voxels: sha256 of the image's voxels along the axes of the world, x first.
        shape: voxels along them.
        edges: of a voxel along them, in mm.
    """

    voxels: str
    shape: Grid
    edges: Spacing


def content_of(case: Case) -> Content:
    """Returns the content of a case's image."""
    world = io_orientation(case.affine)  # native axis -> (world axis, direction)
    x, y, z = np.argsort(world[:, 0]).tolist()
    axes = Axes((x, y, z), (bool(world[x, 1] < 0), bool(world[y, 1] < 0), bool(world[z, 1] < 0)))
    # 0 and -0 are one number with two patterns of bits: the sum makes both 0.
    image = np.add(axes.apply(case.image), np.float32(0), order="C")
    _, width, height, depth = image.shape
    return Content(hashlib.sha256(image.data).hexdigest(), (width, height, depth), axes.spacing(case.affine))


def equal_cases(contents: Mapping[str, Content]) -> list[tuple[str, ...]]:
    """Returns the groups of two or more cases that are one examination."""
    groups: list[list[str]] = []
    of_voxels: dict[tuple[str, Grid], list[list[str]]] = {}
    for case_id, content in contents.items():
        alike = of_voxels.setdefault((content.voxels, content.shape), [])
        for group in alike:
            if _same_edges(contents[group[0]], content):
                group.append(case_id)
                break
        else:
            group = [case_id]
            alike.append(group)
            groups.append(group)
    return [tuple(group) for group in groups if len(group) > 1]


def _same_edges(one: Content, other: Content) -> bool:
    """Returns whether voxels have one size: over the whole volume the difference adds up to less than `NOTED_APART` voxels."""
    growth = np.abs(np.array(other.edges) / np.array(one.edges) - 1) * np.array(one.shape)
    return bool(growth.max() <= NOTED_APART)


def across(groups: list[tuple[str, ...]], split: Split) -> list[tuple[str, ...]]:
    """Returns the groups with a case on either side of a split."""
    train, test = set(split.train), set(split.test)
    return [group for group in groups if train & set(group) and test & set(group)]


def trained_and_reported(name: str, group: tuple[str, ...], split: Split) -> str:
    """Says what is wrong with a split that has an examination on both sides.

    Args:
        name: of the data set.
        group: ids of cases that are one examination, some of them on either side.
        split: the split.
    """
    train = [case for case in group if case in split.train]
    test = [case for case in group if case in split.test]
    return (
        f"{name}: split {split.name} trains on {some(train)} and reports {some(test)}, which have equal voxels on equal grids: "
        f"it would report what it trained on; {_REMEDY}"
    )


def counted_twice(group: tuple[str, ...]) -> str:
    """Says that copies on one side of a split count as several examinations."""
    return f"cases {some(group)} have equal voxels on equal grids, so one examination counts {len(group)} times"


def check_copies(name: str, contents: Mapping[str, Content], split: Split) -> list[str]:
    """Warns of copies within a side of a split, and refuses copies on both sides.

    Args:
        name: of the data set, for messages.
        contents: of the cases of the split.
        split: whose sides must share no examination.

    Raises:
        DataError: an examination is on both sides; names the cases.
    """
    groups = equal_cases(contents)
    for group in across(groups, split):
        raise DataError(trained_and_reported(name, group, split))
    return [counted_twice(group) for group in groups]
