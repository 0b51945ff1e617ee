"""The InitContext the harness hands an initializer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from initbench import seeding
from initbench.errors import InitbenchError, UsageError
from initbench.protocols import Crops, Patches, Progress, Site, Structure, Task
from initbench.sampling.samplers import GuidedSampler, UnlabelledSampler
from initbench.training.checkpoints import Checkpoints
from initbench.training.loop import Fit, FitSettings, fit
from initbench.training.passes import Passes


@dataclass
class Context:
    """Everything an initializer may use. `sampler` cuts patches, `fit_settings` are there for learned ones alone.

    `note` is told what the initializer changed in the process that was put back; `passes` counts the passes of its pretext.
    """

    sites: tuple[Site, ...]
    structure: Structure
    device: torch.device
    root: int
    identity: str
    steps: int = 0
    mask_patch: int = 16
    taps: tuple[int, ...] | None = None
    depths: tuple[int, ...] = ()
    sampler: Callable[[], UnlabelledSampler] | None = None
    guided: Callable[[], GuidedSampler] | None = None
    construct: Callable[[str], nn.Module] | None = None
    fit_settings: FitSettings | None = None
    checkpoints: Callable[[str], Checkpoints | None] = lambda stage: None
    progress: Progress | None = None
    fits: list[Fit] = field(default_factory=list)
    reported: dict[str, Any] = field(default_factory=dict)
    note: Callable[[str], object] = lambda text: None
    passes: Passes | None = None

    def generator(self, name: str) -> torch.Generator:
        """Makes a generator per parameter name; the canonical init string is mixed in, so no two inits share numbers."""
        return seeding.torch_generator(self.root, "init", self.identity, name)

    def constructed(self, name: str) -> nn.Module:
        """Constructs the network once more, from numbers of that name.

        Raises:
            UsageError: nobody here knows how the network is constructed.
        """
        if self.construct is None:
            raise UsageError(
                f"{self.identity} constructs the network again, which works in runs alone: use `initbench run` with a "
                "registered backbone"
            )
        return self.construct(name)

    def rng(self, step: int, purpose: str) -> np.random.Generator:
        """Makes the counter-based generator of the pretext stream."""
        return seeding.rng(self.root, "pretext", purpose, step)

    def patches(self, step: int, *, slab: int = 1, crops: Crops = "uniform") -> Patches:
        """Returns training patches of a step; only `crops` as ``labels`` looks at labels.

        Raises:
            UsageError: the initializer was called without data, or without labels where it asks for them.
        """
        if crops == "labels":
            if self.guided is None:
                raise UsageError(f"{self.identity} cuts its crops around labels, and these data have none: use crops=uniform")
            return self.guided().patches(step)
        if self.sampler is None:
            raise UsageError(
                f"{self.identity} looks at training volumes: pass data=[...] (arrays C, D, H, W) and patch_size=(D, H, W)"
            )
        return self.sampler().batch(step, slab)

    def fit(self, task: Task, *, schedule: str | None = None) -> None:
        """Trains a pretext with the one loop for the pretext's steps.

        Raises:
            DivergedError: the loss was not finite.
        """
        if self.fit_settings is None or not self.fit_settings.steps:
            raise UsageError(
                f"{self.identity} trains and has no steps to do so: mark it with @initializer(learned=True), or pass "
                "steps=... to initbench.initialize"
            )
        settings = self.fit_settings
        if schedule is not None:
            settings = replace(settings, optimizer=settings.optimizer.model_copy(update={"schedule": schedule}))
        # By the number of the call: an initializer that trains twice goes on where it was.
        state = torch.get_rng_state()  # the numbers of dropout are the loop's own
        try:
            result = fit(task, settings, self.progress, self.checkpoints(f"pretext-{len(self.fits)}"), self.passes)
        finally:
            torch.set_rng_state(state)
        self.fits.append(result)
        if result.diverged_at is not None:
            raise DivergedError("pretext", result.diverged_at)

    def report(self, summary: str, details: Mapping[str, Any]) -> None:
        """Puts on record what the initializer says it did, beside what it said before."""
        before = self.reported.get("summary")
        if before:
            summary = f"{before}; {summary}"
        self.reported |= {**details, "summary": summary}


class DivergedError(InitbenchError):
    """A loss that is not finite: the run scores worst and stays in the table."""

    def __init__(self, stage: str, step: int) -> None:
        super().__init__(f"the loss of the {stage} stage was not finite at step {step}")
        self.stage = stage
        self.step = step
