"""Data sets: labelled volumes under ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """One examination.

    Attributes:
        image: ``(C, X, Y, Z)`` float32 in the file's own axis order.
        label: ``(X, Y, Z)`` unsigned integer.
        affine: voxel to world (RAS, mm), 4 x 4.
    """

    id: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Named division of the case ids. `test` are the reported cases."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@runtime_checkable
class Dataset(Protocol):
    """A labelled set of volumes."""

    name: str
    modality: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    licence: str

    def case_ids(self) -> tuple[str, ...]:
        """All labelled cases, sorted."""

    def load(self, case_id: str) -> Case:
        """Reads and checks one case.

        Raises:
            DataError: what is wrong with which file, and what to do.
        """

    def digest(self, case_id: str) -> str:
        """Content digest (hex sha256) of one case's image and label bytes."""

    def published_split(self) -> Split | None:
        """The split that the papers use, where there is one."""
