"""CHAOS: abdominal organs of healthy people, on MR in two sequences (four organs) and on CT of others (liver).

Source: Kavur et al., Medical Image Analysis 69, 2021. The download is read as it is, DICOM slices with PNG label maps, and so are
converted copies. Which data set is which part of it:

- ``chaos``: MR T2-SPIR, what the papers call CHAOS where they train on one sequence
  (cheng-01037/Self-supervised-Fewshot-Medical-Image-Segmentation@1365ec0:data/CHAOST2), or a converted copy, whatever it holds;
- ``chaos-t1``: MR T1-DUAL with its two phases as channels, in phase first
  (MIC-DKFZ/nnUNet@2926118:nnunet/dataset_conversion/Task037_038_Chaos_Challenge.py, variant 1);
- ``chaos-ct``: CT, the liver.

Label maps belong to slices in the order of the names of both: "the orientation of the slices is determined by order of image
names NOT by position tags" (emrekavur/CHAOS-evaluation@1db9484:Python/CHAOSmetrics.py, by the organizers; nnU-Net's conversion
does the same). Names of CT count from the head down, so in a volume that grows upwards both are reversed together: converters
that sort slices alone have to reverse the label maps (jonasteuwen/chaos-challenge@0a679f4:build_chaos_dataset.py). On the CT that
comes with the organizers' code (Data_3D) the liver has 141 HU by names and 36 HU against them. Grey values are the challenge's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from initbench.datasets import msd, nnunet
from initbench.datasets.files import png
from initbench.datasets.files.dicom import Placed, Series, by_number
from initbench.datasets.folder import Files, FolderDataset, FolderLayout, Reader, find, subfolders
from initbench.datasets.known import REGISTERED
from initbench.errors import DataError
from initbench.limits import check_memory

Greys = tuple[tuple[int, int], ...]  # of each class from 1 on: the least and the most

_ORGANS = ("background", "liver", "right kidney", "left kidney", "spleen")
_ORGAN_GREYS = ((55, 70), (110, 135), (175, 200), (240, 255))  # drawn as 63, 126, 189 and 252
_STRANGE = 255  # in a table of classes: no class has this number
_ABOVE = ("", "Train_Sets", "CHAOS_Train_Sets/Train_Sets")
_NUMBER = re.compile(r"[0-9]+")
_ON_MR = re.compile(r"(?:T1|T1_in|T1_out|T2)_([0-9]+)")  # our names, and the names in nnU-Net's conversion


@dataclass(frozen=True)
class Part:
    """A part of the download.

    Attributes:
        prefix: of case ids; the patient's number follows.
        kind: folder of the patients.
        sequence: folder below a patient; empty where there is none.
        phases: folders of slices below ``DICOM_anon``, one a channel; an empty name where it holds them itself.
    """

    prefix: str
    kind: str
    sequence: str
    phases: tuple[str, ...]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    greys: Greys


PARTS = {
    "chaos": Part("T2", "MR", "T2SPIR", ("",), ("T2-SPIR",), _ORGANS, _ORGAN_GREYS),
    "chaos-t1": Part("T1", "MR", "T1DUAL", ("InPhase", "OutPhase"), ("T1 in phase", "T1 out of phase"), _ORGANS, _ORGAN_GREYS),
    "chaos-ct": Part("CT", "CT", "", ("",), ("CT",), ("background", "liver"), ((255, 255),)),
}


@dataclass(frozen=True)
class Ground:
    """The label maps of a series: as many PNG as it has slices, in the order of their names."""

    paths: tuple[Path, ...]
    series: Series
    greys: Greys

    def read(self, case_id: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Reads the labels ``(X, Y, Z)`` and the affine of the series.

        Raises:
            DataError: more or fewer of them than slices, or named after other slices; a PNG that is damaged, of another size or
                with grey values that are no class.
        """
        self._check_pairs(case_id)
        placed = self.series.placed(case_id)
        shape = (placed.columns, placed.rows, len(self.paths))
        check_memory(shape, 1, f"case {case_id}: reading {self}", "close other programs, or leave the case out")
        labels = np.empty(shape, np.uint8)
        for place, number in enumerate(placed.order):
            labels[..., place] = self._slice(case_id, self.paths[number], placed).T
        return labels, placed.affine

    def _check_pairs(self, case_id: str) -> None:
        slices = {path.stem: number for number, path in enumerate(self.series.paths)}
        if len(self.paths) != len(slices):
            raise DataError(
                f"case {case_id}: {self} holds {len(self.paths)} label maps (.png) for {len(slices)} slices in {self.series}; "
                "complete the download"
            )
        for number, path in enumerate(self.paths):
            if slices.get(path.stem, number) != number:
                raise DataError(
                    f"case {case_id}: {path} is named as a slice that is not the one of its place, "
                    f"{self.series.paths[number].name}: slices or label maps are missing; complete the download"
                )

    def _slice(self, case_id: str, path: Path, placed: Placed) -> NDArray[np.uint8]:
        values = png.grey(case_id, path, (placed.columns, placed.rows))
        labels = _table(self.greys)[values]
        strange = np.unique(values[labels == _STRANGE])
        if strange.size:
            known = []
            for low, high in self.greys:
                if low < high:
                    known.append(f"{low} to {high}")
                else:
                    known.append(str(low))
            raise DataError(
                f"case {case_id}: {path} has the grey value(s) {', '.join(map(str, strange[:5]))}, which are no class; those are "
                f"0, {', '.join(known)}. Copy or download it again"
            )
        return labels

    def __str__(self) -> str:
        return str(self.paths[0].parent)


def _table(greys: Greys) -> NDArray[np.uint8]:
    """Returns the class of each grey value."""
    table = np.full(256, _STRANGE, np.uint8)
    table[0] = 0
    for number, (low, high) in enumerate(greys, start=1):
        table[low : high + 1] = number
    return table


def raw(root: Path, part: Part) -> FolderLayout | None:
    """Reads the layout of a part of the download; None where the part is not there.

    Raises:
        DataError: a patient without slices or without label maps, or twice.
    """
    files: dict[str, Files] = {}
    for number, folder in _patients(root, part):
        case = f"{part.prefix}_{number}"
        if case in files:
            raise DataError(f"{root}: {case} is there twice ({files[case].label}, {folder}); remove one")
        series = [Series(_named(folder / "DICOM_anon" / phase, ".dcm")) for phase in part.phases]
        files[case] = Files(tuple(series), Ground(_named(folder / "Ground", ".png"), series[0], part.greys))
    if not files:
        return None
    return FolderLayout(part.channels, part.classes, REGISTERED["chaos"].licence, files, said_by="the CHAOS layout")


def _patients(root: Path, part: Part) -> list[tuple[str, Path]]:
    """Returns the numbers of the patients, and the folders with their slices and label maps."""
    found = []
    for above in _ABOVE:
        for folder in subfolders(root / above / part.kind):
            sequence = folder / part.sequence
            if _NUMBER.fullmatch(folder.name) and sequence.is_dir():
                found.append((folder.name, sequence))
    return found


def _named(folder: Path, ending: str) -> tuple[Path, ...]:
    """Returns the files with an ending, in the order of the numbers in their names."""
    try:
        found = [path for path in folder.iterdir() if _is_one(path, ending)]
    except OSError:
        found = []
    if not found:
        raise DataError(f"{folder}: there are no files {ending} in it; complete the download, or remove the patient")
    return tuple(sorted(found, key=by_number))


def _is_one(path: Path, ending: str) -> bool:
    """Returns whether a path is a file of this kind; what begins with a dot is left over from an archive."""
    return path.suffix.lower() == ending and not path.name.startswith(".") and path.is_file()


def _another(root: Path) -> bool:
    """Returns whether a folder holds other parts of the download, or a converted copy."""
    return (root / "dataset.json").is_file() or any(_patients(root, part) for part in PARTS.values())


def _open(name: str, data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    known, part = REGISTERED[name], PARTS[name]
    readers: list[Reader] = [lambda root: raw(root, part)]
    if name == "chaos":  # a converted copy goes by this name, whatever it holds
        readers += [nnunet.recognized, msd.recognized]
    root, layout = find(name, known.folders, readers, known.how, data_root, search, _another)
    return FolderDataset(root, name, layout, group=patient)


def patient(case_id: str) -> str:
    """Returns the patient of a case. Both MR sequences are of the same people, so ``chaos`` and ``chaos-t1`` report the same."""
    match = _ON_MR.fullmatch(case_id)
    if match is None:
        return case_id
    return f"MR_{match[1]}"


def chaos(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens MR T2-SPIR with four organs, or a converted folder with what its dataset.json says."""
    return _open("chaos", data_root, search)


def chaos_t1(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens MR T1-DUAL, two channels, with four organs."""
    return _open("chaos-t1", data_root, search)


def chaos_ct(data_root: Path | None, search: Sequence[Path]) -> FolderDataset:
    """Opens CT with the liver."""
    return _open("chaos-ct", data_root, search)
