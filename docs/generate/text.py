"""Pieces of Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence


def cell(text: object) -> str:
    """Returns a text as it can stand in a cell of a table: on one line, with the bars outside of code escaped."""
    parts = " ".join(str(text).split()).split("`")
    parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
    return "`".join(parts)


def plain(text: object) -> str:
    """Returns a text that Markdown shows as it is written: names in backticks stay, everything else is escaped."""
    parts = str(text).split("`")
    parts[::2] = [re.sub(r"([\\*_\[\]<>])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def docstring(thing: object) -> str:
    """Returns a docstring with Google's headings in bold and its indented blocks as lists; empty where there is none."""
    lines: list[str] = []
    in_list = False
    for line in (inspect.getdoc(thing) or "").splitlines():
        indented = line.startswith("    ")
        if in_list != indented:
            lines.append("")  # Markdown begins and ends a list with an empty line
            in_list = indented
        if line in ("Args:", "Attributes:", "Raises:", "Returns:"):
            lines.append(f"**{line}**")
        elif line.startswith("     "):
            lines[-1] += f" {line.strip()}"
        elif indented:
            lines.append(f"- {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines).strip()


def code(text: object) -> str:
    """Returns a text as code, or a dash where there is none."""
    return f"`{text}`" if text not in (None, "") else "–"
