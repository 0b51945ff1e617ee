"""The reference of a run's record, made from its pydantic model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from docs.generate.settings import takes
from docs.generate.text import code, docstring, plain, table
from initbench.runs.record import Record

INTRODUCTION = """# The record of a run

This page is made from the model that checks every `record.json`. [Runs](../explanation/runs.md) says what else is in the folder
of a run. Keys that a later version added are kept."""


def page() -> str:
    """Returns the page: a section for each part of a record."""
    return "\n\n".join([INTRODUCTION, *sections(Record)]) + "\n"


def sections(record: type[BaseModel]) -> Iterator[str]:
    """Yields a heading, a description and a table for a model and for every model in it."""
    waiting: list[tuple[str, type[BaseModel]]] = [("", record)]
    while waiting:
        prefix, part = waiting.pop(0)
        yield f"## `{prefix.rstrip('.')}`" if prefix else "## The whole"
        yield docstring(part)
        schema = part.model_json_schema(by_alias=True)
        rows = []
        for name, field in part.model_fields.items():
            key = field.alias or name
            waiting += [(f"{prefix}{key}.", inner) for inner in _models(field.annotation)]
            kind = takes(schema["properties"][key], bounds=False)
            rows.append(
                (code(f"{prefix}{key}"), kind.replace("whole number or number", "number"), plain(field.description or ""))
            )
        yield table(("key", "holds", "what it is"), rows)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the models that an annotation names, those inside of lists, tables and alternatives, too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
