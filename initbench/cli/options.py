"""The options of the commands: what each name means, its default, and the groups of them that several commands share.

An option name has one meaning. It is the first sentence of its help and reads the same wherever the option stands; the sentences
after it say how many values a command takes and what it does without any. A test compares all commands.

A group is a frozen dataclass whose fields are options. A command takes it as one parameter (see `initbench.cli.command`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from initbench import registry
from initbench.catalog import Kind
from initbench.choices import (
    DATASET,
    EXECUTOR,
    RAY,
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
from initbench.protocols import KindRule, Size

if TYPE_CHECKING:
    from initbench.clusters.settings import SlurmSettings
    from initbench.harness.request import RunRequest
    from initbench.spec import Spec
    from initbench.studies.engine import Resources
    from initbench.studies.sweep import PartOptions, RunOptions

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


# --- groups -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """The seeds of runs, counted or named."""

    seeds: SeedCountOption = None
    seed: SeedsOption = None

    def chosen(self) -> list[int] | None:
        """Returns the seeds that somebody asked for, in the order asked; None without any.

        Raises:
            UsageError: they are both counted and named.
        """
        if self.seeds is not None and self.seed:
            raise UsageError("--seeds N (0 to N-1) and --seed I exclude each other")
        if self.seed:
            return list(dict.fromkeys(self.seed))
        if self.seeds is None:
            return None
        counts = self.counts
        if len(counts) > 1 and not self.looks_are_planned:
            raise UsageError(f"--seeds {self.seeds}: several numbers are planned looks, and go with --until-decided")
        return list(range(max(counts)))

    @property
    def counts(self) -> list[int]:
        """The numbers of seeds that --seeds names."""
        return whole_numbers(comma_list(self.seeds))

    @property
    def looks_are_planned(self) -> bool:
        """Whether several numbers of seeds may be named."""
        return False


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a run trains, on which device and data: the options that every command takes that builds networks."""

    budget: BudgetOption = "paper"
    size: SizeOption = "paper"
    recipe: RecipeOption = None
    set_: SetOption = None
    device: DeviceOption = "auto"
    precision: PrecisionOption = "auto"
    threads: ThreadsOption = 1
    data_root: DataRootOption = None
    split: SplitOption = None

    def as_run_options(self) -> RunOptions:
        """The options as the Python API takes them."""
        return {
            "budget": self.budget,
            "size": self.size,
            "recipe": self.recipe,
            "assignments": self.set_ or [],
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
            "data_root": self.data_root,
            "split": self.split,
        }


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Which part of a data set is trained on."""

    fold: FoldOption = None
    train_cases: TrainCasesOption = None

    def folds(self) -> list[str]:
        """Returns the folds, one text each."""
        found = []
        for text in self.fold or ():
            found += comma_list(text)
        return found

    def numbers(self) -> list[int]:
        """Returns the numbers of training cases.

        Raises:
            UsageError: one is not a whole number.
        """
        items = comma_list(self.train_cases)
        numbers = whole_numbers(items)
        if items and not numbers:
            raise UsageError(f"--train-cases {self.train_cases}: whole numbers of cases, as 3,6,12")
        return numbers


@dataclass(frozen=True, kw_only=True)
class TrainingOnParts(Parts, Training):
    """How a run trains, and on which part of the data."""

    def as_part_options(self) -> PartOptions:
        """The options as the Python API takes them."""
        return {**self.as_run_options(), "folds": self.folds(), "train_cases": self.numbers()}


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """What a study crosses."""

    init: InitsOption
    backbone: BackbonesOption
    dataset: DatasetsOption = None
    regimen: RegimensOption = None


# Dataclasses take the fields of the last base first, and the help lists options in the order of the fields.
@dataclass(frozen=True, kw_only=True)
class Study(TrainingOnParts, Seeds, Crossed):
    """What a study crosses and how its runs train: the options that decide its runs."""

    until_decided: UntilDecidedOption = False
    protocol: ProtocolOption = "equal-total"
    regimen_budget: RegimenBudgetOption = "steps"
    placebo: PlaceboOption = True
    fix: FixOption = None
    fast: FastOption = False
    jobs: JobsOption = JOBS
    out: OutOption = RUNS

    @property
    def looks_are_planned(self) -> bool:
        """Whether the study is looked at several times."""
        return self.until_decided

    def looks(self) -> tuple[int, ...]:
        """Returns the numbers of seeds at which the study is looked at; empty where no looks are planned.

        Raises:
            UsageError: they are fewer than two, do not rise, or begin below two seeds.
        """
        if not self.until_decided:
            return ()
        counts = self.counts
        if self.seed or len(counts) < LEAST_LOOKS or counts != sorted(set(counts)) or counts[0] < LEAST_SEEDS:
            raise UsageError("--until-decided takes rising numbers of seeds, the first 2 or more: --seeds 3,5,10")
        if self.protocol == "both":
            raise UsageError("--until-decided plans the looks of one protocol: --protocol equal-total or equal-finetune")
        return tuple(counts)

    @cached_property
    def regimens(self) -> list[Spec]:
        """The regimens, read once, which imports no torch.

        Raises:
            UsageError: an unknown one; names the nearest known ones.
        """
        from initbench.harness.request import read_components

        return read_components("regimen", self.regimen or [REGIMEN])

    @cached_property
    def components(self) -> tuple[list[Spec], list[Spec], list[Spec]]:
        """The inits, backbones and data sets, read once, which imports no torch.

        Raises:
            UsageError: an unknown init or backbone; names the nearest known ones.
        """
        from initbench.harness.request import read_components

        return (
            read_components("initializer", self.init),
            read_components("backbone", self.backbone),
            read_components("dataset", self.dataset or [DATASET]),
        )

    def check_names(self) -> None:
        """Refuses unknown inits, backbones, regimens and data sets before torch is imported.

        Raises:
            UsageError: names the nearest known ones.
        """
        self.chosen()
        _ = self.regimens
        _, _, datasets = self.components
        # Here, as it imports the readers of images, which a wrong name of another component need not wait for.
        from initbench.datasets.open import open_dataset

        for dataset in datasets:
            try:
                open_dataset(dataset.name, self.data_root)
            except UsageError:
                raise
            except (Exception, SystemExit):  # noqa: S112 - readers of others raise what they like, and the run says so
                continue

    def requests(self, **options: Any) -> list[RunRequest]:
        """Returns the runs of the study.

        Args:
            options: more options, which every run gets.

        Raises:
            UsageError: an unknown or malformed component or parameter, no such fold.
        """
        from initbench.studies.sweep import cross_requests

        fixed = sorted(set(self.fix or ()))
        of_every_run: dict[str, Any] = {**self.as_part_options(), "out": self.out, "fixed": tuple(fixed)}
        of_every_run |= {"fast": self.fast, **options}
        return cross_requests(
            *self.components,
            regimen=self.regimens,
            regimen_budget=self.regimen_budget,
            seeds=self.chosen() or [0],
            protocol=self.protocol,
            placebo=self.placebo,
            **of_every_run,
        )


@dataclass(frozen=True, kw_only=True)
class ReadRuns:
    """Which runs a table reads, and how it counts their Dice."""

    out: ReadOutOption = RUNS
    dataset: ReadDatasetsOption = None
    backbone: ReadBackbonesOption = None
    shared_seeds: SharedSeedsOption = False
    dice_policy: DicePolicyOption = "reference-mask"
    classes: ClassesOption = None
    grid: GridOption = "native"


@dataclass(frozen=True, kw_only=True)
class Devices:
    """On which devices of this machine the runs of a study are done."""

    devices: DevicesOption = None
    mix: MixOption = False
    same_kind: SameKindOption = False

    @cached_property
    def who(self) -> Spec:
        """The executor: this machine."""
        from initbench.spec import Spec

        return Spec(EXECUTOR)

    def check(self) -> None:
        """Refuses what no study can have, before torch is imported.

        Raises:
            UsageError: there is no such executor, the devices are no numbers, or two options exclude each other.
        """
        _ = self.who  # refuses an unknown one
        self._numbers()
        if self.mix and self.same_kind:
            raise UsageError("--mix and --same-kind exclude each other")

    def resources(self, jobs: int) -> Resources:
        """Returns the executor, the devices and the runs at a time, as a study takes them.

        Args:
            jobs: runs at a time on each device; 0 for as many as there is memory for.

        Raises:
            UsageError: as `check`.
        """
        from initbench.studies.engine import Resources

        self.check()
        rule: KindRule = "pairs"
        if self.mix:
            rule = "mix"
        elif self.same_kind:
            rule = "same"
        return Resources(self.who, jobs, self._numbers(), rule)

    def _numbers(self) -> tuple[int, ...]:
        if self.devices is None:
            return ()
        numbers = whole_numbers(comma_list(self.devices))
        if not numbers:
            raise UsageError(f"--devices {self.devices}: numbers of GPUs, as 0,1")
        return tuple(dict.fromkeys(numbers))


@dataclass(frozen=True, kw_only=True)
class Engine(Devices):
    """Who does the runs of a study, and on which devices."""

    executor: ExecutorOption = EXECUTOR
    ray_address: RayAddressOption = None

    @cached_property
    def who(self) -> Spec:
        """The executor that the options name, read once."""
        return self._named(self.executor)

    def _named(self, name: str) -> Spec:
        """Returns the executor of a name, with its address."""
        from initbench.harness.request import read_component

        named = read_component("executor", name)
        if self.ray_address is None:
            return named
        if named.name != RAY:
            raise UsageError(f"--ray-address is for --executor {RAY}, and this is --executor {named.name}")
        return named.with_param("address", self.ray_address)

    def check(self) -> None:
        """Refuses what no study can have, before torch is imported; also what the executor cannot have.

        Raises:
            UsageError: as `Devices.check`, or the executor cannot have what was asked for.
            InitbenchError: the executor cannot be reached.
        """
        super().check()
        registry.check_executor(self.who)


@dataclass(frozen=True, kw_only=True)
class EngineOrQueue(Engine):
    """Who does the runs of a study, which may be a queue of others that goes on without this process."""

    slurm: SlurmOption = None
    max_parallel: MaxParallelOption = None
    dry_run: DryRunOption = False

    @cached_property
    def who(self) -> Spec:
        """The executor that the options name, read once, with its settings."""
        name = self.executor
        if self.slurm is not None and name == EXECUTOR:
            name = SLURM
        found = self._named(name)
        for key, value in self._settings().items():
            found = found.with_param(key, value)
        return found

    def check(self) -> None:
        """Refuses what no study can have, before torch is imported.

        Raises:
            UsageError: as `Engine.check`, or an option is for Slurm alone.
            InitbenchError: the executor cannot be reached.
        """
        for_slurm = {"--slurm": self.slurm, "--max-parallel": self.max_parallel, "--dry-run": self.dry_run or None}
        for name, value in for_slurm.items():
            if value is not None and self.who.name != SLURM:
                raise UsageError(f"{name} is for --executor {SLURM}; `initbench plan` shows what a study would do")
        super().check()

    @property
    def tasks(self) -> int:
        """How many tasks of Slurm run at a time; 0 where nobody says.

        Raises:
            UsageError: a setting of Slurm is wrong.
        """
        if self.who.name != SLURM:
            return 0
        return self._read().max_parallel

    def check_kinds(self, precision: PrecisionChoice) -> None:
        """Refuses nodes of several kinds that would compute in different precisions, which are different runs.

        Raises:
            UsageError: the precision is left to the devices.
        """
        if self.who.name == SLURM and self._read().kinds and precision == "auto":
            raise UsageError("nodes of several kinds may compute in different precisions: add --precision float32 or bf16")

    def _read(self) -> SlurmSettings:
        """Returns all settings of Slurm, with those of the site file."""
        from initbench.clusters.settings import read_settings

        settings = dict(self.who.params)
        settings.pop("dry_run", None)
        return read_settings(settings)

    def _settings(self) -> dict[str, Any]:
        """Returns the settings of Slurm that are options; they go over those in the name of the executor."""
        from initbench.clusters.settings import read_options

        found = read_options(self.slurm)
        if self.max_parallel is not None:
            found["max_parallel"] = self.max_parallel
        if self.dry_run:
            found["dry_run"] = True
        return found


def check_requests(requests: Sequence[RunRequest]) -> None:
    """Refuses a study whose names or settings are wrong, in one line and before anything is written.

    Raises:
        UsageError: what is wrong with the first request that cannot be.
    """
    from initbench.harness.choose import check_request

    # Inits and seeds have nothing to do with it.
    alike: dict[RunRequest, RunRequest] = {}
    for request in requests:
        alike[replace(request, init=requests[0].init, seed=0)] = request
    for request in alike.values():
        check_request(request)


def check_some_can_be(found: Iterable[tuple[str, str]]) -> None:
    """Refuses a study of which every run is refused for one and the same reason; that reason is all there is to say.

    Args:
        found: state and message of every run.

    Raises:
        UsageError: the reason.
    """
    different = set(found)
    if len(different) != 1:
        return
    [(state, message)] = different
    if state == "refused":
        raise UsageError(message)
