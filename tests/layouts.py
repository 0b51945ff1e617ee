"""Writes small data sets in the layouts that readers know: blobs of classes, grids that differ from case to case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.msd_factory import affine_of, write_nifti

ORIENTATIONS = ("RAS", "LPS", "PIR", "oblique")


def volume(index: int, classes: int, channels: int = 1) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Image ``(C, X, Y, Z)``, label and affine: a box of each class, brighter the higher its number."""
    rng = np.random.default_rng(index)
    shape = tuple(int(n) for n in rng.integers(12, 18, 3))
    spacing = rng.uniform(0.8, 1.6, 3)
    codes = ORIENTATIONS[index % len(ORIENTATIONS)]
    affine = oblique(spacing, shape) if codes == "oblique" else affine_of(codes, spacing, shape)
    label = np.zeros(shape, np.uint8)
    for k in range(1, classes):
        low = [int(rng.integers(0, n - 4)) for n in shape]
        label[low[0] : low[0] + 4, low[1] : low[1] + 4, low[2] : low[2] + 4] = k
    noise = rng.normal(0, 10, (channels, *shape))
    return (noise + 60 * label[None] + 20).astype(np.float32), label, affine


def oblique(spacing: Sequence[float], shape: Sequence[int], degrees: float = 20.0) -> NDArray[np.float64]:
    """Affine of a grid that is turned about all axes of the world."""
    a = np.deg2rad(degrees)
    turn = np.eye(3)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        step = np.eye(3)
        step[first, first] = step[second, second] = np.cos(a)
        step[first, second], step[second, first] = -np.sin(a), np.sin(a)
        turn = turn @ step
    affine = np.eye(4)
    affine[:3, :3] = turn * np.asarray(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def pair(image: Path, label: Path, index: int, classes: int) -> None:
    """An image of one channel and its label map."""
    voxels, labels, affine = volume(index, classes)
    write_nifti(image, voxels[0], affine)
    write_nifti(label, labels, affine)


def nnunet(
    root: Path,
    ids: Sequence[str],
    *,
    channels: Sequence[str] = ("CT",),
    labels: Mapping[str, int | list[int]] | None = None,
    ending: str = ".nii.gz",
    **table: Any,
) -> Path:
    """An nnU-Net v2 raw folder."""
    labels = labels or {"background": 0, "organ": 1, "tumour": 2}
    numbers = {n for value in labels.values() for n in (value if isinstance(value, list) else [value])}
    for index, case in enumerate(ids):
        voxels, label, affine = volume(index, len(numbers), len(channels))
        for channel in range(len(channels)):
            write_nifti(root / "imagesTr" / f"{case}_{channel:04d}{ending}", voxels[channel], affine)
        write_nifti(root / "labelsTr" / f"{case}{ending}", label, affine)
    base = {"channel_names": {str(i): name for i, name in enumerate(channels)}, "labels": labels, "file_ending": ending}
    (root / "dataset.json").write_text(json.dumps({**base, "numTraining": len(ids), **table}), "utf-8")
    return root


def synapse(root: Path, ids: Sequence[str], images: str, labels: str, prefix: str = "label") -> Path:
    """A Synapse download."""
    for index, case in enumerate(ids):
        number = case.removeprefix("img")
        pair(root / images / f"img{number}.nii.gz", root / labels / f"{prefix}{number}.nii.gz", index, 14)
    return root


def acdc(root: Path, ids: Sequence[str], below: str = "") -> Path:
    """An ACDC download."""
    for index, case in enumerate(ids):
        folder = root / below / case.partition("_")[0]
        pair(folder / f"{case}.nii.gz", folder / f"{case}_gt.nii.gz", index, 4)
    return root
