"""The reference of the command line, made from the commands that are registered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from docs.generate.text import code, plain, table
from initbench.cli.app import app
from initbench.cli.spellings import OLD_SPELLINGS

INTRODUCTION = """# Commands

This page is made from the command line itself, so it says what `initbench COMMAND --help` says.
[Options that decide the numbers](../how-to/options.md) says which of the options change a result.

`initbench --install-completion` makes the shell complete commands, options, and names of inits, backbones and data sets."""
OPTIONS = "An option has the same meaning in every command that takes it."
OLD = "An old spelling still works. The command says the new one on standard error."


def page() -> str:
    """Returns the page: every command under its panel, with its arguments and options."""
    panels: dict[str, list[str]] = {}
    for name, command in commands():
        panels.setdefault(_panel(command), []).append(_command(name, command))
    parts = [INTRODUCTION]
    for panel, sections in panels.items():
        parts += [f"## {panel}", *sections]
    parts += ["## Options and their meanings", OPTIONS, meanings(), "## Old spellings", OLD, old_spellings()]
    return "\n\n".join(parts) + "\n"


def meanings() -> str:
    """Returns a table of every option name with its meaning, which is the first sentence of its help."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name, command in commands():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                meaning = parameter.help.split(". ")[0].removesuffix(".")
                for option in parameter.opts:
                    found.setdefault(option, (meaning, []))[1].append(name.removeprefix("initbench "))
    rows = [(code(option), plain(meaning), ", ".join(names)) for option, (meaning, names) in sorted(found.items())]
    return table(("option", "meaning", "commands"), rows)


def old_spellings() -> str:
    """Returns a table of the options that had another name."""
    rows = []
    for words, names in OLD_SPELLINGS.items():
        command = " ".join(("initbench", *words))
        rows += [(code(command), code(old), code(new)) for old, new in names.items()]
    return table(("command", "old spelling", "new spelling"), rows)


def commands() -> Iterator[tuple[str, Any]]:
    """Yields every command with its full name, as ``initbench data info``; groups give their commands the panel of the group."""
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner is None:
            yield f"initbench {name}", command
            continue
        for own_name, own in inner.items():
            if not isinstance(own.rich_help_panel, str):
                own.rich_help_panel = command.rich_help_panel
            yield f"initbench {name} {own_name}", own


def _panel(thing: Any) -> str:
    """Returns the panel of help in which a command or an option stands."""
    panel = getattr(thing, "rich_help_panel", None)
    if isinstance(panel, str):
        return panel
    return "Options" if hasattr(thing, "opts") else "Commands"


def _command(name: str, command: Any) -> str:
    context = typer.Context(command)
    parts = [f"### `{name}`", plain(command.help).strip()]
    arguments = [_row(parameter, context) for parameter in command.params if parameter.param_type_name == "argument"]
    if arguments:
        parts.append(table(("argument", "what it is"), arguments))
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            panels.setdefault(_panel(parameter), []).append(_row(parameter, context))
    for panel, rows in panels.items():
        parts.append(table((panel.lower(), "what it does"), rows))
    return "\n\n".join(parts)


def _row(parameter: Any, context: typer.Context) -> tuple[str, str]:
    """Returns how a parameter is written, and its help with its default."""
    written, said = parameter.get_help_record(context)
    return code(written), plain(said)
