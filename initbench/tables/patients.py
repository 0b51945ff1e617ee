"""Whose the reported cases are, for records that do not say it: as their data sets say it today, where they can be asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from initbench import registry
from initbench.catalog import CATALOG
from initbench.protocols import Dataset, group_of
from initbench.runs.patients import AskedData, Unsaid
from initbench.runs.read import Loaded


def patients_of(found: Loaded, cells: Collection[str]) -> dict[str, Mapping[str, str]]:
    """The patient of each reported case, by cell: as records name it, else as the data set does; unknown cells are left out.

    A data set is asked once, and only where a cell needs it. No volume is read and no plug-in imported.

    Args:
        found: what was read.
        cells: of which it is asked.
    """
    sets = _DataSets()
    named = {cell: found.patients[cell] for cell in cells if cell in found.patients}
    asked = {cell: sets.patients(found.unsaid[cell]) for cell in cells if cell in found.unsaid}
    return named | {cell: patients for cell, patients in asked.items() if patients is not None}


class _DataSets:
    """The data sets that runs asked for, each opened once."""

    def __init__(self) -> None:
        self._opened: dict[AskedData, Dataset | None] = {}
        self._known: dict[tuple[AskedData, tuple[str, ...]], Mapping[str, str] | None] = {}

    def patients(self, cell: Unsaid) -> Mapping[str, str] | None:
        """What the first data set that knows all cases of a cell says; None where none does."""
        found = (self._of(asked, cell.cases) for asked in cell.asked)
        return next((patients for patients in found if patients is not None), None)

    def _of(self, asked: AskedData, cases: tuple[str, ...]) -> Mapping[str, str] | None:
        if asked not in self._opened:
            self._opened[asked] = _open(asked)
        dataset = self._opened[asked]
        if (asked, cases) not in self._known:
            self._known[asked, cases] = _patients(dataset, cases) if dataset is not None else None
        return self._known[asked, cases]


def _open(asked: AskedData) -> Dataset | None:
    """The data set; None where it is not there or not as it was, and where a plug-in has it: that is code to be imported."""
    if asked.dataset not in CATALOG["dataset"] and asked.dataset in registry.names("dataset"):
        return None
    from initbench.datasets.open import open_dataset  # takes a third of a second, and most studies do without

    try:
        dataset = open_dataset(asked.dataset, Path(asked.data_root) if asked.data_root else None)
    except Exception:  # whatever is wrong with the data, tables do not depend on them
        return None
    return dataset if dataset.name == asked.name else None


def _patients(dataset: Dataset, cases: Sequence[str]) -> dict[str, str] | None:
    known = set(dataset.case_ids())
    return {case: group_of(dataset, case) for case in cases} if cases and known.issuperset(cases) else None
