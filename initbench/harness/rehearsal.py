"""Whether init and regimen can do their work in a cell, asked of themselves before a study takes its first step.

The initializer is called on the cell's network without values (torch's meta device) until it asks for data or steps. It looks at
its parameters, the network, the patch and the depth of the training volumes before that, so what it refuses of them it refuses
here, in the words of the run, as it is the same code. Nothing has to be declared, so plug-ins are tried likewise. What shows only
with values is left to the run. A regimen is asked for its task in the same way.

An init is tried twice: before the first case is read, when nobody knows the depth of the volumes, and with the prepared data. A
refusal that has nothing to do with the data then costs no preprocessing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from initbench import registry, seeding
from initbench.errors import InitbenchError, UsageError
from initbench.harness import compose, regimens
from initbench.harness.build import construct
from initbench.harness.cell import Cell, Steps, choose, steps_of
from initbench.harness.context import Context
from initbench.harness.request import RunRequest
from initbench.harness.run import Run
from initbench.harness.sites import find_sites
from initbench.harness.snapshot import classes_kept
from initbench.protocols import BackboneInfo, Crops, NoProgress, Patches, Progress, Site, Task, structure_of
from initbench.recipes.settings import Recipe
from initbench.registry import Component


class _AskedError(Exception):
    """An init has come to the point where it asks for data or steps."""


class _UnknownDepths(tuple[int, ...]):
    """The depths of volumes that nobody has read yet: whoever asks for them ends the trial."""

    __slots__ = ()

    def __len__(self) -> int:
        raise _AskedError

    def __iter__(self) -> Iterator[int]:
        raise _AskedError

    def __getitem__(self, place: Any) -> Any:
        raise _AskedError


class _Rehearsed(Context):
    """What an init sees until it asks for data or steps; each of these ends the trial."""

    def constructed(self, name: str) -> nn.Module:
        raise _AskedError

    def patches(self, step: int, *, slab: int = 1, crops: Crops = "uniform") -> Patches:
        """Ends the trial, whatever `step`, `slab` and `crops` are."""
        raise _AskedError

    def fit(self, task: Task, *, schedule: str | None = None) -> None:
        if not self.steps:  # the harness refuses an init that trains and does not say so
            super().fit(task, schedule=schedule)
        raise _AskedError


@dataclass(frozen=True)
class _Bare:
    """A network without values."""

    model: nn.Module
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class _Trial:
    """An init and a regimen, and the network and settings that they are tried with.

    Attributes:
        channels: of the network's input.
        classes: how many, with background.
        depths: slices of each training volume.
    """

    request: RunRequest
    init: compose.Initializer
    regimen: regimens.Regimen
    backbone: Component[BackboneInfo]
    variant: str
    recipe: Recipe
    channels: int
    classes: int
    depths: tuple[int, ...]

    @property
    def needs_values(self) -> bool:
        """Whether the init can be tried on values alone: whether a file of weights fits shows no earlier."""
        info = compose.info(self.init)
        return bool(info.files) and not info.learned

    @property
    def steps(self) -> Steps:
        """Of the init and of training."""
        request = self.request
        return steps_of(
            self.recipe,
            request.budget,
            request.protocol,
            learned=compose.info(self.init).learned,
            regimen_budget=request.regimen_budget,
            units=regimens.units_of(self.regimen),
        )

    @property
    def root(self) -> seeding.Root:
        """Where its numbers come from."""
        return seeding.Root.of(self.request.seed, self.request.fixed)

    def construct(self) -> nn.Module:
        """The network."""
        return construct(
            self.backbone,
            in_channels=self.channels,
            num_classes=self.classes,
            patch_size=self.recipe.patch.size,
            size=self.request.size,
            variant=self.variant,
            deep_supervision=self.recipe.loss.deep_supervision,
        )

    def context(self, model: nn.Module, sites: tuple[Site, ...], device: str) -> Context:
        """What the init sees.

        Args:
            model: the network.
            sites: its parameters.
            device: that the init is told of; the network itself says where its parameters are.
        """
        pretext = self.recipe.pretext
        return _Rehearsed(
            sites=sites,
            structure=structure_of(model),
            device=torch.device(device),
            root=self.root,
            identity=str(registry.canonical(self.init)),
            steps=self.steps.pretext,
            mask_patch=pretext.mask_patch,
            taps=pretext.taps,
            depths=self.depths,
        )


class Rehearsals:
    """The inits and regimens of a study, tried in each of its cells. All runs of a block share one network."""

    def __init__(self) -> None:
        self._networks: dict[tuple[Any, ...], _Bare] = {}
        self._refusals: dict[str, UsageError | None] = {}  # by cell; None where the init takes it

    def before_reading(self, request: RunRequest, progress: Progress) -> Progress:
        """Returns a progress that tries the init of a request at the moment when the first case is about to be read.

        Where the cache holds all of the data, no case is read, and `check` alone tries the init.
        """
        return _TriesFirst(self, request, progress)

    def check_before_data(self, request: RunRequest, progress: Progress) -> None:
        """Refuses an init or a regimen that cannot do its work, whatever the data hold.

        Args:
            request: the run.
            progress: told of headers that are read where the recipe leaves settings to them.

        Raises:
            UsageError: what the init refuses, as the run would say it, or a network that cannot be constructed.
            InitbenchError: a file of weights that cannot be read.
        """
        chosen = choose(request, progress)
        trial = _Trial(
            request=request,
            init=registry.find("initializer", request.init),
            regimen=registry.find("regimen", request.regimen),
            backbone=chosen.backbone,
            variant=chosen.variant,
            recipe=chosen.recipe,
            channels=chosen.recipe.patch.channels_of(len(chosen.dataset.channels)),
            classes=len(chosen.dataset.classes),
            depths=_UnknownDepths(),
        )
        self._try_regimen(trial)
        if not trial.needs_values:
            self._try_without_values(trial)
            return
        model = trial.construct()
        sites = find_sites(model, structure_of(model).projections)
        _try(trial.init, model, trial.context(model, sites, "cpu"))

    def check(self, cell: Cell) -> None:
        """Refuses a cell in which the init or the regimen cannot do its work, as far as that shows here.

        Raises:
            UsageError: what one of them refuses, as the run would say it, or a network that cannot be constructed.
            InitbenchError: a file of weights that cannot be read.
        """
        if cell.id not in self._refusals:
            self._refusals[cell.id] = None
            try:
                self._rehearse(cell)
            except UsageError as error:
                self._refusals[cell.id] = error
        refusal = self._refusals[cell.id]
        if refusal is not None:
            raise refusal

    def _rehearse(self, cell: Cell) -> None:
        trial = _Trial(
            request=cell.request,
            init=cell.init,
            regimen=cell.regimen,
            backbone=cell.backbone,
            variant=cell.variant,
            recipe=cell.recipe,
            channels=cell.in_channels,
            classes=len(cell.prepared.classes),
            depths=cell.prepared.depths,
        )
        self._try_regimen(trial)
        if trial.needs_values:
            # It takes no data, so nothing stops it before its end.
            Run(cell, Path(), NoProgress()).rehearse()
        else:
            self._try_without_values(trial)

    def _try_without_values(self, trial: _Trial) -> None:
        bare = self._network(trial)
        for component in _from_the_inside(trial.init):
            # Built-ins leave the modules of a network as they are, so all of them can be tried on one.
            model = bare.model if component.source_digest is None else copy.deepcopy(bare.model)
            _try(component, model, trial.context(bare.model, bare.sites, "meta"))

    def _try_regimen(self, trial: _Trial) -> None:
        """Asks the regimen for its task on the network without values."""
        if regimens.is_plain(trial.regimen):
            return
        model = copy.deepcopy(self._network(trial).model)
        ctx = regimens.Context(
            model=model,
            structure=structure_of(model),
            device=torch.device("meta"),
            steps=trial.steps.train,
            root=trial.root,
            loss=trial.recipe.loss,
            mask_patch=trial.recipe.pretext.mask_patch,
        )
        try:
            regimens.make_task(trial.regimen, ctx)
        except UsageError:
            raise
        except Exception:
            return  # it asks for values: the run will say what is wrong then

    def _network(self, trial: _Trial) -> _Bare:
        """The network of a trial, which its block shares."""
        key = (
            trial.backbone.spec,
            trial.backbone.source_digest,
            trial.variant,
            trial.request.size,
            trial.recipe.patch.size,
            trial.recipe.loss.deep_supervision,
            trial.channels,
            trial.classes,
        )
        if key not in self._networks:
            model = trial.construct()
            sites = find_sites(model, structure_of(model).projections)  # while tied parameters are still one
            self._networks[key] = _Bare(model.to("meta"), sites)
        return self._networks[key]


class _TriesFirst:
    """Passes progress on, and tries an init before: a stage of the preprocessing begins with the first case that it lacks."""

    def __init__(self, rehearsals: Rehearsals, request: RunRequest, progress: Progress) -> None:
        self._rehearsals = rehearsals
        self._request = request
        self._progress = progress
        self._is_tried = False

    def start(self, stage: str, total: int) -> None:
        """Tries the init where that was not done yet.

        Raises:
            UsageError, InitbenchError: as `Rehearsals.check_before_data`.
        """
        if not self._is_tried:
            self._is_tried = True
            self._rehearsals.check_before_data(self._request, self._progress)
        self._progress.start(stage, total)

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        self._progress.advance(done, info)


def _try(component: compose.Initializer, model: nn.Module, ctx: Context) -> None:
    """Calls an init on a network; all but its refusals is left to the run, which says what is wrong then."""
    try:
        with classes_kept(model):
            compose.apply(component, model, ctx)
    except UsageError:
        raise
    except Exception as error:
        # It asks for data, or for values that a network without values lacks.
        if isinstance(error, InitbenchError) and ctx.device.type != "meta":
            raise


def _from_the_inside(component: compose.Initializer) -> Iterator[compose.Initializer]:
    """A component and those inside it, each to be tried by itself: a control asks for values before it calls the one inside."""
    for inner in component.inner.values():
        yield from _from_the_inside(inner)
    yield component
