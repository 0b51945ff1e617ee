"""The folders of one study, as several sites have them, merged into one.

Runs that ended are copied, with the notes of what was asked for and the kinds of devices of pairs. Runs in hand and checkpoints
stay where they are, and whoever has them goes on there. Nothing of the sites is changed.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from initbench.errors import DataError, UsageError
from initbench.limits import MAX_TABLE, open_regular, read_regular
from initbench.printable import printable
from initbench.runs import kinds, looks, store, work
from initbench.runs.record import Record
from initbench.runs.status import faulty_notes, note_asked_elsewhere, read_asked

_COUNTS = ("case", "class", "tp", "fp", "fn")  # columns of a table of cases; others may be measured later


@dataclass(frozen=True)
class EndedRun:
    """A run that ended, in the folder of one site.

    Attributes:
        site: the folder of the study.
        place: of the run below it, the same at every site.
        status: how it ended.
        dice: its score as a fraction; None where it has none.
        weights: digest of the trained weights.
        device: model of the device that it ran on.
    """

    site: Path
    place: Path
    status: str
    dice: float | None
    weights: str | None
    device: str

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.site / self.place

    @property
    def has_result(self) -> bool:
        """Whether it was scored."""
        return self.status != "failed"

    def __str__(self) -> str:
        score = self.status
        if self.dice is not None:
            score = f"Dice {100 * self.dice:.2f}"
        return printable(f"{score} in {self.site} ({self.device or 'unknown device'})")


@dataclass(frozen=True)
class LeftRun:
    """A run, or a note, that is not taken, and why."""

    folder: Path
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.folder} is not taken: {self.reason}")


@dataclass
class Merger:
    """What merging the folders comes to.

    Attributes:
        missing: the runs to copy.
        present: places of the runs whose result is there already.
        double: runs that several sites have with the same result.
        conflicts: runs of one place with different results.
        left: what is not taken.
    """

    missing: list[EndedRun] = field(default_factory=list)
    present: list[Path] = field(default_factory=list)
    double: list[list[EndedRun]] = field(default_factory=list)
    conflicts: list[list[EndedRun]] = field(default_factory=list)
    left: list[LeftRun] = field(default_factory=list)


class _LeftError(DataError):
    """A run cannot be taken; the message says why."""


def compare_sites(sites: Sequence[Path], out: Path) -> Merger:
    """Looks which runs can be copied, which are double, and which contradict each other. Nothing is written.

    Args:
        sites: folders of runs.
        out: the folder that they are to be merged into; it need not be there yet.

    Raises:
        UsageError: a folder holds no study, or is named twice.
    """
    _check_sites(sites, out)
    found: dict[Path, list[EndedRun]] = {}
    merger = Merger()
    for folder in store.find_runs(out):
        try:
            run = _read_run(out, folder)
        except DataError:
            continue  # a damaged run of `out` is replaced, as `initbench run` would do it again
        found.setdefault(run.place, []).append(run)
    for site in sites:
        for folder in store.find_runs(site):
            try:
                run = _read_run(site, folder)
                _check_free(folder)
            except DataError as error:
                merger.left.append(LeftRun(folder, str(error)))
                continue
            found.setdefault(run.place, []).append(run)
        for text in faulty_notes(site):
            merger.left.append(LeftRun(site / store.SWEEPS, text))
    for runs in found.values():
        _sort_in(merger, runs, out)
    return merger


def _check_sites(sites: Sequence[Path], out: Path) -> None:
    """Refuses folders without a study, and a folder that is named twice."""
    seen = {out.resolve(): "--into"}
    for site in sites:
        if not site.is_dir():
            raise UsageError(f"{site}: there is no such folder")
        if site.resolve() in seen:
            raise UsageError(f"{site} is named twice (before: {seen[site.resolve()]}); name each folder once")
        seen[site.resolve()] = str(site)
        if next(store.find_runs(site), None) is None and not read_asked(site):
            raise UsageError(f"{site} holds no study; name the folder that was --out of `initbench run`")


def _read_run(site: Path, folder: Path) -> EndedRun:
    """Reads a run that ended.

    Raises:
        DataError: its record cannot be used, or its tables are not what was written.
    """
    record = store.load_record(folder)
    store.check_place(folder, record)
    _check_whole(folder, record, thorough=False)
    device = record.environment.accelerator or record.environment.cpu or ""
    return EndedRun(site, folder.relative_to(site), record.status, record.dice, record.weights_digest, device)


def _check_whole(folder: Path, record: Record, *, thorough: bool) -> None:
    if not record.has_result:
        return
    problem = store.problem(folder, record, thorough=thorough)
    if problem:
        raise _LeftError(problem)


def _check_free(folder: Path) -> None:
    """Refuses a run that somebody has in hand: it may be measured or done again."""
    try:
        is_held = work.is_held(folder)
    except OSError as error:
        raise _LeftError(f"nobody can tell whether a process has it in hand: {error}") from None
    if is_held:
        raise _LeftError("a process has it in hand; collect again when it has ended")


def _sort_in(merger: Merger, runs: Sequence[EndedRun], out: Path) -> None:
    """Decides what becomes of the runs of one place. The run of `out` stands first, the sites follow in their order."""
    results = [run for run in runs if run.has_result]
    for other in results[1:]:
        if not _has_same_result(results[0], other):
            merger.conflicts.append([results[0], other])
            return
    elsewhere = [run for run in results if run.site != out]
    if len(elsewhere) > 1:
        merger.double.append(elsewhere)
    first = (results or runs)[0]
    if first.site != out:
        merger.missing.append(first)
    elif elsewhere:
        merger.present.append(first.place)


def _has_same_result(one: EndedRun, other: EndedRun) -> bool:
    """Returns whether two runs ended alike: with the same weights, and the same counts of each case."""
    if (one.status, one.weights, one.dice) != (other.status, other.weights, other.dice):
        return False
    for name in store.TABLES:
        if _counts(one.folder / name) != _counts(other.folder / name):
            return False
    return True


def _counts(path: Path) -> list[list[str | None]] | bytes | None:
    """Reads the counts of a table of cases, without distances; None where there is no file, its bytes where it is no table."""
    try:
        data = read_regular(path, MAX_TABLE)
    except OSError:
        return None
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8", "replace"))))
    except csv.Error:
        return data
    found = []
    for row in rows:
        found.append([row.get(name) for name in _COUNTS])
    return found


def copy_runs(merger: Merger, sites: Sequence[Path], out: Path) -> Iterator[EndedRun]:
    """Copies the missing runs, and what was asked for at the sites; gives each run when it is in its place.

    Wherever this is stopped, the runs that are there are whole, and the same call goes on.

    Args:
        merger: as `compare_sites` gives it. Runs that turn out to be damaged are added to what is left.
        sites: folders of runs.
        out: the folder that they are merged into.

    Raises:
        OSError: the folder cannot be written.
    """
    for site in sites:
        note_asked_elsewhere(out, site)
        kinds.take_kinds(out, site)
        looks.copy_plans(out, site)
    for run in merger.missing:
        try:
            _copy_run(run, out)
        except DataError as error:
            merger.left.append(LeftRun(run.folder, str(error)))
            continue
        yield run


def _copy_run(run: EndedRun, out: Path) -> None:
    """Copies a run. The copy is read again before it is put into its place.

    Raises:
        DataError: the run is damaged, or somebody has it in hand.
    """
    place = out / run.place
    with work.claim(place) as held:
        if held is None:
            raise _LeftError(f"a process does the same run in {out}")
        with store.staged(place, check=held.check) as temporary:
            _copy_files(run.folder, temporary)
            record = store.load_record(temporary)
            _check_whole(temporary, record, thorough=True)
            _check_free(run.folder)
        held.finished()


def _copy_files(folder: Path, into: Path) -> None:
    """Copies the files of a run.

    Raises:
        DataError: something in it is no file that can be read. A link could lead to any file of this machine.
    """
    for parent, folders, files in os.walk(folder):
        below = into / Path(parent).relative_to(folder)
        below.mkdir(exist_ok=True)
        for name in (*folders, *files):
            if Path(parent, name).is_symlink():
                raise _LeftError(f"{name} is a link; put the file itself there")
        for name in files:
            try:
                source = open_regular(Path(parent, name))
            except OSError as error:
                raise _LeftError(f"{name} cannot be read: {error.strerror}") from None
            with source, (below / name).open("wb") as target:
                shutil.copyfileobj(source, target)
