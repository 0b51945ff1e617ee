"""ACDC: cine MR of 100 hearts, two labelled frames each (end of diastole and of systole).

Source: Bernard et al., IEEE TMI 37(11), 2018. Patients 101 to 150 are the challenge's own test set: no published split of the
networks here knows them, so they are left out.
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

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
# Numbers of the classes by the names in tables of others. Other heart data sets number the left ventricle 1.
_NUMBERS = {
    **dict.fromkeys(("rv", "right ventricle", "right ventricular cavity", "the right ventricular cavity"), 1),
    **dict.fromkeys(("myo", "mlv", "myocardium"), 2),
    **dict.fromkeys(("lv", "lvc", "left ventricle", "left ventricular cavity", "the left ventricular cavity"), 3),
}
PATIENTS = 100
_FRAME = re.compile(r"(patient(\d{3}))_frame\d{2}")
_ABOVE = ("", "training/", "testing/", "database/", "database/training/", "database/testing/")


def raw(root: Path) -> FolderLayout | None:
    """Reads the layout of the download; None where there is no patient.

    Raises:
        DataError: a frame has no label map, or is there twice.
    """
    images: list[Path] = []
    for above in _ABOVE:
        frames = nifti.named(root, f"{above}patient[0-9][0-9][0-9]/patient*_frame[0-9][0-9]")
        images += [path for path in frames if _labelled(nifti.stem(path.name))]
    if not images:
        return None
    files: dict[str, Files] = {}
    for case, path in one_a_case(images, lambda path: nifti.stem(path.name)).items():
        files[case] = Files((nifti.File(path),), nifti.File(path.with_name(path.name.replace(case, f"{case}_gt"))))
    check_files(root, files, "Every frame NAME.nii.gz has its labels in NAME_gt.nii.gz: complete the download")
    return FolderLayout(("cine MR",), CLASSES, REGISTERED["acdc"].licence, files, said_by="the ACDC layout")


def _labelled(name: str) -> bool:
    match = _FRAME.fullmatch(name)
    return match is not None and 1 <= int(match[2]) <= PATIENTS


def _tabled(root: Path) -> FolderLayout | None:
    layout = nnunet.recognized(root) or msd.with_reported(root)
    if layout is None:
        return None
    if len(layout.classes) != len(CLASSES) or len(layout.channels) != 1:
        raise DataError(
            f"{root / 'dataset.json'}: ACDC has one channel and {len(CLASSES) - 1} classes, here are {len(layout.channels)} and "
            f"{len(layout.classes) - 1}. {AS_IT_IS}"
        )
    check_order(root / "dataset.json", layout.classes, _NUMBERS)
    strange = sorted(case for case in layout.files if not _FRAME.fullmatch(case))
    if strange:
        raise DataError(f"{root}: {', '.join(strange[:5])}: a case of ACDC is patientNNN_frameNN. {AS_IT_IS}")
    kept = {case: files for case, files in layout.files.items() if _labelled(case)}
    return replace(layout, classes=CLASSES, files=kept)


def patient(case_id: str) -> str:
    """Returns the patient whose heart a frame shows."""
    return case_id.partition("_")[0]


def acdc(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens the 100 patients, 70 to train on, 10 left out, 20 reported, as nnFormer does."""
    known = REGISTERED["acdc"]
    root, layout = find("acdc", known.folders, (raw, _tabled), known.how, data_root, search)
    return FolderDataset(root, "acdc", layout, group=patient)
