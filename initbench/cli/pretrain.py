"""``initbench pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from initbench.choices import DATASET
from initbench.cli.command import command
from initbench.cli.groups import TrainingOnParts
from initbench.cli.options import OUTPUT, BackboneOption, DatasetOption, InitOption, JsonOption, SeedOption
from initbench.cli.output import under_way, write_json


@command
def pretrain(
    init: InitOption,
    backbone: BackboneOption,
    training: TrainingOnParts,
    weights: Annotated[
        Path,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Weights to write: .safetensors, or .pth as nnU-Net v2 reads it.",
            rich_help_panel=OUTPUT,
        ),
    ],
    dataset: DatasetOption = DATASET,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write the weights of an init, to train from elsewhere.

    This is the init stage of `run` alone, on the training cases of the split. It trains the share of the budget that the recipe
    states as pretext.share.
    """
    from initbench.harness.request import read_components

    inits, networks = read_components("initializer", init), read_components("backbone", backbone)
    console = Console(stderr=json, highlight=False)
    with under_way(console, "loading torch"):
        from initbench.cli.progress import Display
        from initbench.protocols import OneRun
        from initbench.studies.forecast import init_stage_seconds
        from initbench.studies.pretrain import export, plan_one
        from initbench.tables.cost import announced_stage
    request = plan_one(inits, networks, dataset, seed, weights, **training.as_part_options())
    with Display([request], console) as display:
        told = announced_stage(init_stage_seconds(request, OneRun(display, 0)))
        if told:
            console.print(told, soft_wrap=True)
        written = export(request, weights, OneRun(display, 0))
    if json:
        write_json({"path": str(written.path), **written.card})
        return
    cost = written.card["cost"]
    console.print(
        f"{written.path}: {written.card['init']} on {written.card['backbone']}, {cost['steps']} steps, {cost['seconds']:.0f} s"
    )
    console.print(f"{written.card_path}: what they are", style="dim")
