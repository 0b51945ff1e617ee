"""Pieces of Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence


def cell(text: object) -> str:
    """Returns a text as it can stand in a cell of a table: on one line, its bars escaped."""
    return " ".join(str(text).split()).replace("|", "\\|")


def plain(text: object) -> str:
    """Returns a text that Markdown shows as it is written: names in backticks stay, everything else is escaped."""
    parts = str(text).split("`")
    for number in range(0, len(parts), 2):
        parts[number] = re.sub(r"([\\*_\[\]<>])", r"\\\1", parts[number])
    return "`".join(parts)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def docstring(thing: object) -> str:
    """Returns a docstring with Google's headings in bold; empty where there is none.

    Indented blocks become lists of definitions, so that Markdown does not take them for code.
    """
    lines = []
    for line in (inspect.getdoc(thing) or "").splitlines():
        name, colon, rest = line.strip().partition(":")
        if line in ("Args:", "Attributes:", "Raises:", "Returns:"):
            lines += ["", f"**{line}**", ""]
        elif line.startswith("    ") and not line.startswith("     ") and colon:
            lines.append(f"- {name}:{rest}")
        else:
            lines.append(line)
    return "\n".join(lines).strip()


def code(text: object) -> str:
    """Returns a text as code, or a dash where there is none."""
    return f"`{text}`" if text not in (None, "") else "–"
