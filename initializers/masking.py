"""``mae`` and ``tube``: masked reconstruction on the training volumes.

Sources: He et al. 2022 (MAE); MIC-DKFZ/nnssl BaseMAETrainer (3-D, masked voxels set to 0); Tong et al. 2022 (VideoMAE: tube
masks); LWI table VI, whose masking rows keep its decoder and budget so that the objective alone changes.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from initbench.pretext.engine import Pretext, Reconstruction, pretrain
from initbench.pretext.transforms import DrawnPer, Mask
from initbench.protocols import InitContext, initializer


@initializer(paper="LWI table VI; MAE", learned=True)
def mae(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    mask_ratio: float = 0.4,
    mask_patch: int | None = None,
    voxels: Literal["all", "masked"] = "all",
    mask_scope: DrawnPer = "batch",
) -> None:
    """LWI-matched by default; ``mae(mask_ratio=0.75, voxels=masked, mask_scope=sample)`` is MAE as nnssl has it.

    `mask_ratio` is the share of cells that are set to 0, `mask_patch` the edge of a cell in voxels (the recipe's where not
    given), `voxels` those that count in the error, `mask_scope` whether a batch shares one mask.
    """
    if mask_patch is None:
        mask_patch = ctx.mask_patch
    mask = Mask(mask_ratio, mask_patch, scope=mask_scope)
    pretrain(model, ctx, Pretext(reconstruction=Reconstruction(mask, voxels)))


@initializer(paper="LWI table VI; VideoMAE", learned=True)
def tube(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    mask_ratio: float = 0.4,
    mask_patch: int | None = None,
    voxels: Literal["all", "masked"] = "all",
    mask_scope: DrawnPer = "batch",
) -> None:
    """As `mae`, with one mask drawn in the (H, W) plane and held along D.

    `mask_ratio`, `mask_patch`, `voxels` and `mask_scope` are as in `mae`.
    """
    if mask_patch is None:
        mask_patch = ctx.mask_patch
    mask = Mask(mask_ratio, mask_patch, tube=True, scope=mask_scope)
    pretrain(model, ctx, Pretext(reconstruction=Reconstruction(mask, voxels)))
