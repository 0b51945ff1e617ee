"""Cancelling a study: a mark in its folder that everybody sees who works on it.

OUT/.sweeps/cancelled     another text each time the study is cancelled; whoever began before that saves and stops
"""

from __future__ import annotations

import uuid
from pathlib import Path

from initbench.limits import MAX_STATE, read_regular
from initbench.runs.store import SWEEPS

_FILE = "cancelled"


def mark(out: Path) -> str:
    """Returns the mark of a study. A process that began under another mark is to stop."""
    try:
        return read_regular(out / SWEEPS / _FILE, MAX_STATE).decode("ascii", "replace")
    except OSError:
        return ""


def cancel(out: Path) -> None:
    """Sets another mark.

    Raises:
        OSError: the folder of the study cannot be written.
    """
    path = out / SWEEPS / _FILE
    temporary = path.with_name(f".{_FILE}-{uuid.uuid4().hex}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_text(uuid.uuid4().hex, "ascii")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
