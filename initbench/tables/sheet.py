"""A table with its title and notes, as terminal table, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from initbench.printable import clean, csv_cell, json_text, latex, markdown
from initbench.tables import words

_BOUNDS = re.compile(r"\[([^][ ]+), ([^][ ]+)\]")  # without the space a narrow column breaks before an interval, not in it
_WORD = re.compile(r"\[[^]]*\]|\d[\d.]* (?:s|min|h)\b|\S+")  # what stays together
_MANY = 7  # columns, from which on each is set narrowly
_WIDE = 3  # characters between others


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: what it is of.
        subtitle: what its rows share.
        columns: headers; the first are of names, the others of numbers.
        rows: cells as people read them.
        notes: what has to be known before believing it.
        values: the same for machines, a mapping per row.
        names: how many columns from the left are of names.
    """

    title: str
    subtitle: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    values: tuple[dict[str, Any], ...]
    names: int = 1


def terminal(sheets: Sequence[Sheet], console: Console) -> None:
    """Prints tables; names and intervals take a second line where there is no room."""
    for sheet in sheets:
        rows = [[_BOUNDS.sub(r"[\1,\2]", cell) for cell in row] for row in sheet.rows]
        gap = _gap(sheet, rows, console.width)
        table = Table(box=SIMPLE_HEAD, padding=(0, (gap - 1) // 2), pad_edge=False)
        for number, (header, width) in enumerate(zip(sheet.columns, _widened(sheet, rows, console.width, gap), strict=True)):
            justify: JustifyMethod = "left" if number < sheet.names else "right"
            # Names may be folded, but not the header above them.
            least = len(header) if number < sheet.names else None
            table.add_column(Text(clean(header)), justify=justify, overflow="fold", width=width, min_width=least)
        for row in rows:
            table.add_row(*(Text(clean(cell)) for cell in row))
        heading = Text(clean(sheet.title), style="bold").append(f"\n{clean(sheet.subtitle)}", style="not bold dim")
        shown = [table] if rows else []  # a header alone says nothing; the notes say why there is no row
        console.print(Group(heading, *shown, *(Text(clean(note), style=_style(note)) for note in sheet.notes)))
        console.print()


def _gap(sheet: Sheet, rows: Sequence[Sequence[str]], room: int) -> int:
    """Characters between two columns: three in a table of few columns whose cells have room on one line."""
    columns = zip(sheet.columns, *rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    return _WIDE if len(widths) < _MANY and _total(widths, _WIDE) <= room else 1


def _total(widths: Sequence[int], gap: int) -> int:
    """Characters of a row, with its two edges."""
    return sum(widths) + gap * (len(widths) - 1) + 2


def _widths(sheet: Sheet, rows: Sequence[Sequence[str]], room: int, gap: int) -> list[int | None]:
    """Returns the widths of columns in a table that is too wide; None for a column that may have what it needs.

    Numbers break at spaces, which leaves room for the names; a cut number would be a wrong one. Names then break between words as
    long as there is room for each word.
    """
    columns = list(zip(sheet.columns, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    found: list[int | None] = [None] * len(columns)
    for number in sorted(range(sheet.names, len(columns)), key=lambda number: -widths[number]):
        if _total(widths, gap) <= room:
            break
        found[number] = widths[number] = max(len(word) for cell in columns[number] for word in _WORD.findall(cell) or [""])
    lacking = _total(widths, gap) - room
    names = range(sheet.names)
    least = [max(len(word) for cell in columns[number] for word in cell.split() or [""]) for number in names]
    if 0 < lacking <= sum(widths[number] - least[number] for number in names):
        for _ in range(lacking):
            widest = max(names, key=lambda number: widths[number] if widths[number] > least[number] else 0)
            widths[widest] -= 1
        found[: sheet.names] = widths[: sheet.names]
    return found


def _widened(sheet: Sheet, rows: Sequence[Sequence[str]], room: int, gap: int) -> list[int | None]:
    """Return `_widths`, where narrowed columns get the characters that are left, as long as rows take fewer lines by it."""
    found = _widths(sheet, rows, room, gap)
    widths, narrowed = [], []
    for number, (cells, width) in enumerate(zip(zip(sheet.columns, *rows, strict=True), found, strict=True)):
        if width is not None and number >= sheet.names:
            narrowed.append(number)
        widths.append(width or max(map(len, cells)))
    spare = room - _total(widths, gap)
    while spare > 0:
        number, more = _most_saving(rows, widths, narrowed, spare)
        if not more:
            break
        widths[number] += more
        found[number] = widths[number]
        spare -= more
    return found


def _most_saving(rows: Sequence[Sequence[str]], widths: Sequence[int], narrowed: Sequence[int], spare: int) -> tuple[int, int]:
    """Return the column that saves most lines when it is wider, and by how many characters; 0 where none saves a line.

    Args:
        rows: the cells.
        widths: of all columns.
        narrowed: the columns that may be wider.
        spare: characters that are left.
    """
    heights = []
    for row in rows:
        heights.append([_lines(cell, width) for cell, width in zip(row, widths, strict=True)])
    most, place, added = 0, 0, 0
    for number in narrowed:
        for more in range(1, spare + 1):
            saved = 0
            for row, lines in zip(rows, heights, strict=True):
                others = [*lines[:number], *lines[number + 1 :]]
                saved += max(lines) - max([_lines(row[number], widths[number] + more), *others])
            if saved > most:
                most, place, added = saved, number, more
    return place, added


def _lines(cell: str, width: int) -> int:
    """Return the lines that a cell takes where it is broken at spaces."""
    lines, used = 1, 0
    for word in cell.split():
        if used and used + len(word) > width:
            lines, used = lines + 1, 0
        used += len(word) + 1
    return lines


def _style(note: str) -> str:
    return "yellow" if note.startswith("Warning") else ""


def as_markdown(sheets: Sequence[Sheet]) -> str:
    """Markdown tables."""
    lines: list[str] = []
    for sheet in sheets:
        lines += [f"### {markdown(sheet.title)}", "", markdown(sheet.subtitle), ""]
        if sheet.rows:
            lines += ["| " + " | ".join(map(markdown, sheet.columns)) + " |", "|" + " --- |" * len(sheet.columns)]
            lines += ["| " + " | ".join(map(markdown, row)) + " |" for row in sheet.rows]
            lines.append("")
        lines += [*(f"- {markdown(note)}" for note in sheet.notes), ""]
    return "\n".join(lines)


def as_latex(sheets: Sequence[Sheet]) -> str:
    """LaTeX tables for the package booktabs; notes as comments."""
    lines: list[str] = []
    for sheet in sheets:
        if not sheet.rows:
            lines += [f"% {clean(f'{sheet.title}: {sheet.subtitle}')}", *(f"% {clean(note)}" for note in sheet.notes), ""]
            continue
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{latex(f'{sheet.title}: {sheet.subtitle}')}}}"]
        lines += [rf"\begin{{tabular}}{{{'l' * sheet.names}{'r' * (len(sheet.columns) - sheet.names)}}}", r"\toprule"]
        lines += [" & ".join(map(latex, sheet.columns)) + r" \\", r"\midrule"]
        lines += [" & ".join(map(latex, row)) + r" \\" for row in sheet.rows]
        lines += [r"\bottomrule", r"\end{tabular}", *(f"% {clean(note)}" for note in sheet.notes), r"\end{table}", ""]
    return "\n".join(lines)


def plain_rows(sheets: Sequence[Sheet]) -> list[dict[str, Any]]:
    """The rows of tables for machines; None where there is no value."""
    rows = []
    for sheet in sheets:
        rows += [{key: words.plain(value) for key, value in row.items()} for row in sheet.values]
    return rows


def as_csv(sheets: Sequence[Sheet]) -> str:
    """One line a row of any table; empty where there is no value."""
    rows = plain_rows(sheets)
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writerow({key: csv_cell(key) for key in writer.fieldnames})
        for row in rows:
            writer.writerow({key: csv_cell(value) for key, value in row.items()})
    return out.getvalue()


def as_json(sheets: Sequence[Sheet]) -> str:
    """The rows of `as_csv` as a JSON list, null where there is no value."""
    return json_text(plain_rows(sheets))


FORMS: dict[str, Callable[[Sequence[Sheet]], str]] = {"md": as_markdown, "latex": as_latex, "csv": as_csv, "json": as_json}
