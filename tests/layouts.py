"""Writes small data sets in the layouts that readers know: blobs of classes, grids that differ from case to case."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.dicom_factory import dicom_series, ground
from tests.msd_factory import affine_of, write_nifti, write_table

ORIENTATIONS = ("RAS", "LPS", "PIR", "oblique")


def volume(index: int, classes: int, channels: int = 1) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """A random volume: image ``(C, X, Y, Z)``, label map and affine.

    It has a box of each class, which is brighter the higher the number of the class.

    Args:
        index: seeds the numbers and picks the orientation.
        classes: how many there are, with the background.
        channels: of the image.
    """
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
    """The affine of a grid that is turned by some degrees about all axes of the world; `spacing` in mm, `shape` in voxels."""
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
    """Writes an image of one channel and its label map to two files; `index` and `classes` are what `volume` takes."""
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
    """Writes an nnU-Net v2 raw folder.

    Args:
        root: the folder.
        ids: of the cases.
        channels: their names.
        labels: numbers of labels by name, several for a region.
        ending: of the volumes' files.
        table: entries of dataset.json that are added or changed.
    """
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


def prescribed(
    root: Path,
    ids: Sequence[str],
    reported: Sequence[str] = (),
    *,
    channels: Sequence[str] = ("CT",),
    labels: Sequence[str],
    masks: Callable[[str], str] = str,
) -> Path:
    """Writes a Decathlon folder as nnFormer and UNETR++ ask for it: the table lists reported cases without their labels.

    Args:
        ids: of the training cases.
        reported: of the reported cases.
        masks: gives the name of a case's label map.
    """
    for index, case in enumerate((*ids, *reported)):
        kind = "Ts" if case in reported else "Tr"
        voxels, label, affine = volume(index, len(labels), len(channels))
        write_nifti(root / f"images{kind}" / f"{case}.nii.gz", np.moveaxis(voxels, 0, -1).squeeze(), affine)
        write_nifti(root / f"labels{kind}" / f"{masks(case)}.nii.gz", label, affine)
    write_table(
        root,
        modality=dict(enumerate(channels)),
        labels=dict(enumerate(labels)),
        training=[{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{masks(case)}.nii.gz"} for case in ids],
        test=[f"./imagesTs/{case}.nii.gz" for case in reported],
        numTraining=len(ids),
        numTest=len(reported),
    )
    return root


def synapse(root: Path, ids: Sequence[str], images: str, labels: str, prefix: str = "label") -> Path:
    """Writes a Synapse download.

    Args:
        root: the folder.
        ids: of the cases, such as img0001.
        images: the folder of the images below `root`.
        labels: the folder of the label maps.
        prefix: of the label maps' names, before the number.
    """
    for index, case in enumerate(ids):
        number = case.removeprefix("img")
        pair(root / images / f"img{number}.nii.gz", root / labels / f"{prefix}{number}.nii.gz", index, 14)
    return root


def acdc(root: Path, ids: Sequence[str], below: str = "") -> Path:
    """Writes an ACDC download of the cases `ids`, in a folder `below` the root."""
    for index, case in enumerate(ids):
        folder = root / below / case.partition("_")[0]
        pair(folder / f"{case}.nii.gz", folder / f"{case}_gt.nii.gz", index, 4)
    return root


CHAOS_GREYS = (0, 63, 126, 189, 252)


def chaos(root: Path, numbers: Sequence[int], *, part: str = "T2SPIR") -> Path:
    """Writes a CHAOS download.

    Names of slices count downwards on CT and upwards on MR; the two phases of T1-DUAL take turns.

    Args:
        root: the folder.
        numbers: of the patients.
        part: CT, T1DUAL or T2SPIR.
    """
    for number in numbers:
        image, label, affine = volume(number, 2 if part == "CT" else 5, 2)
        folder = root / ("CT" if part == "CT" else "MR") / str(number) / ("" if part == "CT" else part)
        slices = range(label.shape[2])
        if part == "CT":
            names = [f"i{k:04d},0000b" for k in reversed(slices)]
            dicom_series(folder / "DICOM_anon", names, image[0], affine)
            ground(folder / "Ground", [f"liver_GT_{k:03d}" for k in reversed(slices)], np.array([0, 255])[label], bits=True)
            continue
        phases = ("InPhase", "OutPhase") if part == "T1DUAL" else ("",)
        for channel, phase in enumerate(phases):
            names = [f"IMG-0004-{len(phases) * (k + 1) - channel:05d}" for k in slices]
            dicom_series(folder / "DICOM_anon" / phase, names, image[channel], affine)
        names = [f"IMG-0004-{len(phases) * (k + 1):05d}" for k in slices]
        ground(folder / "Ground", names, np.array(CHAOS_GREYS)[label])
    return root


def camus(
    root: Path,
    patients: Sequence[int],
    *,
    shape: tuple[int, int] = (21, 15),
    frames: int = 12,
    split: Sequence[Sequence[int]] = (),
    pixel: tuple[float, float] = (0.308, 0.154),
) -> Path:
    """Writes a CAMUS release: a bright ventricle in a wall, an atrium below it, that grow from frame to frame.

    Args:
        root: the folder.
        patients: their numbers.
        shape: of a frame.
        frames: in a half sequence.
        split: numbers of the training, validation and test patients.
        pixel: its edges in mm.
    """
    for number in patients:
        for view in ("2CH", "4CH"):
            name = f"patient{number:04d}_{view}"
            image, label = _heart(shape, frames, number)
            affine = np.diag([-pixel[0], -pixel[1], 1.0, 1.0])  # as ITK writes what has no place in space
            for ending, voxels in (("half_sequence", image), ("half_sequence_gt", label), ("ED", image[..., 0])):
                write_nifti(root / "database_nifti" / name[:11] / f"{name}_{ending}.nii.gz", voxels, affine)
    for side, numbers in zip(("training", "validation", "testing"), split, strict=False):
        path = root / "database_split" / f"subgroup_{side}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"patient{number:04d}\n" for number in numbers), "utf-8")
    return root


def _heart(shape: tuple[int, int], frames: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    label = np.zeros((*shape, frames), np.uint8)
    for t in range(frames):
        size = 0.8 + 0.2 * t / frames
        ventricle = np.hypot(x / 0.5, (y + 0.2) / 0.6)
        label[..., t][ventricle < 1.3 * size] = 2
        label[..., t][ventricle < size] = 1
        label[..., t][(np.hypot(x / 0.4, (y - 0.75) / 0.25) < 1) & (label[..., t] == 0)] = 3
    noise = np.random.default_rng(seed).normal(0, 12, label.shape)
    return np.clip(np.array([30, 60, 160, 90])[label] + noise, 0, 255).astype(np.uint8), label
