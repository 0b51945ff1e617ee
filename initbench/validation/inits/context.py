"""The harness's context under watch: it notes what an initializer reads, trains, and does to the global generators."""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from initbench import registry
from initbench.harness.context import Context
from initbench.harness.snapshot import differing
from initbench.protocols import Site, Structure, Task
from initbench.sampling.samplers import GuidedSampler, UnlabelledSampler
from initbench.training.loop import FitSettings
from initbench.validation.inits.subject import InitSubject
from initbench.validation.material import base_recipe, training_volumes


@dataclass
class Seen:
    """What was seen of an initializer at work.

    Attributes:
        read: what it read of the training cases, ``images`` or ``labels``.
        fitting: whether `Context.fit` is training now.
        outside: number of optimizer steps that were taken outside `Context.fit`.
        written: names of the global generators that it moved.
    """

    read: set[str] = field(default_factory=set)
    fitting: bool = False
    outside: int = 0
    written: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Counts steps of any optimizer inside the block, and compares the global generators before and after it."""

        def count(optimizer: Any, *_: Any) -> None:
            if not self.fitting:
                self.outside += 1

        before = generator_states()
        handle = register_optimizer_step_post_hook(count)
        try:
            yield
        finally:
            handle.remove()
            after = generator_states()
            self.written = differing(before, after)


@dataclass
class WatchedContext(Context):
    """What the harness hands an initializer, with notes of what the initializer does with it."""

    seen: Seen = field(default_factory=Seen)

    def fit(self, task: Task, *, schedule: str | None = None) -> None:
        """Trains as the harness does, and notes that these optimizer steps are within the budget.

        Args:
            task: what is trained, and its loss.
            schedule: of the learning rate; by default the one of the recipe.
        """
        self.seen.fitting = True
        try:
            super().fit(task, schedule=schedule)
        finally:
            self.seen.fitting = False


def watched_context(subject: InitSubject, structure: Structure, sites: tuple[Site, ...], seed: int) -> WatchedContext:
    """Returns the context that a run would hand the initializer, on the CPU and in float32.

    Args:
        subject: the initializer and its budget.
        structure: what the network declares.
        sites: the parameters of the network, in the order in which the initializer sees them.
        seed: root seed of the run.
    """
    recipe, device, seen = base_recipe(), torch.device("cpu"), Seen()
    batch = subject.network.batch
    patch = recipe.patch.model_copy(update={"size": structure.patch_size, "batch": batch})

    def unlabelled() -> UnlabelledSampler:
        seen.read.add("images")
        return UnlabelledSampler(training_volumes(subject.network.patch), patch.size, batch, recipe.augment, seed)

    def guided() -> GuidedSampler:
        seen.read.update(("images", "labels"))
        return GuidedSampler(training_volumes(subject.network.patch), patch, recipe.augment, seed)

    steps = 0
    if subject.info.learned:
        steps = subject.steps
    return WatchedContext(
        sites=sites,
        structure=structure,
        device=device,
        root=seed,
        identity=str(registry.canonical(subject.component)),
        steps=steps,
        mask_patch=math.gcd(recipe.pretext.mask_patch, *structure.patch_size),
        sampler=functools.cache(unlabelled),
        guided=functools.cache(guided),
        construct=lambda draw: subject.network.call(seed=seed, draw=draw),
        fit_settings=FitSettings(steps, recipe.pretext.optimizer, "float32", device, seed, "pretext"),
        seen=seen,
    )


def generator_states() -> dict[str, Any]:
    """Returns the states of the global generators by name, as values that can be compared."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(keys).tobytes(), *rest),
        "random": random.getstate(),
    }
