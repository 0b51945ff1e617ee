"""``initbench diagnose``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from initbench import plots
from initbench.choices import DATASET, PRETEXT_STEPS, REGIMEN
from initbench.cli.command import command
from initbench.cli.groups import TrainingOnParts
from initbench.cli.options import (
    HOW_LONG,
    BackboneOption,
    DatasetOption,
    InitsOption,
    JsonOption,
    PlotOption,
    RegimensOption,
    SeedOption,
)
from initbench.cli.output import shown, under_way, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from initbench.tools.diagnose import Diagnosis

_LEGEND = (
    "activation, gradient: root mean square of a layer's outputs, and of the loss's gradient at them. update: that of its "
    "weights' gradient over that of the weights. dead: channels that do not vary or get no gradient. rank: effective rank of the "
    "outputs over their channels, 1 where all directions carry the same variance."
)
_ALL = "all"
_ALL_STEPS = 0  # how the option says it, which takes a number


def _read_steps(text: str) -> int:
    """Returns the steps at which a pretext is cut short; 0 for never."""
    if text == _ALL:
        return _ALL_STEPS
    if not str(text).isdecimal() or int(text) == 0:
        raise typer.BadParameter(f"{text!r} is neither {_ALL} nor a number of steps above 0")
    return int(text)


@command
def diagnose(
    init: InitsOption,
    backbone: BackboneOption,
    training: TrainingOnParts,
    dataset: DatasetOption = DATASET,
    regimen: RegimensOption = None,
    seed: SeedOption = 0,
    pretext_steps: Annotated[
        int,
        typer.Option(
            "--pretext-steps",
            metavar=f"N|{_ALL}",
            help=f"Steps of a learned initializer. At most those of its budget; {_ALL}: those of its budget.",
            parser=_read_steps,
            show_default=str(PRETEXT_STEPS),
            rich_help_panel=HOW_LONG,
        ),
    ] = PRETEXT_STEPS,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Show what inits do to signals at step 0.

    Prints per layer the scale of activations and gradients, dead units and the effective rank, and for a regimen
    the share of the loss and of the gradient that each of its terms has. A learned init trains a short pretext before.
    """
    from initbench.harness.request import read_component, read_components

    inits, network = read_components("initializer", init), read_component("backbone", backbone)
    regimens = read_components("regimen", regimen or [REGIMEN])
    plots.check(plot)
    console = Console(stderr=json, highlight=False)
    with under_way(console, "loading torch"):
        from initbench.cli.progress import Display
        from initbench.protocols import OneRun
        from initbench.studies.sweep import cross_requests
        from initbench.tools.diagnose import diagnose as look_at
        from initbench.tools.diagnose import draw
    requests = cross_requests(inits, network, dataset, regimen=regimens, seeds=[seed], **training.as_part_options())
    found = []
    with Display(requests, console) as display:
        for number, request in enumerate(requests):
            found.append(look_at(request, OneRun(display, number), pretext_steps or None))
    if plot is not None:
        with plots.written(plot):
            draw(found, plot)
    if json:
        write_json([asdict(item) for item in found])
        return
    for item in found:
        console.print(shown(_title(item)), style="bold")
        console.print(_table(item))
        if item.terms:
            console.print(_terms(item))
    console.print(_LEGEND, style="dim")
    if plot is not None:
        console.print(f"{plot}: the same, drawn", style="dim")


def _title(item: Diagnosis) -> str:
    """Returns what a table is of, with the pretext before it."""
    from initbench.tables.words import count

    what = f"{item.init} × {item.backbone}"
    if item.regimen != REGIMEN:
        what += f" × {item.regimen}"
    text = f"{what}: loss {item.loss:.4g} at step 0"
    if not item.pretext_steps:
        return text
    text += f"\nafter a pretext of {count(item.pretext_steps, 'step')}"
    if item.pretext_steps < item.budget_steps:
        text += f", where a run has {item.budget_steps:,}: --pretext-steps {_ALL} trains them all"
    return text


def _table(item: Diagnosis) -> Table:
    """Returns a table of the layers."""
    from rich.table import Table

    table = Table(box=None)
    table.add_column("layer", overflow="fold", min_width=36)
    for header in ("activation", "gradient", "update", "dead", "rank"):
        table.add_column(header, justify="right", no_wrap=True)
    for layer in item.layers:
        dead = "–"
        if layer.dead:
            dead = f"[bold red]{layer.dead:.0%}[/]"
        numbers = (f"{layer.activation:.3g}", f"{layer.gradient:.1e}", f"{layer.update:.1e}")
        table.add_row(layer.name, *numbers, dead, f"{layer.rank:.2f}")
    return table


def _terms(item: Diagnosis) -> Table:
    """Returns a table of the terms of a regimen's loss."""
    from rich.table import Table

    table = Table(title=f"terms of {item.regimen}", title_justify="left", box=None)
    table.add_column("term", no_wrap=True)
    for header in ("loss", "share of the loss", "gradient", "share of the gradient"):
        table.add_column(header, justify="right", no_wrap=True)
    for term in item.terms:
        of_loss, of_gradient = 100 * term.loss_share, 100 * term.gradient_share
        numbers = (f"{term.loss:.3g}", f"{of_loss:.3g}%", f"{term.gradient:.3g}", f"{of_gradient:.3g}%")
        table.add_row(term.name, *numbers)
    return table
