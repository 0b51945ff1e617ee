"""From a request to a resolved cell: what exactly is run, and the id that says when two runs are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from initbench import digest, registry, seeding
from initbench.choices import BASELINE, Budget, Protocol, RegimenBudget
from initbench.datasets import splits
from initbench.datasets.open import open_dataset
from initbench.errors import InitbenchError, UsageError
from initbench.harness import compose, regimens
from initbench.harness.hardware import resolve_device, resolve_precision
from initbench.harness.request import PLAIN, RunRequest, check_streams, check_tolerance
from initbench.preprocessing.auto_settings import fill_auto_settings, read_grids
from initbench.preprocessing.prepare import Prepared, case_digests, prepare
from initbench.protocols import (
    PLAIN_UNITS,
    BackboneInfo,
    Dataset,
    InitializerInfo,
    PatchRule,
    Progress,
    RegimenInfo,
    Split,
    check_patch,
    check_variant,
    splits_of,
)
from initbench.recipes.files import default_name
from initbench.recipes.load import as_slices, load_recipe
from initbench.recipes.settings import AutoSettings, Recipe
from initbench.registry import Component
from initbench.sampling.volumes import VolumeShelf
from initbench.spec import Spec
from initbench.training.precision import Precision

# Raised whenever the harness itself gives other numbers for the same settings.
HARNESS_REVISION = 1


@dataclass(frozen=True)
class Steps:
    """The steps of a run: of its init stage, and of training after it."""

    pretext: int
    train: int

    @property
    def total(self) -> int:
        """The steps of both stages."""
        return self.pretext + self.train


def steps_of(
    recipe: Recipe,
    budget: Budget,
    protocol: Protocol,
    *,
    learned: bool,
    regimen_budget: RegimenBudget = "steps",
    units: int = PLAIN_UNITS,
) -> Steps:
    """Divides the steps of a budget between the init stage and training.

    A learned init takes its steps off the budget under ``equal-total``, and has them on top of it under ``equal-finetune``. Where
    regimens have their compute in common, the steps that are left for training are divided by what a step of the regimen costs.

    Args:
        recipe: states the steps of the budget.
        budget: a word for the steps.
        protocol: who pays for the steps of a learned init.
        learned: whether the init has any.
        regimen_budget: what regimens have in common.
        units: what a step of the regimen costs.
    """
    whole = int(getattr(recipe.steps, budget))
    pretext = 0
    if learned:
        pretext = max(1, round(recipe.pretext.share * whole))
    train = whole
    if protocol == "equal-total":
        train -= pretext
    if regimen_budget == "compute":
        train = regimens.affordable_steps(train, units)
    return Steps(pretext, train)


@dataclass(frozen=True)
class Choices:
    """What a request says of data, network and settings; the init has no part in it.

    Attributes:
        reader: digest of the data set's code where that is a plug-in.
        recipe: with numbers in place of its plan.
    """

    dataset: Dataset
    reader: str | None
    split: Split
    backbone: Component[BackboneInfo]
    variant: str
    recipe: Recipe

    def prepare(self, progress: Progress | None = None, before_reading: Callable[[], None] = lambda: None) -> Prepared:
        """Preprocesses what the cache lacks; the arguments are as for `initbench.preprocessing.prepare.prepare`.

        Raises:
            DataError: a case is unusable.
        """
        return prepare(self.dataset, self.split, self.recipe.preprocess, progress, self.reader, before_reading)


@dataclass(frozen=True)
class Draft:
    """A request with every choice made that can be made before a case is read.

    Attributes:
        init_name: the init for people, with the parameters that differ from their defaults.
        init_identity: the init for streams and folders.
        units: what a supervised step costs, as the regimen declares it.
        choices: of data, network and settings.
    """

    request: RunRequest
    init: Component[InitializerInfo]
    init_name: str
    init_identity: str
    init_info: InitializerInfo
    regimen: Component[RegimenInfo]
    units: int
    choices: Choices
    precision: Precision

    @property
    def backbone(self) -> Component[BackboneInfo]:
        """The network."""
        return self.choices.backbone

    @property
    def variant(self) -> str:
        """The variant of the network."""
        return self.choices.variant

    @property
    def recipe(self) -> Recipe:
        """The settings."""
        return self.choices.recipe

    @property
    def in_channels(self) -> int:
        """Channels of the network's input."""
        return self.recipe.patch.channels_of(len(self.choices.dataset.channels))

    @property
    def out_channels(self) -> int:
        """Classes that the network tells apart, with the background."""
        return len(self.choices.dataset.classes)

    @property
    def root(self) -> seeding.Root:
        """Where its numbers come from."""
        return seeding.Root.of(self.request.seed, self.request.fixed)

    @property
    def backbone_name(self) -> str:
        """The backbone in tables, without its variant."""
        return registry.display_name(self.backbone)

    @property
    def regimen_name(self) -> str:
        """The regimen in tables, with the parameters that differ from their defaults."""
        return str(registry.canonical(self.regimen, shown=True))

    @property
    def total_steps(self) -> int:
        """Steps of the budget."""
        return int(getattr(self.recipe.steps, self.request.budget))

    @property
    def pretext_steps(self) -> int:
        """Steps of a learned init."""
        return self._steps.pretext

    @property
    def train_steps(self) -> int:
        """Supervised steps."""
        return self._steps.train

    @property
    def _steps(self) -> Steps:
        request = self.request
        return steps_of(
            self.recipe,
            request.budget,
            request.protocol,
            learned=self.init_info.learned,
            regimen_budget=request.regimen_budget,
            units=self.units,
        )


@dataclass(frozen=True)
class Cell(Draft):
    """A request with every choice made, and its prepared data."""

    prepared: Prepared
    identity: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """Digest of the resolved request and the data; the seed is not in it."""
        return digest.of_json(self.identity)


def choose(request: RunRequest, progress: Progress | None = None, dataset: Dataset | None = None) -> Choices:
    """Makes the choices that decide how data are preprocessed; reads the training cases where the recipe leaves it to them.

    Args:
        request: the run.
        progress: told of headers that are read.
        dataset: of the request, where it was opened before.

    Raises:
        UsageError: something asked for does not exist or does not fit together. DataError: the data are unusable.
    """
    dataset, reader = dataset or open_dataset(request.dataset.name, request.data_root), _reader(request.dataset)
    backbone = registry.find("backbone", request.backbone)
    recipe = _recipe(dataset, request)
    variant = _variant(backbone, _for_dimension(recipe, backbone.info, request))
    chosen = Choices(dataset, reader, _split(dataset, request), backbone, variant, recipe)
    planned = _planned(chosen, request.assignments, progress)
    return replace(chosen, recipe=_for_dimension(planned, backbone.info, request))


def _for_dimension(recipe: Recipe, info: BackboneInfo, request: RunRequest) -> Recipe:
    """Returns the recipe as it is, or with patches of slices for a network of slices."""
    if info.dimension == 2:
        return as_slices(recipe, request.assignments)
    return recipe


def _recipe(dataset: Dataset, request: RunRequest) -> Recipe:
    """Loads the recipe that is asked for, or the data set's own, and lays the settings over it."""
    return load_recipe(
        request.recipe or default_name(dataset.name, dataset.modality),
        size=request.size,
        backbone=request.backbone.name,
        budget=request.budget,
        assignments=request.assignments,
    )


def check_request(request: RunRequest) -> None:
    """Refuses what is wrong with a request whatever the data hold: names, paths, settings, split and device. No case is read.

    Raises:
        UsageError: says what is wrong. What is wrong with the data is left to the run.
    """
    resolve_precision(request.precision, resolve_device(request.device))
    try:
        dataset = open_dataset(request.dataset.name, request.data_root)
        _split(dataset, request)
    except UsageError:
        raise
    except InitbenchError:
        return
    _recipe(dataset, request)


def _reader(asked: Spec) -> str | None:
    """Returns the digest of the code of a plug-in's data set: what it makes of the same files may change with it."""
    if not registry.is_offered("dataset", asked.name):
        return None
    return registry.find("dataset", asked).source_digest


def _split(dataset: Dataset, request: RunRequest) -> Split:
    """Returns the split that is asked for.

    Raises:
        UsageError: these data cannot be divided so, however they are completed or mended. DataError: they are unusable.
    """
    if request.split == "published" and request.fold is None and not splits_of(dataset):
        raise UsageError(f"--split published: {dataset.name} has no published split; use --split auto")
    if request.fold is not None and request.split is None:
        number, of = splits.parse_fold(request.fold)
        patients = len(splits.patients_of(dataset, dataset.case_ids()))
        if patients < of:
            raise UsageError(
                f"--fold {number}/{of}: {dataset.name} has {patients} labelled cases (or patients); ask for so many folds at most"
            )
    return splits.resolve_split(dataset, request.split, request.fold, request.train_cases)


def reported_patients(request: RunRequest) -> int | None:
    """Counts the patients that a run would report, from the names of its cases; None where its data cannot be read or divided."""
    try:
        dataset = open_dataset(request.dataset.name, request.data_root)
        return len(splits.patients_of(dataset, _split(dataset, request).test))
    except InitbenchError:
        return None


def resolve_cell(
    request: RunRequest,
    progress: Progress | None = None,
    blocks: Blocks | None = None,
    check: Callable[[Draft], None] | None = None,
) -> Cell:
    """Makes every choice of a request; preprocesses the data where the cache lacks them.

    Args:
        request: the run.
        progress: told of the preprocessing.
        blocks: keeps what inits and regimens share, for the other cells of the study.
        check: looks at the choices before the first case is read, and refuses what cannot be. It is not asked where the cache
            holds the data.

    Raises:
        UsageError: something asked for does not exist or does not fit together. DataError: the data are unusable.
    """
    check_streams(request.fixed)
    check_tolerance(request.nsd_tolerance)
    blocks = blocks or Blocks()
    draft = _draft(request, blocks, progress)

    def before_reading() -> None:
        if check is not None:
            check(draft)

    prepared = blocks.prepared(request, progress, before_reading)
    cell = Cell(**vars(draft), prepared=prepared, identity={})
    return replace(cell, identity=_identity(cell))


def _draft(request: RunRequest, blocks: Blocks, progress: Progress | None) -> Draft:
    init = registry.find("initializer", request.init)
    init.check()
    regimen = registry.find("regimen", request.regimen)
    regimen.check()
    precision = resolve_precision(request.precision, resolve_device(request.device))
    draft = Draft(
        request=request,
        init=init,
        init_name=str(registry.canonical(init, shown=True)),
        init_identity=str(registry.canonical(init)),
        init_info=compose.info(init),
        regimen=regimen,
        units=regimens.units_of(regimen),
        choices=blocks.choices(request, progress),
        precision=precision,
    )
    _check_steps(draft)
    return draft


class Blocks:
    """The blocks of a study, each chosen once, and their data, each opened and prepared once.

    To look at hundreds of files again for every init, backbone or budget takes minutes.
    """

    def __init__(self) -> None:
        self._datasets: dict[tuple[Spec, Path | None], Dataset] = {}
        self._choices: dict[RunRequest, Choices] = {}
        self._prepared: dict[tuple[Any, ...], Prepared] = {}

    def choices(self, request: RunRequest, progress: Progress | None = None) -> Choices:
        """Returns what the runs of a block have in common.

        Args:
            request: of one of them; its init, regimen, seed and protocol have no part in it.
            progress: told of headers that are read where the recipe leaves settings to them.

        Raises:
            UsageError, DataError: as `choose`.
        """
        key = _block_of(request)
        if key not in self._choices:
            self._choices[key] = choose(request, progress, self._dataset(request))
        return self._choices[key]

    def _dataset(self, request: RunRequest) -> Dataset:
        key = request.dataset, request.data_root
        if key not in self._datasets:
            self._datasets[key] = open_dataset(request.dataset.name, request.data_root)
        return self._datasets[key]

    def prepared(
        self, request: RunRequest, progress: Progress | None = None, before_reading: Callable[[], None] = lambda: None
    ) -> Prepared:
        """Preprocesses the data of a block where the cache lacks them. Blocks of one split and preprocessing share them.

        Args:
            request: as for `choices`.
            progress: told of the preprocessing.
            before_reading: as for `Choices.prepare`.

        Raises:
            UsageError, DataError: as `choose` and `Choices.prepare`.
        """
        chosen = self.choices(request, progress)
        key = request.dataset, request.data_root, chosen.reader, chosen.split, chosen.recipe.preprocess
        if key not in self._prepared:
            self._prepared[key] = chosen.prepare(progress, before_reading)
        return self._prepared[key]


def _block_of(request: RunRequest) -> RunRequest:
    """Returns the request that stands for all requests of its block."""
    return replace(request, init=Spec(BASELINE), regimen=PLAIN, regimen_budget="steps", seed=0, protocol="equal-total")


class Cells:
    """The cells that this process resolved, each once: the seeds of a cell have everything else in common.

    Attributes:
        shelf: keeps training volumes from run to run.
    """

    def __init__(self) -> None:
        self._blocks = Blocks()
        self._known: dict[tuple[RunRequest, str], tuple[Cell, dict[str, str]]] = {}
        self.shelf = VolumeShelf()

    def resolve(
        self, request: RunRequest, progress: Progress | None = None, check: Callable[[Draft], None] | None = None
    ) -> Cell:
        """Resolves the cell of a request, and again where a file that its init brings has changed since.

        Args:
            request: of which seed it is does not matter.
            progress: told of the preprocessing.
            check: as for `resolve_cell`.

        Raises:
            UsageError, DataError: as `resolve_cell`.
        """
        key = replace(request, seed=0), str(resolve_device(request.device))
        cell, files = self._known.get(key, (None, {}))
        if cell is None or files != registry.file_digests(cell.init):
            cell = resolve_cell(request, progress, self._blocks, check)
            self._known[key] = cell, registry.file_digests(cell.init)
        return replace(cell, request=request)

    def __reduce__(self) -> tuple[type[Cells], tuple[()]]:
        # Components of files cannot travel to another process, and volumes are mapped anew there.
        return Cells, ()


def _check_steps(draft: Draft) -> None:
    """Refuses a budget that leaves no supervised step: what would be scored is a network that never saw a label."""
    if draft.train_steps >= 1:
        return
    budget = draft.request.budget
    if draft.request.regimen_budget == "compute" and draft.pretext_steps < draft.total_steps:
        left = draft.total_steps - draft.pretext_steps
        raise UsageError(
            f"a step of {draft.regimen_name} costs {draft.units / PLAIN_UNITS:.2g} plain ones, and the {left} that the budget "
            f"{budget} leaves pay for none: raise steps.{budget} with --set, or use --regimen-budget steps"
        )
    raise UsageError(
        f"the pretext takes {draft.pretext_steps} of the {draft.total_steps} steps of the budget {budget} (pretext.share = "
        f"{draft.recipe.pretext.share:g}), and under equal-total none is left for training: raise steps.{budget} or lower "
        "pretext.share with --set, or give the pretext steps of its own with --protocol equal-finetune"
    )


def _planned(chosen: Choices, assignments: Sequence[str], progress: Progress | None) -> Recipe:
    """Returns the recipe with numbers in place of what it leaves to the training cases."""
    recipe, train = chosen.recipe, chosen.split.train
    if recipe.plan == AutoSettings():
        return recipe
    grids = read_grids(chosen.dataset, train, case_digests(chosen.dataset, train, chosen.reader), progress, chosen.reader)
    rule = planning_rule(chosen.backbone.info, chosen.variant)
    set_by_hand = [assignment.partition("=")[0].strip() for assignment in assignments]
    return fill_auto_settings(recipe, grids, rule, set_by_hand)


def patch_rule(info: BackboneInfo, variant: str | None = None) -> PatchRule:
    """Returns which patches a network takes, its first variant by default; any where it does not say."""
    return info.patches.get(variant or info.variants[0], PatchRule((1, 1, 1)))


def planning_rule(info: BackboneInfo, variant: str | None = None) -> PatchRule:
    """Returns which patches a plan may choose: what the network takes, and for a network of slices volumes of such slices."""
    rule = patch_rule(info, variant)
    if info.dimension == 2:
        return replace(rule, depth=None)
    return rule


def _variant(backbone: Component[BackboneInfo], recipe: Recipe) -> str:
    """Chooses the variant: the one in the component string, before the recipe's; it has to take the recipe's patches."""
    name, info = backbone.spec.name, backbone.info
    asked = backbone.params["variant"] or recipe.variant or info.variants[0]
    try:
        variant = check_variant(name, str(asked), info)
        check_patch(f"{name} ({variant})", recipe.patch.size, patch_rule(info, variant))
    except ValueError as error:
        raise UsageError(str(error)) from None
    _check_batches(name, info, recipe)
    if recipe.patch.neighbours and info.dimension == 3:
        raise UsageError(f"patch.neighbours is for networks of slices, and {name} sees volumes: leave it at 0")
    return variant


def _check_batches(name: str, info: BackboneInfo, recipe: Recipe) -> None:
    """Refuses batches of more patches than the network takes at a time, and names the settings that are too large."""
    most = info.most_batch
    if most is None:
        return
    batches = {"patch": recipe.patch.batch, "pretext": recipe.pretext.batch, "inference": recipe.inference.batch}
    mended = []
    for section, batch in batches.items():
        if batch > most:
            mended.append(f"--set {section}.batch={most}")
    if mended:
        raise UsageError(f"{name} takes batches of {most} at most; use {' '.join(mended)}")


def protocol_name(cell: Cell) -> str:
    """Returns the protocol as recorded: an init that learns nothing has the same run under both, so it says ``any``."""
    if cell.init_info.learned:
        return cell.request.protocol
    return "any"


def regimen_budget_name(cell: Cell) -> str:
    """Returns what regimens have in common as recorded: a plain run is the same under both, so it says ``any``."""
    if regimens.is_plain(cell.regimen):
        return "any"
    return cell.request.regimen_budget


def _identity(cell: Cell) -> dict[str, Any]:
    recipe = cell.recipe.identity(without=("name", "version", "source", "steps", "variant"))
    found: dict[str, Any] = {
        **compose.identity(cell.init),
        **regimens.identity(cell.regimen),
        "backbone": cell.backbone_name,
        "backbone_source": cell.backbone.source_digest or f"revision {cell.backbone.info.revision}",
        "variant": cell.variant,
        "size": cell.request.size,
        "data": cell.prepared.digest,
        "preprocess": cell.prepared.parameters.digest(),
        "recipe": recipe,
        "total_steps": cell.total_steps,
        "protocol": protocol_name(cell),
        "precision": cell.precision,
        "harness": HARNESS_REVISION,
    }
    # A value that came later is left out where it says what every run did before, so that ids stay.
    if cell.request.fixed:
        found["fixed"] = sorted(cell.request.fixed)
    if regimen_budget_name(cell) == "compute":
        found["regimen_budget"] = "compute"
    return found
