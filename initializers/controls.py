"""Controls: what is left of a gain when the learned content, or a part of the network, is taken away.

`shuffled` keeps the scale of every weight and destroys what was learned; `transfer` keeps what was learned in one part of the
network alone. With the placebo ``default(construct=other)`` they tell learned content from better scale, and both from luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import nn

from initbench.errors import UsageError
from initbench.protocols import InitContext, initializer

Inner = Callable[[nn.Module], None]


@initializer()
def shuffled(model: nn.Module, ctx: InitContext, /, *, of: Inner) -> None:
    """``shuffled(lwi)``: the entries of every parameter that `of` changed are permuted inside it; its buffers are undone."""
    before = _copy(model)
    of(model)
    for name, parameter in model.named_parameters():
        if torch.equal(parameter.detach().cpu(), before[name]):
            continue
        order = torch.randperm(parameter.numel(), generator=ctx.generator(name))
        parameter.detach().copy_(parameter.detach().flatten()[order].reshape(parameter.shape))
    _restore(model, before, dict(model.named_buffers()))


@initializer()
def transfer(model: nn.Module, ctx: InitContext, /, *, of: Inner, part: Literal["encoder", "decoder"]) -> None:
    """``transfer(lwi, part=encoder)``: what `of` did outside that part is undone. The encoder is what holds the levels."""
    if not ctx.structure.levels:
        raise UsageError(
            "transfer: the network declares no encoder levels, so its encoder is not known: declare them (Structure.levels)"
        )
    encoder = {level.module.partition(".")[0] for level in ctx.structure.levels}
    before = _copy(model)
    of(model)
    undone = []
    for name in before:
        in_encoder = name.partition(".")[0] in encoder
        if in_encoder != (part == "encoder"):
            undone.append(name)
    _restore(model, before, undone)


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies the values of all parameters and buffers to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _restore(model: nn.Module, before: Mapping[str, torch.Tensor], names: Iterable[str]) -> None:
    """Writes the values of `before` back into some parameters and buffers; names outside the state dict are passed over."""
    state = model.state_dict()
    with torch.no_grad():
        for name in names:
            if name in state:
                state[name].copy_(before[name])
