"""The InitContext the harness hands an initializer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from initbench import seeding
from initbench.data.volumes import UnlabelledSampler
from initbench.errors import InitbenchError, UsageError
from initbench.protocols import Patches, Progress, Site, Structure, Task
from initbench.training.loop import Fit, FitSettings, fit


@dataclass
class Context:
    """Everything an initializer may use. `sampler` and `fit_settings` are there for learned ones alone."""

    sites: tuple[Site, ...]
    structure: Structure
    device: torch.device
    root: int
    identity: str
    steps: int = 0
    mask_patch: int = 16
    sampler: Callable[[], UnlabelledSampler] | None = None
    fit_settings: FitSettings | None = None
    progress: Progress | None = None
    fits: list[Fit] = field(default_factory=list)
    reported: dict[str, Any] = field(default_factory=dict)

    def generator(self, name: str) -> torch.Generator:
        """A generator per parameter name; the canonical init string is mixed in, so no two inits share numbers."""
        return seeding.torch_generator(self.root, "init", self.identity, name)

    def rng(self, step: int, purpose: str) -> np.random.Generator:
        """Counter-based generator of the pretext stream."""
        return seeding.rng(self.root, "pretext", purpose, step)

    def patches(self, step: int, *, slab: int = 1) -> Patches:
        """Unlabelled training patches of a step.

        Raises:
            UsageError: the initializer was called without data.
        """
        if self.sampler is None:
            raise UsageError(f"{self.identity} learns from training volumes: give it data=...")
        return self.sampler().batch(step, slab)

    def fit(self, task: Task) -> None:
        """Trains a pretext with the one loop for the pretext's steps.

        Raises:
            DivergedError: the loss was not finite.
        """
        if self.fit_settings is None or not self.fit_settings.steps:
            raise UsageError(
                f"{self.identity} trains and has no steps to do so: mark it with @initializer(learned=True), or pass "
                "steps=... to initbench.initialize"
            )
        result = fit(task, self.fit_settings, self.progress)
        self.fits.append(result)
        if result.diverged_at is not None:
            raise DivergedError("pretext", result.diverged_at)

    def report(self, summary: str, details: Mapping[str, Any]) -> None:
        """Puts on record what the initializer says it did."""
        self.reported = {"summary": summary, **details}


class DivergedError(InitbenchError):
    """A loss that is not finite: the run scores worst and stays in the table."""

    def __init__(self, stage: str, step: int) -> None:
        super().__init__(f"the loss of the {stage} stage was not finite at step {step}")
        self.stage = stage
        self.step = step
