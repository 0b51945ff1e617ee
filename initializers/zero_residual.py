"""``zero-residual``: every residual block begins as its shortcut alone.

Papers: Goyal et al. 2017, arXiv:1706.02677, section 5.1 (the last norm's scale of a residual branch is 0); Zhang, Dauphin & Ma,
"Fixup Initialization", ICLR 2019, arXiv:1901.09321 (the last layer's weight, where no norm follows). Which parameters these are
is the backbone's to say: `Structure.residual_exits`. Everything else stays as the authors construct it, bit for bit.
"""

from __future__ import annotations

import torch
from torch import nn

from initbench.errors import UsageError
from initbench.protocols import InitContext, initializer


@initializer(paper="Goyal et al. 2017, arXiv:1706.02677; Zhang et al. 2019, arXiv:1901.09321")
def zero_residual(model: nn.Module, ctx: InitContext, /) -> None:
    """Sets the exits of all residual branches to zero.

    Raises:
        UsageError: the backbone declares none.
    """
    exits = ctx.structure.residual_exits
    if not exits:
        name = ctx.structure.name or type(model).__name__
        raise UsageError(
            f"zero-residual: {name} declares no exits of residual branches (Structure.residual_exits). A network without such "
            "branches cannot have this init; the backbone of one with them has to name them"
        )
    with torch.no_grad():
        for exit_name in exits:
            model.get_parameter(exit_name).zero_()
    ctx.report(f"{len(exits)} exits of residual branches are zero", {"exits": list(exits)})
