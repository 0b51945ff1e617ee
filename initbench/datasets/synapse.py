"""Synapse and BTCV: names of one set, 30 abdominal CTs with 13 organs, of which papers use several splits.

Source: Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault (2015), synapse.org syn3193805. Networks of volumes
are trained on all 13 organs; the tables of TransUNet and its successors report 8 of them (``--classes synapse-8``). TransUNet,
Swin-Unet and MISSFormer are also trained on these 8 alone, with the others in the background (`synapse-8`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from initbench import digest
from initbench.datasets import msd, nnunet
from initbench.datasets.files import nifti
from initbench.datasets.folder import AS_IT_IS, Files, FolderDataset, FolderLayout, check_files, check_order, find, one_a_case
from initbench.datasets.known import REGISTERED
from initbench.errors import DataError
from initbench.protocols import Case

ORGANS = (
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal vein and splenic vein",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
EIGHT = ("spleen", "right kidney", "left kidney", "gallbladder", "liver", "stomach", "aorta", "pancreas")
"""The organs of TransUNet's tables (Chen et al. 2021, arXiv:2102.04306, table 1)."""
_FOLDERS = (
    ("averaged-training-images", "averaged-training-labels"),
    ("Training/img", "Training/label"),
    ("RawData/Training/img", "RawData/Training/label"),
    ("Abdomen/RawData/Training/img", "Abdomen/RawData/Training/label"),
    ("img", "label"),
    ("imagesTr", "labelsTr"),
)
_NUMBER = re.compile(r"(?:img|label)(\d{4})")


def raw(root: Path) -> FolderLayout | None:
    """Reads the layout of the download, by the numbers that images and labels share; None where it has no such folders.

    Raises:
        DataError: an image has no label, a case has two files of a kind, or a dataset.json has other organs.
    """
    for images, labels in _FOLDERS:
        found = one_a_case(_numbered(root / images, "img"), _id)
        # MONAI's copy has label0001 in labelsTr/, other copies img0001.
        masks = one_a_case([*_numbered(root / labels, "img"), *_numbered(root / labels, "label")], _id)
        if not found or not masks:
            continue
        alone = sorted(set(found) ^ set(masks))
        if alone:
            raise DataError(
                f"{root}: {', '.join(alone[:5])} without image or without label in {images}/ and {labels}/; complete the download"
            )
        if images == "imagesTr":
            _check_announced(root)
        files = {case: Files((nifti.File(path),), nifti.File(masks[case])) for case, path in found.items()}
        check_files(root, files)
        return FolderLayout(("CT",), ORGANS, REGISTERED["synapse"].licence, files, said_by="the Synapse layout")
    return None


def _numbered(folder: Path, kind: str) -> list[Path]:
    return sorted(path for path in nifti.named(folder, f"{kind}*") if _NUMBER.fullmatch(nifti.stem(path.name)))


def _id(path: Path) -> str:
    match = _NUMBER.fullmatch(nifti.stem(path.name))
    assert match  # noqa: S101 - `_numbered` gives no other
    return f"img{match[1]}"


def _tabled(root: Path) -> FolderLayout | None:
    """Reads the layout of a converted copy with the organs of the set, whatever names it has for them."""
    layout = nnunet.recognized(root) or msd.recognized(root)
    if layout is None:
        return None
    _check_fits(root / "dataset.json", layout.channels, layout.classes)
    return replace(layout, channels=("CT",), classes=ORGANS)


def _check_announced(root: Path) -> None:
    """Refuses other organs under these names of files, as the eight of TransUNet numbered anew."""
    said = msd.announced(root)
    if said is not None:
        _check_fits(root / "dataset.json", *said)


def _check_fits(table: Path, channels: Sequence[str], classes: Sequence[str]) -> None:
    if len(classes) != len(ORGANS) or len(channels) != 1:
        raise DataError(
            f"{table}: Synapse has one channel and {len(ORGANS) - 1} organs, here are {len(channels)} and {len(classes) - 1}. "
            f"{AS_IT_IS}"
        )
    check_order(table, classes, {name: number for number, name in enumerate(ORGANS)})


class OrgansDataset(FolderDataset):
    """The scans with the labels of some organs; the others are background.

    Args:
        organs: names among `ORGANS`, in the order of their numbers.
    """

    def __init__(self, root: Path, name: str, layout: FolderLayout, organs: Sequence[str]) -> None:
        self._whole = FolderDataset(root, name, layout)
        super().__init__(root, name, replace(layout, classes=(ORGANS[0], *organs)))
        self._numbers = np.zeros(len(ORGANS), np.uint8)
        for number, organ in enumerate(organs, start=1):
            self._numbers[ORGANS.index(organ)] = number

    def load(self, case_id: str) -> Case:
        """Reads and checks one case with all of its organs, and renumbers them."""
        case = self._whole.load(case_id)
        return replace(case, label=self._numbers[case.label])

    def digest(self, case_id: str) -> str:
        """Returns the digest of the files and of the organs, because the same files give other labels here."""
        return digest.of_json([super().digest(case_id), self.classes])


def _find(name: str, data_root: Path | None, search: Sequence[Path]) -> tuple[Path, FolderLayout]:
    known = REGISTERED[name]
    return find(name, known.folders, (raw, _tabled), known.how, data_root, search)


def _open(name: str, data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    root, layout = _find(name, data_root, search)
    return FolderDataset(root, name, layout)


def synapse(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens the 30 scans, split 18/12 as TransUNet and its successors do."""
    return _open("synapse", data_root, search)


def synapse_8(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens the 30 scans with the eight organs of TransUNet's tables, split 18/12 as there."""
    root, layout = _find("synapse-8", data_root, search)
    return OrgansDataset(root, "synapse-8", layout, EIGHT)


def btcv(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens the same 30 scans, split 24/6 as MONAI's UNETR and Swin-UNETR do."""
    return _open("btcv", data_root, search)
