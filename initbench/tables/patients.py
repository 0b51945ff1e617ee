"""The patients of reported cases. Where records do not name them, their data sets are asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from initbench import registry
from initbench.catalog import CATALOG
from initbench.protocols import Dataset, group_of
from initbench.runs.patients import AskedData, Unsaid
from initbench.runs.read import Loaded


def patients_of(found: Loaded, cells: Collection[str]) -> dict[str, Mapping[str, str]]:
    """Returns the patient of each reported case, by cell: as records name it, else as the data set does.

    Cells whose patients nobody knows are left out.

    A data set is asked once, and only where a cell needs it. No volume is read and no plug-in imported.

    Args:
        found: what was read.
        cells: the cells whose patients are wanted.
    """
    sets = _DataSets()
    named: dict[str, Mapping[str, str]] = {}
    asked: dict[str, Mapping[str, str]] = {}
    for cell in cells:
        if cell in found.patients:
            named[cell] = found.patients[cell]
        if cell in found.unsaid:
            patients = sets.patients(found.unsaid[cell])
            if patients is not None:
                asked[cell] = patients
    return named | asked


class _DataSets:
    """The data sets that runs name, each opened once."""

    def __init__(self) -> None:
        self._opened: dict[AskedData, Dataset | None] = {}
        self._known: dict[tuple[AskedData, tuple[str, ...]], Mapping[str, str] | None] = {}

    def patients(self, cell: Unsaid) -> Mapping[str, str] | None:
        """Returns what the first data set that knows all cases of a cell says; None where none does."""
        for asked in cell.asked:
            patients = self._of(asked, cell.cases)
            if patients is not None:
                return patients
        return None

    def _of(self, asked: AskedData, cases: tuple[str, ...]) -> Mapping[str, str] | None:
        """Returns what a data set says of some cases; None where it is not there, or does not know them all."""
        if asked not in self._opened:
            self._opened[asked] = _open(asked)
        dataset = self._opened[asked]
        if dataset is None:
            return None
        if (asked, cases) not in self._known:
            self._known[asked, cases] = _patients(dataset, cases)
        return self._known[asked, cases]


def _open(asked: AskedData) -> Dataset | None:
    """Opens a data set; None where it is not there or not as it was, and where a plug-in has it: that is code to be imported."""
    if asked.dataset not in CATALOG["dataset"] and asked.dataset in registry.names("dataset"):
        return None
    from initbench.datasets.open import open_dataset  # takes a third of a second, and most studies do without

    root = None
    if asked.data_root:
        root = Path(asked.data_root)
    try:
        dataset = open_dataset(asked.dataset, root)
    except Exception:  # whatever is wrong with the data, tables do not depend on them
        return None
    if dataset.name != asked.name:
        return None
    return dataset


def _patients(dataset: Dataset, cases: Sequence[str]) -> dict[str, str] | None:
    """Returns the patient of each case; None without cases, and where the data set lacks one."""
    if not cases or not set(dataset.case_ids()).issuperset(cases):
        return None
    return {case: group_of(dataset, case) for case in cases}
