"""The options of the commands: what each name means, its default, and the groups of them that several commands share.

An option name has one meaning. It is the first sentence of its help, which is the same wherever the option stands (a test holds
it); sentences after it say how many values a command takes, and what it does without any.

A group is a frozen dataclass whose fields are options. A command takes it as one parameter; `with_options` shows typer the fields.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from initbench import registry
from initbench.catalog import Kind
from initbench.choices import Budget, PrecisionChoice, SheetForm
from initbench.errors import UsageError
from initbench.protocols import Size

if TYPE_CHECKING:
    pass

# Panels of the help.
WHAT = "What"
HOW_LONG = "How long"
WHERE = "Where"
WHICH_DATA = "Which data"
WHICH_RUNS = "Which runs"
HOW_JUDGED = "How they are judged"
OUTPUT = "Output"

# Defaults that several commands share.
BUDGET: Budget = "paper"
DATASET = "phantom-lung"
DEVICE = "auto"
BASELINE = "default"
JOBS = 1
MARGIN = 0.5
PRECISION: PrecisionChoice = "auto"
RUNS = Path("runs")
SEED = 0
SHEET_FORM: SheetForm = "table"
SIZE: Size = "paper"
THREADS = 1
TOLERANCE_MM = 2.0

# Meanings that more than one option below begins with: one value or many, needed or not.
_INIT = "Initializer: name, name(key=value) or ./file.py:function."
_BACKBONE = "Backbone: name, name(variant=...) or ./file.py:function."
_DATASET = "Data set: name, or path of a Decathlon or nnU-Net raw folder."
_DEVICE = "Device: auto, cpu, cuda or cuda:i."
_OUT = "Folder of runs."
_SEED = "Root seed."
_SET = "Setting over the recipe: section.field=value."
_MANY = "Comma list or repeated."


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Returns `command` as typer needs it: with the options of a group as parameters of their own.

    Args:
        command: a function, some of whose parameters are annotated with a group.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            parameters += inspect.signature(parameter.annotation, eval_str=True).parameters.values()
        else:
            parameters.append(parameter)

    @functools.wraps(command)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    call.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    return call


def _names(kind: Kind) -> Callable[[str], list[str]]:
    """Returns a function that completes the last name of a comma list in the shell."""

    def complete(incomplete: str) -> list[str]:
        begun, comma, last = incomplete.rpartition(",")
        return [f"{begun}{comma}{name}" for name in registry.names(kind) if name.startswith(last)]

    return complete


def _check_margin(points: float) -> float:
    """Returns the margin of equivalence.

    Raises:
        UsageError: it is not above 0: nothing can be shown to lie within 0 points.
    """
    if not 0 < points < math.inf:
        raise UsageError(f"--margin {points:g}: equivalence needs a number of Dice points above 0, as 0.5")
    return points


# --- what ---

InitOption = Annotated[
    str, typer.Option("--init", help=_INIT, autocompletion=_names("initializer"), rich_help_panel=WHAT, metavar="INIT")
]
InitsOption = Annotated[
    list[str],
    typer.Option("--init", help=f"{_INIT} {_MANY}", autocompletion=_names("initializer"), rich_help_panel=WHAT, metavar="INIT"),
]
BackboneOption = Annotated[
    str,
    typer.Option("--backbone", help=_BACKBONE, autocompletion=_names("backbone"), rich_help_panel=WHAT, metavar="BACKBONE"),
]
