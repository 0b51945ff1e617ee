"""The command line: its commands by panel of the help. Each is declared in the module that does it.

Modules of commands import nothing heavy at their top, because every command registers all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from io import TextIOWrapper
from typing import Annotated

import typer
from rich.console import Console
from typer.core import TyperGroup

from initbench import registry
from initbench.cli.collect import collect
from initbench.cli.data import download_data, info_data, list_data, prepare_data, verify_data
from initbench.cli.diagnose import diagnose
from initbench.cli.doctor import doctor
from initbench.cli.measure import measure
from initbench.cli.output import say, shown, warn
from initbench.cli.plan import plan
from initbench.cli.pretrain import pretrain
from initbench.cli.recipe import diff_recipes, new_recipe, show_recipe
from initbench.cli.report_page import report
from initbench.cli.reproduce import reproduce
from initbench.cli.run import retry, run
from initbench.cli.show import describe, list_components
from initbench.cli.spellings import newly_spelled
from initbench.cli.statistics import classes, compare, leaderboard, power, variance
from initbench.cli.status import status
from initbench.cli.validate import validate_backbone, validate_init, validate_regimen
from initbench.cli.verify import verify
from initbench.cli.work import cancel, work
from initbench.dice import TABLES_ALONE
from initbench.errors import InitbenchError, InterruptedRunError

_INTERRUPTED = 130  # the code with which typer ends on Ctrl-C, as shells do

Command = Callable[..., None]
Commands = dict[str, Command]


def _group(commands: Commands, text: str) -> typer.Typer:
    """Returns commands that share a first word, with what the help says of it."""
    group = typer.Typer(no_args_is_help=True, help=text)
    for name, command in commands.items():
        group.command(name)(command)
    return group


DATA: Commands = {
    "list": list_data,
    "info": info_data,
    "verify": verify_data,
    "prepare": prepare_data,
    "download": download_data,
}
RECIPE: Commands = {"show": show_recipe, "diff": diff_recipes, "new": new_recipe}
VALIDATE: Commands = {"backbone": validate_backbone, "init": validate_init, "regimen": validate_regimen}
PANELS: dict[str, dict[str, Command | typer.Typer]] = {
    "Study": {
        "run": run,
        "plan": plan,
        "status": status,
        "work": work,
        "cancel": cancel,
        "collect": collect,
        "retry": retry,
        "reproduce": reproduce,
        "pretrain": pretrain,
    },
    "Results": {
        "leaderboard": leaderboard,
        "classes": classes,
        "compare": compare,
        "variance": variance,
        "power": power,
        "report": report,
        "measure": measure,
    },
    "Data": {"data": _group(DATA, "List, look at, prepare and download data sets.")},
    "Components": {
        "list": list_components,
        "describe": describe,
        "diagnose": diagnose,
        "recipe": _group(RECIPE, "Show, compare or write recipes."),
    },
    "Checks": {
        "doctor": doctor,
        "verify": verify,
        "validate": _group(VALIDATE, "Check a plug-in against its contract."),
    },
}


class InPanelOrder(TyperGroup):
    """The commands in the order of the panels; typer puts groups behind all single commands."""

    def list_commands(self, ctx: object) -> list[str]:
        """Returns the names of the commands."""
        names: list[str] = []
        for commands in PANELS.values():
            names += commands
        return names


app = typer.Typer(
    name="initbench",
    cls=InPanelOrder,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)


def _show_version(asked: bool) -> None:
    """Prints the version and ends, before any command is looked at."""
    if asked:
        typer.echo(f"initbench {metadata.version('initbench')}")
        raise typer.Exit


@app.callback()
def initbench(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """How much does weight initialization decide volumetric medical segmentation?

    Crosses initializers with backbones, trains them under fixed seeds, and reports how Dice varies across inits.
    """
    for kind in registry.LISTED:
        for problem in registry.problems(kind).values():
            warn(problem)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command. People get one line, not a traceback.

    Args:
        arguments: the words of the command; by default the arguments of the process.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    _replace_what_cannot_be_written()
    try:
        # Typer would draw a box around what is wrong with an option; a line can be searched for and copied.
        code = app(args=newly_spelled(arguments), standalone_mode=False)
    except typer.TyperException as error:
        _refuse(error)
        sys.exit(error.exit_code)
    except InterruptedRunError as error:  # who stops a command knows why it ended
        Console(stderr=True, highlight=False, soft_wrap=True).print(shown(str(error)))
        sys.exit(error.exit_code)
    except InitbenchError as error:
        say("bold red", "error", str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `initbench list | head`
        sys.stderr.close()
        sys.exit(1)
    if code == _INTERRUPTED:
        say("bold red", "error", "interrupted")
    sys.exit(code or 0)


def _replace_what_cannot_be_written() -> None:
    """Lets a terminal or a file of ASCII or Latin-1, as batch jobs have, show a question mark for "×" in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _refuse(error: typer.TyperException) -> None:
    """Says what is wrong with an option or a value, and where the right ones are listed."""
    # Typer leaves the check of a value to pydantic, whose name for what is wrong says nothing here.
    text = error.format_message().removesuffix(".").replace("Value error, ", "")
    if not text:  # a command without its arguments: typer printed its help
        return
    for policy, reason in TABLES_ALONE.items():
        if f"{policy!r} is not one of" in text:
            text += f"; {reason}"
    context = getattr(error, "ctx", None)
    if context is not None:
        text += f"; {context.command_path} --help lists what there is"
    say("bold red", "error", text)
