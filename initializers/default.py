"""``default``: the network as its authors construct it, the baseline of every comparison, and its placebo."""

from __future__ import annotations

import torch
from torch import nn

from initbench.protocols import InitContext, initializer


@initializer()
def default(model: nn.Module, ctx: InitContext, /, *, construct: str = "own") -> None:
    """Changes nothing: construction drew the weights from the `construct` stream.

    With another word for `construct` the authors' law draws again, from numbers of that name. ``default(construct=other)``
    against ``default`` is the placebo: a study that finds a difference between them finds one in nothing.
    """
    if construct == "own":
        return
    again = ctx.constructed(construct).state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(again[name])
