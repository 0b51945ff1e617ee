"""The supervised stage as a task of the training loop (regimen ``plain``)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from initbench.recipes.settings import Loss
from initbench.sampling.volumes import Batch, PatchSampler
from initbench.training.losses import supervised_loss


@dataclass(frozen=True)
class SupervisedTask:
    """Segmentation of labelled patches with Dice + cross-entropy."""

    module: nn.Module
    sampler: PatchSampler
    settings: Loss

    def batch(self, step: int) -> Batch:
        """The labelled batch of a step."""
        return self.sampler.batch(step)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch."""
        return supervised_loss(self.module(batch.image), batch.label, self.settings)
