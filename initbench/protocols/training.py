"""What the training loop trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Task(Protocol):
    """What the training loop trains: the supervised stage and every pretext are one each.

    A task may have three more parts, which the loop asks for by name:

    - ``losses(batch)`` in the place of `loss`: yields several losses with their parts, one after the other. The loop
      back-propagates each before it asks for the next, so that no two graphs are in memory at once. Gradients add up.
    - ``after_step(step)``, called after the optimizer's step.
    - ``state()`` and ``load_state(state)``: what a checkpoint has to hold beside the module, as a mapping of tensors and plain
      values.
    """

    @property
    def module(self) -> nn.Module:
        """Everything that has parameters to train (network and temporary heads)."""

    def batch(self, step: int) -> Any:
        """Returns the batch of `step`, a function of the step alone."""

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes the loss to minimize and its named, detached parts."""
