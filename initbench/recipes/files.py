"""Lists and reads recipe files. It imports little, so that listing them costs nothing."""

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
    """Returns the names of the recipes that come with the package, each with the first sentence of its source."""
    return list(_listing())


@functools.cache  # a study asks for each of its runs
def _listing() -> tuple[tuple[str, str], ...]:
    folder = resources.files("initbench.recipes")
    found = []
    for file in folder.iterdir():
        if not file.name.endswith(".toml"):
            continue
        table = _parsed(file.read_text("utf-8"))
        found.append((table["name"], first_sentence(table["source"])))
    return tuple(sorted(found))


def first_sentence(source: str) -> str:
    """Returns the first sentence of what a recipe says of its sources, on one line."""
    return _SENTENCE_END.split(" ".join(source.split()), maxsplit=1)[0]


def default_name(dataset: str, modality: str) -> str:
    """Returns the name of a data set's recipe: its own, or the generic one of its modality."""
    if dataset in dict(listing()):
        return dataset
    if modality.upper() == "CT":
        return "generic-ct"
    return "generic-mr"


def read_recipe_file(name: str) -> dict[str, Any]:
    """Reads the table of a packaged recipe or of a TOML file.

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
            known = ", ".join(dict(listing()))
            raise UsageError(f"unknown recipe {name!r}; known: {known}, or a path ending in .toml")
        text = file.read_text("utf-8")
    try:
        return copy.deepcopy(_parsed(text))
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, brackets in thousands
        raise UsageError(f"recipe {name}: {error}") from None


@functools.lru_cache(maxsize=64)  # a study reads few recipes, once for each of its blocks
def _parsed(text: str) -> dict[str, Any]:
    """Parses a text of TOML into a table, which callers share: whoever changes it changes a copy.

    Raises:
        ValueError, RecursionError: it is no TOML.
    """
    return tomllib.loads(text)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path} cannot be read as text ({error}); save it as UTF-8") from None
