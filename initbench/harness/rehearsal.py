"""Whether init and regimen can do their work in a cell, asked of themselves before a study takes its first step.

The initializer is called on the cell's network without values (torch's meta device) until it asks for data or steps. It looks at
its parameters, the network, the patch and the depth of the training volumes before that, so what it refuses of them it refuses
here, in the words of the run, as it is the same code. Nothing has to be declared, so plug-ins are tried likewise. What shows only
with values is left to the run. A regimen is asked for its task in the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from initbench.errors import UsageError
from initbench.harness import compose, regimens
from initbench.harness.build import build_for
from initbench.harness.cell import Cell
from initbench.harness.context import Context
from initbench.harness.run import Run
from initbench.harness.sites import find_sites
from initbench.harness.snapshot import classes_kept
from initbench.protocols import Crops, NoProgress, Patches, Site, Task, structure_of


class _AskedError(Exception):
    """An init has come to the point where it asks for data or steps."""


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


class Rehearsals:
    """The inits and regimens of a study, tried once in each of its cells. All runs of a block share one network."""

    def __init__(self) -> None:
        self._networks: dict[tuple[Any, ...], _Bare] = {}
        self._refusals: dict[str, UsageError | None] = {}  # by cell; None where the init takes it

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
        self._rehearse_regimen(cell)
        if cell.init_info.files and not cell.init_info.learned:
            # Whether a file of weights fits shows with values alone; it takes no data, so nothing stops it before its end.
            Run(cell, Path(), NoProgress()).rehearse()
            return
        bare = self._network(cell)
        for component in _from_the_inside(cell.init):
            # Built-ins leave the modules of a network as they are, so all of them can be tried on one.
            model = bare.model if component.source_digest is None else copy.deepcopy(bare.model)
            try:
                with classes_kept(model):
                    compose.apply(component, model, _context(cell, bare))
            except UsageError:
                raise
            except Exception:  # noqa: S112 - it asks for data, or for values: the run will say what is wrong then
                continue

    def _rehearse_regimen(self, cell: Cell) -> None:
        """Asks the regimen for its task on the network without values."""
        if regimens.is_plain(cell.regimen):
            return
        model = copy.deepcopy(self._network(cell).model)
        ctx = regimens.Context(
            model=model,
            structure=structure_of(model),
            device=torch.device("meta"),
            steps=cell.train_steps,
            root=cell.root,
            loss=cell.recipe.loss,
            mask_patch=cell.recipe.pretext.mask_patch,
        )
        try:
            regimens.make_task(cell.regimen, ctx)
        except UsageError:
            raise
        except Exception:
            return  # it asks for values: the run will say what is wrong then

    def _network(self, cell: Cell) -> _Bare:
        """The network of a cell, which its block shares."""
        key = (
            cell.backbone.spec,
            cell.backbone.source_digest,
            cell.variant,
            cell.request.size,
            cell.recipe.patch.size,
            cell.recipe.loss.deep_supervision,
            cell.prepared.channels,
            len(cell.prepared.classes),
        )
        if key not in self._networks:
            model = build_for(cell)
            sites = find_sites(model, structure_of(model).projections)  # while tied parameters are still one
            self._networks[key] = _Bare(model.to("meta"), sites)
        return self._networks[key]


def _from_the_inside(component: compose.Initializer) -> Iterator[compose.Initializer]:
    """A component and those inside it, each to be tried by itself: a control asks for values before it calls the one inside."""
    for inner in component.inner.values():
        yield from _from_the_inside(inner)
    yield component


def _context(cell: Cell, bare: _Bare) -> Context:
    pretext = cell.recipe.pretext
    return _Rehearsed(
        sites=bare.sites,
        structure=structure_of(bare.model),
        device=torch.device("meta"),
        root=cell.root,
        identity=cell.init_identity,
        steps=cell.pretext_steps,
        mask_patch=pretext.mask_patch,
        taps=pretext.taps,
        depths=cell.prepared.depths,
    )
