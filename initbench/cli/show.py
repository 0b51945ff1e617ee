"""``initbench list`` and ``describe``. Only ``describe`` of a backbone or an initializer imports torch."""

from __future__ import annotations

import json as json_module
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console

from initbench import registry
from initbench.catalog import Kind
from initbench.choices import Listed
from initbench.cli.command import command
from initbench.cli.options import JsonOption, beginning, complete_recipe
from initbench.cli.output import write_json
from initbench.errors import DataError, UsageError, did_you_mean
from initbench.printable import printable
from initbench.protocols import BackboneInfo, RegimenInfo
from initbench.spec import Spec, parse

if TYPE_CHECKING:
    from initbench.runs.record import MeanDistance, Record, StageCost

_STARTS = re.compile(r"- |[A-Z][a-z]+: ")  # of lines that begin something
_ENTRY = re.compile(r" {4}\*{0,2}(?=\w+: )")  # below ``Args:``
_OF_DEVELOPERS = ("later", "permissions")  # facts that decide ids of runs, and say nothing to those who choose an init
_KINDS: dict[str, Kind] = {listed: kind for kind, listed in registry.LISTED.items()}


@command
def list_components(
    what: Annotated[Listed | None, typer.Argument(help="One kind; all of them without it.")] = None, json: JsonOption = False
) -> None:
    """List components and recipes."""
    from rich.table import Table

    if json and what:
        write_json(_rows(what))
        return
    wanted: tuple[Listed, ...] = get_args(Listed)
    if what:
        wanted = (what,)
    rows = {key: _rows(key) for key in wanted}
    if json:
        write_json(rows)
        return
    console = Console()
    for key, items in rows.items():
        table = Table(title=key, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for header in ("name", "summary", "origin"):
            table.add_column(header, overflow="fold", no_wrap=header == "name")
        for item in items:
            table.add_row(item["name"], item["summary"], item["origin"])
        console.print(table)
        console.print()


def _rows(what: str) -> list[dict[str, Any]]:
    """Returns the name, the summary and the origin of every component of a kind, or of every recipe."""
    rows: list[dict[str, Any]] = []
    if what in _KINDS:
        for component in registry.listing(_KINDS[what]):
            row = asdict(component)
            if row["learned"]:
                row["summary"] += " [learned]"
            rows.append(row)
        return rows
    from initbench.recipes.files import listing

    for name, source in listing():
        rows.append({"name": name, "kind": "recipe", "summary": source, "origin": "initbench"})
    return rows


def _complete_name(incomplete: str) -> list[str]:
    """Returns the components and recipes whose names begin so, for the shell."""
    return beginning(incomplete, _every_name())


def _every_name() -> list[str]:
    """Returns the names of all components and recipes, each once."""
    known = []
    for kind in _KINDS.values():
        known += registry.names(kind)
    return list(dict.fromkeys([*known, *complete_recipe("")]))


@command
def describe(
    name: Annotated[
        str, typer.Argument(help="Name of a component or recipe, or folder of a run.", autocompletion=_complete_name)
    ],
    json: JsonOption = False,
) -> None:
    """Describe one component, recipe or run."""
    from rich.table import Table

    table = _describe(name)
    if json:
        write_json(table)
        return
    shown = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for key, value in table.items():
        if value is None or value is False or value in ("", [], (), {}) or key in _OF_DEVELOPERS:
            continue
        if key in ("about", "source"):
            shown.add_row(key, _reflow(value))
        elif value is True:
            shown.add_row(key, "yes")
        else:
            shown.add_row(key, _text(value))
    Console(highlight=False).print(shown)


def _reflow(text: str) -> str:
    """Returns a docstring without the line breaks inside paragraphs, list items and ``Word:`` lines, for terminals of any width.

    Entries below ``Args:`` become items of a list. Indented lines below a paragraph that ends in ``::`` stay as they are.
    """
    lines: list[str] = []
    is_verbatim = False
    for line in text.splitlines():
        if line.strip() and not line.startswith(" "):
            is_verbatim = False
        follows_text = bool(lines) and lines[-1] != ""
        if is_verbatim:
            lines.append(line)
        elif _ENTRY.match(line):
            lines.append(_ENTRY.sub("- ", line))
        elif follows_text and line.strip() and not _STARTS.match(line):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
        is_verbatim = is_verbatim or lines[-1].endswith("::")
    return "\n".join(lines)


def _text(value: Any) -> str:
    """Returns a value as text, a line for each of several."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return str(value)  # as it is written in a name or after --set
    if isinstance(value, dict):
        return "\n".join(_lines(value))
    if isinstance(value, list | tuple):
        if all(isinstance(item, str) for item in value):
            return "\n".join(value)
        if all(isinstance(item, dict) and "when" in item for item in value):
            return "\n".join(map(_override, value))
    return json_module.dumps(value, ensure_ascii=False, default=str)


def _lines(table: dict[str, Any], prefix: str = "") -> list[str]:
    """Returns a line for each value of a table, with dots between the names of tables inside one another."""
    lines = []
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _lines(value, f"{prefix}{key}.")
        elif key == "override":
            lines.append(_text(value))
        elif key == "source":
            lines.append(f"{prefix}{key} = {_reflow(value)}")
        else:
            lines.append(f"{prefix}{key} = {_text(value)}")
    return lines


def _override(item: dict[str, Any]) -> str:
    """Returns what a recipe sets for some networks, sizes or budgets: when, and what then."""
    conditions = []
    for key, value in item["when"].items():
        wanted = str(value)
        if isinstance(value, list):
            wanted = " or ".join(value)
        conditions.append(f"{key} {wanted}")
    settings = dict(item)
    del settings["when"]
    return f"for {' and '.join(conditions)}: {', '.join(_lines(settings))}"


def _describe_run(folder: Path, record: Record) -> dict[str, Any]:
    """Returns what a run did: its result, what its init changed per layer group, what it cost."""
    resolved = record.resolved
    table: dict[str, Any] = {
        "run": str(folder),
        "status": record.status,
        "init": resolved.init,
        "backbone": resolved.backbone,
        "variant": resolved.variant,
        "size": resolved.size,
        "dataset": resolved.dataset,
        "split": resolved.split,
        "seed": resolved.seed,
        "budget": resolved.budget,
        "steps": resolved.steps,
        "protocol": resolved.protocol,
        "regimen": resolved.regimen,
        "precision": resolved.precision,
    }
    if record.has_result:
        table |= _result(record)
    table["reason"] = record.reason
    cleaned = {}
    for key, value in table.items():
        if value not in (None, "", {}):
            cleaned[key] = _cleaned(value)
    return cleaned


def _cleaned(value: Any) -> Any:
    """Returns a value that is safe to print, as are the keys and values of a mapping."""
    if isinstance(value, dict):
        return {printable(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, str):
        return printable(value)
    return value


def _result(record: Record) -> dict[str, Any]:
    """Returns the rows of a run with a result."""
    table: dict[str, Any] = {}
    if record.dice is not None:
        table["Dice"] = {"mean": _points(record.dice)}
        for name, value in record.dice_per_class.items():
            table["Dice"][name] = _points(value)
    table |= _distances(record)
    coverage = record.coverage
    if coverage.changed_share is not None:
        shares = {"all parameters": coverage.changed_share, **coverage.groups}
        table["changed by the init"] = {name: f"{share:.1%}" for name, share in shares.items()}
        table["the init says"] = coverage.summary
    table["cost"] = {"init stage": _cost(record.cost.init), "train stage": _cost(record.cost.train)}
    table["the regimen says"] = record.regimen_summary
    return table


def _points(dice: float | None) -> str:
    """Returns Dice in points, or a dash where there is none."""
    if dice is None:
        return "–"
    return f"{100 * dice:.1f}"


def _cost(stage: StageCost) -> str:
    """Returns the steps, the time and the cost of a stage, in words."""
    told = f"{stage.steps} steps, {stage.seconds:.0f} s"
    if stage.units:
        told += f", the cost of {stage.units} forward passes"
    return told


def _distances(record: Record) -> dict[str, Any]:
    """Returns means per class, with the number of cases behind each."""
    how = record.distances
    if how is None:
        return {}
    measured = {
        "HD95 (mm)": record.hd95_mm_per_class,
        f"surface Dice ({how.nsd_tolerance_mm:g} mm)": record.nsd_per_class,
        "RAVD (%)": record.ravd_percent_per_class,
        "ASSD (mm)": record.assd_mm_per_class,
        "MSSD (mm)": record.mssd_mm_per_class,
    }
    shown = {}
    for title, per_class in measured.items():
        if per_class is not None:
            shown[title] = {name: _averaged(item) for name, item in per_class.items()}
    return shown


def _averaged(item: MeanDistance) -> str:
    """Returns a mean distance with the number of cases behind it."""
    if item.mean is None:
        return "–"
    counted = f"{item.cases} cases"
    if item.prediction_empty:
        counted += f", {item.prediction_empty} without a prediction"
    return f"{item.mean:.3g} ({counted})"


def _kind_in_file(spec: Spec) -> Kind:
    """Returns what a function in a file says that it is; an initializer need not say it."""
    declared = registry.find("backbone", spec).declared
    if isinstance(declared, BackboneInfo):
        return "backbone"
    if isinstance(declared, RegimenInfo):
        return "regimen"
    return "initializer"


def _kind_of(spec: Spec) -> Kind | None:
    """Returns the kind of a component, or None where no component is called so."""
    if spec.is_file:
        return _kind_in_file(spec)
    for kind in _KINDS.values():
        if spec.name in registry.names(kind):
            return kind
    return None


def _describe(name: str) -> dict[str, Any]:
    """Returns what is known of a component, a recipe or a run, by its name or folder.

    Raises:
        UsageError: nothing is called so. DataError: the record of the run cannot be used.
    """
    from initbench.recipes import files as recipe_files
    from initbench.runs import store
    from initbench.runs.record import RecordError

    folder = Path(name)
    if store.has_record(folder):
        try:
            return _describe_run(folder, store.load_record(folder))
        except RecordError as error:
            raise DataError(
                f"{folder}: {store.RECORD} cannot be used: {error}; `initbench retry --all` runs the run again"
            ) from None
    spec = parse(name)
    kind = _kind_of(spec)
    if kind is not None:
        from initbench.tools.describe import describe

        table = describe(kind, spec)
        if kind == "dataset" and spec.name in dict(recipe_files.listing()):
            table["recipe"] = recipe_files.read_recipe_file(spec.name)
        return table
    if name in dict(recipe_files.listing()):
        return {"recipe": name, **recipe_files.read_recipe_file(name)}
    if folder.exists() or "/" in name:
        raise UsageError(f"{name} is no folder of a run; `initbench status --out FOLDER` lists the runs below a folder")
    raise UsageError(f"nothing is called {name!r}; {did_you_mean(name, _every_name())} (initbench list)")
