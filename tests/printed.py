"""Reads back what commands print, in every form: tables as rows by column, cells as ranges of numbers.

A printed number stands for all numbers that are printed so: `1.5` for 1.45 to 1.55. An exact one stands for itself.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

EXACT = 1e-9
NOTHING = ("", "–", "withheld", "untestable")
_SHOWN = re.compile(r"[+-]?\d+(?:\.(\d+))?")
_CELL = re.compile(r"(?P<value>[+-]?[\d.]+)\*?(?: ?\[(?P<low>[^,\]]+), ?(?P<high>[^\]]+)\])?(?: (?P<word>[a-z][^][]*))?$")
_LATEX = {r"\&": "&", r"\%": "%", r"\#": "#", r"\_": "_", r"\{": "{", r"\}": "}", "--": "–", r"$\times$": "×", r"$\cdot$": "·"}


@dataclass(frozen=True)
class Range:
    """The numbers that something printed may stand for."""

    low: float
    high: float

    def turned(self) -> Range:
        """Of the same number with the other sign."""
        return Range(-self.high, -self.low)

    def __str__(self) -> str:
        return f"{(self.low + self.high) / 2:.9g} ± {(self.high - self.low) / 2:.1g}"


@dataclass(frozen=True)
class Cell:
    """A value with its interval and a word behind it; what is not there is None."""

    value: Range | None = None
    low: Range | None = None
    high: Range | None = None
    word: str = ""


@dataclass
class Table:
    """A printed table: its title, its rows by column, and the lines below it."""

    title: str
    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def column(self, start: str) -> str:
        """The name of the column that begins so."""
        (found,) = (name for name in self.rows[0] if name.startswith(start))
        return found


def exact(value: Any) -> Range | None:
    """A number of JSON or CSV; None where there is none."""
    if value is None or value == "":
        return None
    number = float(value)
    room = EXACT * max(1.0, abs(number))
    return Range(number - room, number + room)


def shown(text: str) -> Range:
    """A printed number; an asterisk marks an end that was cut, and `<0.001` is anything from 0 to there."""
    if text.startswith("<"):
        return Range(0.0, float(text[1:]))
    match = _SHOWN.fullmatch(text.rstrip("*").replace("−", "-"))
    assert match, f"no number: {text!r}"
    half = 0.5 * 10.0 ** -len(match[1] or "")
    number = float(match[0])
    return Range(number - half - EXACT, number + half + EXACT)


def cell(text: str) -> Cell:
    """`+1.20 [0.50, 1.90] better` and its parts; `– untestable` and `withheld` are words alone."""
    text = text.strip()
    if text in NOTHING or text.startswith("– "):
        return Cell(word=text.removeprefix("– ") if text not in ("", "–") else "")
    match = _CELL.fullmatch(text)
    assert match, f"no cell: {text!r}"
    bounds = [shown(match[name]) if match[name] else None for name in ("low", "high")]
    return Cell(shown(match["value"]), *bounds, word=match["word"] or "")


def from_json(text: str) -> list[dict[str, Any]]:
    """The rows of printed JSON."""
    rows: list[dict[str, Any]] = json.loads(text)
    return rows


def from_csv(text: str) -> list[dict[str, Any]]:
    """The rows of printed CSV, by column."""
    return [dict(row) for row in csv.DictReader(io.StringIO(text))]


def from_markdown(text: str) -> list[Table]:
    """The tables of printed Markdown."""
    found: list[Table] = []
    header: list[str] = []
    for written in text.splitlines():
        line = html.unescape(re.sub(r"\\([*_`<>])", r"\1", written))
        if line.startswith("### "):
            found.append(Table(line.removeprefix("### ")))
            header = []
        elif line.startswith("| ---") or line.startswith("|--"):
            continue
        elif line.startswith("| "):
            cells = [part.strip() for part in line.strip("| ").split(" | ")]
            if header:
                found[-1].rows.append(dict(zip(header, cells, strict=True)))
            else:
                header = cells
        elif line.startswith("- "):
            found[-1].notes.append(line.removeprefix("- "))
    return found


def from_latex(text: str) -> list[Table]:
    """The tables of printed LaTeX, with its signs turned into plain ones."""
    found: list[Table] = []
    header: list[str] = []
    for line in text.splitlines():
        if line.startswith(r"\caption{"):
            found.append(Table(_plain(line.removeprefix(r"\caption{")).partition(": ")[0]))
            header = []
        elif line.endswith(r" \\"):
            cells = [_plain(part) for part in line.removesuffix(r" \\").split(" & ")]
            if header:
                found[-1].rows.append(dict(zip(header, cells, strict=True)))
            else:
                header = cells
        elif line.startswith("% ") and found:
            found[-1].notes.append(line.removeprefix("% "))
    return found


def _plain(text: str) -> str:
    for written, sign in _LATEX.items():
        text = text.replace(written, sign)
    return text.strip()


def from_terminal(text: str, known: list[Table]) -> list[Table]:
    """Tables as a wide terminal shows them; their columns and the names of their rows are `known` from another form.

    All columns but the first are set to the right, so that a cell ends where its header does.
    """
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    of_tables: list[list[str]] = []  # of each table its title, its body, its notes and its legend
    for part in "\n".join(lines).split("\n\n"):
        if len(of_tables) < len(known) and part.partition("\n")[0] == known[len(of_tables)].title:
            of_tables.append([])
        of_tables[-1].append(part)
    assert len(of_tables) == len(known)
    found: list[Table] = []
    for parts, other in zip(of_tables, known, strict=True):
        head, body, *below = parts
        assert below, "a table without notes or legend"
        header, _, *rows = body.splitlines()
        columns = list(other.rows[0])
        ends: list[int] = []
        for column in columns:
            ends.append(header.index(column, ends[-1] if ends else 0) + len(column))
        made = []
        for line, row in zip(rows, other.rows, strict=True):
            made.append(dict(zip(columns, _fields(line, row[columns[0]], ends), strict=True)))
        found.append(Table(head.partition("\n")[0], made, "\n".join(below).splitlines()))
    return found


def _fields(line: str, name: str, ends: list[int]) -> list[str]:
    """The cells of a line, whose name may be longer than its header."""
    second = line[: ends[1]].strip()
    assert second.startswith(name), line
    rest = [line[start:end].strip() for start, end in pairwise(ends[1:])]
    return [name, second.removeprefix(name).strip(), *rest]
