"""Whether init and regimen can do their work in a cell, asked of themselves before a study takes its first step.

The initializer is called on the cell's network without values (torch's meta device) until it asks for data or steps. It looks at
its parameters, the network, the patch and the depth of the training volumes before that, so what it refuses of them it refuses
here, in the words of the run, as it is the same code. Nothing has to be declared, so plug-ins are tried likewise. What shows only
with values is left to the run. A regimen is asked for its task in the same way.

Where data have to be preprocessed, this happens before the first case is read, so that a refusal which has nothing to do with the
data costs no preprocessing. Nobody knows the depth of the volumes then. An init that asks for it is tried again with the prepared
data.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from initbench import registry
from initbench.choices import BASELINE
from initbench.errors import InitbenchError, UsageError
from initbench.harness import compose, regimens
from initbench.harness.build import build_for
from initbench.harness.cell import Cell, Draft
from initbench.harness.context import Context
from initbench.harness.sites import find_sites
from initbench.harness.snapshot import classes_kept
from initbench.protocols import Crops, Patches, Site, Task, structure_of


class _AskedError(Exception):
    """An init has come to the point where it asks for data or steps."""


class _UnknownDepths(tuple[int, ...]):
    """The depths of volumes that nobody has read yet: whoever asks for them ends the trial."""

    asked = False

    def _ended(self) -> _AskedError:
        self.asked = True
        return _AskedError()

    def __len__(self) -> int:
        raise self._ended()

    def __iter__(self) -> Iterator[int]:
        raise self._ended()

    def __getitem__(self, place: Any) -> Any:
        raise self._ended()


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
    """A network, mostly without values, and its parameters."""

    model: nn.Module
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class _Tried:
    """How a trial went.

    Attributes:
        refusal: what was said, None where nothing speaks against the run.
        asked_depths: whether the init asked for the depths of the volumes, so that its trial ended there.
    """

    refusal: InitbenchError | None
    asked_depths: bool


class Rehearsals:
    """The inits and regimens of a study, each tried once in each of its blocks. All runs of a block share one network."""

    def __init__(self) -> None:
        self._networks: dict[tuple[Any, ...], _Bare] = {}
        self._tried: dict[tuple[Any, ...], _Tried] = {}

    def check_draft(self, draft: Draft) -> None:
        """Refuses an init or a regimen that cannot do its work, whatever the data hold; no case was read yet.

        Raises:
            UsageError: what one of them refuses, as the run would say it, or a network that cannot be constructed.
            InitbenchError: a file of weights that cannot be read.
        """
        key = _any_seed(draft)
        if key not in self._tried:
            depths = _UnknownDepths()
            refusal = self._refusal(draft, depths)
            self._tried[key] = _Tried(refusal, depths.asked)
        self._say(key)

    def check(self, cell: Cell) -> None:
        """Refuses what `check_draft` refuses, and an init to which the depth of the training volumes leaves no work.

        Raises:
            UsageError, InitbenchError: as `check_draft`.
        """
        key = _any_seed(cell)
        before = self._tried.get(key)
        if before is None or before.asked_depths:
            self._tried[key] = _Tried(self._refusal(cell, cell.prepared.depths), asked_depths=False)
        self._say(key)

    def _say(self, key: tuple[Any, ...]) -> None:
        refusal = self._tried[key].refusal
        if refusal is not None:
            raise refusal

    def _refusal(self, draft: Draft, depths: tuple[int, ...]) -> InitbenchError | None:
        """Tries a run, and returns what speaks against it; `depths` are the slices of each training volume."""
        if _has_nothing_to_try(draft):
            return None
        try:
            self._try_regimen(draft)
            if draft.init_info.files and not draft.init_info.learned:
                # Whether a file of weights fits shows with values alone; it takes no data, so nothing stops it before its end.
                model = build_for(draft)
                _try(draft.init, model, _context(draft, _Bare(model, _sites(model)), "cpu", depths))
            else:
                self._try_without_values(draft, depths)
        except InitbenchError as error:
            return error
        return None

    def _try_without_values(self, draft: Draft, depths: tuple[int, ...]) -> None:
        bare = self._network(draft)
        for component in _from_the_inside(draft.init):
            model = bare.model
            # Built-ins leave the modules of a network as they are, so all of them can be tried on one.
            if component.source_digest is not None:
                model = copy.deepcopy(model)
            _try(component, model, _context(draft, bare, "meta", depths))

    def _try_regimen(self, draft: Draft) -> None:
        """Asks the regimen for its task on the network without values."""
        if regimens.is_plain(draft.regimen):
            return
        model = copy.deepcopy(self._network(draft).model)
        ctx = regimens.Context(
            model=model,
            structure=structure_of(model),
            device=torch.device("meta"),
            steps=draft.train_steps,
            root=draft.root,
            loss=draft.recipe.loss,
            mask_patch=draft.recipe.pretext.mask_patch,
        )
        try:
            regimens.make_task(draft.regimen, ctx)
        except UsageError:
            raise
        except Exception:
            return  # it asks for values: the run will say what is wrong then

    def _network(self, draft: Draft) -> _Bare:
        """Returns the network of a draft, which its block shares."""
        key = (
            draft.backbone.spec,
            draft.backbone.source_digest,
            draft.variant,
            draft.request.size,
            draft.recipe.patch.size,
            draft.recipe.loss.deep_supervision,
            draft.in_channels,
            draft.out_channels,
        )
        if key not in self._networks:
            model = build_for(draft)
            sites = _sites(model)  # while tied parameters are still one
            self._networks[key] = _Bare(model.to("meta"), sites)
        return self._networks[key]


def _has_nothing_to_try(draft: Draft) -> bool:
    """Returns whether a run trains a built-in network as constructed: rules looked at its variant and patch already.

    What it is made of, MONAI's package for one, takes seconds to import, which the process that trains has to do anyway.
    """
    own_init = draft.init.spec.name == BASELINE and draft.init.source_digest is None
    return own_init and draft.backbone.source_digest is None and regimens.is_plain(draft.regimen)


def _any_seed(draft: Draft) -> tuple[Any, ...]:
    """Returns what the seeds of a run have in common: the request, and the code and the files of its init."""
    files = registry.file_digests(draft.init)
    return replace(draft.request, seed=0), draft.init.source_digest, tuple(sorted(files.items()))


def _sites(model: nn.Module) -> tuple[Site, ...]:
    return find_sites(model, structure_of(model).projections)


def _context(draft: Draft, bare: _Bare, device: str, depths: tuple[int, ...]) -> Context:
    """Makes the context that the init sees.

    Args:
        draft: the run.
        bare: the network and its parameters.
        device: that the init is told of; the network itself says where its parameters are.
        depths: slices of each training volume.
    """
    pretext = draft.recipe.pretext
    return _Rehearsed(
        sites=bare.sites,
        structure=structure_of(bare.model),
        device=torch.device(device),
        root=draft.root,
        identity=draft.init_identity,
        steps=draft.pretext_steps,
        mask_patch=pretext.mask_patch,
        taps=pretext.taps,
        depths=depths,
    )


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
    """Lists a component and those inside it, the innermost first: a control asks for values before it calls the one inside."""
    for inner in component.inner.values():
        yield from _from_the_inside(inner)
    yield component
