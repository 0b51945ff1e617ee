"""Options that several commands share, and their values."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from initbench.errors import UsageError


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


class What(StrEnum):
    """Kinds of components."""

    inits = "inits"
    backbones = "backbones"
    datasets = "datasets"
    recipes = "recipes"


class DicePolicy(StrEnum):
    """What a class scores where the reference lacks it."""

    reference_mask = "reference-mask"
    monai = "monai"
    nnunet = "nnunet"
    empty_is_one = "empty-is-one"
    worst = "worst"


class By(StrEnum):
    """What a leaderboard is of."""

    block = "block"
    backbone = "backbone"
    dataset = "dataset"
    all = "all"


class CountedOn(StrEnum):
    """Where predictions are counted."""

    native = "native"
    resampled = "resampled"


class Metric(StrEnum):
    """What a per-class table shows."""

    dice = "dice"
    hd95 = "hd95"
    nsd = "nsd"


class SheetFormat(StrEnum):
    """Forms of a table."""

    table = "table"
    md = "md"
    csv = "csv"
    json = "json"
    latex = "latex"


def margin(points: float) -> float:
    """The margin of equivalence.

    Raises:
        UsageError: it is not above 0: nothing can be shown to lie within 0 points.
    """
    if not 0 < points < math.inf:
        raise UsageError(f"--margin {points:g}: equivalence needs a number of Dice points above 0, as 0.5")
    return points


DatasetOption = Annotated[str, typer.Option("--dataset", help="Data set: name or path of a Decathlon folder.")]
BackboneOption = Annotated[str, typer.Option("--backbone", help="Backbone; a variant inline: unetrpp(variant=lung).")]
SeedOption = Annotated[int, typer.Option("--seed", help="Root seed.", min=0)]
SizeOption = Annotated[
    NetSize, typer.Option("--size", help="tiny: the same code narrowed, for a CPU; paper: the published network.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:i; jobs spread over the devices.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="auto: bf16 where the device is fast at it.")]
ThreadsOption = Annotated[
    int, typer.Option("--threads", help="torch threads of a run on the CPU; another number changes bits.", min=1)
]
DataRootOption = Annotated[
    Path | None, typer.Option("--data-root", help="Folder that holds the data sets. [also: INITBENCH_DATA]")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of run directories.")]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="auto, published, the name of a published one, or of one beside the data: nnunet-fold-0, a name of splits.json. "
        "[default: published where there is one]",
    ),
]
FoldOption = Annotated[
    list[str] | None,
    typer.Option("--fold", help="Fold k/K of all cases (by patient) in place of a split; comma list or repeated: 1/5,2/5."),
]
TrainCasesOption = Annotated[
    str | None,
    typer.Option("--train-cases", help="Train on so many of the split's training cases; comma list, nested subsets: 3,6,12."),
]
RecipeOption = Annotated[str | None, typer.Option("--recipe", help="Recipe: name or TOML file. [default: the data set's]")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.field=value over the recipe, init.parameter=value over inits (repeatable)."),
]
ToleranceOption = Annotated[float, typer.Option("--nsd-tolerance", help="Of the surface Dice, in mm.", min=0)]
DatasetsOption = Annotated[list[str] | None, typer.Option("--dataset", help="Only these data sets.")]
BackbonesOption = Annotated[list[str] | None, typer.Option("--backbone", help="Only these backbones.")]
FormatOption = Annotated[SheetFormat, typer.Option("--format", help="Form of the output.")]
PolicyOption = Annotated[
    DicePolicy,
    typer.Option(
        "--dice-policy",
        help="A class that the reference lacks scores: nothing (reference-mask, and monai's DiceMetric); 0 if predicted, else "
        "nothing (nnunet) or 1 (empty-is-one); always 0 (worst).",
    ),
]
ClassesOption = Annotated[
    str | None, typer.Option("--classes", help="Only these classes: comma list, or a named set as synapse-8.")
]
GridOption = Annotated[
    CountedOn,
    typer.Option("--grid", help="native: the image's own voxels; resampled: those that networks see, of runs counted there."),
]
SharedOption = Annotated[bool, typer.Option("--shared-seeds", help="Only the seeds that every init of a block has.")]
MarginOption = Annotated[
    float,
    typer.Option("--margin", help="Dice points within which two inits are equivalent, above 0.", callback=margin),
]
MeasureOption = Annotated[
    bool, typer.Option("--measure", help="Time a few steps where no run below --out says how long one takes.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def part_options(fold: list[str] | None, train_cases: str | None) -> dict[str, Any]:
    """Folds and numbers of training cases, as the harness takes them.

    Raises:
        UsageError: a number of cases is none.
    """
    numbers = [item.strip() for item in (train_cases or "").split(",") if item.strip()]
    if not all(item.isdecimal() and len(item) < 7 for item in numbers):
        raise UsageError(f"--train-cases {train_cases}: whole numbers of cases, as 3,6,12")
    folds = [item.strip() for text in fold or () for item in text.split(",") if item.strip()]
    return {"folds": folds, "train_cases": [int(item) for item in numbers]}


def run_options(
    budget: Budget,
    size: NetSize,
    device: str,
    precision: Precision,
    threads: int,
    data_root: Path | None,
    split: str | None,
    recipe: str | None,
    set_: list[str] | None,
) -> dict[str, Any]:
    """The options of a run that several commands share, as the harness takes them."""
    return {
        "budget": budget.value,
        "size": size.value,
        "device": device,
        "precision": precision.value,
        "threads": threads,
        "data_root": data_root,
        "split": split,
        "recipe": recipe,
        "assignments": set_ or [],
    }
