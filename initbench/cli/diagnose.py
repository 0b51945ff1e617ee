"""``initbench diagnose``."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from initbench import plots

if TYPE_CHECKING:
    from initbench.tools.diagnose import Diagnosis


def diagnose_command(
    init: list[str], backbone: str, dataset: str, seed: int, plot: Path | None, *, json: bool, options: dict[str, Any]
) -> None:
    """Looks at the first batch of each init, prints a table each, and draws them together."""
    from initbench.harness.request import check_names

    check_names("initializer", init)
    check_names("backbone", [backbone])
    plots.check(plot)
    console = Console(stderr=json, highlight=False)
    with console.status("loading torch") if console.is_terminal else contextlib.nullcontext():
        from initbench.cli.progress import Display
        from initbench.executors.local import OneRun
        from initbench.studies.sweep import cross_requests
        from initbench.tools.diagnose import diagnose, draw
    requests = cross_requests(init, [backbone], [dataset], seeds=[seed], **options)
    with Display(requests, console) as display:
        found = [diagnose(request, OneRun(display, number)) for number, request in enumerate(requests)]
    if plot is not None:
        with plots.written(plot):
            draw(found, plot)
    if json:
        sys.stdout.write(json_module.dumps([asdict(item) for item in found], indent=1) + "\n")
        return
    for item in found:
        console.print(_table(item))
    if plot is not None:
        console.print(f"{plot}: the same, drawn", style="dim")


def _table(item: Diagnosis) -> Table:
    table = Table(title=f"{item.init} × {item.backbone}: loss {item.loss:.4g} at step 0", title_justify="left", box=None)
    table.add_column("layer", overflow="fold", min_width=36)
    for header in ("activation", "gradient", "update", "dead", "rank"):
        table.add_column(header, justify="right", no_wrap=True)
    for layer in item.layers:
        dead = f"[bold red]{layer.dead:.0%}[/]" if layer.dead else "–"
        numbers = (f"{layer.activation:.3g}", f"{layer.gradient:.1e}", f"{layer.update:.1e}")
        table.add_row(layer.name, *numbers, dead, f"{layer.rank:.2f}")
    return table
