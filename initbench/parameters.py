"""Whether a value fits a parameter of a component, by what its author wrote behind the colon."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

# What a component string can hold. Other types mean something that the author makes of the value, so any value passes.
_SIMPLE = (int, float, str, bool, type(None), tuple, list, dict)


def misfit(function: Callable[..., Any], key: str, value: Any) -> str:
    """Says in what a value does not fit the annotation of a parameter; "" where it fits, or the annotation does not tell.

    Args:
        function: that has the parameter.
        key: name of the parameter.
        value: as a component string gives it.
    """
    annotation = _annotations(function).get(key)
    if annotation is None or not _is_simple(annotation):
        return ""
    from pydantic import TypeAdapter, ValidationError  # not quickly imported, and most commands need no parameter

    adapter = TypeAdapter(annotation)
    reasons: set[str] = set()
    # A component string may have a list where a tuple is annotated: several values are several values.
    for form in (value, _as_tuples(value)):
        try:
            adapter.validate_python(form, strict=True)
        except ValidationError as error:
            reasons = {item["msg"].replace("Input should be", "it has to be") for item in error.errors()}
        else:
            return ""
    return " or ".join(sorted(reasons))


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that exist for type checkers alone, say; or a callable object
        return {}


def _is_simple(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Literal or annotation is Ellipsis:
        return True
    if origin is None:
        return annotation in _SIMPLE
    if origin in (typing.Union, types.UnionType, *_SIMPLE):
        return all(_is_simple(part) for part in get_args(annotation))
    return False


def _as_tuples(value: Any) -> Any:
    """Returns a value with tuples in place of its lists."""
    if not isinstance(value, list | tuple):
        return value
    return tuple(map(_as_tuples, value))
