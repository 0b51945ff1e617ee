"""What the training loop trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Task(Protocol):
    """What the training loop trains: the supervised stage and every pretext are one each."""

    @property
    def module(self) -> nn.Module:
        """Everything that has parameters to train (network and temporary heads)."""

    def batch(self, step: int) -> Any:
        """The batch of `step`, a function of the step alone."""

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimize and its named, detached parts."""
