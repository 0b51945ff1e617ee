"""Writes small data sets in the Decathlon layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def affine_of(codes: str, spacing: Sequence[float], shape: Sequence[int]) -> NDArray[np.float64]:
    """The affine of an array whose axes point to `codes`, such as ``LPS``, with its centre at the origin."""
    axes = nibabel.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for native, (world, direction) in enumerate(axes):
        affine[int(world), native] = direction * spacing[native]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def write_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> None:
    """Writes an array with its own type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def write_table(root: Path, **table: Any) -> None:
    """Writes dataset.json."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(table), "utf-8")


def write_forms(
    path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64] | None, zooms: tuple[float, ...] | None = None
) -> None:
    """Writes the forms of a header as they are given, each by itself."""
    image = nibabel.load(path)
    again = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    again.set_qform(qform, code=0 if qform is None else 1, update_affine=False)
    again.set_sform(sform, code=1, update_affine=True)
    if zooms:
        again.header["pixdim"][1:4] = zooms
    nibabel.save(again, path)


def make_msd(
    root: Path,
    cases: int = 3,
    *,
    modality: str | Sequence[str] = "CT",
    classes: int = 2,
    orientations: Sequence[str] = ("RAS", "LPS", "PIR"),
    seed: int = 0,
    ids: Sequence[str] = (),
    shapes: Sequence[tuple[int, int, int]] = (),
) -> Path:
    """Writes a Decathlon folder of random volumes.

    Shape and spacing differ from case to case, and orientations take turns.

    Args:
        root: the folder, whose name is the name of the data set.
        cases: how many there are.
        modality: of each channel.
        classes: how many there are, with the background.
        orientations: such as ``LPS``, for the cases in turn.
        seed: of all random numbers.
        ids: of the cases; without them they are numbered.
        shapes: voxels of the arrays, for the cases in turn, whose spacing is then 1 mm; without them they are small and random.
    """
    rng = np.random.default_rng(seed)
    channels = [modality] if isinstance(modality, str) else list(modality)
    entries = []
    for i in range(cases):
        shape = tuple(int(n) for n in rng.integers(8, 14, 3))
        spacing = rng.uniform(0.8, 1.6, 3)
        if shapes:
            shape, spacing = shapes[i % len(shapes)], np.ones(3)
        affine = affine_of(orientations[i % len(orientations)], spacing, shape)
        label = rng.integers(0, classes, shape).astype(np.uint8)
        image = rng.normal(40 if modality == "CT" else 300, 80, (*shape, len(channels))).astype(np.float32)
        image += 60 * label[..., None]
        name = ids[i] if ids else f"case_{i:02d}"
        write_nifti(root / "imagesTr" / f"{name}.nii.gz", image if len(channels) > 1 else image[..., 0], affine)
        write_nifti(root / "labelsTr" / f"{name}.nii.gz", label, affine)
        entries.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    write_table(
        root,
        modality={str(i): name for i, name in enumerate(channels)},
        labels={str(k): "background" if k == 0 else f"part {k}" for k in range(classes)},
        licence="CC-BY-SA 4.0",
        training=entries,
        numTraining=cases,
    )
    return root


def make_noise(folder: Path, *, cases: int = 6, classes: int = 3) -> Path:
    """Writes random volumes as Task90_Noise below a folder and returns the folder of that data set.

    Args:
        folder: where the data set lies.
        cases: how many there are.
        classes: how many there are, with the background.
    """
    return make_msd(folder / "Task90_Noise", cases=cases, classes=classes)
