"""Describes a data set: grids, intensities, volumes of classes. Every case is read once, with all the reader's checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from initbench.datasets.duplicates import Content, content_of, counted_twice, equal_cases
from initbench.datasets.geometry import bind_axes
from initbench.datasets.remarks import summarized
from initbench.datasets.splits import automatic, parts_here
from initbench.protocols import (
    Case,
    Dataset,
    NoProgress,
    Progress,
    Remark,
    caveat_of,
    group_of,
    regions_of,
    remarks_of,
    splits_of,
    stated_of,
)

PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
_SAMPLES = 1_000_000  # voxels of a channel that its percentiles are taken of
_ML = 1000.0  # cubic mm
# Axes of the world in the order of tables, and the letters of a file's axis along each.
WORLD = {"left-right": "LR", "front-back": "AP", "foot-head": "IS"}


@dataclass(frozen=True)
class CaseFacts:
    """One case.

    Attributes:
        shape: voxels along the file's own axes.
        spacing: mm along them.
        axes: where they point, as ``LPS``.
        oblique: degrees between a voxel axis and the nearest axis of the world, the largest.
        percentiles: `PERCENTILES` of the intensities, per channel.
        volumes_ml: of every class (region) of the data set in this order, 0 where it is absent.
    """

    id: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    axes: str
    oblique: float
    percentiles: tuple[tuple[float, ...], ...]
    volumes_ml: tuple[float, ...]

    def table(self, reported: Sequence[str]) -> dict[str, Any]:
        """Returns plain values, by the file's own axes; `reported` names the classes or regions of `volumes_ml`."""
        return {
            "case": self.id,
            "shape": list(self.shape),
            "spacing_mm": list(self.spacing),
            "axes": self.axes,
            "volumes_ml": dict(zip(reported, self.volumes_ml, strict=True)),
        }


def facts(case: Case, sets: Sequence[Sequence[int]]) -> CaseFacts:
    """Measures a case; `sets` are the labels of each class or region."""
    affine = case.affine[:3, :3]
    spacing = np.linalg.norm(affine, axis=0)
    nearest = np.abs(affine / spacing).max(axis=0).clip(0, 1)
    counts = np.bincount(case.label.ravel(), minlength=256)
    voxel_ml = abs(float(np.linalg.det(affine))) / _ML
    volumes = []
    for labels in sets:
        voxels = float(counts[list(labels)].sum())
        volumes.append(voxels * voxel_ml)
    x, y, z = case.label.shape
    return CaseFacts(
        id=case.id,
        shape=(x, y, z),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        axes="".join(nibabel.aff2axcodes(case.affine)),
        oblique=float(np.degrees(np.arccos(nearest)).max()),
        percentiles=tuple(_percentiles(channel) for channel in case.image),
        volumes_ml=tuple(volumes),
    )


def _percentiles(channel: NDArray[np.float32]) -> tuple[float, ...]:
    values = channel.ravel()
    sample = values[:: max(1, values.size // _SAMPLES)]
    return tuple(np.percentile(sample, PERCENTILES).astype(float).tolist())


@dataclass(frozen=True)
class Fingerprint:
    """A data set.

    Attributes:
        reported: names of classes, or of regions where some are reported in their place.
        splits: cases that train, are reported and are left out, by split.
        caveat: what is doubtful about whose the cases are.
        notes: what else is to be known: headers that disagree, keys that are not read, copies, splits of which a part is here.
    """

    name: str
    root: Path | None
    modality: str
    channels: tuple[str, ...]
    licence: str
    reported: tuple[str, ...]
    patients: int
    splits: dict[str, tuple[int, int, int]]
    cases: tuple[CaseFacts, ...]
    caveat: str = ""
    notes: tuple[str, ...] = ()

    def _in_world(self, key: str) -> NDArray[Any]:
        """Returns `shape` or `spacing` of every case ``(N, 3)`` along the axes of `WORLD`, whatever order a file's axes have."""
        rows = []
        for case in self.cases:
            of_letter = dict(zip(case.axes, getattr(case, key), strict=True))
            row = []
            for letters in WORLD.values():
                row += [of_letter[letter] for letter in letters if letter in of_letter]
            rows.append(row)
        return np.array(rows)

    def table(self) -> dict[str, Any]:
        """Returns plain values: medians and ranges over the cases by axes of the world, and each case by its own axes."""
        splits = {}
        for name, (train, reported, unused) in self.splits.items():
            splits[name] = {"train": train, "reported": reported, "unused": unused}
        typical_values = np.median([case.percentiles for case in self.cases], axis=0)
        intensities = {}
        for channel, values in zip(self.channels, typical_values.tolist(), strict=True):
            intensities[channel] = dict(zip(map(str, PERCENTILES), values, strict=True))
        directions, ids, volumes_ml, oblique = set(), [], [], 0.0
        for case in self.cases:
            directions.add(case.axes)
            ids.append(case.id)
            volumes_ml.append(case.volumes_ml)
            oblique = max(oblique, case.oblique)
        volumes = np.array(volumes_ml)
        classes = {}
        for place, name in enumerate(self.reported):
            classes[name] = _of_class(volumes[:, place], ids)
        root = None
        if self.root:
            root = str(self.root)
        return {
            "name": self.name,
            "root": root,
            "modality": self.modality,
            "channels": list(self.channels),
            "licence": self.licence,
            "cases": len(self.cases),
            "patients": self.patients,
            "splits": splits,
            "caveat": self.caveat,
            "notes": list(self.notes),
            "order": list(WORLD),
            "shape": _spread(self._in_world("shape")),
            "spacing_mm": _spread(self._in_world("spacing")),
            "axes": sorted(directions),
            "oblique_degrees": oblique,
            "intensities": intensities,
            "classes": classes,
            "per_case": [case.table(self.reported) for case in self.cases],
        }


def _spread(values: NDArray[Any]) -> dict[str, list[float]]:
    return {
        "median": np.median(values, axis=0).tolist(),
        "least": values.min(axis=0).tolist(),
        "most": values.max(axis=0).tolist(),
    }


def _of_class(volumes: NDArray[np.float64], ids: Sequence[str]) -> dict[str, Any]:
    """Returns plain values of a class: how many cases hold it, which do not, and its volume in the first; None where none does.

    Args:
        volumes: of the class in every case, in ml.
        ids: of these cases.
    """
    absent = [case for case, volume in zip(ids, volumes, strict=True) if volume == 0]
    held = volumes[volumes > 0]
    median = least = most = None
    if held.size:
        median, least, most = float(np.median(held)), float(held.min()), float(held.max())
    return {"cases": int(held.size), "absent_in": absent, "median_ml": median, "least_ml": least, "most_ml": most}


def label_sets(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Returns the labels of each class or region that is reported."""
    return regions_of(dataset) or {name: (k,) for k, name in enumerate(dataset.classes) if k}


def fingerprint(dataset: Dataset, progress: Progress | None = None) -> Fingerprint:
    """Describes a data set; reads every case.

    Raises:
        DataError: a case is unusable; names it.
    """
    progress = progress or NoProgress()
    ids, sets = dataset.case_ids(), label_sets(dataset)
    progress.start(f"reading {dataset.name}", len(ids))
    found = []
    remarks: dict[str, Sequence[Remark]] = {}
    contents: dict[str, Content] = {}
    for done, case_id in enumerate(ids, start=1):
        case = dataset.load(case_id)
        found.append(facts(case, list(sets.values())))
        remarks[case_id] = case.remarks
        contents[case_id] = content_of(case)
        progress.advance(done, {})
    copies = [counted_twice(group) for group in equal_cases(contents)]
    root = getattr(dataset, "root", None)
    if root is not None:
        root = Path(root)
    return Fingerprint(
        name=dataset.name,
        root=root,
        modality=dataset.modality,
        channels=dataset.channels,
        licence=dataset.licence,
        reported=tuple(sets),
        patients=len({group_of(dataset, case_id) for case_id in ids}),
        splits=split_sizes(dataset),
        cases=tuple(found),
        caveat=caveat_of(dataset),
        notes=(*remarks_of(dataset), *summarized(remarks), *copies, *parts_here(dataset)),
    )


def split_sizes(dataset: Dataset) -> dict[str, tuple[int, int, int]]:
    """Counts the cases of this copy that train, are reported and are left out, by split; the usual split first."""
    here = set(dataset.case_ids())
    splits = [*splits_of(dataset), *stated_of(dataset)]
    if len({group_of(dataset, case_id) for case_id in here}) > 1:  # all cases of a patient are on one side
        splits.append(automatic(dataset.case_ids(), lambda case_id: group_of(dataset, case_id)))
    sizes = {}
    for split in splits:
        train = len(here.intersection(split.train))
        reported = len(here.intersection(split.test))
        sizes[split.name] = (train, reported, len(here.intersection(split.unused)))
    return sizes


def typical(found: Fingerprint) -> str:
    """Returns the case to show: among the cases with most classes, the one whose foreground has the median size."""
    by_classes: dict[int, list[tuple[float, str]]] = {}
    for case in found.cases:
        held = int(np.count_nonzero(case.volumes_ml))
        by_classes.setdefault(held, []).append((sum(case.volumes_ml), case.id))
    fullest = sorted(by_classes[max(by_classes)])
    return fullest[len(fullest) // 2][1]


def slice_of(case: Case) -> tuple[NDArray[np.float32], NDArray[np.uint8], float]:
    """Returns the slice with most foreground, upright: image and label ``(H, W)``, and the height of a pixel by its width."""
    axes = bind_axes(case.affine, "z")
    image, label = axes.apply(case.image[:1])[0], axes.apply(case.label)
    filled = np.count_nonzero(label, axis=(1, 2))
    index = len(label) // 2
    if filled.any():
        index = int(filled.argmax())
    _, height, width = axes.spacing(case.affine)
    return image[index], label[index], height / width
