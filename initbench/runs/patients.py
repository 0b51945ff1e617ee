"""Whose the reported cases of a cell are, as the records of its runs say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from initbench.runs.record import Record


@dataclass(frozen=True)
class AskedData:
    """A data set as a run asked for it.

    Attributes:
        dataset: registered name, path, or the name of a folder below a data root.
        data_root: folder that holds the data sets; None where none was given.
        name: what tables call it.
    """

    dataset: str
    data_root: str | None
    name: str


@dataclass(frozen=True)
class Unsaid:
    """A cell whose records say nothing of patients: where its data sets were, and the reported cases."""

    asked: tuple[AskedData, ...]
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Disagreement:
    """Two runs of a cell that name different patients; the one that finished last counts."""

    counted: Path
    other: Path

    def __str__(self) -> str:
        return (
            f"{self.counted} and {self.other} are of one cell and name different patients; the first finished last, so what it "
            "names counts"
        )


@dataclass
class _Said:
    """What counts for a cell so far."""

    patients: Mapping[str, str]
    finished: str
    folder: Path


class Collected:
    """What records say, one after another. Equal maps are kept once: ten thousand runs are of a few splits."""

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}
        self._others: dict[str, Path] = {}
        self._unsaid: dict[str, dict[AskedData, None]] = {}
        self._cases: dict[str, tuple[str, ...]] = {}
        self._maps: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._lists: dict[tuple[str, ...], tuple[str, ...]] = {}

    def see(self, folder: Path, record: Record) -> None:
        """Takes the record of a run into account; one without a result has no case that would count."""
        if not record.has_result:
            return
        if record.resolved.patients:
            self._take(folder, record.cell, record.resolved.patients, record.finished)
        else:
            self._miss(record)

    def _take(self, folder: Path, cell: str, patients: dict[str, str], finished: str) -> None:
        known = self._said.get(cell)
        if known is None:
            self._said[cell] = _Said(self._shared(patients), finished, folder)
            return
        is_newer = finished > known.finished
        if known.patients == patients:
            if is_newer:
                self._said[cell] = _Said(known.patients, finished, folder)
        elif is_newer:
            self._said[cell] = _Said(self._shared(patients), finished, folder)
            self._others[cell] = known.folder
        else:
            self._others[cell] = folder

    def _shared(self, patients: dict[str, str]) -> Mapping[str, str]:
        return self._maps.setdefault(tuple(patients.items()), patients)

    def _miss(self, record: Record) -> None:
        cell, asked = record.cell, record.asked
        places = self._unsaid.setdefault(cell, {})
        if cell not in self._cases:
            cases = tuple(record.resolved.reported_cases)
            self._cases[cell] = self._lists.setdefault(cases, cases)
        if asked.dataset:
            places[AskedData(asked.dataset, asked.data_root, record.resolved.dataset)] = None

    @property
    def patients(self) -> dict[str, Mapping[str, str]]:
        """The patient of each reported case, by cell, as the last record of the cell says it; the other cells are `unsaid`."""
        return {cell: said.patients for cell, said in self._said.items()}

    @property
    def unsaid(self) -> dict[str, Unsaid]:
        """The cells of which no record names the patients."""
        found = {}
        for cell, places in self._unsaid.items():
            if cell not in self._said:
                found[cell] = Unsaid(tuple(places), self._cases[cell])
        return found

    @property
    def disagreements(self) -> dict[str, Disagreement]:
        """Cells whose runs name different patients."""
        return {cell: Disagreement(self._said[cell].folder, other) for cell, other in self._others.items()}
