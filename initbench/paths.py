"""Paths that people write: asking about any of them gives an answer, never an exception of the file system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time it costs every command 20 ms
    from importlib.resources.abc import Traversable


def is_file(path: Traversable) -> bool:
    """Returns whether it is a file; false for a name that no file system takes: thousands of letters, or a zero among them."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Returns whether there is a file or a folder; false for what no file system takes, as `is_file`."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def nearest_existing(folder: Path) -> Path:
    """Returns a folder, made absolute, or where there is no such folder the nearest one above it that is there."""
    whole = folder.absolute()
    for path in (whole, *whole.parents):
        if exists(path):
            return path
    return Path(whole.anchor)


def home(text: str) -> Path:
    """Returns a path with ``~`` resolved. A path with the ``~`` of a user whom the system does not know stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
