"""The one pretext engine: transformations and objectives composed, trained by the harness's loop; all but the heads is kept."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from initbench.errors import UsageError
from initbench.pretext.levels import Slabs, choose_slabs
from initbench.pretext.objectives import OrderHeads, OverSlots, Pool, Taps, order_losses, reconstruction_loss, slots_of_a_sample
from initbench.pretext.transforms import DrawnPer, Mask, Shuffle
from initbench.protocols import Crops, InitContext, Level

Schedule = Literal["recipe", "plateaus"]


@dataclass(frozen=True)
class Order:
    """Order prediction. `taps` are numbers of levels from 1 (shallow), None where the recipe or `choose_slabs` decides.

    `loss` says how the cross-entropies of a sample's slots become one number.
    """

    taps: tuple[int, ...] | None = None
    scope: DrawnPer = "batch"
    weight: float = 1.0
    pool: Pool = "depth"
    loss: OverSlots = "mean"


@dataclass(frozen=True)
class Reconstruction:
    """Masked reconstruction. `voxels` says where the error counts: ``all`` (LWI) or ``masked`` (MAE)."""

    mask: Mask
    voxels: Literal["all", "masked"] = "all"
    weight: float = 1.0


@dataclass(frozen=True)
class Pretext:
    """A pretext: either objective, or both (LWI). The shuffle comes first, the mask after it.

    Attributes:
        crops: where patches are cut, ``labels`` as LWI's release has it.
        schedule: of the learning rate, the recipe's or what LWI's release amounts to.
    """

    order: Order | None = None
    reconstruction: Reconstruction | None = None
    crops: Crops = "uniform"
    schedule: Schedule = "recipe"


@dataclass(frozen=True)
class PretextBatch:
    """What a step trains on.

    Attributes:
        image: network input ``(N, C, D, H, W)``, shuffled and masked.
        target: the image before masking.
        counted: ``(N, 1, D, H, W)`` voxels that the reconstruction error counts.
        order: ``(N, B)`` original slab index per position.
    """

    image: Tensor
    target: Tensor
    counted: Tensor
    order: Tensor


@dataclass
class PretextTask:
    """A pretext on a network, as a task of the training loop."""

    module: nn.Module
    pretext: Pretext
    ctx: InitContext
    taps: Taps
    heads: OrderHeads | None
    shuffle: Shuffle | None

    def batch(self, step: int) -> PretextBatch:
        """The batch of a step, a function of the step alone."""
        ctx = self.ctx
        slab = ctx.structure.patch_size[0] // self.shuffle.count if self.shuffle else 1
        patches = ctx.patches(step, slab=slab, crops=self.pretext.crops)
        image, order = patches.image, torch.empty(0, dtype=torch.long, device=patches.image.device)
        if self.shuffle is not None:
            image, order = self.shuffle(image, patches.inside, ctx.rng(step, "shuffle"))
        target, masked = image, torch.ones_like(image[:, :1], dtype=torch.bool)
        counted = patches.inside_mask()
        task = self.pretext.reconstruction
        if task is not None:
            image, masked = task.mask(image, ctx.rng(step, "mask"))
            counted = counted & masked if task.voxels == "masked" else counted
        return PretextBatch(image, target, counted, order)

    def loss(self, batch: PretextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the objectives; parts: ``order`` (mean over levels, ln B is chance) and ``reconstruction``."""
        output, features = self.taps.run(batch.image)
        total = torch.zeros((), device=batch.image.device)
        parts: dict[str, Tensor] = {}
        if self.pretext.order is not None and self.heads is not None:
            losses = order_losses(self.heads(features), batch.order)
            weighted = self.pretext.order.weight * losses.sum()
            total = total + (weighted * slots_of_a_sample(batch.order) if self.pretext.order.loss == "sum" else weighted)
            parts["order"] = losses.mean().detach()
        if self.pretext.reconstruction is not None:
            finest = output if isinstance(output, Tensor) else output[0]
            error = reconstruction_loss(finest, batch.target, batch.counted)
            total = total + self.pretext.reconstruction.weight * error
            parts["reconstruction"] = error.detach()
        return total, parts


def pretrain(model: nn.Module, ctx: InitContext, pretext: Pretext) -> None:
    """Trains `model` on a pretext in place. Output heads come back as they were; order heads are dropped.

    Raises:
        UsageError: a tap that does not exist, fewer than two slabs, or a mask that does not fit the patch.
    """
    _check(pretext)
    levels: list[Level] = []
    shuffle, heads = None, None
    if pretext.order is not None:
        slabs = _choose_slabs(pretext.order, ctx, pretext.crops)
        levels = list(slabs.levels.values())
        shuffle = Shuffle(slabs.count, pretext.order.scope)
    if pretext.reconstruction is not None:
        pretext.reconstruction.mask.cells(ctx.structure.patch_size)
    if pretext.order is not None and shuffle is not None:
        heads = _order_heads(levels, shuffle.count, pretext.order.pool, ctx)
    with contextlib.ExitStack() as stack:
        if pretext.reconstruction is not None:
            stack.enter_context(output_channels(model, ctx, int(ctx.patches(0, crops=pretext.crops).image.shape[1])))
        taps = Taps(model, levels, enough=pretext.reconstruction is None)
        stack.callback(taps.remove)
        trained = nn.ModuleList([model] if heads is None else [model, heads]).to(ctx.device)
        ctx.fit(
            PretextTask(trained, pretext, ctx, taps, heads, shuffle),
            schedule=None if pretext.schedule == "recipe" else pretext.schedule,
        )
    model.to("cpu")


def _check(pretext: Pretext) -> None:
    for name, value, valid in (
        ("schedule", pretext.schedule, ("recipe", "plateaus")),
        ("crops", pretext.crops, ("uniform", "labels")),
        ("order_loss", pretext.order.loss if pretext.order else "mean", ("mean", "sum")),
    ):
        if value not in valid:
            raise UsageError(f"{name} is {' or '.join(valid)}, got {value!r}")


def _choose_slabs(order: Order, ctx: InitContext, crops: Crops) -> Slabs:
    """The slabs and levels of an order prediction, which go on record.

    Raises:
        UsageError: the network sees one slice at a time, or there are no two slabs.
    """
    if ctx.structure.dimension == 2:
        raise UsageError(
            f"order prediction shuffles slabs along depth, and {ctx.structure.name or 'this network'} sees one slice at a time; "
            "use mae or tube, which mask in plane, or a network of volumes"
        )
    asked = order.taps or ctx.taps
    # Crops around labels take padding for image, as LWI's release does, so that every slab of a patch is whole.
    volumes = ctx.depths if crops == "uniform" else ()
    chosen = choose_slabs(asked, ctx.structure.levels, ctx.structure.patch_size[0], volumes)
    ctx.report(chosen.summary(), chosen.details())
    return chosen


def _order_heads(levels: Sequence[Level], slabs: int, pool: Pool, ctx: InitContext) -> OrderHeads:
    """Order heads with the usual law U(±1/√C), each parameter from its own generator."""
    for level in levels:
        divided = {"depth": level.grid[0], "width": level.grid[2], "interleaved": math.prod(level.grid)}
        if pool not in divided:
            raise UsageError(f"pool is one of {', '.join(divided)}; got {pool!r}")
        if divided[pool] % slabs:
            raise UsageError(
                f"pool={pool}: level {level.module} of {level.grid} does not divide into {slabs} slabs that way; pool=depth does"
            )
    with torch.random.fork_rng(devices=[]):  # layers draw when they are constructed
        heads = OrderHeads(levels, slabs, pool)
    for name, parameter in heads.named_parameters():
        classifier = heads.get_submodule(name.rpartition(".")[0])
        bound = float(classifier.weight.shape[1]) ** -0.5  # type: ignore[index]
        nn.init.uniform_(parameter, -bound, bound, generator=ctx.generator(f"order-head.{name}"))
    return heads


@contextlib.contextmanager
def output_channels(model: nn.Module, ctx: InitContext, channels: int) -> Iterator[None]:
    """Inside the block the declared output heads end in `channels` channels; afterwards they are the old modules again."""
    kept: list[tuple[nn.Module, str, nn.modules.conv._ConvNd]] = []
    try:
        for name in ctx.structure.heads:
            parent, attribute, old = _last_convolution(model, name)
            kept.append((parent, attribute, old))
            setattr(parent, attribute, _like(old, channels, f"{name}.{attribute}", ctx))
        yield
    finally:
        for parent, attribute, old in kept:
            setattr(parent, attribute, old)


def _last_convolution(model: nn.Module, head: str) -> tuple[nn.Module, str, nn.modules.conv._ConvNd]:
    found = [
        (f"{head}.{name}".rstrip("."), module)
        for name, module in model.get_submodule(head).named_modules()
        if isinstance(module, nn.modules.conv._ConvNd)
    ]
    if not found:
        raise UsageError(f"output head {head!r} holds no convolution, so no reconstruction head can take its place; take order")
    full, module = found[-1]
    parent, _, attribute = full.rpartition(".")
    return model.get_submodule(parent), attribute, module


def _like(old: nn.modules.conv._ConvNd, channels: int, name: str, ctx: InitContext) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        new = type(old)(  # type: ignore[call-arg]
            old.in_channels,
            channels,
            old.kernel_size,
            old.stride,
            old.padding,
            bias=old.bias is not None,
            dtype=old.weight.dtype,
        )
    fan = old.in_channels * int(np.prod(old.kernel_size))
    for part, parameter in new.named_parameters():
        nn.init.uniform_(parameter, -(fan**-0.5), fan**-0.5, generator=ctx.generator(f"reconstruction-head.{name}.{part}"))
    return new.to(old.weight.device)
