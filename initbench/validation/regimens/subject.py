"""What is checked: a regimen with its parameters, which trains one network for a few steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from initbench import registry, seeding
from initbench.harness.regimens import Context, contained_regimen, make_task
from initbench.harness.snapshot import Snapshot, snapshot
from initbench.protocols import RegimenInfo, structure_of
from initbench.registry import Component
from initbench.sampling.samplers import Batch, PatchSampler
from initbench.spec import Spec
from initbench.training.checkpoints import Checkpoints
from initbench.training.loop import Fit, FitSettings, fit
from initbench.training.passes import Passes
from initbench.validation.backbones.construction import global_generators
from initbench.validation.backbones.subject import Subject
from initbench.validation.material import base_recipe, network, training_volumes

BACKBONES = ("unetr", "unetrpp", "unet")
"""Networks of the default: tokens, batch norm, and neither of them."""
STEPS = 4
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class RegimenSubject:
    """The regimen as it is checked.

    Attributes:
        component: the regimen.
        network: the network that it trains.
    """

    component: Component[RegimenInfo]
    network: Subject


def regimen_subjects(spec: Spec, backbones: Sequence[str] = BACKBONES) -> tuple[RegimenSubject, ...]:
    """Returns a regimen on each of some networks at tiny size.

    Args:
        spec: the regimen.
        backbones: component strings of the networks.

    Raises:
        UsageError: unknown name, parameter or backbone.
    """
    component = registry.find("regimen", spec)
    component.check()
    return tuple(RegimenSubject(component, network(name)) for name in backbones)


class WatchedSampler(PatchSampler):
    """Gives the batches of plain training, and notes each with a copy of its images as they were handed out."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.given: dict[int, tuple[Batch, Tensor]] = {}

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step and notes it."""
        found = super().batch(step)
        self.given[step] = found, found.image.clone()
        return found


@dataclass(frozen=True)
class Trial:
    """A network that a regimen trained for some steps.

    Attributes:
        before: the network before training.
        fit: what the loop reports.
        sampler: the batches that the regimen asked for.
        trained: ids of the parameters that the task gives to the optimizer.
    """

    model: nn.Module
    before: Snapshot
    fit: Fit
    sampler: WatchedSampler
    trained: frozenset[int]


def run(subject: RegimenSubject, *, generators: int = 3, until: int | None = None, checkpoints: Path | None = None) -> Trial:
    """Trains the subject's network for `STEPS` steps with the one loop.

    Args:
        subject: the regimen and the network.
        generators: seed of the global generators, which should make no difference.
        until: step before which training stops.
        checkpoints: folder of checkpoints; training goes on from those that lie there.
    """
    recipe = base_recipe()
    model = subject.network.call()
    structure = structure_of(model)
    patch = recipe.patch.model_copy(update={"size": structure.patch_size, "batch": subject.network.batch})
    sampler = WatchedSampler(training_volumes(subject.network.patch), patch, recipe.augment, 0)
    passes, before = Passes(), snapshot(model)
    ctx = Context(model, structure, CPU, STEPS, 0, recipe.loss, sampler, mask_patch=min(8, *structure.patch_size))
    settings = FitSettings(STEPS, recipe.optimizer, "float32", CPU, 0, "train", until)
    kept = None
    if checkpoints is not None:
        kept = Checkpoints(checkpoints, "train", 0.0)
    with contained_regimen(subject.component, lambda note: None), global_generators(generators), passes.watched(model):
        task = make_task(subject.component, ctx)
        trained = frozenset(id(parameter) for parameter in task.module.parameters())
        result = fit(task, settings, None, kept, passes)
    return Trial(model, before, result, sampler, trained)


@functools.cache
def trial(subject: RegimenSubject) -> Trial:
    """The first training of a subject, which most checks look at."""
    with seeding.deterministic(threads=1):
        return run(subject)
