"""Paths that people write: asking about any of them gives an answer, never an exception of the file system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time it costs every command 20 ms
    from importlib.resources.abc import Traversable


def is_file(path: Traversable) -> bool:
    """Whether it is a file. No file system takes a name of thousands of letters, or a zero in it: there is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Whether there is anything, as `is_file`."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def home(text: str) -> Path:
    """A path with ``~`` resolved; that of a user whom nobody knows stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
