"""Trains a network on a pretext of transformations and objectives, by the harness's loop. All but the heads is kept."""

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
    """Order prediction.

    Attributes:
        taps: numbers of levels from 1 (shallow), None where the recipe or `choose_slabs` decides.
        scope: whether a batch shares one order.
        weight: weight of the objective.
        pool: how the features of a level become one mean a slab.
        loss: how the cross-entropies of a sample's slots become one number.
    """

    taps: tuple[int, ...] | None = None
    scope: DrawnPer = "batch"
    weight: float = 1.0
    pool: Pool = "depth"
    loss: OverSlots = "mean"


@dataclass(frozen=True)
class Reconstruction:
    """Masked reconstruction.

    Attributes:
        mask: what is hidden.
        voxels: where the error counts: ``all`` (LWI) or ``masked`` (MAE).
        weight: weight of the objective.
    """

    mask: Mask
    voxels: Literal["all", "masked"] = "all"
    weight: float = 1.0


@dataclass(frozen=True)
class Pretext:
    """A pretext: either objective, or both (LWI). The shuffle comes first, the mask after it.

    Attributes:
        order: None without order prediction.
        reconstruction: None without masked reconstruction.
        crops: where patches are cut; ``labels`` is around labels, as in LWI's release.
        schedule: of the learning rate; ``plateaus`` is what LWI's release amounts to.
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
        """Returns the batch of a step, which follows from the step alone."""
        ctx = self.ctx
        slab = 1
        if self.shuffle is not None:
            slab = ctx.structure.patch_size[0] // self.shuffle.count
        patches = ctx.patches(step, slab=slab, crops=self.pretext.crops)
        image, order = patches.image, torch.empty(0, dtype=torch.long, device=patches.image.device)
        if self.shuffle is not None:
            image, order = self.shuffle(image, patches.inside, ctx.rng(step, "shuffle"))
        target = image
        counted = patches.inside_mask()
        task = self.pretext.reconstruction
        if task is not None:
            image, masked = task.mask(image, ctx.rng(step, "mask"))
            if task.voxels == "masked":
                counted = counted & masked
        return PretextBatch(image, target, counted, order)

    def loss(self, batch: PretextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted sum of the objectives, and its parts.

        The parts are ``order``, a mean over the levels (ln B is chance), and ``reconstruction``.
        """
        output, features = self.taps.run(batch.image)
        total = torch.zeros((), device=batch.image.device)
        parts: dict[str, Tensor] = {}
        if self.pretext.order is not None and self.heads is not None:
            losses = order_losses(self.heads(features), batch.order)
            weighted = self.pretext.order.weight * losses.sum()
            if self.pretext.order.loss == "sum":
                weighted = weighted * slots_of_a_sample(batch.order)
            total = total + weighted
            parts["order"] = losses.mean().detach()
        if self.pretext.reconstruction is not None:
            finest = output
            if not isinstance(output, Tensor):  # deep supervision
                finest = output[0]
            error = reconstruction_loss(finest, batch.target, batch.counted)
            total = total + self.pretext.reconstruction.weight * error
            parts["reconstruction"] = error.detach()
        return total, parts


def pretrain(model: nn.Module, ctx: InitContext, pretext: Pretext) -> None:
    """Trains a network on a pretext in place. Output heads come back as they were; order heads are dropped.

    Args:
        model: the network.
        ctx: what the harness hands the initializer.
        pretext: what it is trained on.

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
        trained = nn.ModuleList([model])
        if heads is not None:
            trained.append(heads)
        schedule: str | None = None
        if pretext.schedule != "recipe":
            schedule = pretext.schedule
        ctx.fit(PretextTask(trained.to(ctx.device), pretext, ctx, taps, heads, shuffle), schedule=schedule)
    model.to("cpu")


def _check(pretext: Pretext) -> None:
    """Refuses words that no option of a pretext has.

    Raises:
        UsageError: names the words that the option has.
    """
    _check_word("schedule", pretext.schedule, ("recipe", "plateaus"))
    _check_word("crops", pretext.crops, ("uniform", "labels"))
    if pretext.order is not None:
        _check_word("order_loss", pretext.order.loss, ("mean", "sum"))


def _check_word(option: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise UsageError(f"{option} is {' or '.join(known)}, got {word!r}")


def _choose_slabs(order: Order, ctx: InitContext, crops: Crops) -> Slabs:
    """Chooses the slabs and levels of an order prediction, and puts them on record.

    Args:
        order: what is asked for.
        ctx: gives the network and the depths of the training volumes.
        crops: where patches are cut.

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
    volumes: Sequence[int] = ()
    if crops == "uniform":
        volumes = ctx.depths
    chosen = choose_slabs(asked, ctx.structure.levels, ctx.structure.patch_size[0], volumes)
    ctx.report(chosen.summary(), chosen.details())
    return chosen


def _order_heads(levels: Sequence[Level], slabs: int, pool: Pool, ctx: InitContext) -> OrderHeads:
    """Builds order heads and draws them from the usual law U(±1/√C), each parameter from its own generator.

    Args:
        levels: that are asked for the order.
        slabs: number of slabs of a patch.
        pool: how the features of a level become one mean a slab.
        ctx: gives the generators.

    Raises:
        UsageError: `pool` is unknown, or does not divide a level into the slabs.
    """
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
    """Lets the declared output heads end in another number of channels inside the block, and puts the old layers back after it.

    Args:
        model: the network.
        ctx: gives the heads and the generators of the new layers.
        channels: number of output channels inside the block.

    Raises:
        UsageError: a head holds no convolution.
    """
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
    """Returns the parent, the attribute and the module of the last convolution of a head."""
    last: nn.modules.conv._ConvNd | None = None
    place = ""
    for name, module in model.get_submodule(head).named_modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            last, place = module, f"{head}.{name}".rstrip(".")
    if last is None:
        raise UsageError(f"output head {head!r} holds no convolution, so no reconstruction head can take its place; take order")
    parent, _, attribute = place.rpartition(".")
    return model.get_submodule(parent), attribute, last


def _like(old: nn.modules.conv._ConvNd, channels: int, name: str, ctx: InitContext) -> nn.Module:
    """Builds a convolution like another one, with another number of output channels.

    Args:
        old: the other one.
        channels: number of output channels.
        name: of the layer, for its random generator.
        ctx: gives the generator.
    """
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
