"""Checks that a data set is whole: reads every case with the reader's checks, and compares checksums and splits."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from initbench import cache, digest
from initbench.datasets.duplicates import Content, across, content_of, counted_twice, equal_cases, trained_and_reported
from initbench.datasets.folder import FolderDataset
from initbench.datasets.remarks import summarized
from initbench.datasets.splits import parts_here, resolve_split
from initbench.datasets.tables import read_description
from initbench.errors import DataError, InitbenchError
from initbench.protocols import (
    Dataset,
    NoProgress,
    Progress,
    Remark,
    Split,
    caveat_of,
    copies_are_meant,
    remarks_of,
    splits_of,
    stated_of,
)

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t][ *](.+)")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a case or a file, and what to do."""

    where: str
    text: str


@dataclass(frozen=True)
class Examined:
    """What was looked at, and what was found."""

    cases: int
    checksums: int
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass
class _Seen:
    """What is kept of the cases that could be read.

    Attributes:
        case_of: ids by the digests of their files.
        contents: what the files hold, by id.
        remarks: what their reader noticed, by id.
    """

    case_of: dict[str, str] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)
    remarks: dict[str, Sequence[Remark]] = field(default_factory=dict)


def examine(dataset: Dataset, progress: Progress | None = None) -> Examined:
    """Reads every case and what the cache holds of it, and goes on after one that is unusable."""
    progress = progress or NoProgress()
    ids = dataset.case_ids()
    problems: list[Problem] = []
    seen = _Seen()
    progress.start(f"reading {dataset.name}", len(ids))
    for done, case_id in enumerate(ids, start=1):
        problems += _case(dataset, case_id, seen)
        progress.advance(done, {})
    problems += _cached(seen.case_of)
    root = getattr(dataset, "root", None)
    checked = 0
    if root is not None:
        for problem in _sums(Path(root), progress):
            checked += 1
            if problem.text:
                problems.append(problem)
        problems += _announced(dataset, Path(root))
    copies = _copies(dataset, seen.contents, problems)
    said = [*remarks_of(dataset), *summarized(seen.remarks), *_notes(dataset, problems), *copies]
    return Examined(len(ids), checked, tuple(said), tuple(problems))


def _copies(dataset: Dataset, contents: Mapping[str, Content], problems: list[Problem]) -> list[str]:
    """Returns notes on cases that are one examination. Where a usable split has it on both sides, it adds a problem instead."""
    groups = equal_cases(contents)
    if not groups or copies_are_meant(dataset):
        return []
    apart: set[tuple[str, ...]] = set()
    for split in _usable_splits(dataset):
        for group in across(groups, split):
            apart.add(group)
            problems.append(Problem(group[0], trained_and_reported(dataset.name, group, split)))
    return [counted_twice(group) for group in groups if group not in apart]


def _usable_splits(dataset: Dataset) -> list[Split]:
    """Returns the splits that papers use or that lie beside the data; where there are none, the split that a run makes."""
    names: list[str | None] = []
    with contextlib.suppress(DataError):  # `_stated` says so
        names = [split.name for split in (*splits_of(dataset), *stated_of(dataset))]
    found = []
    for name in names or [None]:
        with contextlib.suppress(InitbenchError):  # `_notes` says so
            found.append(resolve_split(dataset, name))
    return found


def _case(dataset: Dataset, case_id: str, seen: _Seen) -> Iterator[Problem]:
    """Gives what is wrong with a case, and keeps in `seen` what other cases are compared with."""
    try:
        case = dataset.load(case_id)
        yield from _decayed(dataset, case_id)
        with cache.reading_everything():
            seen.case_of[dataset.digest(case_id)] = case_id
    except DataError as error:
        yield Problem(case_id, str(error))
        return
    seen.remarks[case_id] = case.remarks
    seen.contents[case_id] = content_of(case)
    if not case.label.any():
        yield Problem(case_id, f"case {case_id}: its label map is empty; remove the case, or complete it")


def _decayed(dataset: Dataset, case_id: str) -> Iterator[Problem]:
    """Gives the files that have other bytes than when they were last read, although nothing wrote to them since."""
    if not isinstance(dataset, FolderDataset):
        return
    for path in dataset.files(case_id):
        remembered = cache.remembered_digest(path)
        with cache.reading_everything():
            now = cache.file_digest(path)
        if remembered not in (None, now):
            yield Problem(
                case_id,
                f"case {case_id}: {path} has other bytes than when it was last read, and nothing wrote to it: the disk may be "
                "failing; copy or download it again",
            )


def _cached(case_of: Mapping[str, str]) -> Iterator[Problem]:
    """Gives the cached arrays that are not as they were written. They are removed; the next run that needs them makes them again.

    Args:
        case_of: ids of cases by the digests of their files.
    """
    for kind in ("volumes", "scans"):
        for item in cache.items(kind):
            case_id = case_of.get(item.meta.get(cache.CONTENT, ""))
            if case_id is None:
                continue
            try:
                item.check()
            except cache.DamagedError as error:
                yield Problem(
                    case_id, f"case {case_id}: {error}; the next run makes it again. Runs of earlier versions may have used it"
                )


def _sums(root: Path, progress: Progress) -> Iterator[Problem]:
    """Gives an entry for every file that SHA256SUMS names, with an empty text where the file has the stated checksum."""
    path = root / SUMS
    if not path.is_file():
        return
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        yield Problem(SUMS, f"{path} cannot be read ({error})")
        return
    progress.start(f"checking {SUMS}", len(lines))
    for done, line in enumerate(lines, start=1):
        yield _sum(root, path, line)
        progress.advance(done, {})


def _sum(root: Path, path: Path, line: str) -> Problem:
    strange = Problem(SUMS, f"{path}: {line!r:.120} is no line of sha256sum about a file below the folder")
    match = _LINE.fullmatch(line)
    if match is None:
        return strange
    name = PurePosixPath(match[2])
    if name.is_absolute() or ".." in name.parts:
        return strange
    file = root / name
    if not file.is_file():
        return Problem(str(name), f"{file} is missing; complete the download")
    if digest.of_file(file) != match[1].lower():
        return Problem(str(name), f"{file} is not the file that {SUMS} names; copy or download it again")
    return Problem(str(name), "")


def _announced(dataset: Dataset, root: Path) -> list[Problem]:
    """Returns a problem where there are more or fewer cases than dataset.json says."""
    path = root / "dataset.json"
    table = read_description(root) or {}
    said = table.get("numTraining")
    here = 0
    for case_id in dataset.case_ids():
        if not _is_reported(dataset, case_id):
            here += 1
    # Lists of MONAI count the cases to train on, or all of them.
    if not isinstance(said, int) or said in (here, len(dataset.case_ids())):
        return []
    return [
        Problem("dataset.json", f"{path} announces {said} cases, {here} are here; complete the folder or correct numTraining")
    ]


def _is_reported(dataset: Dataset, case_id: str) -> bool:
    """Returns whether nnFormer's folders or the table's lists keep a case apart, so that numTraining does not count it."""
    if not isinstance(dataset, FolderDataset):
        return False
    return case_id in dataset.own_cases() or dataset.files(case_id)[0].parent.name == "imagesTs"


def _notes(dataset: Dataset, problems: list[Problem]) -> Iterator[str]:
    """Gives doubts about patients, and the published splits of which this copy holds a part.

    It adds a problem where the usual published split, or one that lies beside the data, does not fit.
    """
    if caveat_of(dataset):
        yield caveat_of(dataset)
    problems += _stated(dataset)
    for number, split in enumerate(splits_of(dataset)):
        try:
            resolve_split(dataset, split.name)
        except InitbenchError as error:
            if number == 0:
                problems.append(Problem(split.name, str(error)))
            else:
                yield str(error)
    yield from parts_here(dataset)


def _stated(dataset: Dataset) -> list[Problem]:
    """Returns what is wrong with the splits that lie beside the data."""
    problems = []
    try:
        stated = stated_of(dataset)
    except DataError as error:
        return [Problem("splits", str(error))]
    for split in stated:
        try:
            resolve_split(dataset, split.name)
        except InitbenchError as error:
            problems.append(Problem(split.name, str(error)))
    return problems
