"""How commands print tables and JSON, and say what is under way."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from initbench.printable import json_text, printable

if TYPE_CHECKING:
    from initbench.choices import SheetForm
    from initbench.tables.sheet import Sheet

_NAMED = 10  # folders that are named before the rest is counted


def show(sheets: Sequence[Sheet], form: SheetForm) -> None:
    """Prints tables on the terminal, or in another form to standard output."""
    # Sheets load pandas and scipy, which commands without a sheet must not wait for.
    from initbench.tables.sheet import FORMS, terminal

    if form == "table":
        terminal(sheets, Console(highlight=False))
    else:
        sys.stdout.write(FORMS[form](sheets).rstrip("\n") + "\n")


def write_json(value: Any) -> None:
    """Prints plain values as JSON; what is none is written as text, as paths are."""
    sys.stdout.write(json_text(value) + "\n")


def shown(text: str) -> str:
    """Returns the text as rich prints it: its brackets are no markup, and what would move a terminal is left out."""
    return escape(printable(text))


def warn(text: str) -> None:
    """Says on standard error what was left out of what is printed."""
    say("bold yellow", "warning", text)


def warn_of(items: Sequence[object], everywhere: str) -> None:
    """Warns of items, a line each, and of how many more there are than are named.

    Args:
        items: their text is what is said of them.
        everywhere: the command that names all of them.
    """
    for item in items[:_NAMED]:
        warn(str(item))
    if len(items) > _NAMED:
        warn(f"and {len(items) - _NAMED} more; {everywhere} names all")


def counts_of(states: Iterable[tuple[str, int]]) -> str:
    """Returns how many runs are in which state, in words."""
    return ", ".join(f"{number} {state}" for state, number in states)


def say(style: str, kind: str, text: str) -> None:
    """Says a line on standard error, in a colour where that is a terminal.

    Args:
        style: colour of `kind`, as rich names it.
        kind: what the line is: error, warning, note.
        text: the line; brackets in it stay as they are, and what would move a terminal does not.
    """
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[{style}]{kind}:[/] {shown(text)}")


def under_way(console: Console, text: str, *, silent: bool = False) -> contextlib.AbstractContextManager[object]:
    """Returns a context that says on a terminal what is under way.

    Args:
        console: where it is said.
        text: what is under way.
        silent: say nothing, as where JSON goes to the same place.
    """
    if silent or not console.is_terminal:
        return contextlib.nullcontext()
    return console.status(text)
