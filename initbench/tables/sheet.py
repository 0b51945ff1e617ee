"""A table with its title and notes, as terminal table, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from initbench.printable import RAISED, clean, csv_cell, json_text, latex, markdown
from initbench.tables import words

_BOUNDS = re.compile(r"\[([^][ ]+), ([^][ ]+)\]")  # without the space a narrow column breaks before an interval, not in it
_WORD = re.compile(r"\[[^]]*\]|\d[\d.]* (?:s|min|h)\b|\S+")  # what stays together
_CONDITION = re.compile(r"(.*\b(?:better|worse))( where .*|, though .*)")  # of a verdict
_MANY = 7  # columns, from which on each is set narrowly
_WIDE = 3  # characters between others
_NAME = 11  # characters of a name that is still read easily in lines of its own


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: the name of its block, or of what it compares.
        subtitle: what its rows share.
        columns: headers; the first are of names, the others of numbers.
        rows: cells as people read them.
        notes: what a reader has to know before believing it, a sentence or two each.
        legend: what its columns mean, likewise; a terminal shows it last, and dim.
        values: rows for machines, the values of each by their names.
        names: how many columns, from the left, are of names.
    """

    title: str
    subtitle: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    values: tuple[dict[str, Any], ...]
    names: int = 1
    legend: tuple[str, ...] = ()

    @property
    def below(self) -> tuple[str, ...]:
        """The notes and the legend."""
        return *self.notes, *self.legend


def all_rows(sheets: Sequence[Sheet]) -> list[tuple[str, ...]]:
    """Returns the rows of tables in their order, as people read them."""
    rows: list[tuple[str, ...]] = []
    for sheet in sheets:
        rows += sheet.rows
    return rows


def terminal(sheets: Sequence[Sheet], console: Console) -> None:
    """Prints tables; names and intervals take a second line where there is no room, and the last columns are left out."""
    for whole in sheets:
        sheet = _fitted(_footnoted(whole, console.width), console.width)
        rows = _narrow_rows(sheet)
        gap = _gap(sheet, rows, console.width)
        table = Table(box=SIMPLE_HEAD, padding=(0, (gap - 1) // 2), pad_edge=False)
        for number, (header, width) in enumerate(zip(sheet.columns, _widened(sheet, rows, console.width, gap), strict=True)):
            justify: JustifyMethod = "right"
            least = None
            if number < sheet.names:  # names may be folded, but not the header above them
                justify, least = "left", len(header)
            table.add_column(Text(clean(header)), justify=justify, overflow="fold", width=width, min_width=least)
        for cells in rows:
            table.add_row(*[Text(clean(cell)) for cell in cells])
        shown: list[RenderableType] = [
            Text(clean(sheet.title), style="bold").append(f"\n{clean(sheet.subtitle)}", "not bold dim")
        ]
        if rows:  # a header alone says nothing; the notes say why there is no row
            shown.append(table)
        for note in sheet.notes:
            shown.append(Text(clean(note), style=_style(note)))
        if sheet.legend and sheet.notes:
            shown.append(Text())  # what was found stands apart from what words mean
        for line in sheet.legend:
            shown.append(Text(clean(line), style="dim"))
        console.print(Group(*shown))
        console.print()


def _narrow_rows(sheet: Sheet) -> list[list[str]]:
    """Returns the rows with intervals that a narrow column does not break."""
    rows = []
    for row in sheet.rows:
        rows.append([_BOUNDS.sub(r"[\1,\2]", cell) for cell in row])
    return rows


def _footnoted(sheet: Sheet, room: int) -> Sheet:
    """Returns a table whose verdicts have their conditions below it, where a terminal is too narrow for them in the cells.

    Args:
        sheet: the table.
        room: characters of a line.
    """
    if _total(_whole_widths(sheet, _narrow_rows(sheet)), 1) <= room:
        return sheet
    marks: dict[str, str] = {}
    rows = []
    for row in sheet.rows:
        cells = []
        for cell in row:
            found = _CONDITION.fullmatch(cell)
            if found is None:
                cells.append(cell)
                continue
            verdict, condition = found.groups()
            mark = marks.setdefault(condition.strip(", "), str(len(marks) + 1).translate(RAISED))
            cells.append(f"{verdict}{mark}")
        rows.append(tuple(cells))
    notes = [f"{mark} {condition}." for condition, mark in marks.items()]
    return replace(sheet, rows=tuple(rows), notes=(*notes, *sheet.notes))


def _fitted(sheet: Sheet, room: int) -> Sheet:
    """Returns a table without its last columns where a terminal has no room for their words: a cut number would be a wrong one.

    Args:
        sheet: the table.
        room: characters of a line.
    """
    least = []
    for number, cells in enumerate(zip(sheet.columns, *_narrow_rows(sheet), strict=True)):
        word = _longest(cells, _WORD.findall)
        if number < sheet.names:  # longer names are folded
            word = min(word, max(len(cells[0]), _NAME))
        least.append(word)
    kept = len(least)
    while kept > sheet.names + 1 and _total(least[:kept], 1) > room:
        kept -= 1
    if kept == len(least):
        return sheet
    note = f"The terminal is too narrow for: {', '.join(sheet.columns[kept:])}. Markdown, CSV and JSON have them."
    rows = tuple(row[:kept] for row in sheet.rows)
    return replace(sheet, columns=sheet.columns[:kept], rows=rows, notes=(note, *sheet.notes))


def _whole_widths(sheet: Sheet, rows: Sequence[Sequence[str]]) -> list[int]:
    """Returns the characters that each column needs to have all of its cells on one line."""
    return [max(map(len, column)) for column in zip(sheet.columns, *rows, strict=True)]


def _gap(sheet: Sheet, rows: Sequence[Sequence[str]], room: int) -> int:
    """Returns the characters between two columns: three in a table of few columns whose cells have room on one line."""
    widths = _whole_widths(sheet, rows)
    if len(widths) < _MANY and _total(widths, _WIDE) <= room:
        return _WIDE
    return 1


def _total(widths: Sequence[int], gap: int) -> int:
    """Returns the characters of a row, with its two edges."""
    return sum(widths) + gap * (len(widths) - 1) + 2


def _widths(sheet: Sheet, rows: Sequence[Sequence[str]], room: int, gap: int) -> list[int | None]:
    """Returns the widths of columns in a table that is too wide; None for a column that may have what it needs.

    Numbers break at spaces, which leaves room for the names; a cut number would be a wrong one. Names then break between words as
    long as there is room for each word.
    """
    columns = list(zip(sheet.columns, *rows, strict=True))
    widths = _whole_widths(sheet, rows)
    found: list[int | None] = [None] * len(columns)
    for number in sorted(range(sheet.names, len(columns)), key=lambda number: -widths[number]):
        if _total(widths, gap) <= room:
            break
        found[number] = widths[number] = _longest(columns[number], _WORD.findall)
    lacking = _total(widths, gap) - room
    least = [_longest(column, str.split) for column in columns[: sheet.names]]
    if 0 < lacking <= sum(widths[: sheet.names]) - sum(least):
        for _ in range(lacking):
            widths[_widest(widths, least)] -= 1
        found[: sheet.names] = widths[: sheet.names]
    return found


def _widened(sheet: Sheet, rows: Sequence[Sequence[str]], room: int, gap: int) -> list[int | None]:
    """Returns `_widths`, where narrowed columns get the characters that are left, as long as rows take fewer lines by it."""
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
    """Returns the column that saves most lines when it is wider, and by how many characters; 0 where none saves a line.

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
    """Returns the lines that a cell takes where it is broken at spaces."""
    lines, used = 1, 0
    for word in cell.split():
        if used and used + len(word) > width:
            lines, used = lines + 1, 0
        used += len(word) + 1
    return lines


def _longest(cells: Sequence[str], divide: Callable[[str], list[str]]) -> int:
    """Returns the characters of the longest part into which any of the cells is divided; 0 where no cell has one."""
    longest = 0
    for cell in cells:
        for part in divide(cell):
            longest = max(longest, len(part))
    return longest


def _widest(widths: Sequence[int], least: Sequence[int]) -> int:
    """Returns the place of the widest column of names that can be narrower, the first one of several.

    Args:
        widths: of all columns.
        least: the least that each column of names needs.
    """
    place, widest = 0, 0
    for number, needed in enumerate(least):
        if widths[number] > max(needed, widest):
            place, widest = number, widths[number]
    return place


def _style(note: str) -> str:
    """Returns how a note is printed: warnings in yellow."""
    if note.startswith("Warning"):
        return "yellow"
    return ""


def as_markdown(sheets: Sequence[Sheet]) -> str:
    """Returns tables in Markdown."""
    lines: list[str] = []
    for sheet in sheets:
        lines += [f"### {markdown(sheet.title)}", "", markdown(sheet.subtitle), ""]
        if sheet.rows:
            lines += [_markdown_row(sheet.columns), "|" + " --- |" * len(sheet.columns)]
            lines += map(_markdown_row, sheet.rows)
            lines.append("")
        for note in sheet.below:
            lines.append(f"- {markdown(note)}")
        lines.append("")
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    """Returns a row of a table in Markdown."""
    return "| " + " | ".join(map(markdown, cells)) + " |"


def as_latex(sheets: Sequence[Sheet]) -> str:
    """Returns tables in LaTeX for the package booktabs, their notes as comments."""
    lines: list[str] = []
    for sheet in sheets:
        name = f"{sheet.title}: {sheet.subtitle}"
        notes = [f"% {clean(note)}" for note in sheet.below]
        if not sheet.rows:
            lines += [f"% {clean(name)}", *notes, ""]
            continue
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{latex(name)}}}"]
        lines += [rf"\begin{{tabular}}{{{'l' * sheet.names}{'r' * (len(sheet.columns) - sheet.names)}}}", r"\toprule"]
        lines += [_latex_row(sheet.columns), r"\midrule"]
        lines += map(_latex_row, sheet.rows)
        lines += [r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}", ""]
    return "\n".join(lines)


def _latex_row(cells: Sequence[str]) -> str:
    """Returns a row of a table in LaTeX."""
    return " & ".join(map(latex, cells)) + r" \\"


def plain_rows(sheets: Sequence[Sheet]) -> list[dict[str, Any]]:
    """Returns the rows of tables for machines; None where there is no value."""
    rows = []
    for sheet in sheets:
        for row in sheet.values:
            rows.append({key: words.plain(value) for key, value in row.items()})
    return rows


def as_csv(sheets: Sequence[Sheet]) -> str:
    """Returns a line for each row of any table, below the names of all columns; an empty text where there is no row."""
    rows = plain_rows(sheets)
    if not rows:
        return ""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writerow({name: csv_cell(name) for name in names})
    for row in rows:
        writer.writerow({name: csv_cell(value) for name, value in row.items()})
    return out.getvalue()


def as_json(sheets: Sequence[Sheet]) -> str:
    """Returns the rows of `as_csv` as a JSON list, null where there is no value."""
    return json_text(plain_rows(sheets))


FORMS: dict[str, Callable[[Sequence[Sheet]], str]] = {"md": as_markdown, "latex": as_latex, "csv": as_csv, "json": as_json}
