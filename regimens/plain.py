"""The plain supervised stage: one forward and one backward pass a step, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from initbench.protocols import Labelled, RegimenContext, regimen


@dataclass(frozen=True)
class Plain:
    """Trains the network to segment labelled patches, with the recipe's loss."""

    ctx: RegimenContext

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.ctx.model

    def batch(self, step: int) -> Labelled:
        """Returns the labelled batch of a step."""
        return self.ctx.batch(step)

    def loss(self, batch: Labelled) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the supervised loss of a batch, and no other terms."""
        return self.ctx.supervised(self.ctx.model(batch.image), batch.label)


@regimen()
def plain(ctx: RegimenContext, /) -> Plain:
    """Trains the network on labelled patches with the recipe's loss."""
    return Plain(ctx)
