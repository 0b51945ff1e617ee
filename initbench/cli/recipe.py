"""``initbench recipe show``, ``diff`` and ``new``. The first two import no torch."""

from __future__ import annotations

import contextlib
import json as json_module
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from initbench import registry, spec
from initbench.errors import UsageError
from initbench.recipes import origins as recipe_origins
from initbench.recipes.origins import Selected, Setting


def show_command(text: str, otherwise: Selected, *, json: bool) -> None:
    """Prints every setting of a recipe with its origin."""
    selected = _select(text, otherwise)
    found, recipe = recipe_origins.settings(selected), recipe_origins.resolve_recipe(selected)
    if json:
        _write([{"setting": item.name, "value": item.value, "from": item.origin} for item in found])
        return
    about = (*recipe.source.strip().splitlines(), f"version {recipe.version}, digest {recipe.digest()[:12]}")
    rows = [(item.name, _text(item.value), item.origin) for item in found]
    _print(str(selected), about, ("setting", "value", "from"), rows, _beside_show(selected))


def diff_command(first: str, second: str | None, otherwise: Selected, *, json: bool) -> None:
    """Prints where two recipes differ; or one with and without ``--set``, which is laid over the second."""
    if second is None and not otherwise.assignments:
        raise UsageError('recipe diff compares two: name a second one, as in "lung(size=tiny)", or lay --set over the first')
    plain = Selected("", otherwise.size, otherwise.backbone, otherwise.budget)
    a, b = _select(first, plain), _select(second or first, otherwise)
    found = recipe_origins.differences(a, b)
    if json:
        _write(
            [
                {"setting": x.name, "first": x.value, "second": y.value, "first_from": x.origin, "second_from": y.origin}
                for x, y in found
            ]
        )
        return
    about = (f"{len(found)} of {len(recipe_origins.settings(a))} settings differ",)
    rows = [(x.name, _text(x.value), _text(y.value), f"{x.origin} → {y.origin}") for x, y in found]
    command = ["initbench", "recipe", "diff", first, *([second] if second else []), *_options(otherwise)]
    _print(f"{a} → {b}", about, ("setting", "first", "second", "from"), rows, _beside_diff(a, b, found, command))


def new_command(dataset: str, data_root: Path | None, out: Path | None, *, json: bool) -> None:
    """Writes a commented recipe for a data set, or prints it."""
    if out is not None and (out.suffix != ".toml" or out.exists()):
        raise UsageError(f"--out {out}: " + ("it is there already" if out.exists() else "a recipe is a .toml file"))
    console = Console(stderr=True, highlight=False)
    with console.status("reading the cases") if console.is_terminal else contextlib.nullcontext():
        from initbench.tools.new_recipe import write

        text = write(dataset, data_root)
    if out is not None:
        out.write_text(text, "utf-8")
        console.print(f"{out}: edit it, then initbench run --recipe {out} ...", soft_wrap=True)
    if json:
        _write({"recipe": text, "file": str(out) if out else None})
    elif out is None:
        sys.stdout.write(text)


def _select(text: str, otherwise: Selected) -> Selected:
    """What is selected, with a backbone that there is; without its variant, which no override asks for.

    Raises:
        UsageError: there is no such backbone, or what `recipe_origins.select` refuses.
    """
    selected = recipe_origins.select(text, otherwise)
    written = str(selected.backbone or "").strip()
    name = spec.parse(written).name if "(" in written else written
    if name and not spec.Spec(name).is_file:
        registry.check_name("backbone", name)
    return replace(selected, backbone=name)


def _beside_show(selected: Selected) -> list[str]:
    """Which backbones have other values than those of a recipe without a backbone: where all have, no run takes these."""
    if selected.backbone:
        return []
    counts = {}
    for name in registry.names("backbone"):
        with contextlib.suppress(UsageError):  # its own override is wrong, which is said when it is shown
            counts[name] = len(recipe_origins.differences(selected, replace(selected, backbone=name)))
    found = [f"{name} {count}" for name, count in counts.items() if count]
    if not found:
        return []
    command = shlex.join(["initbench", "recipe", "show", selected.name, *_options(selected)])
    none = "" if len(found) < len(counts) else " No installed backbone takes all that is shown."
    return [
        f"At {selected.size} size these backbones set some of it otherwise (how many settings): {', '.join(found)}.{none} "
        f"Theirs: {command} --backbone NAME"
    ]


def _beside_diff(a: Selected, b: Selected, found: Sequence[tuple[Setting, Setting]], command: Sequence[str]) -> list[str]:
    """Under which backbones two recipes differ otherwise, where one of them is without."""
    if a.backbone and b.backbone:
        return []
    shown, others = _values(found), []
    for name in registry.names("backbone"):
        with contextlib.suppress(UsageError):
            sides = (replace(side, backbone=side.backbone or name) for side in (a, b))
            others += [name] if _values(recipe_origins.differences(*sides)) != shown else []
    if not others:
        return []
    return [f"With {', '.join(others)} they differ in other settings or values: {shlex.join(command)} --backbone NAME"]


def _values(pairs: Sequence[tuple[Setting, Setting]]) -> Mapping[str, tuple[Any, Any]]:
    return {first.name: (first.value, second.value) for first, second in pairs}


def _options(selected: Selected) -> list[str]:
    """The options that select it, but for a backbone."""
    usual = Selected("")
    options = ["--size", selected.size] if selected.size != usual.size else []
    options += ["--budget", selected.budget] if selected.budget != usual.budget else []
    return options + [part for text in selected.assignments for part in ("--set", text)]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print(title: str, about: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "setting", header_style="bold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(highlight=False)
    console.print(escape(title), style="bold", soft_wrap=True)
    for line in about:
        console.print(escape(line), style="dim")
    console.print(table)
    for note in notes:
        console.print(escape(note), soft_wrap=True)


def _write(values: Any) -> None:
    sys.stdout.write(json_module.dumps(values, indent=1, ensure_ascii=False) + "\n")
