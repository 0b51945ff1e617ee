"""Synapse and BTCV: two names of one set, 30 abdominal CTs with 13 organs, of which papers use several splits.

Source: Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault (2015), synapse.org syn3193805. Networks are
trained on all 13 organs; the tables of TransUNet and its successors report 8 of them (``--classes synapse-8``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from initbench.datasets import msd, nnunet
from initbench.datasets.files import nifti
from initbench.datasets.folder import AS_IT_IS, Files, FolderDataset, FolderLayout, check_files, check_order, find, one_a_case
from initbench.datasets.known import REGISTERED
from initbench.errors import DataError

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
_FOLDERS = (
    ("averaged-training-images", "averaged-training-labels"),
    *((f"{above}Training/img", f"{above}Training/label") for above in ("", "RawData/", "Abdomen/RawData/")),
    ("img", "label"),
    ("imagesTr", "labelsTr"),
)
_NUMBER = re.compile(r"(?:img|label)(\d{4})")


def raw(root: Path) -> FolderLayout | None:
    """The download as it is: images and labels that share a number; None where there are no such folders.

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
    found = (path for ending in nifti.ENDINGS for path in folder.glob(f"{kind}*{ending}"))
    return sorted(path for path in found if _NUMBER.fullmatch(nifti.stem(path.name)))


def _id(path: Path) -> str:
    match = _NUMBER.fullmatch(nifti.stem(path.name))
    assert match  # noqa: S101 - `_numbered` gives no other
    return f"img{match[1]}"


def _tabled(root: Path) -> FolderLayout | None:
    """A converted copy with the organs of the set, whatever it calls them."""
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


def _open(name: str, data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    known = REGISTERED[name]
    root, layout = find(name, known.folders, (raw, _tabled), known.how, data_root, search)
    return FolderDataset(root, name, layout)


def synapse(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """The 30 scans, split 18/12 as TransUNet and its successors do."""
    return _open("synapse", data_root, search)


def btcv(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """The same 30 scans, split 24/6 as MONAI's UNETR and Swin-UNETR do."""
    return _open("btcv", data_root, search)
