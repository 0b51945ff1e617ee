"""``initbench data``: what data sets there are and where, what is in them, whether they are whole, and how to get them."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from initbench import plots
from initbench.choices import BASELINE
from initbench.cli.command import command
from initbench.cli.data_info import print_info
from initbench.cli.groups import Parts
from initbench.cli.options import (
    COMPLETE_DATASET,
    OUTPUT,
    WHICH_DATA,
    BackboneOption,
    BudgetOption,
    DataRootOption,
    JsonOption,
    PlotOption,
    RecipeOption,
    SetOption,
    SizeOption,
    SplitOption,
)
from initbench.cli.output import shown, under_way, write_json
from initbench.errors import DataError, InitbenchError, MissingDataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from initbench.protocols import Dataset, Progress

NameArgument = Annotated[
    str,
    typer.Argument(help="Data set: name, or path of a Decathlon or nnU-Net raw folder.", autocompletion=COMPLETE_DATASET),
]


@command
def list_data(data_root: DataRootOption = None, json: JsonOption = False) -> None:
    """List data sets and where they are.

    Prints for each where it was found, its number of cases, its licence, and how to get it.
    """
    from rich.padding import Padding
    from rich.table import Table

    rows = _rows(data_root)
    if json:
        write_json(rows)
        return
    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("data set", no_wrap=True)
    table.add_column("cases", no_wrap=True, justify="right")
    table.add_column("found", overflow="fold")
    for row in rows:
        found = shown(row["found"] or "–")
        if row["problem"]:
            found = "[red]cannot be used, see below[/]"
        table.add_row(shown(row["name"]), str(row["cases"] or ""), found)
    console.print(table)
    for row in rows:
        if row["problem"]:
            console.print(f"\n[bold red]problem[/] {shown(row['name'])}: {shown(row['problem'])}", soft_wrap=True)
    for (get, licence), names in _sources(rows).items():
        console.print(f"\n[bold]{shown(', '.join(names))}[/]")
        console.print(Padding(f"{shown(get)}\nlicence: {shown(licence)}", (0, 0, 0, 2), expand=False))


def _sources(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """Returns the names of data sets that are not here, by where to get them and their licence: many come from one place."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        name, get = row["name"], row["get"]
        if not get or row["found"]:
            continue
        if get.endswith(f" {name}"):
            get = get.removesuffix(name) + "NAME"
        found.setdefault((get, row["licence"]), []).append(name)
    return found


@command
def info_data(name: NameArgument, data_root: DataRootOption = None, plot: PlotOption = None, json: JsonOption = False) -> None:
    """Show what is in a data set.

    Reads every case and prints grids, intensities, volumes of classes and splits. The picture shows a case with its labels, and
    the sizes of classes.
    """
    from initbench.datasets.inspect.fingerprint import fingerprint, typical

    plots.check(plot)
    dataset = _open(name, data_root)
    with _bar(json=json) as progress:
        found = fingerprint(dataset, progress)
    if plot is not None:
        from initbench.datasets.inspect.picture import draw

        draw(found, dataset.load(typical(found)), dataset.classes, plot)
    if json:
        write_json(found.table())
    else:
        print_info(found, Console(highlight=False))


@command
def verify_data(name: NameArgument, data_root: DataRootOption = None, json: JsonOption = False) -> None:
    """Check every case and file of a data set.

    Checks SHA256SUMS, too, where there is one, and what the cache holds of the cases. Exits with 1 where something is wrong.
    """
    from initbench.datasets.inspect.examine import examine

    dataset = _open(name, data_root)
    with _bar(json=json) as progress:
        found = examine(dataset, progress)
    if json:
        problems = [{"where": item.where, "problem": item.text} for item in found.problems]
        write_json(
            {"name": dataset.name, "cases": found.cases, "checksums": found.checksums, "notes": found.notes, "problems": problems}
        )
    else:
        console = Console(highlight=False, soft_wrap=True)
        for item in found.problems:
            console.print(f"[bold red]problem[/] {shown(item.text)}")
        for note in found.notes:
            console.print(f"[yellow]note[/] {shown(note)}")
        told = [f"{found.cases} cases"]
        if found.checksums:
            told.append(f"{found.checksums} checksums")
        told.append(f"{len(found.problems)} problem(s)")
        console.print(f"{shown(dataset.name)}: {', '.join(told)}")
    if found.problems:
        sys.exit(1)


@command
def prepare_data(
    name: NameArgument,
    parts: Parts,
    backbone: BackboneOption = "unetr",
    recipe: RecipeOption = None,
    set_: SetOption = None,
    budget: BudgetOption = "paper",
    size: SizeOption = "paper",
    data_root: DataRootOption = None,
    split: SplitOption = None,
    json: JsonOption = False,
) -> None:
    """Preprocess a data set into the cache.

    Does it as the first run with the same options would. What the cache holds already is read, and damage is made again.
    The backbone and the budget matter where the recipe depends on them.
    """
    from initbench import cache
    from initbench.harness.request import RunRequest, read_component
    from initbench.recipes.files import default_name

    network = read_component("backbone", backbone)
    dataset = _open(name, data_root)
    folds: list[str | None] = [*parts.folds()] or [None]
    numbers: list[int | None] = [*parts.numbers()] or [None]
    recipe = recipe or default_name(dataset.name, dataset.modality)
    with under_way(Console(stderr=True), "loading torch"):
        from initbench.harness.choose import choose
    rows: list[dict[str, Any]] = []
    remarks: dict[str, None] = {}
    for part, number in itertools.product(folds, numbers):
        # The init is of no account here: what a run would choose of data, network and settings decides what is stored.
        request = RunRequest.of(BASELINE, network, name, 0, budget=budget, size=size, data_root=data_root, split=split)
        request = replace(request, fold=part, train_cases=number, recipe=recipe, assignments=tuple(set_ or ()))
        with _bar(json=json) as progress:
            chosen = choose(request, progress)
            made = chosen.prepare(progress)
            mended = made.mend()
        row = {"name": dataset.name, "recipe": recipe, "split": chosen.split.name, "cases": len(made.keys)}
        rows.append(row | {"notes": list(made.remarks), "mended": mended})
        remarks |= dict.fromkeys(made.remarks)
    if json:
        write_json(rows)
        return
    console = Console(highlight=False, soft_wrap=True)
    for text in remarks:
        console.print(f"[yellow]note[/] {shown(text)}")
    for row in rows:
        console.print(
            f"{row['name']}: {row['cases']} cases of split {row['split']} are ready for recipe {row['recipe']} in {cache.root()}",
            markup=False,
        )


@command
def download_data(
    name: Annotated[str, typer.Argument(help="Decathlon task: brats, hippocampus, lung, or the folder's name as Task09_Spleen.")],
    data_root: DataRootOption = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="ADDRESS", help="Another copy of the task's tar.", rich_help_panel=WHICH_DATA)
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archive, too.", rich_help_panel=OUTPUT)] = False,
    json: JsonOption = False,
) -> None:
    """Download a task of the Medical Segmentation Decathlon.

    A download that was stopped goes on. What was downloaded is checked by its MD5.
    """
    from initbench.datasets.download.download import Archive, fetch

    task = _task(name)
    root = _home(data_root)
    if not json:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"{task.folder}, {task.about_size}, CC BY-SA 4.0 (medicaldecathlon.com), to {root}", markup=False
        )
    state, told = "downloaded", "is complete"
    if (root / task.folder).exists():
        state, told = "there already", "is there already"
    with _bar(json=json, unit="bytes") as progress:
        folder = fetch(Archive(url or task.url, task.folder, task.md5), root, progress, keep=keep)
    _open(str(folder), None)
    if json:
        write_json({"name": task.folder, "folder": str(folder), "state": state})
    else:
        Console(highlight=False, soft_wrap=True).print(f"{folder} {told}; initbench data verify {name}", markup=False)


# --- what the commands share ------------------------------------------------------------------------------------------


def _rows(data_root: Path | None) -> list[dict[str, Any]]:
    """Returns a row for each registered data set, other task of the Decathlon, and folder of a data set below the data roots."""
    from initbench import registry
    from initbench.datasets.folder import subfolders
    from initbench.datasets.known import DECATHLON, REGISTERED, SHORT_NAMES
    from initbench.datasets.open import search_path

    tasks = {SHORT_NAMES.get(folder, folder): task for folder, task in DECATHLON.items()}
    rows = []
    seen = set()
    for name in dict.fromkeys([*registry.names("dataset"), *tasks]):
        row: dict[str, Any] = {"name": name, "cases": None, "found": None, "problem": None, "licence": "", "get": ""}
        if name in tasks:
            row |= {"cases": tasks[name].cases, "licence": "CC BY-SA 4.0", "get": f"initbench data download {name}"}
        elif name in REGISTERED:
            row |= {"cases": REGISTERED[name].cases, "licence": REGISTERED[name].licence, "get": REGISTERED[name].get}
        row |= _found(name, data_root)
        rows.append(row)
        if row["found"]:
            seen.add(Path(row["found"]).resolve())
    roots = search_path()
    if data_root:
        roots = [data_root, *roots]
    for root in roots:
        for folder in subfolders(root):
            if (folder / "dataset.json").is_file() and folder.resolve() not in seen:
                seen.add(folder.resolve())
                rows.append({"name": folder.name, "get": "", "licence": "", "cases": None} | _found(str(folder), None))
    return rows


def _found(name: str, data_root: Path | None) -> dict[str, Any]:
    """Returns what of a row is known when the data set is here, or why it cannot be used."""
    from initbench.datasets.open import open_dataset

    try:
        dataset = open_dataset(name, data_root)
    except MissingDataError:
        return {"found": None, "problem": None}
    except InitbenchError as error:
        return {"found": None, "problem": " ".join(str(error).split())}
    except (Exception, SystemExit) as error:  # whatever a reader of others raises
        text = " ".join(str(error).split())
        return {"found": None, "problem": f"{type(error).__name__}: {text}"}
    found: dict[str, Any] = {"found": "comes with initbench", "problem": None, "cases": len(dataset.case_ids())}
    root = getattr(dataset, "root", None)
    if root:
        found["found"] = os.path.abspath(root)
    if dataset.licence not in ("", "not stated"):
        found["licence"] = dataset.licence
    return found


def _open(name: str, data_root: Path | None) -> Dataset:
    from initbench.datasets.open import open_dataset

    return open_dataset(name, data_root)


def _task(name: str) -> Any:
    """Returns the task of the Decathlon that a name or a folder's name means.

    Raises:
        UsageError: it means none, or a data set that cannot be downloaded here.
    """
    from initbench.datasets.known import DECATHLON, REGISTERED, SHORT_NAMES

    folders = {short: folder for folder, short in SHORT_NAMES.items()}
    folder = folders.get(name, name)
    if folder in DECATHLON:
        return DECATHLON[folder]
    if name in REGISTERED:
        known = REGISTERED[name]
        raise UsageError(f"{name} cannot be downloaded here ({known.licence}). {known.how}")
    near = did_you_mean(name, [*folders, *DECATHLON])
    raise UsageError(f"{name!r} is no task of the Medical Segmentation Decathlon: {near} (initbench data list)")


def _home(data_root: Path | None) -> Path:
    """Returns where downloads go: ``--data-root``, else the first place that is looked at."""
    from initbench.datasets.open import search_path

    if data_root is not None and not data_root.is_dir():
        raise DataError(f"--data-root {data_root} is no folder")
    return (data_root or search_path()[0]).absolute()


@contextlib.contextmanager
def _bar(*, json: bool, unit: str = "cases") -> Iterator[Progress | None]:
    """Shows a bar on a terminal inside the block, and nothing elsewhere."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if json or not console.is_terminal:
        yield None
        return
    counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if unit == "bytes":
        counts = (DownloadColumn(), TransferSpeedColumn())
    with Bars(TextColumn("{task.description}"), BarColumn(bar_width=24), *counts, TimeRemainingColumn(), console=console) as bars:
        yield _Shown(bars)


class _Shown:
    """Progress of one stage after another."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task: Any = None

    def start(self, stage: str, total: int) -> None:
        """Shows a new bar in place of the last."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(shown(stage), total=total or None)

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        """Moves the bar on."""
        self._bars.update(self._task, completed=done)
