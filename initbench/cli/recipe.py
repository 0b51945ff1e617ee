"""``initbench recipe show``, ``diff`` and ``new``. The first two import no torch."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from initbench import registry
from initbench.cli.command import command
from initbench.cli.options import (
    BudgetOption,
    DataRootOption,
    FileOption,
    JsonOption,
    OverridesOfBackboneOption,
    SetOption,
    SizeOption,
)
from initbench.cli.output import shown, under_way, write_json
from initbench.errors import UsageError

if TYPE_CHECKING:
    from initbench.recipes.origins import Selected, Setting


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What decides which overrides of a recipe hold, where the recipe's own text does not say."""

    backbone: OverridesOfBackboneOption = ""
    size: SizeOption = "paper"
    budget: BudgetOption = "paper"
    set_: SetOption = None

    def selected(self) -> Selected:
        """Returns the same as the recipes take it, without the name of one."""
        from initbench.recipes.origins import Selected

        return Selected("", self.size, self.backbone, self.budget, tuple(self.set_ or ()))


@command
def show_recipe(
    name: Annotated[
        str, typer.Argument(help="Recipe: name or TOML file, or with overrides: 'lung(backbone=unetrpp, size=tiny)'.")
    ],
    overrides: Overrides,
    json: JsonOption = False,
) -> None:
    """Show every setting of a recipe and where it comes from.

    A setting comes from a file, an override in it, --set, or the default.
    """
    from initbench.recipes import origins
    from initbench.recipes.files import first_sentence, listing

    selected = origins.select(name, overrides.selected())
    found, recipe = origins.settings(selected), origins.resolve_recipe(selected)
    rows, plain = [], []
    for item in found:
        rows.append((item.name, _text(item.value), item.origin))
        plain.append({"setting": item.name, "value": item.value, "from": item.origin})
    if json:
        write_json(plain)
        return
    about = [first_sentence(recipe.source), f"version {recipe.version}, digest {recipe.digest()[:12]}"]
    if selected.name in dict(listing()):
        about.insert(1, f"sources and deviations: initbench describe {selected.name}")
    _print(str(selected), about, ("setting", "value", "from"), rows, _beside_show(selected))


@command
def diff_recipes(
    first: Annotated[str, typer.Argument(help="Recipe, as for show.")],
    overrides: Overrides,
    second: Annotated[str | None, typer.Argument(help="The other.", show_default="the first, with --set")] = None,
    json: JsonOption = False,
) -> None:
    """Show where two recipes differ, setting by setting.

    As 'lung(size=paper)' and 'lung(size=tiny)', or one recipe without and with --set, which is laid over the second.
    """
    from initbench.recipes import origins

    otherwise = overrides.selected()
    if second is None and not otherwise.assignments:
        raise UsageError('recipe diff compares two: name a second one, as in "lung(size=tiny)", or lay --set over the first')
    a = origins.select(first, replace(otherwise, assignments=()))
    b = origins.select(second or first, otherwise)
    found = origins.differences(a, b)
    rows, plain = [], []
    for x, y in found:
        rows.append((x.name, _text(x.value), _text(y.value), f"{x.origin} → {y.origin}"))
        plain.append({"setting": x.name, "first": x.value, "second": y.value, "first_from": x.origin, "second_from": y.origin})
    if json:
        write_json(plain)
        return
    about = (f"{len(found)} of {len(origins.settings(a))} settings differ",)
    command = ["initbench", "recipe", "diff", first]
    if second:
        command.append(second)
    command += _options(otherwise)
    _print(f"{a} → {b}", about, ("setting", "first", "second", "from"), rows, _beside_diff(a, b, found, command))


@command
def new_recipe(
    dataset: Annotated[str, typer.Argument(help="Data set: name or path.")],
    data_root: DataRootOption = None,
    file: FileOption = None,
    json: JsonOption = False,
) -> None:
    """Write a commented recipe for a data set.

    Takes its numbers from the training cases, to be edited and given to run --recipe. Prints it without --file.
    """
    if file is not None and file.exists():
        raise UsageError(f"--file {file}: it is there already")
    if file is not None and file.suffix != ".toml":
        raise UsageError(f"--file {file}: a recipe is a .toml file")
    console = Console(stderr=True, highlight=False)
    with under_way(console, "reading the cases"):
        from initbench.tools.new_recipe import write

        text = write(dataset, data_root)
    if file is not None:
        file.write_text(text, "utf-8")
        console.print(f"{file}: edit it, then initbench run --recipe {file} ...", soft_wrap=True)
    if json:
        write_json({"recipe": text, "file": file})
    elif file is None:
        sys.stdout.write(text)


def _beside_show(selected: Selected) -> list[str]:
    """Returns a note of which backbones have other values than a recipe has without one: where all have, no run takes these."""
    from initbench.recipes import origins

    if selected.backbone:
        return []
    found = []
    is_taken = False
    for name in registry.names("backbone"):
        with contextlib.suppress(UsageError):  # its own override is wrong, which is said when it is shown
            count = len(origins.differences(selected, replace(selected, backbone=name)))
            if count:
                found.append(f"{name} {count}")
            else:
                is_taken = True
    if not found:
        return []
    told = [f"At {selected.size} size these backbones set some of it otherwise (how many settings): {', '.join(found)}."]
    if not is_taken:
        told.append("No installed backbone takes all that is shown.")
    command = shlex.join(["initbench", "recipe", "show", selected.name, *_options(selected)])
    told.append(f"Theirs: {command} --backbone NAME")
    return [" ".join(told)]


def _beside_diff(a: Selected, b: Selected, found: Sequence[tuple[Setting, Setting]], command: Sequence[str]) -> list[str]:
    """Returns a note of the backbones under which two recipes differ in other settings, where one of them names none."""
    from initbench.recipes import origins

    if a.backbone and b.backbone:
        return []
    shown, others = _values(found), []
    for name in registry.names("backbone"):
        with contextlib.suppress(UsageError):
            first, second = replace(a, backbone=a.backbone or name), replace(b, backbone=b.backbone or name)
            if _values(origins.differences(first, second)) != shown:
                others.append(name)
    if not others:
        return []
    return [f"With {', '.join(others)} they differ in other settings or values: {shlex.join(command)} --backbone NAME"]


def _values(pairs: Sequence[tuple[Setting, Setting]]) -> Mapping[str, tuple[Any, Any]]:
    """Returns the two values of settings by their names."""
    return {first.name: (first.value, second.value) for first, second in pairs}


def _options(selected: Selected) -> list[str]:
    """Returns the options that select it, but for a backbone."""
    usual = Overrides()
    options: list[str] = []
    if selected.size != usual.size:
        options += ["--size", selected.size]
    if selected.budget != usual.budget:
        options += ["--budget", selected.budget]
    for text in selected.assignments:
        options += ["--set", text]
    return options


def _text(value: Any) -> str:
    """Returns a setting as text; a list without its brackets."""
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _print(title: str, about: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    """Prints a recipe, or two, as a table with what is said above and below it."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "setting", header_style="bold")
    for row in rows:
        table.add_row(*map(shown, row))
    console = Console(highlight=False)
    console.print(shown(title), style="bold", soft_wrap=True)
    for line in about:
        console.print(shown(line), style="dim")
    console.print(table)
    for note in notes:
        console.print(shown(note), soft_wrap=True)
