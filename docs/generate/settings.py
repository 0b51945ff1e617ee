"""The reference of recipes and records, made from their pydantic models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from docs.generate.text import code, docstring, table
from initbench.recipes import files
from initbench.recipes.settings import Recipe

RECIPES = """# Recipes

This page is made from the model that checks every recipe. `--set section.field=value` changes a setting, and
`initbench recipe show NAME` says which file a value comes from. [How recipes are used](../how-to/recipes.md)."""


def recipes() -> str:
    """Returns the page of recipes: those that come with the package, and every setting."""
    packaged = table(("recipe", "source"), [(code(name), source) for name, source in files.listing()])
    return "\n\n".join([RECIPES, "## Recipes of the package", packaged, "## Settings", *model(Recipe)]) + "\n"


def model(root: type[BaseModel]) -> Iterator[str]:
    """Yields the parts of a page about a model: its own fields, then one section for each model in it.

    Args:
        root: the model.
    """
    waiting: list[tuple[str, type[BaseModel]]] = [("", root)]
    while waiting:
        prefix, current = waiting.pop(0)
        title = prefix.rstrip(".") or "At the top"
        yield f"### {code(title) if prefix else title}"
        yield docstring(current)
        schema = current.model_json_schema()
        rows = []
        for name, field in current.model_fields.items():
            waiting += [(f"{prefix}{name}.", inner) for inner in _models(field.annotation)]
            said = _resolved(schema["properties"][name], schema.get("$defs", {}))
            default = "has to be given" if field.is_required() else _default(field.get_default(call_default_factory=True))
            rows.append((code(f"{prefix}{name}"), _kind(said, schema.get("$defs", {})), default, field.description or ""))
        yield table(("field", "value", "default", "what it is"), rows)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the models that an annotation names, inside lists and unions too."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "see below"
    return code("none" if value is None else repr(value))


def _resolved(said: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a field, followed to the definition that it refers to."""
    while "$ref" in said:
        said = definitions[said["$ref"].rpartition("/")[2]]
    return said


def _kind(said: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Returns in words what values a field takes, from its JSON schema."""
    said = _resolved(said, definitions)
    if "enum" in said or "const" in said:
        return " or ".join(map(code, said.get("enum") or [said["const"]]))
    if "anyOf" in said:
        return " or ".join(dict.fromkeys(_kind(inner, definitions) for inner in said["anyOf"]))
    if "prefixItems" in said:
        return f"{len(said['prefixItems'])} times: {_kind(said['prefixItems'][0], definitions)}"
    if said.get("type") == "array":
        return f"list of {_kind(said.get('items', {}), definitions)}"
    words = {"null": "none", "object": "section" if "properties" in said else "table"}
    kind = said.get("type", "any value")
    return words.get(kind, kind) + _bounds(said)


def _bounds(said: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {said[key]:g}" for key, sign in signs.items() if key in said]
    return f" {', '.join(found)}" if found else ""
