"""How commands print tables, and say what is under way."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from rich.console import Console

from initbench.leaderboard.sheet import FORMS, Sheet, terminal


def show(sheets: Sequence[Sheet], form: str) -> None:
    """Prints tables on the terminal, or in one of the `FORMS`."""
    if form == "table":
        terminal(sheets, Console(highlight=False))
    else:
        sys.stdout.write(FORMS[form](sheets).rstrip("\n") + "\n")


def saying(console: Console, text: str) -> contextlib.AbstractContextManager[object]:
    """Says on a terminal what is under way."""
    return console.status(text) if console.is_terminal else contextlib.nullcontext()
