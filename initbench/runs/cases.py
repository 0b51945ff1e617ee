"""Tables of cases of many runs, parsed at once and checked; one that is no such table costs its own run alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from initbench.runs.record import MEASURES

CASE_KEYS = ("init", "backbone", "dataset", "seed", "protocol", "status", "cell")
_COUNTS = ("class", "tp", "fp", "fn")
_MEASURED = ("dice", *MEASURES)
_SHARES = ("dice", "nsd")  # from 0 to 1; the others have no upper end
COUNTED = ("case", "class", "class_name", "tp", "fp", "fn", *_MEASURED)  # columns of a table of cases
_NEEDED = ("case", "class_name", *_COUNTS, "dice")  # older runs have fewer distances, or none
_MOST_VOXELS = 2**53  # numbers beyond this are no counts, and sums of them would overflow

# A case or class may be called "NA": only an empty number is a missing one.
CSV: dict[str, Any] = {
    "dtype": {"case": "category", "class_name": "category"},
    "keep_default_na": False,
    "na_values": dict.fromkeys(_MEASURED, ""),
}


@dataclass(frozen=True)
class CaseTable:
    """A run's table of cases, not parsed yet.

    Attributes:
        folder: of the run.
        keys: what every row of it gets, by `CASE_KEYS`.
        cases: that the record names.
        header: first line of the file, without its end.
        lines: the others.
    """

    folder: Path
    keys: Mapping[str, Any]
    cases: tuple[str, ...]
    header: bytes
    lines: bytes


@dataclass(frozen=True)
class ParsedCases:
    """The rows of all runs with a usable table, and by folder what is wrong with the other tables."""

    rows: pd.DataFrame
    problems: Mapping[Path, str] = field(default_factory=dict)


def split_table(folder: Path, keys: Mapping[str, Any], cases: tuple[str, ...], data: bytes) -> CaseTable:
    """Splits the bytes of a run's table of cases into its first line and the others, without parsing them.

    Args:
        folder: of the run.
        keys: what every row gets, by `CASE_KEYS`.
        cases: that the record names.
        data: the bytes.
    """
    header, _, lines = data.partition(b"\n")
    if lines and not lines.endswith(b"\n"):
        lines += b"\n"
    return CaseTable(folder, keys, cases, header.rstrip(b"\r"), lines)


def parse_cases(tables: Sequence[CaseTable]) -> ParsedCases:
    """Parses tables to a row per run, case and class.

    Columns of text are categorical; distances that a run lacks are missing values.
    """
    frames: list[pd.DataFrame] = []
    problems: dict[Path, str] = {}
    for header, group in groupby(tables, key=lambda table: table.header):
        members = list(group)
        try:
            frames.append(_parsed(header, members))
        except ValueError:  # then each on its own: whose fault it is nobody can say of all together
            for table in members:
                try:
                    frames.append(_parsed(header, [table]))
                except ValueError as error:
                    problems[table.folder] = str(error)
    if not frames:
        return ParsedCases(pd.DataFrame(columns=[*CASE_KEYS, *COUNTED]), problems)
    rows = frames[0]
    if len(frames) > 1:
        rows = _joined(frames)
    for name in MEASURES:
        if name not in rows:  # in every run; `_joined` fills what some lack
            rows = rows.assign(**{name: np.nan})
    return ParsedCases(rows, problems)


def _parsed(header: bytes, tables: Sequence[CaseTable]) -> pd.DataFrame:
    """Parses the cases of runs of one header at once: ten thousand small files take ten times as long one by one.

    Raises:
        ValueError: a table does not hold the cases that its record names.
    """
    text = b"\n".join((header, b"".join(table.lines for table in tables)))
    frame: pd.DataFrame = pd.read_csv(io.BytesIO(text), **CSV)
    counts = [table.lines.count(b"\n") for table in tables]
    if len(frame) != sum(counts):
        raise ValueError("its lines are not rows of a table")
    _check_columns(frame)
    _check_cases(frame, tables, counts)
    columns: dict[str, Any] = {}
    for name in CASE_KEYS:
        values = [table.keys[name] for table in tables]
        if name == "seed":
            columns[name] = np.repeat(np.array(values), counts)
        else:
            columns[name] = pd.Categorical(values).repeat(counts)
    own = frame.drop(columns=list(columns), errors="ignore")
    return pd.concat([pd.DataFrame(columns), own], axis=1)


def _check_columns(frame: pd.DataFrame) -> None:
    """Refuses a table that lacks a column, or has something else in one than it should."""
    for name in _NEEDED:
        if name not in frame:
            raise ValueError(f"it has no column {name}")
    for name in ("case", "class_name"):
        for value in frame[name].cat.categories:
            if not str(value).isprintable():
                raise ValueError(f"a name in column {name} holds control characters")
    for name in _COUNTS:
        whole = frame[name].dtype.kind == "i" or frame.empty
        if not whole or not frame[name].between(0, _MOST_VOXELS).all():
            raise ValueError(f"column {name} holds something else than counts")
    for name in _MEASURED:
        if name not in frame:
            continue
        values = frame[name]
        measured = values.dtype.kind in "if" or values.empty
        most = float(np.finfo(float).max)
        if name in _SHARES:
            most = 1.0
        if not measured or not values.dropna().between(0, most).all():
            raise ValueError(f"column {name} holds something else than what is measured")


def _check_cases(frame: pd.DataFrame, tables: Sequence[CaseTable], counts: Sequence[int]) -> None:
    """Refuses tables of other cases than their records name."""
    codes = frame["case"].cat.codes.to_numpy()
    places = {str(name): place for place, name in enumerate(frame["case"].cat.categories)}
    known: dict[tuple[str, ...], list[int]] = {}  # runs of a data set share one list
    for table, (first, end) in zip(tables, pairwise(np.cumsum([0, *counts]).tolist()), strict=True):
        if table.cases not in known:
            known[table.cases] = sorted(places.get(name, -1) for name in set(table.cases))
        if np.unique(codes[first:end]).tolist() != known[table.cases]:
            raise ValueError("it has other cases than its record names")


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Puts tables of several headers below one another; categories are united."""
    plain = [frame.astype(dict.fromkeys(_categorical(frame), object)) for frame in frames]
    joined = pd.concat(plain, ignore_index=True)
    return joined.astype(dict.fromkeys(_categorical(frames[0]), "category"))


def _categorical(frame: pd.DataFrame) -> list[str]:
    return frame.select_dtypes("category").columns.tolist()
