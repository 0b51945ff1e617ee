"""Paths of a request made absolute, so that what was asked for in one folder can be asked for again in another.

Nothing else about a request changes: names in tables and the ids of runs know files by what they hold, not by where they lie.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from initbench import registry, spec
from initbench.catalog import Kind
from initbench.errors import InitbenchError
from initbench.paths import home, is_file
from initbench.spec import Spec


def component(kind: Kind, text: str) -> str:
    """A component string whose file, and the files that its parameters name, are absolute."""
    try:
        asked = spec.parse(text)
        found = _component(kind, asked)
        # A folder's name may hold what no component string can: then the path stays as it was written.
        return str(found) if found != asked and spec.parse(str(found)) == found else text
    except InitbenchError:  # whoever looks it up says what is wrong with it
        return text


def _component(kind: Kind, asked: Spec) -> Spec:
    files = getattr(getattr(registry.get(kind, asked).target, "info", None), "files", ())
    params = tuple((key, _value(kind, value, is_file=key in files)) for key, value in asked.params)
    if not asked.is_file:
        return Spec(asked.name, params)
    path, _, attribute = asked.name.rpartition(":")
    return Spec(f"{_absolute(path)}:{attribute}", params)


def _value(kind: Kind, value: Any, *, is_file: bool) -> Any:
    if isinstance(value, Spec):
        return _component(kind, value)
    return _absolute(value) if is_file and isinstance(value, str) and value else value


def dataset(text: str) -> str:
    """A data set's folder; a registered name, and the name of one below a data root, stay as they are."""
    path = home(text)
    by_name = text in registry.names("dataset") or (len(path.parts) == 1 and not is_file(path / "dataset.json"))
    return text if by_name else _absolute(text)


def recipe(text: str | None) -> str | None:
    """A recipe's file; a packaged one's name stays as it is."""
    return str(Path(text).absolute()) if text and text.endswith(".toml") else text


def _absolute(text: str) -> str:
    return str(home(text).absolute())
