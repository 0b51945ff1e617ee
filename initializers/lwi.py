"""``lwi``: learnable weight initialization, order prediction and masked reconstruction together.

Source: Madan et al., "Learnable Weight Initialization for Volumetric Medical Image Segmentation", section 3.2, eqs. 6-9;
ShahinaKK/LWI-VMS@7f21654. Where they differ, this follows the text: the depth axis is pooled (the release pools another one)
and the learning rate follows the schedule at every step (the release steps it once per 100 epochs). `pool` has the axes of
the release: ``width`` for UNETR, ``interleaved`` for UNETR++.
"""

from __future__ import annotations

from torch import nn

from initbench.pretext.engine import Order, Pretext, Reconstruction, pretrain
from initbench.pretext.objectives import Pool
from initbench.pretext.transforms import Mask, Scope
from initbench.protocols import InitContext, initializer


@initializer(paper="LWI section 3.2", learned=True)
def lwi(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    mask_ratio: float = 0.4,
    mask_patch: int | None = None,
    taps: tuple[int, ...] | None = None,
    order_weight: float = 1.0,
    reconstruction_weight: float = 1.0,
    permutation: Scope = "batch",
    mask_scope: Scope = "batch",
    pool: Pool = "depth",
) -> None:
    """Slabs are shuffled, then cells masked; loss = order cross-entropy over the levels + reconstruction error of all voxels."""
    mask = Mask(mask_ratio, mask_patch or ctx.mask_patch, scope=mask_scope)
    pretrain(
        model,
        ctx,
        Pretext(Order(taps, permutation, order_weight, pool), Reconstruction(mask, voxels="all", weight=reconstruction_weight)),
    )
