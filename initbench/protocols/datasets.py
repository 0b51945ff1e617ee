"""Data sets: labelled volumes under ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Remark:
    """Something about a case that its user should know, and that does not make it unusable.

    Attributes:
        what: the same words for every case of the kind.
        detail: the numbers of this case; empty where there are none.
    """

    what: str
    detail: str = ""


@dataclass(frozen=True)
class Case:
    """One examination.

    Attributes:
        image: ``(C, X, Y, Z)`` float32 in the file's own axis order.
        label: ``(X, Y, Z)`` unsigned integer.
        affine: voxel to world (RAS, mm), 4 x 4.
        remarks: what a reader noticed in its files.
    """

    id: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class Split:
    """Named division of the case ids.

    Attributes:
        test: the reported cases.
        unused: those that the split leaves out of both.
        caveat: what whoever reads results should know of it; empty as a rule.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    unused: tuple[str, ...] = ()
    caveat: str = ""


@runtime_checkable
class Dataset(Protocol):
    """A labelled set of volumes.

    What a data set may have beside it, and is asked for through `splits_of`, `stated_of`, `group_of`, `caveat_of`, `remarks_of`,
    `regions_of`: ``published_splits() -> Sequence[Split]`` where papers use several, the usual one first; ``stated_splits()``,
    those that are used where they are asked for by name; ``group(case_id) -> str``, the patient of a case, where one has several;
    ``caveat``, a doubt about that; ``remarks``, what its reader noticed and did not use; ``regions``, a mapping of names to
    labels, where unions of labels are reported.
    """

    name: str
    modality: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    licence: str

    def case_ids(self) -> tuple[str, ...]:
        """Returns all labelled cases, sorted."""

    def load(self, case_id: str) -> Case:
        """Reads and checks one case.

        Raises:
            DataError: what is wrong with which file, and what to do.
        """

    def digest(self, case_id: str) -> str:
        """Returns the content digest (hex sha256) of one case's image and label bytes."""

    def published_split(self) -> Split | None:
        """Returns the split that the papers use, where there is one."""


def splits_of(dataset: Dataset) -> tuple[Split, ...]:
    """Returns the splits that papers use, the usual one first."""
    several = getattr(dataset, "published_splits", None)
    if several is not None:
        return tuple(several())
    split = dataset.published_split()
    if split is None:
        return ()
    return (split,)


def stated_of(dataset: Dataset) -> tuple[Split, ...]:
    """Returns the splits that lie beside the data, and are used where they are asked for by name."""
    stated = getattr(dataset, "stated_splits", None)
    if stated is None:
        return ()
    return tuple(stated())


def caveat_of(dataset: Dataset) -> str:
    """Returns what is doubtful about whose its cases are; empty where nothing is."""
    return str(getattr(dataset, "caveat", "") or "")


def remarks_of(dataset: Dataset) -> tuple[str, ...]:
    """Returns what its reader noticed in its tables and did not use."""
    return tuple(map(str, getattr(dataset, "remarks", ())))


def copies_are_meant(dataset: Dataset) -> bool:
    """Returns whether cases may be copies of one another, as in volumes that are made up to time a run."""
    return bool(getattr(dataset, "copies_meant", False))


def group_of(dataset: Dataset, case_id: str) -> str:
    """Returns the patient of a case; the case itself where the data set does not say."""
    group = getattr(dataset, "group", None)
    if group is None:
        return case_id
    return str(group(case_id))


def regions_of(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Returns the label numbers of each region that is reported in place of the labels; empty where the labels are."""
    found: Mapping[str, Sequence[int]] = getattr(dataset, "regions", None) or {}
    return {str(name): tuple(map(int, labels)) for name, labels in found.items()}
