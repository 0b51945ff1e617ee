"""``default``: the network as its authors construct it, the baseline of every comparison."""

from __future__ import annotations

from torch import nn

from initbench.protocols import InitContext, initializer


@initializer()
def default(model: nn.Module, ctx: InitContext, /) -> None:
    """Changes nothing: construction drew the weights from the `construct` stream."""
