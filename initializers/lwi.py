"""``lwi``: learnable weight initialization, order prediction and masked reconstruction together; and as its code was released.

Source: Kunhimon et al., "Learnable Weight Initialization for Volumetric Medical Image Segmentation", section 3.2, eqs. 6-9;
ShahinaKK/LWI-VMS@7f21654. Where they differ, ``lwi`` follows the text in all but one thing: the depth axis is pooled (the release
pools another one), the learning rate follows the schedule at every step (the release steps it once per 100 epochs), and crops are
placed without labels and not flipped along depth. The exception is the weight of the order loss. Eq. 7 sums the cross-entropy
over the B slots of a sample. The release averages it, and so does ``lwi``: its order loss is B times lighter than printed (6
times with UNETR at the published patch, 4 times with UNETR++). ``lwi(order_loss=sum)`` is eq. 7 as printed. ``lwi-as-released``
does what the code does; each difference can also be set apart on ``lwi``.
"""

from __future__ import annotations

from torch import nn

from initbench.errors import UsageError
from initbench.pretext.engine import Order, Pretext, Reconstruction, Schedule, pretrain
from initbench.pretext.objectives import OverSlots, Pool
from initbench.pretext.transforms import DrawnPer, Mask
from initbench.protocols import Crops, InitContext, initializer


@initializer(paper="LWI section 3.2", learned=True, later=("order_loss",))
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
    permutation: DrawnPer = "batch",
    mask_scope: DrawnPer = "batch",
    pool: Pool = "depth",
    schedule: Schedule = "recipe",
    crops: Crops = "uniform",
    order_loss: OverSlots = "mean",
) -> None:
    """Slabs are shuffled, then cells masked; loss = order cross-entropy over the levels + reconstruction error of all voxels.

    `mask_ratio`, `mask_patch` and `mask_scope` are as in `mae`; `taps`, `permutation`, `pool` and `schedule` as in `order`.
    `order_weight` and `reconstruction_weight` weigh the two parts of the loss; `order_loss` says whether the cross-entropy of a
    sample is the ``mean`` over its slots, as in the release, or their ``sum``, as eq. 7 is printed. `crops` says whether patches
    are placed anywhere or around labels. The recipe says how long the pretext is (``--set pretext.share=0.3``).
    """
    if mask_patch is None:
        mask_patch = ctx.mask_patch
    mask = Mask(mask_ratio, mask_patch, scope=mask_scope)
    pretext = Pretext(
        Order(taps, permutation, order_weight, pool, order_loss),
        Reconstruction(mask, voxels="all", weight=reconstruction_weight),
        crops,
        schedule,
    )
    pretrain(model, ctx, pretext)


# Pooling and schedule of the code for each network; that for UNETR++ steps its schedule every epoch.
_RELEASED: dict[str, tuple[Pool, Schedule]] = {"unetr": ("width", "plateaus"), "unetrpp": ("interleaved", "recipe")}


@initializer(paper="LWI, code", learned=True)
def lwi_as_released(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    mask_ratio: float = 0.4,
    mask_patch: int | None = None,
    pool: Pool | None = None,
    schedule: Schedule | None = None,
    crops: Crops = "labels",
) -> None:
    """The released code: slots of another axis, its schedule, one mask for a batch, crops around labels and flipped in depth.

    Without `pool` and `schedule` the network decides, as the release has a code for each; all parameters are as in `lwi`.
    """
    known = _RELEASED.get(ctx.structure.name)
    if known is None and (pool is None or schedule is None):
        raise UsageError(
            f"LWI released code for {' and '.join(_RELEASED)}, not for {ctx.structure.name or 'this network'}: say what it would "
            "be here, as in lwi-as-released(pool=width, schedule=plateaus), or use lwi"
        )
    released_pool, released_schedule = known or ("width", "plateaus")
    axis, steps = pool or released_pool, schedule or released_schedule
    ctx.report(f"as released: pool {axis}, schedule {steps}, crops {crops}", {"pool": axis, "schedule": steps, "crops": crops})
    lwi(model, ctx, mask_ratio=mask_ratio, mask_patch=mask_patch, pool=axis, schedule=steps, crops=crops)
