"""CHAOS: abdominal organs of healthy people on MR (four organs) or CT (liver), converted to NIfTI.

Source: Kavur et al., Medical Image Analysis 69, 2021. The download is DICOM with PNG label stacks. No dependency reads DICOM,
and slice order and position of the stacks follow from it, so the reader takes converted copies alone and says how to make one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from initbench.data import msd, nnunet
from initbench.data.folder import FolderDataset, find
from initbench.data.known import REGISTERED


def chaos(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """A converted CHAOS folder; modality and classes are those of its dataset.json."""
    known = REGISTERED["chaos"]
    readers = (nnunet.recognized, msd.recognized)
    root, layout = find("chaos", known.folders, readers, known.how, data_root, search)
    return FolderDataset(root, "chaos", layout)
