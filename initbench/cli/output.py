"""How commands print tables, and say what is under way."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from initbench.tables.sheet import FORMS, Sheet, terminal


def show(sheets: Sequence[Sheet], form: str) -> None:
    """Prints tables on the terminal, or in one of the `FORMS`."""
    if form == "table":
        terminal(sheets, Console(highlight=False))
    else:
        sys.stdout.write(FORMS[form](sheets).rstrip("\n") + "\n")


def warn(text: str) -> None:
    """Says beside what is printed that something was left out of it."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold yellow]warning:[/] {escape(text)}")


def saying(console: Console, text: str) -> contextlib.AbstractContextManager[object]:
    """Says on a terminal what is under way."""
    return console.status(text) if console.is_terminal else contextlib.nullcontext()
