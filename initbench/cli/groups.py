"""The groups of options that several commands share.

A group is a frozen dataclass whose fields are options. A command takes it as one parameter (see `initbench.cli.command`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from initbench import registry
from initbench.choices import DATASET, EXECUTOR, RAY, REGIMEN, PrecisionChoice
from initbench.cli.options import (
    JOBS,
    LEAST_LOOKS,
    LEAST_SEEDS,
    RUNS,
    SLURM,
    BackbonesOption,
    BudgetOption,
    ClassesOption,
    DataRootOption,
    DatasetsOption,
    DeviceOption,
    DevicesOption,
    DicePolicyOption,
    DryRunOption,
    ExecutorOption,
    FastOption,
    FixOption,
    FoldOption,
    GridOption,
    InitsOption,
    JobsOption,
    MaxParallelOption,
    MixOption,
    OutOption,
    PlaceboOption,
    PrecisionOption,
    ProtocolOption,
    RayAddressOption,
    ReadBackbonesOption,
    ReadDatasetsOption,
    ReadOutOption,
    RecipeOption,
    RegimenBudgetOption,
    RegimensOption,
    SameKindOption,
    SeedCountOption,
    SeedsOption,
    SetOption,
    SharedSeedsOption,
    SizeOption,
    SlurmOption,
    SplitOption,
    ThreadsOption,
    TrainCasesOption,
    UntilDecidedOption,
    comma_list,
    whole_numbers,
)
from initbench.errors import UsageError
from initbench.protocols import KindRule

if TYPE_CHECKING:
    from initbench.clusters.settings import SlurmSettings
    from initbench.harness.request import RunRequest
    from initbench.spec import Spec
    from initbench.studies.engine import Resources
    from initbench.studies.sweep import PartOptions, RunOptions


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
        """Returns the settings of Slurm: the site file says them, and options go over it."""
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
