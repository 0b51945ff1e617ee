"""The plain supervised stage: one forward and one backward pass a step, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from initbench.protocols import Labelled, RegimenContext, regimen


@dataclass(frozen=True)
class Plain:
    """Segmentation of labelled patches with the recipe's loss."""

    ctx: RegimenContext

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.ctx.model

    def batch(self, step: int) -> Labelled:
        """The labelled batch of a step."""
        return self.ctx.batch(step)

    def loss(self, batch: Labelled) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch."""
        return self.ctx.supervised(self.ctx.model(batch.image), batch.label)


@regimen()
def plain(ctx: RegimenContext, /) -> Plain:
    """Trains the network on labelled patches with the recipe's loss."""
    return Plain(ctx)
