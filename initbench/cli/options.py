"""The options of the commands: what each name means, and its default.

An option name has one meaning. It is the first sentence of its help and reads the same wherever the option stands; the sentences
after it say how many values a command takes and what it does without any. A test compares all commands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from initbench import registry
from initbench.catalog import Kind
from initbench.choices import (
    DATASET,
    REGIMEN,
    Budget,
    CountedOn,
    DicePolicy,
    PrecisionChoice,
    RegimenBudget,
    SheetForm,
    Stream,
    SweepProtocol,
)
from initbench.dice import policies_in_words
from initbench.errors import UsageError
from initbench.protocols import Size

# Panels of the help, in their order there.
WHAT = "What"
HOW_LONG = "How long"
WHERE = "Where"
WHICH_DATA = "Which data"
WHICH_RUNS = "Which runs"
HOW_JUDGED = "How they are judged"
OUTPUT = "Output"
PANELS = (WHAT, HOW_LONG, WHERE, WHICH_DATA, WHICH_RUNS, HOW_JUDGED, OUTPUT)

# Defaults that several commands share. `choices` holds the ones that the Python API has, too.
RUNS = Path("runs")
JOBS = 1
AUTO_JOBS = 0
NSD_TOLERANCE_MM = 2.0
# Beyond these a number is a slip of the keyboard, and would end in an error of the memory or of the system.
MOST_SEEDS = 10_000
LEAST_LOOKS = 2
LEAST_SEEDS = 2  # of a look: one seed decides nothing
MOST_THREADS = 1_024
MINUTES_OF_A_WEEK = 7 * 24 * 60
GIB_OF_ANY_DEVICE = 2**20
_DIGITS = 7  # of a number, which it stays below

SLURM = "slurm"

# The meanings that an option for one value shares with an option for many.
_INIT = "Initializer: name, name(key=value) or ./file.py:function."
_BACKBONE = "Backbone: name, name(variant=...) or ./file.py:function."
_DATASET = "Data set: name or folder."
_REGIMEN = "Regimen: name, name(key=value) or ./file.py:function."
_DEVICE = "Device: auto, cpu, cuda or cuda:i."
_OUT = "Folder of runs."
_SEED = "Root seed."
_SET = "Setting over the recipe: section.field=value."
_MANY = "Comma list or repeated."


def comma_list(text: str | None) -> list[str]:
    """Returns the items of a comma list, none of them empty."""
    found = []
    for item in (text or "").split(","):
        if item.strip():
            found.append(item.strip())
    return found


def whole_numbers(items: Sequence[str]) -> list[int]:
    """Returns the items of a list as whole numbers below a million; empty where an item is anything else."""
    numbers = []
    for item in items:
        if not item.isdecimal() or len(item) >= _DIGITS:
            return []
        numbers.append(int(item))
    return numbers


def beginning(typed: str, names: Iterable[str]) -> list[str]:
    """Returns the names that begin with what was typed, for the shell to complete it."""
    return [name for name in names if name.startswith(typed)]


def _read_jobs(text: str) -> int:
    """Returns how many runs each device does at a time; 0 for as many as there is memory for."""
    if text == "auto":
        return AUTO_JOBS
    if not str(text).isdecimal() or not 1 <= int(text) <= MOST_THREADS:
        raise typer.BadParameter(f"{text!r} is neither auto nor a number from 1 to {MOST_THREADS}")
    return int(text)


def _names(kind: Kind) -> Callable[[str], list[str]]:
    """Returns the function by which the shell completes the last name of a comma list."""

    def complete(incomplete: str) -> list[str]:
        begun, comma, last = incomplete.rpartition(",")
        return [f"{begun}{comma}{name}" for name in beginning(last, registry.names(kind))]

    return complete


def complete_recipe(incomplete: str) -> list[str]:
    """Returns the recipes whose names begin so, for the shell."""
    from initbench.recipes.files import listing

    return beginning(incomplete, dict(listing()))


def _complete_stream(incomplete: str) -> list[str]:
    return beginning(incomplete, get_args(Stream))


COMPLETE_INIT = _names("initializer")
COMPLETE_DATASET = _names("dataset")
_COMPLETIONS = {
    "--init": COMPLETE_INIT,
    "--backbone": _names("backbone"),
    "--dataset": COMPLETE_DATASET,
    "--regimen": _names("regimen"),
}
_MEANINGS = {"--init": _INIT, "--backbone": _BACKBONE, "--dataset": _DATASET, "--regimen": _REGIMEN}


def _naming(option: str, panel: str, more: str = "", *, default: str | bool = True) -> Any:
    """Returns an option whose values are names of components, as typer needs it.

    Args:
        option: ``--init``, ``--backbone``, ``--dataset`` or ``--regimen``.
        panel: of the help, where it stands.
        more: what the help says after the meaning.
        default: what the help says of the default; False for nothing.
    """
    return typer.Option(
        option,
        metavar="NAME",
        help=f"{_MEANINGS[option]} {more}".rstrip(),
        show_default=default,
        autocompletion=_COMPLETIONS[option],
        rich_help_panel=panel,
    )


def _check_margin(points: float) -> float:
    """Returns the margin of equivalence.

    Raises:
        UsageError: it is not above 0: nothing can be shown to lie within 0 points.
    """
    if not 0 < points < math.inf:
        raise UsageError(f"--margin {points:g}: equivalence needs a number of Dice points above 0, as 0.5")
    return points


# --- what is run ------------------------------------------------------------------------------------------------------

InitOption = Annotated[str, _naming("--init", WHAT)]
InitsOption = Annotated[list[str], _naming("--init", WHAT, _MANY)]
BackboneOption = Annotated[str, _naming("--backbone", WHAT)]
BackbonesOption = Annotated[list[str], _naming("--backbone", WHAT, _MANY)]
OtherBackboneOption = Annotated[str | None, _naming("--backbone", WHAT, "Instead of the published ones.")]
RegimenBackbonesOption = Annotated[
    list[str] | None, _naming("--backbone", WHAT, f"{_MANY} At tiny size.", default="unetr, unetrpp, unet")
]
OverridesOfBackboneOption = Annotated[str, _naming("--backbone", WHAT, "Recipes may set something else for it.", default=False)]
TestBackbonesOption = Annotated[
    list[str] | None,
    _naming(
        "--backbone",
        WHAT,
        f"{_MANY} At tiny size.",
        default="probe (a small network of many kinds of parameters), unetr, unetrpp",
    ),
]
RegimensOption = Annotated[
    list[str] | None,
    _naming("--regimen", WHAT, f"How the supervised stage is run. {_MANY}", default=REGIMEN),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help=_SEED, min=0, rich_help_panel=WHAT)]
SeedsOption = Annotated[
    list[int] | None,
    typer.Option("--seed", metavar="N", help=f"{_SEED} Repeatable, instead of --seeds.", min=0, rich_help_panel=WHAT),
]


def _check_counts(text: str | None) -> str | None:
    """Refuses what is no number of seeds, or no rising list of them.

    Raises:
        typer.BadParameter: says what is allowed.
    """
    if text is None:
        return None
    numbers = whole_numbers(comma_list(text))
    if not numbers or min(numbers) < 1 or max(numbers) > MOST_SEEDS:
        raise typer.BadParameter(f"{text}: a number of seeds, 1 to {MOST_SEEDS}; with --until-decided several, as 3,5,10")
    return text


SeedCountOption = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="N",
        help="Number of seeds, from 0 on. 1 by default; of a published table 3, and a report takes all that are there. "
        "With --until-decided the numbers at which the study is looked at, as 3,5,10.",
        callback=_check_counts,
        rich_help_panel=WHAT,
    ),
]
UntilDecidedOption = Annotated[
    bool,
    typer.Option(
        "--until-decided",
        help="Look at the study at each number of --seeds, and stop where everything is decided. The looks and their levels are "
        "written down before the first run.",
        rich_help_panel=WHAT,
    ),
]
PlaceboOption = Annotated[
    bool,
    typer.Option(
        "--placebo/--no-placebo",
        help="Run default drawn again, too. Where others are compared with it under two or more seeds.",
        rich_help_panel=WHAT,
    ),
]
FixOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fix",
        metavar="STREAM",
        help="Stream that every seed draws as seed 0 does. Shows the variance of the others; repeatable: "
        f"{', '.join(get_args(Stream))}.",
        autocompletion=_complete_stream,
        rich_help_panel=WHAT,
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="Recipe: name or TOML file.",
        show_default="that of the data set",
        autocompletion=complete_recipe,
        rich_help_panel=WHAT,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help=f"{_SET} Over inits: init.parameter=value; repeatable.", rich_help_panel=WHAT
    ),
]

# --- how long, and where ----------------------------------------------------------------------------------------------

BudgetOption = Annotated[
    Budget,
    typer.Option("--budget", help="Steps: smoke (a minute on a CPU), short (ten) or paper.", rich_help_panel=HOW_LONG),
]
SizeOption = Annotated[
    Size,
    typer.Option(
        "--size",
        help="Size of networks: tiny (the same code narrowed, for a CPU) or paper (as published).",
        rich_help_panel=HOW_LONG,
    ),
]
ProtocolOption = Annotated[
    SweepProtocol,
    typer.Option(
        "--protocol",
        help="Who pays for a pretext's steps. equal-total: they come off the budget; equal-finetune: they come on top of it.",
        rich_help_panel=HOW_LONG,
    ),
]
RegimenBudgetOption = Annotated[
    RegimenBudget,
    typer.Option(
        "--regimen-budget",
        help="What regimens have in common. steps: the steps; compute: the passes through the network, in fewer steps.",
        rich_help_panel=HOW_LONG,
    ),
]
SkipRefusedOption = Annotated[
    bool,
    typer.Option("--skip-refused", help="Run the others where some runs cannot be.", rich_help_panel=HOW_LONG),
]
MeasureOption = Annotated[
    bool | None,
    typer.Option(
        "--measure/--no-measure",
        help="Time a few steps where no run below --out says how long one takes. Otherwise a range is told from the operations.",
        show_default="where it takes less than a minute",
        rich_help_panel=HOW_LONG,
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help=f"{_DEVICE} auto and cuda take all GPUs.", rich_help_panel=WHERE)
]
RecordedDeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help=_DEVICE, show_default="as the run had it", rich_help_panel=WHERE)
]
PrecisionOption = Annotated[
    PrecisionChoice,
    typer.Option("--precision", help="Arithmetic. auto: bf16 where the device is fast at it.", rich_help_panel=WHERE),
]
FastOption = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Compile steps, and choose kernels by timing them. Rounds otherwise; tables flag rows that mix.",
        rich_help_panel=WHERE,
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs",
        metavar="N|auto",
        help="Runs at a time on each device. auto: as many as there is memory for, by what the first ones took.",
        parser=_read_jobs,
        show_default="1",
        rich_help_panel=WHERE,
    ),
]
ExecutorOption = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="NAME",
        help="Executor: name or name(key=value). Who does the runs: local is this machine.",
        autocompletion=_names("executor"),
        rich_help_panel=WHERE,
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="Head of the Ray cluster, for --executor ray.",
        show_default="the cluster that was started on this machine",
        rich_help_panel=WHERE,
    ),
]
SlurmOption = Annotated[
    str | None,
    typer.Option(
        "--slurm",
        metavar="KEY=VALUE,...",
        help="Settings of jobs of Slurm, over the site file. Implies --executor slurm; as partition=gpu,time=4h.",
        rich_help_panel=WHERE,
    ),
]
MaxParallelOption = Annotated[
    int | None,
    typer.Option(
        "--max-parallel",
        metavar="N",
        help="Tasks of Slurm that run at a time.",
        min=1,
        show_default="as many as there is room for",
        rich_help_panel=WHERE,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Do no run. Writes the scripts for Slurm and submits nothing.", rich_help_panel=OUTPUT),
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="N,...",
        help="Numbers of the GPUs to use. Comma list, as 0,1.",
        show_default="all that there are",
        rich_help_panel=WHERE,
    ),
]
MixOption = Annotated[
    bool,
    typer.Option(
        "--mix",
        help="Let the inits of one block and seed run on different kinds of device. Differences then measure the device, too.",
        rich_help_panel=WHERE,
    ),
]
SameKindOption = Annotated[
    bool,
    typer.Option(
        "--same-kind",
        help="Leave runs whose block and seed were begun on another kind of device. By default they run here and are flagged.",
        rich_help_panel=WHERE,
    ),
]
ThreadsOption = Annotated[
    int,
    typer.Option(
        "--threads",
        metavar="N",
        help="Threads of torch for a run on the CPU. Another number changes bits.",
        min=1,
        max=MOST_THREADS,
        rich_help_panel=WHERE,
    ),
]

# --- which data -------------------------------------------------------------------------------------------------------

DatasetOption = Annotated[str, _naming("--dataset", WHICH_DATA)]
DatasetsOption = Annotated[list[str] | None, _naming("--dataset", WHICH_DATA, _MANY, default=DATASET)]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="FOLDER",
        help="Folder that holds the data sets. The variable INITBENCH_DATA names others.",
        rich_help_panel=WHICH_DATA,
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME",
        help="Split: auto, published, or a name. Names: published splits, nnunet-fold-0, names in a splits.json beside the data.",
        show_default="published where there is one",
        rich_help_panel=WHICH_DATA,
    ),
]
FoldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fold",
        metavar="K/N",
        help=f"Fold K/N of all cases (by patient) in place of a split. {_MANY} 1/5,2/5.",
        rich_help_panel=WHICH_DATA,
    ),
]
RunCodeOption = Annotated[
    bool,
    typer.Option(
        "--run-code",
        help="Run Python files that the records name, also outside of the current folder.",
        rich_help_panel=WHERE,
    ),
]
TrainCasesOption = Annotated[
    str | None,
    typer.Option(
        "--train-cases",
        metavar="N,...",
        help="How many of the split's training cases to train on. Comma list of nested subsets: 3,6,12.",
        rich_help_panel=WHICH_DATA,
    ),
]
OtherDatasetOption = Annotated[str | None, _naming("--dataset", WHICH_DATA, "Instead of the published one.")]

# --- which runs are read, and how they are judged ---------------------------------------------------------------------

ReadDatasetsOption = Annotated[list[str] | None, _naming("--dataset", WHICH_RUNS, "Repeatable; only runs on these.")]
ReadBackbonesOption = Annotated[list[str] | None, _naming("--backbone", WHICH_RUNS, "Repeatable; only runs of these.")]
SharedSeedsOption = Annotated[
    bool,
    typer.Option("--shared-seeds", help="Only the seeds that every init of a block has.", rich_help_panel=WHICH_RUNS),
]
DicePolicyOption = Annotated[
    DicePolicy,
    typer.Option(
        "--dice-policy",
        help=f"What a class scores where the reference lacks it: {policies_in_words()}.",
        rich_help_panel=HOW_JUDGED,
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="NAME,...",
        help="Classes that count. Comma list, or a named set as synapse-8.",
        rich_help_panel=HOW_JUDGED,
    ),
]
GridOption = Annotated[
    CountedOn,
    typer.Option(
        "--grid",
        help="Voxels that are counted. native: the image's own; resampled: what networks see, of runs counted there.",
        rich_help_panel=HOW_JUDGED,
    ),
]
AgainstOption = Annotated[
    str,
    typer.Option(
        "--against",
        metavar="NAME",
        help="Init that the others are compared with.",
        autocompletion=COMPLETE_INIT,
        rich_help_panel=HOW_JUDGED,
    ),
]
MarginOption = Annotated[
    float,
    typer.Option(
        "--margin",
        metavar="POINTS",
        help="Dice points within which two inits are equivalent. Above 0.",
        callback=_check_margin,
        rich_help_panel=HOW_JUDGED,
    ),
]
SdsOption = Annotated[
    str | None,
    typer.Option(
        "--sd",
        metavar="A,B,C",
        help="SDs of seed, init × case and residual in Dice points. As 1.5,3,10; instead of pilot runs.",
        rich_help_panel=HOW_JUDGED,
    ),
]

# --- output -----------------------------------------------------------------------------------------------------------

OutOption = Annotated[Path, typer.Option("--out", metavar="FOLDER", help=_OUT, rich_help_panel=OUTPUT)]
ReadOutOption = Annotated[Path, typer.Option("--out", metavar="FOLDER", help=_OUT, rich_help_panel=WHICH_RUNS)]
FileOption = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="File to write.", rich_help_panel=OUTPUT)]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Picture to draw of it: a .png, .svg or .pdf.", rich_help_panel=OUTPUT),
]
DistancesOption = Annotated[
    bool,
    typer.Option(
        "--distances", help="Measure distances between surfaces. Takes seconds a case for large CT.", rich_help_panel=OUTPUT
    ),
]
ToleranceOption = Annotated[
    float,
    typer.Option("--nsd-tolerance", metavar="MM", help="Tolerance of the surface Dice in mm.", min=0, rich_help_panel=OUTPUT),
]
FormOption = Annotated[SheetForm, typer.Option("--format", help="Form of the output.", rich_help_panel=OUTPUT)]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.", rich_help_panel=OUTPUT)]
