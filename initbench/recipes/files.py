"""Recipe files: which there are, and their tables as written. Light, so that listing them costs nothing."""

from __future__ import annotations

import copy
import functools
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from initbench.errors import UsageError
from initbench.paths import is_file

_SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z])")


def listing() -> list[tuple[str, str]]:
    """(name, first sentence of the source) of the recipes that come with the package."""
    return list(_listing())


@functools.cache  # a study asks for each of its runs
def _listing() -> tuple[tuple[str, str], ...]:
    folder = resources.files("initbench.recipes")
    tables = [_parsed(item.read_text("utf-8")) for item in folder.iterdir() if item.name.endswith(".toml")]
    found = []
    for table in tables:
        source = " ".join(table["source"].split())
        found.append((table["name"], _SENTENCE_END.split(source, maxsplit=1)[0]))
    return tuple(sorted(found))


def default_name(dataset: str, modality: str) -> str:
    """The recipe of a data set: its own, or the generic one of its modality."""
    known = {name for name, _ in listing()}
    if dataset in known:
        return dataset
    return "generic-ct" if modality.upper() == "CT" else "generic-mr"


def read_recipe_file(name: str) -> dict[str, Any]:
    """The table of a packaged recipe or of a TOML file.

    Raises:
        UsageError: there is none, or it is no TOML.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not is_file(path):
            raise UsageError(f"recipe {name}: there is no such file ({path.resolve()})")
        text = _text(path)
    else:
        file = resources.files("initbench.recipes") / f"{name}.toml"
        if not is_file(file):
            known = ", ".join(known for known, _ in listing())
            raise UsageError(f"unknown recipe {name!r}; known: {known}, or a path ending in .toml")
        text = file.read_text("utf-8")
    try:
        return copy.deepcopy(_parsed(text))
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, brackets in thousands
        raise UsageError(f"recipe {name}: {error}") from None


@functools.lru_cache(maxsize=64)  # a study reads few recipes, once for each of its blocks
def _parsed(text: str) -> dict[str, Any]:
    """The table in a text of TOML; whoever changes it changes a copy.

    Raises:
        ValueError, RecursionError: it is no TOML.
    """
    return tomllib.loads(text)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path} cannot be read as text ({error}); save it as UTF-8") from None
