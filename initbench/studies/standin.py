"""Writes made-up volumes in place of a published data set that is not here, to measure how long a step and a case would take.

That depends on the network, the patch, the classes and the size of a volume, and not on what is in it. A stand-in has the ids of
the published split, all of them links to one volume, so its splits, subsets and numbers of cases are the published ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from initbench import cache
from initbench.datasets import split_tables

_CT = ("CT",)
_MR_OF_BRAINS = ("FLAIR", "T1w", "t1gd", "T2w")
_HOUNSFIELD = (-1000.0, 40.0, 20.0)  # of air and tissue, and the noise of tissue
_MAGNITUDE = (0.0, 400.0, 20.0)  # of an MR image without its skull: nothing outside of the brain
_EDGE = 12  # voxels in plane of what stands for an organ; a third of them through plane


@dataclass(frozen=True)
class Kind:
    """What a volume of a data set is like: voxels and mm by (x, y, z), classes with the background, and channels."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    classes: int
    channels: tuple[str, ...] = _CT

    def __str__(self) -> str:
        classes = "1 class" if self.classes == 2 else f"{self.classes - 1} classes"
        said = f"{_crossed(self.shape)} voxels of {_crossed(self.spacing)} mm, {classes}"
        if self.channels == _CT:
            return said
        return f"{said}, {len(self.channels)} channels"


def _crossed(values: Iterable[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)


# The median volumes that nnU-Net's plans for them are made of (initbench/recipes/synapse.toml and lung.toml have the spacings).
_ABDOMEN = Kind((512, 512, 148), (0.758, 0.758, 3.0), 14)
KINDS = {
    "synapse": _ABDOMEN,
    "synapse-8": replace(_ABDOMEN, classes=9),
    "btcv": _ABDOMEN,
    "lung": Kind((512, 512, 252), (0.785, 0.785, 1.245), 2),
    "brats": Kind((240, 240, 155), (1.0, 1.0, 1.0), 4, _MR_OF_BRAINS),  # the volumes of every year of BraTS
}


@contextlib.contextmanager
def stand_ins(names: Iterable[str]) -> Iterator[dict[str, str]]:
    """Gives folders of made-up volumes by the name of the data set they stand for, of those that are known.

    After the block they are gone, and so is what was preprocessed in it.
    """
    before = os.environ.get(cache.ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="initbench-") as folder:
        os.environ[cache.ENVIRONMENT] = f"{folder}/cache"
        try:
            written: dict[str, str] = {}
            for name in names:
                if name in KINDS:
                    written[name] = str(write(name, Path(folder) / name))
            yield written
        finally:
            os.environ.pop(cache.ENVIRONMENT)
            if before is not None:
                os.environ[cache.ENVIRONMENT] = before


def write(name: str, root: Path) -> Path:
    """Writes a Decathlon folder of one volume under every id of the data set's usual split, and returns it."""
    kind, split = KINDS[name], split_tables.published(name)[0]
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    affine = np.diag([*kind.spacing, 1.0])
    label = _label(kind)
    for file, array in ((root / "image.nii", _image(kind)), (root / "label.nii", label)):
        nibabel.save(nibabel.Nifti1Image(array, affine), file)
    training = []
    for case in sorted((*split["train"], *split["test"], *split.get("unused", ()))):
        (root / "imagesTr" / f"{case}.nii").symlink_to(root / "image.nii")
        (root / "labelsTr" / f"{case}.nii").symlink_to(root / "label.nii")
        training.append({"image": f"imagesTr/{case}.nii", "label": f"labelsTr/{case}.nii"})
    labels = {"0": "background"}
    for number in range(1, kind.classes):
        labels[str(number)] = f"class {number}"
    modality = {str(number): channel for number, channel in enumerate(kind.channels)}
    table = {"modality": modality, "labels": labels, "copies_meant": True, "training": training}
    (root / "dataset.json").write_text(json.dumps(table), "utf-8")
    return root


def _image(kind: Kind) -> NDArray[np.int16]:
    """Returns a cylinder of noisy tissue in air, as wide as a body is in its image; the same in every channel."""
    is_ct = kind.channels == _CT
    air, tissue, deviation = _HOUNSFIELD if is_ct else _MAGNITUDE
    x, y, z = kind.shape
    across = 2 * np.arange(x) / max(x - 1, 1) - 1
    along = 2 * np.arange(y) / max(y - 1, 1) - 1
    body = (across[:, None] / 0.9) ** 2 + (along / 0.7) ** 2 <= 1
    noise = np.random.default_rng(0).normal(tissue, deviation, (x, y, z)).astype(np.int16)
    noise[~body] = air
    if is_ct:
        return noise
    return np.stack([noise] * len(kind.channels), axis=-1)


def _label(kind: Kind) -> NDArray[np.uint8]:
    """Returns blocks along the middle of the body, one a class."""
    label = np.zeros(kind.shape, np.uint8)
    width, middle, depth = kind.shape[0], kind.shape[1] // 2, kind.shape[2]
    deep = max(1, _EDGE // 3)
    for number in range(1, kind.classes):
        share = number / kind.classes
        x, z = int(share * (width - _EDGE)), int(share * (depth - deep))
        label[x : x + _EDGE, middle : middle + _EDGE, z : z + deep] = number
    return label
