"""The context of the harness, watched: what an initializer read, trained, and did to the global generators."""

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
from initbench.protocols import Site, Structure, Task
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.sampling.volumes import GuidedSampler, UnlabelledSampler
from initbench.training.loop import FitSettings
from initbench.validation.inits.subject import InitSubject


@dataclass
class Seen:
    """What was seen of an initializer at work.

    Attributes:
        read: of the training cases: ``images``, ``labels``.
        outside: optimizer steps that `Context.fit` did not take.
        written: global generators that it moved.
    """

    read: set[str] = field(default_factory=set)
    fitting: bool = False
    outside: int = 0
    written: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the block, steps of any optimizer are counted and the global generators compared."""

        def count(optimizer: Any, args: Any, kwargs: Any) -> None:
            self.outside += not self.fitting

        before = generator_states()
        handle = register_optimizer_step_post_hook(count)
        try:
            yield
        finally:
            handle.remove()
            after = generator_states()
            self.written = [name for name, state in before.items() if after[name] != state]


@dataclass
class WatchedContext(Context):
    """What the harness hands an initializer, and what it makes of it."""

    seen: Seen = field(default_factory=Seen)

    def fit(self, task: Task, *, schedule: str | None = None) -> None:
        """As the harness's."""
        self.seen.fitting = True
        try:
            super().fit(task, schedule=schedule)
        finally:
            self.seen.fitting = False


def watched_context(subject: InitSubject, structure: Structure, sites: tuple[Site, ...], seed: int) -> WatchedContext:
    """The context that a run would hand the initializer, on the CPU and in float32.

    Args:
        subject: the initializer and its budget.
        structure: of the network.
        sites: the parameters of the network, in the order in which the initializer sees them.
        seed: root seed.
    """
    recipe, device, seen = _recipe(), torch.device("cpu"), Seen()
    batch = subject.network.batch
    patch = recipe.patch.model_copy(update={"size": structure.patch_size, "batch": batch})

    def unlabelled() -> UnlabelledSampler:
        seen.read.add("images")
        return UnlabelledSampler(subject.volumes(), patch.size, batch, recipe.augment, seed)

    def guided() -> GuidedSampler:
        seen.read.update(("images", "labels"))
        return GuidedSampler(subject.volumes(), patch, recipe.augment, seed)

    steps = subject.steps if subject.info.learned else 0
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


@functools.cache
def _recipe() -> Recipe:
    """The recipe that all others start from. It clips no gradients: their norm is summed in the order of the parameters."""
    return load_recipe("base", size="paper", backbone="", budget="smoke", assignments=["preprocess.spacing=native"])


def generator_states() -> dict[str, Any]:
    """States of the global generators by name, as values that compare."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(keys).tobytes(), *rest),
        "random": random.getstate(),
    }
