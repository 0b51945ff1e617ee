"""Reads and checks the tables that lie in data sets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from initbench.errors import DataError
from initbench.paths import is_file


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: it cannot be read, or an object in it has a key twice, of which one value would be lost.
    """
    try:
        return json.loads(path.read_text("utf-8"), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:  # also numbers of thousands of digits, brackets in thousands
        raise DataError(f"{path} is not valid JSON: {error}; correct it there, or copy the file again") from None


def read_description(root: Path) -> dict[str, Any] | None:
    """Reads the dataset.json of a folder; None where there is none, or where it is no object.

    Raises:
        DataError: it is no JSON, or has a key twice.
    """
    path = root / "dataset.json"
    if not is_file(path):
        return None
    table = read_json(path)
    if not isinstance(table, dict):
        return None
    return table


def with_keys(path: Path, table: Any, needed: Sequence[str], what: str) -> dict[str, Any]:
    """Returns a table that has the keys that its format needs.

    Args:
        path: of the file, for messages.
        table: the whole of it.
        needed: the keys.
        what: the format, for messages.

    Raises:
        DataError: it is no object, or a key is missing or empty; names every such key.
    """
    if not isinstance(table, dict):
        table = {}
    missing = [key for key in needed if not table.get(key)]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} is missing or empty; {what} needs {', '.join(needed)}")
    return dict(table)


def some(names: Sequence[str]) -> str:
    """Lists the first of many names, for a message."""
    shown = ", ".join(names[:5])
    if len(names) > 5:
        shown += f" and {len(names) - 5} more"
    return shown


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice, _ = counts.most_common(1)[0]
        raise ValueError(f"the key {twice!r:.80} is there twice in one object; remove one")
    return table


def numbered(path: Path, key: str, table: Any, example: str) -> dict[int, str]:
    """Returns the names by number of an entry such as ``{"0": "background", "1": "tumour"}``.

    Args:
        path: of the file, for messages.
        key: of the entry, for messages.
        table: the entry.
        example: a name of number 0.

    Raises:
        DataError: it is no such table, a name is no text, or a number is there twice.
    """
    right = f"{key} must map numbers to names, as in {{'0': {example!r}}}"
    if not isinstance(table, Mapping):
        raise DataError(f"{path}: {right}")
    names: dict[int, str] = {}
    for written, name in table.items():
        try:
            number = int(written)
        except ValueError:
            raise DataError(f"{path}: {right}; {written!r:.80} is no number") from None
        if number in names:
            raise DataError(f"{path}: {key}: number {number} is there twice; give each name a number of its own")
        names[number] = text(path, key, name)
    return names


def text(path: Path, key: str, name: Any) -> str:
    """Returns a name of a table.

    Args:
        path: of the file, for messages.
        key: of the entry that the name stands in, for messages.
        name: what stands there.

    Raises:
        DataError: it is no text, as an object or nothing.
    """
    if not isinstance(name, str | int) or isinstance(name, bool) or not str(name).strip():
        raise DataError(f"{path}: {key}: a name must be text, got {name!r:.100}")
    return str(name)


def consecutive(where: str, names: Mapping[int, str]) -> tuple[str, ...]:
    """Returns the names in the order of their numbers.

    Raises:
        DataError: the numbers have gaps, or do not begin with 0.
    """
    if sorted(names) != list(range(len(names))):
        raise DataError(f"{where} must be numbered from 0 without gaps, got {sorted(names)}")
    return tuple(names[number] for number in range(len(names)))


def unread_keys(path: Path, table: Mapping[str, Any], known: Collection[str]) -> tuple[str, ...]:
    """Returns a remark about the keys of a table that its reader does not know; none where it knows all.

    Args:
        path: of the file that holds the table.
        table: the whole of it.
        known: the keys that are read, or that are for people.
    """
    strange = sorted(key for key in table if key not in known)
    if not strange:
        return ()
    return (f"{path.name}: keys that are not read here: {some(strange)}",)
