"""Small data sets in other people's layouts: their case ids, classes and changes to their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import layouts

SYNAPSE = ("img0005", "img0006", "img0001")
ACDC = ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame12")


def change(folder: Path, **values: Any) -> None:
    """Changes entries of the dataset.json in a folder."""
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


MODALITIES = ("FLAIR", "T1w", "t1gd", "T2w")
TUMOURS: dict[str, int | list[int]] = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
REGIONS = {"whole tumour": (1, 2, 3), "tumour core": (2, 3), "enhancing tumour": (3,)}


def brats(root: Path, ids: tuple[str, ...] = ("BRATS_001", "BRATS_058")) -> Path:
    """Writes an nnU-Net folder of brain tumours with four channels and three labels."""
    return layouts.nnunet(root / "Dataset001_BrainTumour", ids, channels=MODALITIES, labels=TUMOURS)
