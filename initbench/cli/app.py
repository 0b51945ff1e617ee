"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from initbench.errors import InitbenchError, UsageError

app = typer.Typer(
    name="initbench",
    help="How much does weight initialization decide volumetric medical segmentation? Crosses initializers with backbones, "
    "trains them under fixed seeds, and reports how Dice varies across inits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Budget(StrEnum):
    """Steps of a run, as the recipe states them."""

    smoke = "smoke"
    short = "short"
    paper = "paper"


class Protocol(StrEnum):
    """Who pays for a pretext's steps."""

    equal_total = "equal-total"
    equal_finetune = "equal-finetune"
    both = "both"


class NetSize(StrEnum):
    """Size of the networks."""

    tiny = "tiny"
    paper = "paper"


class Precision(StrEnum):
    """Arithmetic of the forward and backward pass."""

    auto = "auto"
    bf16 = "bf16"
    float32 = "float32"


class SplitRule(StrEnum):
    """Which cases are reported."""

    published = "published"
    auto = "auto"


class What(StrEnum):
    """Kinds of components."""

    inits = "inits"
    backbones = "backbones"
    datasets = "datasets"
    recipes = "recipes"


class Format(StrEnum):
    """Forms of the leaderboard."""

    table = "table"
    md = "md"
    csv = "csv"
    json = "json"


validate_app = typer.Typer(no_args_is_help=True, help="Check a plug-in against its contract.", rich_markup_mode=None)
app.add_typer(validate_app, name="validate")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def run(
    init: Annotated[
        list[str],
        typer.Option(help="Initializer(s): name, name(key=value), ./file.py:function; comma list or repeated."),
    ],
    backbone: Annotated[list[str], typer.Option(help="Backbone(s), likewise; a variant inline: unetrpp(variant=lung).")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Data set(s): name or path of a Decathlon folder. [default: phantom-lung]"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0 to N-1. [default: 1]", min=1)] = None,
    seed: Annotated[list[int] | None, typer.Option(help="This seed (repeatable), instead of --seeds.", min=0)] = None,
    budget: Annotated[Budget, typer.Option(help="Steps: smoke (a minute on a CPU), short (ten), paper.")] = Budget.paper,
    protocol: Annotated[
        Protocol, typer.Option(help="equal-total: a pretext's steps come off the budget; equal-finetune: on top of it.")
    ] = Protocol.equal_total,
    size: Annotated[
        NetSize, typer.Option(help="tiny: the same code narrowed, for a CPU; paper: the published network.")
    ] = NetSize.paper,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i; jobs spread over the devices.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto: bf16 where the device is fast at it.")] = Precision.auto,
    jobs: Annotated[int, typer.Option(help="Runs at a time.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="torch threads of a run on the CPU; another number changes bits.", min=1)] = 1,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the data sets. [also: INITBENCH_DATA]")] = None,
    out: Annotated[Path, typer.Option(help="Where run directories go.")] = Path("runs"),
    split: Annotated[SplitRule | None, typer.Option(help="[default: published where there is one, else auto]")] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe: name or TOML file. [default: the data set's]")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.field=value over the recipe, init.parameter=value over inits (repeatable)."),
    ] = None,
    save_predictions: Annotated[bool, typer.Option(help="Keep label maps of the reported cases as NIfTI.")] = False,
    json: Json = False,
) -> None:
    """Run inits x backbones x datasets x seeds; what is there already is not run again."""
    from initbench.cli.run import run_command

    if seeds is not None and seed:
        raise UsageError("--seeds N (0 to N-1) and --seed I exclude each other")
    run_command(
        init=init,
        backbone=backbone,
        dataset=dataset or ["phantom-lung"],
        seeds=list(dict.fromkeys(seed)) if seed else list(range(seeds or 1)),
        protocol=protocol.value,
        jobs=jobs,
        json=json,
        options={
            "budget": budget.value,
            "size": size.value,
            "device": device,
            "precision": precision.value,
            "threads": threads,
            "data_root": data_root,
            "out": out,
            "split": split.value if split else None,
            "recipe": recipe,
            "assignments": set_ or [],
            "save_predictions": save_predictions,
        },
    )


@app.command()
def pretrain(
    init: Annotated[str, typer.Option(help="Initializer, with its parameters inline.")],
    backbone: Annotated[str, typer.Option(help="Backbone; a variant inline: unetrpp(variant=lung).")],
    weights: Annotated[Path, typer.Option(help="File to write: .safetensors, or .pth as nnU-Net v2 reads it.")],
    dataset: Annotated[str, typer.Option(help="Data set: name or path of a Decathlon folder.")] = "phantom-lung",
    seed: Annotated[int, typer.Option(help="Root seed.", min=0)] = 0,
    budget: Annotated[Budget, typer.Option(help="Its pretext share is trained (recipe: pretext.share).")] = Budget.paper,
    size: Annotated[NetSize, typer.Option(help="tiny, or paper: the published network.")] = NetSize.paper,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto: bf16 where the device is fast at it.")] = Precision.auto,
    threads: Annotated[int, typer.Option(help="torch threads on the CPU.", min=1)] = 1,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the data sets. [also: INITBENCH_DATA]")] = None,
    split: Annotated[SplitRule | None, typer.Option(help="Its training cases are learned from.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe: name or TOML file. [default: the data set's]")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="section.field=value over the recipe, init.parameter=value.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the weights of an init, to train from elsewhere: the init stage of `run` alone."""
    from initbench.cli.pretrain import pretrain_command

    pretrain_command(
        init,
        backbone,
        dataset,
        seed,
        weights,
        json=json,
        options={
            "budget": budget.value,
            "size": size.value,
            "device": device,
            "precision": precision.value,
            "threads": threads,
            "data_root": data_root,
            "split": split.value if split else None,
            "recipe": recipe,
            "assignments": set_ or [],
        },
    )


@app.command()
def diagnose(
    init: Annotated[list[str], typer.Option(help="Initializer(s); comma list or repeated.")],
    backbone: Annotated[str, typer.Option(help="Backbone; a variant inline: unetrpp(variant=lung).")],
    dataset: Annotated[str, typer.Option(help="Data set: name or path of a Decathlon folder.")] = "phantom-lung",
    seed: Annotated[int, typer.Option(help="Root seed.", min=0)] = 0,
    budget: Annotated[Budget, typer.Option(help="A learned init trains its pretext share of it.")] = Budget.paper,
    size: Annotated[NetSize, typer.Option(help="tiny, or paper: the published network.")] = NetSize.paper,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:i.")] = "auto",
    threads: Annotated[int, typer.Option(help="torch threads on the CPU.", min=1)] = 1,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the data sets. [also: INITBENCH_DATA]")] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe: name or TOML file. [default: the data set's]")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="section.field=value over the recipe, init.parameter=value.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it: a .png, .svg or .pdf.")] = None,
    json: Json = False,
) -> None:
    """Show what an init does to signals at step 0: activation and gradient scale per layer, dead units, effective rank."""
    from initbench.cli.diagnose import diagnose_command

    options: dict[str, Any] = {
        "budget": budget.value,
        "size": size.value,
        "device": device,
        "threads": threads,
        "data_root": data_root,
        "recipe": recipe,
        "assignments": set_ or [],
    }
    diagnose_command(init, backbone, dataset, seed, plot, json=json, options=options)


@app.command("list")
def list_(
    what: Annotated[What | None, typer.Argument(help="One kind; all of them without it.")] = None, json: Json = False
) -> None:
    """List initializers, backbones, data sets and recipes."""
    from initbench.cli.show import list_command

    list_command(what.value if what else None, json=json)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="Name of a component or recipe, or folder of a run.")], json: Json = False
) -> None:
    """Describe one initializer, backbone, data set, recipe or run."""
    from initbench.cli.show import describe_command

    describe_command(name, json=json)


@app.command()
def leaderboard(
    out: Annotated[Path, typer.Option(help="Folder of run directories.")] = Path("runs"),
    dataset: Annotated[list[str] | None, typer.Option(help="Only these data sets.")] = None,
    backbone: Annotated[list[str] | None, typer.Option(help="Only these backbones.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="Form of the output.")] = Format.table,
    json: Json = False,
) -> None:
    """Show, per backbone and data set, each init's Dice, its seed SD, and its difference to default."""
    from initbench.cli.show import leaderboard_command

    leaderboard_command(out, dataset or [], backbone or [], "json" if json else format_.value)


@validate_app.command("backbone")
def validate_backbone(
    name: Annotated[
        str, typer.Argument(help="Backbone: name, name(variant=...) or ./file.py:function; all variants without one.")
    ],
    size: Annotated[NetSize, typer.Option(help="Size of the network.")] = NetSize.tiny,
    patch: Annotated[str | None, typer.Option(help="D,H,W in voxels. [default: a small one with three sizes]")] = None,
    in_channels: Annotated[
        list[int] | None, typer.Option(help="Input channels (repeatable). [default: 1 and 2]", min=1, show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Check what a backbone promises: outputs, gradients, levels, heads, weights, determinism. On the CPU; exit code 1 if not."""
    from initbench.cli.validate import validate_command

    validate_command(name, size.value, patch, in_channels, json=json)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: people get one line, not a traceback."""
    try:
        app(args=arguments, standalone_mode=True)
    except InitbenchError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `initbench list | head`
        sys.stderr.close()
        sys.exit(1)


def _complain(text: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {_escape(text)}")


def _escape(text: Any) -> str:
    from rich.markup import escape

    return escape(str(text))
