"""The reference of recipes, made from the pydantic model that checks them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from docs.generate.text import code, docstring, plain, table
from initbench.recipes import files
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe

INTRODUCTION = """# Recipes

This page is made from the model that checks every recipe. `--set section.field=value` changes a setting, and
`initbench recipe show NAME` says which file a value comes from. [How recipes are used](../how-to/recipes.md)."""

SETTINGS = """## Settings

The last column is what `base` says at paper size, which every other recipe starts from."""


def page() -> str:
    """Returns the page of recipes: those that come with the package, and every setting."""
    parts = [INTRODUCTION, "## Recipes of the package"]
    for name, _ in files.listing():
        parts += [f"### `{name}`", plain(files.read_recipe_file(name)["source"].strip())]
    base = load_recipe("base", size="paper", backbone="", budget="paper")
    return "\n\n".join([*parts, SETTINGS, *sections(base)]) + "\n"


def sections(recipe: Recipe) -> Iterator[str]:
    """Yields a heading, a description and a table for each section of a recipe."""
    waiting: list[tuple[str, BaseModel]] = [("", recipe)]
    while waiting:
        prefix, section = waiting.pop(0)
        yield f"### `{prefix.rstrip('.')}`" if prefix else "### At the top"
        yield docstring(type(section))
        schema = type(section).model_json_schema()
        rows = []
        for name, value in section:
            if isinstance(value, BaseModel):
                waiting.append((f"{prefix}{name}.", value))
            else:
                rows.append((code(f"{prefix}{name}"), takes(schema["properties"][name]), _shown(value)))
        if rows:
            yield table(("setting", "takes", "base"), rows)


def _shown(value: Any) -> str:
    """Returns a value as one writes it after ``--set``; texts of several lines stand in the file alone."""
    if isinstance(value, tuple):
        return code(",".join(map(str, value)))
    return "–" if value is None or "\n" in str(value) else code(value)


def takes(schema: dict[str, Any], *, bounds: bool = True) -> str:
    """Returns in words what values a setting takes, from its JSON schema.

    Args:
        schema: of one setting.
        bounds: with the least and the greatest number.
    """
    if "$ref" in schema or "allOf" in schema:
        return "a part of its own"
    if "enum" in schema or "const" in schema:
        return " or ".join(map(code, schema.get("enum") or [schema["const"]]))
    if "anyOf" in schema:
        kinds = [takes(kind, bounds=bounds) for kind in schema["anyOf"]]
        return " or ".join(dict.fromkeys(kinds))
    if "prefixItems" in schema:
        return f"{len(schema['prefixItems'])} times ({takes(schema['prefixItems'][0], bounds=bounds)})"
    if schema.get("type") == "array":
        return f"list of {takes(schema['items'], bounds=bounds)}"
    kind = schema.get("type", "anything")
    words = {"null": "nothing", "string": "text", "integer": "whole number", "boolean": "true or false", "object": "table"}
    return words.get(kind, kind) + (_bounds(schema) if bounds else "")


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return f" {', '.join(found)}" if found else ""
