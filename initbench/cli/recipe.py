"""``initbench recipe show``, ``diff`` and ``new``. The first two import no torch."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from initbench import recipe_origins
from initbench.errors import UsageError
from initbench.recipe_origins import Selected


def show_command(text: str, otherwise: Selected, *, json: bool) -> None:
    """Prints every setting of a recipe with its origin."""
    selected = recipe_origins.select(text, otherwise)
    found, recipe = recipe_origins.settings(selected), recipe_origins.resolve(selected)
    if json:
        _write([{"setting": item.name, "value": item.value, "from": item.origin} for item in found])
        return
    about = (*recipe.source.strip().splitlines(), f"version {recipe.version}, digest {recipe.digest()[:12]}")
    _print(str(selected), about, ("setting", "value", "from"), [(item.name, _text(item.value), item.origin) for item in found])


def diff_command(first: str, second: str | None, otherwise: Selected, *, json: bool) -> None:
    """Prints where two recipes differ; or one with and without ``--set``, which is laid over the second."""
    if second is None and not otherwise.assignments:
        raise UsageError('recipe diff compares two: name a second one, as in "lung(size=tiny)", or lay --set over the first')
    plain = Selected("", otherwise.size, otherwise.backbone, otherwise.budget)
    a, b = recipe_origins.select(first, plain), recipe_origins.select(second or first, otherwise)
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
    _print(f"{a} → {b}", about, ("setting", "first", "second", "from"), rows)


def new_command(dataset: str, data_root: Path | None, out: Path | None, *, json: bool) -> None:
    """Writes a commented recipe for a data set, or prints it."""
    if out is not None and (out.suffix != ".toml" or out.exists()):
        raise UsageError(f"--out {out}: " + ("it is there already" if out.exists() else "a recipe is a .toml file"))
    console = Console(stderr=True, highlight=False)
    with console.status("reading the cases") if console.is_terminal else contextlib.nullcontext():
        from initbench.harness.new_recipe import write

        text = write(dataset, data_root)
    if out is not None:
        out.write_text(text, "utf-8")
        console.print(f"{out}: edit it, then initbench run --recipe {out} ...", soft_wrap=True)
    if json:
        _write({"recipe": text, "file": str(out) if out else None})
    elif out is None:
        sys.stdout.write(text)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print(title: str, about: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
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


def _write(values: Any) -> None:
    sys.stdout.write(json_module.dumps(values, indent=1, ensure_ascii=False) + "\n")
