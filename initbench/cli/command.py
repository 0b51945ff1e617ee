"""The decorator of commands: it shows typer the options of a group as if the command had declared each of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from initbench.cli.options import PANELS


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Returns a command as typer needs it: the options of a group are parameters of their own, sorted by panel.

    Args:
        function: what the command does; some of its parameters may be annotated with a group.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        group: Any = parameter.annotation
        if is_dataclass(group):
            groups[parameter.name] = group
            parameters += inspect.signature(parameter.annotation, eval_str=True).parameters.values()
        else:
            parameters.append(parameter)

    @functools.wraps(function)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            options = {field.name: values.pop(field.name) for field in fields(group)}
            values[name] = group(**options)
        function(**values)

    keywords = []
    call.__annotations__ = {}
    for parameter in sorted(parameters, key=_panel):
        # As keywords, parameters may stand in any order: what is needed need not come first.
        keywords.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        call.__annotations__[parameter.name] = parameter.annotation
    call.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    call.__doc__ = _reflowed(function.__doc__ or "")
    return call


def _reflowed(text: str) -> str:
    """Returns a docstring without the line breaks inside its paragraphs, which the help would print on a narrow terminal."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


def _panel(parameter: inspect.Parameter) -> int:
    """Returns the place of a parameter's panel; arguments, which have none, come first."""
    for stated in getattr(parameter.annotation, "__metadata__", ()):
        if stated.rich_help_panel in PANELS:
            return PANELS.index(stated.rich_help_panel)
    return -1
