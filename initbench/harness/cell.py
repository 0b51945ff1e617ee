"""From a request to a resolved cell: what exactly is run, and the id that says when two runs are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from initbench import digest, registry, seeding
from initbench.choices import BASELINE, Budget, Protocol, RegimenBudget
from initbench.datasets.open import open_dataset
from initbench.errors import UsageError
from initbench.harness import compose, regimens
from initbench.harness.choose import Choices, choose
from initbench.harness.hardware import resolve_device, resolve_precision
from initbench.harness.request import PLAIN, RunRequest, check_streams, check_tolerance
from initbench.preprocessing.prepare import Prepared
from initbench.protocols import (
    PLAIN_UNITS,
    BackboneInfo,
    Dataset,
    InitializerInfo,
    Progress,
    RegimenInfo,
)
from initbench.recipes.settings import Recipe
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
