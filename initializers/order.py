"""``order``: which slab is where, asked on every encoder level (LWI section 3.2.2, table VI)."""

from __future__ import annotations

from torch import nn

from initbench.pretext.engine import Order, Pretext, Schedule, pretrain
from initbench.pretext.objectives import Pool
from initbench.pretext.transforms import DrawnPer
from initbench.protocols import InitContext, initializer


@initializer(paper="LWI section 3.2.2", learned=True)
def order(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    taps: tuple[int, ...] | None = None,
    permutation: DrawnPer = "batch",
    pool: Pool = "depth",
    schedule: Schedule = "recipe",
) -> None:
    """Shuffles slabs along D and classifies each. The decoder gets no gradient and keeps its constructed weights.

    `taps` are encoder levels counted from 1, shallow to deep (all of them where not given), `permutation` says whether a batch
    shares one order, `pool` the axis whose slots are classified (of the release: ``width``, or ``interleaved``), `schedule` the
    recipe's or the release's eight plateaus.
    """
    pretrain(model, ctx, Pretext(order=Order(taps, permutation, pool=pool), schedule=schedule))
