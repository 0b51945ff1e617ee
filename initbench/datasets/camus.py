"""CAMUS: ultrasound of 500 hearts in two views each, from end of diastole to end of systole, labelled in every frame.

Source: Leclerc et al., IEEE TMI 38(9), 2019; the NIfTI release (``database_nifti``, ``database_split``). A case is the half
sequence of a view, a stack of about 19 frames with time as the third axis; the single frames of the end of diastole and of
systole are in it, and are not read. Both views of a patient are on one side of every split.

Time has no mm. The release writes 1.0 there, which is three times a pixel of 0.3 mm in one file and less than that in another.
Here frames lie `FRAME_MM` apart in every case, because then

- time is the coarsest axis by far, and so D, whatever the pixels are (`geometry.choose_depth`);
- resampling to the median spacing never makes frames of frames: the median of a constant is the constant;
- a planned patch grows in plane first, and along time no further than it has to (`planning.patch_for`);
- the nearest point of a surface is mostly one of its own frame, so distances are of frames;
- millilitres are areas: the sum over frames of an area in cm².

Predictions are saved with this step, so a viewer has to be told where it lays them over the original.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from initbench.datasets.files import nifti
from initbench.datasets.folder import (
    Files,
    FolderDataset,
    FolderLayout,
    check_files,
    find,
    folder_name,
    subfolders,
    without_singletons,
)
from initbench.datasets.known import REGISTERED
from initbench.errors import DataError
from initbench.protocols import Split

CLASSES = ("background", "left ventricle", "myocardium", "left atrium")
FRAME_MM = 10.0  # more than three times the pixel of any case, so that time is the axis D
VIEWS = ("2CH", "4CH")
_ABOVE = ("", "database_nifti", "CAMUS_public/database_nifti")
_PATIENT = re.compile(r"patient[0-9]{4}")


@dataclass(frozen=True)
class Frames:
    """A stack of frames in one NIfTI file, or their labels."""

    path: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def read(self, case_id: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Reads voxels and affine, as `read_with_header` does."""
        voxels, affine, _ = self.read_with_header(case_id)
        return voxels, affine

    def read_with_header(self, case_id: str) -> nifti.Read:
        """Reads a stack as `nifti.read_with_header` does, and puts its frames `FRAME_MM` apart.

        Raises:
            DataError: the file cannot be read, or it holds a single frame.
        """
        voxels, affine, header = nifti.read_with_header(case_id, self.path)
        voxels = without_singletons(voxels)
        if voxels.ndim != 3 or voxels.shape[2] < 2:
            raise DataError(
                f"case {case_id}: {self.path} has shape {voxels.shape}, and a half sequence is a stack of frames; "
                "download it again"
            )
        affine[:3, 2] *= FRAME_MM / np.linalg.norm(affine[:3, 2])
        return voxels, affine, header

    def unit_mm(self) -> float:
        """Returns the millimetres in the unit of the file's lengths."""
        return nifti.unit_of(self.path)

    def __str__(self) -> str:
        return str(self.path)


def raw(root: Path) -> FolderLayout | None:
    """Reads the layout of a folder of half sequences; None where there is no patient.

    Raises:
        DataError: a sequence has no labels, or is there twice.
    """
    files: dict[str, Files] = {}
    for folder in _patients(root):
        for case, image in _sequences(folder):
            if case in files:
                raise DataError(f"{root}: {case} is there twice ({files[case].images[0]}, {image}); remove one")
            label = image.with_name(image.name.replace("_half_sequence", "_half_sequence_gt"))
            files[case] = Files((Frames(image),), Frames(label))
    if not files:
        return None
    check_files(
        root, files, "Every NAME_half_sequence.nii.gz has its labels in NAME_half_sequence_gt.nii.gz: complete the download"
    )
    licence = REGISTERED["camus"].licence
    return FolderLayout(("ultrasound",), CLASSES, licence, files, said_by="the CAMUS layout", modality="US")


def _patients(root: Path) -> list[Path]:
    found: list[Path] = []
    for above in _ABOVE:
        found += [folder for folder in subfolders(root / above) if _PATIENT.fullmatch(folder.name)]
    return found


def _sequences(folder: Path) -> list[tuple[str, Path]]:
    """Returns case ids and images of a patient."""
    found = []
    for view in VIEWS:
        case = f"{folder.name}_{view}"
        for ending in nifti.ENDINGS:
            image = folder / f"{case}_half_sequence{ending}"
            if image.is_file():
                found.append((case, image))
    return found


def published(root: Path) -> tuple[Split, ...]:
    """Reads the split of ``database_split``, which it names after its sizes in patients; none where there is no such folder.

    Patients of the validation are on neither side: in the papers they choose a checkpoint, and here the last one is scored.

    Raises:
        DataError: a list is missing, names what is no patient, or shares patients with another.
    """
    places = [root, root / "CAMUS_public"]
    if folder_name(root) == "database_nifti":
        places.append(root.parent)
    for place in places:
        folder = place / "database_split"
        if folder.is_dir():
            return (_split(folder),)
    return ()


def _split(folder: Path) -> Split:
    train = _listed(folder / "subgroup_training.txt")
    unused = _listed(folder / "subgroup_validation.txt")
    test = _listed(folder / "subgroup_testing.txt")
    twice = sorted((train & test) | (train & unused) | (unused & test))
    if twice:
        raise DataError(f"{folder}: {', '.join(twice[:5])} in two of the lists; a patient is in one: download the folder again")
    name = f"camus-{len(train)}/{len(unused)}/{len(test)}"
    return Split(name, _cases(train), _cases(test), _cases(unused))


def _listed(path: Path) -> set[str]:
    try:
        lines = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); complete the download, or remove its folder") from None
    strange = [line for line in lines if not _PATIENT.fullmatch(line)]
    if strange:
        raise DataError(
            f"{path}: {strange[0]!r:.60} is no patient, as patient0001 is; complete the download, or remove its folder"
        )
    if not lines:
        raise DataError(f"{path} is empty; complete the download, or remove its folder")
    return set(lines)


def _cases(patients: set[str]) -> tuple[str, ...]:
    found: list[str] = []
    for name in sorted(patients):
        found += [f"{name}_{view}" for view in VIEWS]
    return tuple(found)


def patient(case_id: str) -> str:
    """Returns the patient whose heart a view shows."""
    return case_id.partition("_")[0]


def camus(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens the two views of each heart, split 400/50/50 by patient where the lists are beside them."""
    known = REGISTERED["camus"]
    root, layout = find("camus", known.folders, (raw,), known.how, data_root, search)
    return FolderDataset(root, "camus", layout, published(root), group=patient)
