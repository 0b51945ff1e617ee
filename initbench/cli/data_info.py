"""What ``initbench data info`` prints of a data set: grids, intensities, volumes of classes, and splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from initbench.cli.output import shown

if TYPE_CHECKING:
    from initbench.datasets.inspect.fingerprint import Fingerprint

_NAMED = 5  # cases without a class that are named before the rest is counted


def print_info(found: Fingerprint, console: Console) -> None:
    """Prints what is in a data set."""
    from rich.table import Table

    table = found.table()
    who = f"{table['cases']} cases"
    if found.patients != len(found.cases):
        who += f" of {found.patients} patients"
    where = "needs no files"
    if found.root:
        where = shown(str(found.root))
    console.print(f"[bold]{shown(found.name)}[/]  {who} · {found.modality} ({shown(', '.join(found.channels))})")
    console.print(f"{shown(found.licence)} · {where}", soft_wrap=True)
    facts = Table(box=None, padding=(0, 2, 0, 0))
    for header in ("", "median", "least", "most"):
        facts.add_column(header, no_wrap=True)
    for key, title, digits in (("shape", "voxels", "{:.0f}"), ("spacing_mm", "spacing (mm)", "{:.3g}")):
        cells = []
        for of in ("median", "least", "most"):
            cells.append(" × ".join(map(digits.format, table[key][of])))
        facts.add_row(title, *cells)
    console.print(facts)
    axes = ", ".join(table["axes"])
    oblique = table["oblique_degrees"]
    if oblique > 0.1:
        axes += f", up to {oblique:.3g}° oblique"
    console.print(f"sizes are {' × '.join(table['order'])}; axes of files: {axes}")
    for channel, values in table["intensities"].items():
        spread = "  ".join(f"{share} %: {value:.4g}" for share, value in values.items())
        console.print(f"intensities, {shown(channel)}: {spread} (medians over cases)", soft_wrap=True)
    console.print()
    _print_classes(table["classes"], console)
    console.print()
    _print_splits(found, console)
    for text in (found.caveat, *found.notes):
        if text:
            console.print(f"[yellow]note[/] {shown(text)}", soft_wrap=True)


def _print_classes(found: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Prints the volumes of classes, and which cases are without them."""
    from rich.table import Table

    classes = Table(box=None, padding=(0, 2, 0, 0))
    classes.add_column("class", overflow="fold")
    for header in ("cases", "median ml", "least", "most"):
        classes.add_column(header, justify="right", overflow="fold")
    classes.add_column("absent in", overflow="fold")
    for name, row in found.items():
        sizes = []
        for key in ("median_ml", "least_ml", "most_ml"):
            size = "–"
            if row[key] is not None:
                size = f"{row[key]:.3g}"
            sizes.append(size)
        absent = ", ".join(row["absent_in"][:_NAMED])
        if len(row["absent_in"]) > _NAMED:
            absent += f" and {len(row['absent_in']) - _NAMED} more"
        classes.add_row(shown(name), str(row["cases"]), *sizes, shown(absent))
    console.print(classes)


def _print_splits(found: Fingerprint, console: Console) -> None:
    """Prints the sizes of its splits."""
    from rich.table import Table

    if not found.splits:
        kind = "patients"
        if found.patients == len(found.cases):
            kind = "cases"
        console.print(
            f"[yellow]note[/] there is no split: it needs two {kind}, one to train on and one to report", soft_wrap=True
        )
        return
    splits = Table(box=None, padding=(0, 2, 0, 0))
    splits.add_column("split")
    for header in ("train", "reported", "left out"):
        splits.add_column(header, justify="right")
    for name, numbers in found.splits.items():
        splits.add_row(shown(name), *map(str, numbers))
    console.print(splits)
