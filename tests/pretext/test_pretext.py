"""Shuffle and mask, order prediction with an oracle for the depth axis, reconstruction, and the engine around them."""

from __future__ import annotations

import contextlib
import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from initbench.errors import UsageError
from initbench.harness.context import Context
from initbench.pretext.engine import Order, Pretext, PretextTask, Reconstruction, _order_heads, output_channels, pretrain
from initbench.pretext.objectives import (
    OrderHeads,
    Taps,
    order_losses,
    pool_slabs,
    reconstruction_loss,
    slots_of_a_sample,
    to_channels_first,
)
from initbench.pretext.transforms import PADDING, Mask, Shuffle
from initbench.protocols import Grid, Layout, Level, Structure
from initbench.recipes.settings import Augment, Optimizer
from initbench.sampling.samplers import UnlabelledSampler
from initbench.sampling.volumes import make_volume
from initbench.training.loop import FitSettings

LAYOUTS: tuple[Layout, ...] = ("NCDHW", "NDHWC", "NLC")


def inside(number: int, size: Grid, *depths: int) -> NDArray[np.int64]:
    """Volumes that fill the patch, save for the depths given for the first of them."""
    box = np.array([[[0, edge] for edge in size]] * number)
    box[: len(depths), 0, 1] = depths
    return box


# --------------------------------------------------------------------------------------------------------------------
# Shuffle


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_label_is_the_original_index_of_the_slab_now_there(scope: Any) -> None:
    size: Grid = (12, 3, 5)
    image = torch.rand(6, 2, *size, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    shuffled, order = Shuffle(4, scope)(image, inside(6, size), np.random.default_rng(0))
    assert torch.equal(image, before)
    assert order.shape == (6, 4)
    moved = 0
    for n in range(6):
        assert sorted(order[n].tolist()) == [0, 1, 2, 3]
        moved += order[n].tolist() != [0, 1, 2, 3]
        for i, original in enumerate(order[n].tolist()):
            assert torch.equal(shuffled[n, :, 3 * i : 3 * i + 3], image[n, :, 3 * original : 3 * original + 3])
    assert moved
    assert (order == order[0]).all() == (scope == "batch")


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_padding_slabs_stay_and_are_not_labelled(scope: Any) -> None:
    size: Grid = (12, 2, 2)
    image = torch.rand(4, 1, *size, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        shuffled, order = Shuffle(4, scope)(image, inside(4, size, 6, 9), np.random.default_rng(seed))
        for n, whole in enumerate((2, 3, 4, 4)):
            assert sorted(order[n, :whole].tolist()) == list(range(whole))
            assert (order[n, whole:] == PADDING).all()
            assert torch.equal(shuffled[n, :, 3 * whole :], image[n, :, 3 * whole :])
            for i, original in enumerate(order[n, :whole].tolist()):
                assert torch.equal(shuffled[n, :, 3 * i : 3 * i + 3], image[n, :, 3 * original : 3 * original + 3])


def test_every_permutation_comes() -> None:
    rng = np.random.default_rng(0)
    seen = {tuple(Shuffle(3)(torch.zeros(1, 1, 3, 1, 1), inside(1, (3, 1, 1)), rng)[1][0].tolist()) for _ in range(100)}
    assert len(seen) == 6


# --------------------------------------------------------------------------------------------------------------------
# Mask


def coarse(mask: Tensor, edge: int) -> Tensor:
    """One value a cell, after checking that cells are whole."""
    cells = mask[:, 0, ::edge, ::edge, ::edge]
    whole = cells
    for axis in (1, 2, 3):
        whole = whole.repeat_interleave(edge, dim=axis)
    assert torch.equal(whole, mask[:, 0])
    return cells


@pytest.mark.parametrize(("tube", "masked"), [(False, 86), (True, 14 * 6)])
def test_masked_cells_of_a_96_cube(tube: bool, masked: int) -> None:
    image = torch.ones(2, 1, 96, 96, 96)
    out, mask = Mask(0.4, 16, tube)(image, np.random.default_rng(0))
    cells = coarse(mask, 16)
    assert cells.shape == (2, 6, 6, 6)
    assert cells.flatten(1).sum(1).tolist() == [masked, masked]
    assert torch.equal(out == 0, mask)
    if tube:
        assert (cells == cells[:, :1]).all(), "the same in every slice"
        assert cells[0, 0].sum() == 14
    else:
        assert not (cells == cells[:, :1]).all()


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_scope_of_the_mask(scope: Any) -> None:
    image = torch.rand(3, 2, 8, 12, 16, generator=torch.Generator().manual_seed(0)) + 1
    out, mask = Mask(0.5, 4, scope=scope)(image, np.random.default_rng(0))
    assert (mask == mask[:1]).all() == (scope == "batch")
    assert coarse(mask, 4).flatten(1).sum(1).tolist() == [12, 12, 12]
    assert torch.equal(out, image * ~mask)
    assert (image > 0).all()


def test_every_cell_is_masked_alike() -> None:
    rng, number = np.random.default_rng(0), 2000
    total = sum(Mask(0.4, 1)(torch.ones(1, 1, 2, 3, 5), rng)[1].double() for _ in range(number))
    assert isinstance(total, Tensor)
    assert (total / number - 0.4).abs().max() < 5 * math.sqrt(0.24 / number)


@pytest.mark.parametrize(("ratio", "edge", "says"), [(0.0, 4, "ratio"), (1.0, 4, "ratio"), (0.5, 5, "does not divide")])
def test_masks_that_do_not_fit(ratio: float, edge: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Mask(ratio, edge).cells((8, 8, 8))


# --------------------------------------------------------------------------------------------------------------------
# Order prediction

SLABS, GRID = 4, (8, 4, 12)


def emit(order: Tensor, axis: int, layout: Layout) -> Tensor:
    """What an encoder gives that knows each slab's original index and tells it along `axis` of the grid."""
    indices = order.repeat_interleave(GRID[axis] // SLABS, dim=1)
    shape = [len(order), 1, 1, 1]
    shape[1 + axis] = GRID[axis]
    features = nn.functional.one_hot(indices, SLABS).float().view(*shape, SLABS).expand(-1, *GRID, -1)
    if layout == "NCDHW":
        return features.movedim(-1, 1)
    return features if layout == "NDHWC" else features.reshape(len(order), -1, SLABS)


def learnt(features: Tensor, order: Tensor, where: Level) -> float:
    """Loss of order heads trained to the end on frozen features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = OrderHeads([where], SLABS)
    optimizer = torch.optim.Adam(heads.parameters(), lr=0.3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = order_losses(heads([features]), order)[0]
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", range(3))
def test_order_is_read_along_depth_alone(layout: Layout, axis: int) -> None:
    rng = np.random.default_rng(0)
    order = torch.from_numpy(np.stack([rng.permutation(SLABS) for _ in range(24)]))
    loss = learnt(emit(order, axis, layout), order, Level("m", GRID, SLABS, layout))
    if axis == 0:
        assert loss < 1e-3
    else:
        assert loss == pytest.approx(math.log(SLABS), abs=0.01)


def test_chance_is_ln_b_and_padding_is_not_counted() -> None:
    order = torch.tensor([[2, 0, 1, 3], [1, 0, PADDING, PADDING]])
    even = torch.zeros(2, 4, 4)
    wrong_on_padding = even.clone()
    wrong_on_padding[1, 2:] = 1000 * torch.randn(2, 4)
    losses = order_losses([even, wrong_on_padding], order)
    assert losses.tolist() == pytest.approx([math.log(4)] * 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_first_and_pool_in_plain_numpy(layout: Layout) -> None:
    grid: Grid = (4, 3, 5)
    features = np.random.default_rng(0).random((2, *grid, 6))
    given = {"NCDHW": np.moveaxis(features, -1, 1), "NDHWC": features, "NLC": features.reshape(2, 60, 6)}[layout]
    where = Level("m", grid, 6, layout)
    found = to_channels_first(torch.from_numpy(given), where)
    assert np.array_equal(found.numpy(), np.moveaxis(features, -1, 1))
    reverse = features.swapaxes(1, 3).copy()
    turned = {"NCDHW": np.moveaxis(reverse, -1, 1), "NDHWC": reverse, "NLC": reverse.reshape(2, 60, 6)}[layout]
    again = to_channels_first(torch.from_numpy(turned), Level("m", grid, 6, layout, "WHD"))
    assert np.array_equal(again.numpy(), np.moveaxis(features, -1, 1))


def test_pools_in_plain_numpy() -> None:
    z = np.random.default_rng(0).random((2, 6, 4, 3, 8))
    flat = z.reshape(2, 6, -1)
    expected = {
        "depth": [z[:, :, :2].mean((2, 3, 4)), z[:, :, 2:].mean((2, 3, 4))],
        "width": [z[..., :4].mean((2, 3, 4)), z[..., 4:].mean((2, 3, 4))],
        "interleaved": [flat[:, :, 0::2].mean(2), flat[:, :, 1::2].mean(2)],
    }
    for pool, slabs in expected.items():
        found = pool_slabs(torch.from_numpy(z), 2, pool)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.numpy(), np.stack(slabs, 1), rtol=1e-12)


@pytest.mark.parametrize(
    ("pool", "message"), [("width", "does not divide into 4 slabs"), ("height", "pool is one of depth, width")]
)
def test_a_pool_that_does_not_fit_is_refused(pool: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _order_heads([Level("one", (4, 4, 6), 8)], 4, pool, context())  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_that_are_not_as_declared(layout: Layout) -> None:
    with pytest.raises(ValueError, match=r"level m gives .*, declared"):
        to_channels_first(torch.zeros(2, 6, 4, 3, 6), Level("m", (4, 3, 5), 6, layout))


# --------------------------------------------------------------------------------------------------------------------
# Reconstruction


def test_reconstruction_counts_the_given_voxels_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(2, 3, 4, 4, 4, generator=generator, requires_grad=True)
    target = torch.randn(2, 3, 4, 4, 4, generator=generator)
    counted = torch.rand(2, 1, 4, 4, 4, generator=generator) < 0.3
    loss = reconstruction_loss(output, target, counted)
    error = (output.detach() - target).numpy() ** 2
    assert float(loss.detach()) == pytest.approx(error[np.broadcast_to(counted.numpy(), error.shape)].mean(), rel=1e-6)
    loss.backward()
    assert output.grad is not None
    assert torch.equal(output.grad != 0, counted.expand_as(output))
    assert float(reconstruction_loss(output, target, torch.zeros_like(counted)).detach()) == 0


# --------------------------------------------------------------------------------------------------------------------
# The engine


class Small(nn.Module):
    """Two encoder levels, a decoder and an output head; counts the calls of its decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv3d(1, 8, 2, 2)
        self.two = nn.Conv3d(8, 16, 2, 2)
        self.decoder = nn.ConvTranspose3d(16, 8, 4, 4)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv3d(8, 5, 1))
        self.decoded = 0
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-0.3, 0.3, generator=generator)

    def forward(self, image: Tensor) -> Tensor:
        z = self.two(self.one(image).relu()).relu()
        self.decoded += 1
        output: Tensor = self.head(self.decoder(z))
        return output


PATCH: Grid = (16, 8, 8)
LEVELS = (Level("one", (8, 4, 4), 8), Level("two", (4, 2, 2), 16))
NEVER = Augment(flip=0, rot90=0, scale_probability=0, scale_range=0, shift_probability=0, shift_range=0)


def context(depth: int = 16, steps: int = 3, heads: tuple[str, ...] = ("head",)) -> Context:
    """Volumes whose values grow with depth, over noise."""
    noise = np.random.default_rng(0).normal(0, 0.02, (1, depth, 8, 8))
    image = (np.linspace(0, 2, depth)[:, None, None] + noise).astype(np.float32)
    sampler = UnlabelledSampler([make_volume(image, None, torch.device("cpu"))], PATCH, 4, NEVER, 0)
    optimizer = Optimizer(name="adamw", lr=0.02, weight_decay=0.01, schedule="constant", warmup=0)
    return Context(
        sites=(),
        structure=Structure(PATCH, LEVELS, heads),
        device=torch.device("cpu"),
        root=0,
        identity="test",
        steps=steps,
        sampler=lambda: sampler,
        fit_settings=FitSettings(steps, optimizer, "float32", torch.device("cpu"), 0, "pretext"),
    )


def task(pretext: Pretext, ctx: Context) -> PretextTask:
    shuffle = Shuffle(4, pretext.order.scope) if pretext.order else None
    return PretextTask(nn.Identity(), pretext, ctx, Taps(nn.Identity(), [], enough=False), None, shuffle)


MASK = Mask(0.5, 4)


def test_batch_shuffles_first_and_masks_then() -> None:
    ctx = context(depth=9)  # two slabs of 4 slices, the rest is padding
    both = task(Pretext(Order(scope="sample"), Reconstruction(MASK)), ctx).batch(3)
    assert (both.order[:, 2:] == PADDING).all()
    order_only = task(Pretext(Order(scope="sample")), ctx).batch(3)
    assert torch.equal(both.order, order_only.order)
    assert torch.equal(both.target, order_only.image), "the target is shuffled and not masked"
    hidden = both.image != both.target
    assert hidden.any()
    assert (both.image[hidden] == 0).all()
    assert torch.equal(both.counted, ctx.patches(3, slab=4).inside_mask()), "no padding is counted"
    masked = task(Pretext(None, Reconstruction(MASK, voxels="masked")), ctx).batch(3)
    assert (masked.image[masked.counted] == 0).all()
    assert 0 < masked.counted.sum() < both.counted.sum()
    again = task(Pretext(Order(scope="sample"), Reconstruction(MASK)), ctx).batch(3)
    assert torch.equal(both.image, again.image)


def test_taps_cut_the_forward_short_and_go() -> None:
    model, image = Small(), torch.randn(2, 1, *PATCH)
    for names, enough, decoded in ((("one",), True, 0), (("two", "one"), True, 0), (("two", "one"), False, 1)):
        levels = [found for name in names for found in LEVELS if found.module == name]
        model.decoded = 0
        taps = Taps(model, levels, enough=enough)
        output, features = taps.run(image)
        taps.remove()
        assert model.decoded == decoded
        assert (output is None) == enough
        assert [tuple(z.shape[1:]) for z in features] == [(found.channels, *found.grid) for found in levels]
    assert isinstance(model(image), Tensor)
    assert not any(module._forward_hooks for module in model.modules())


def test_output_heads_are_swapped_and_put_back() -> None:
    model = Small()
    head, convolution = model.head, model.head[1]
    weights = copy.deepcopy(model.state_dict())
    with contextlib.suppress(RuntimeError), output_channels(model, context(), 3):
        new = model.head[1]
        assert model(torch.randn(1, 1, *PATCH)).shape == (1, 3, *PATCH)
        assert new.weight.abs().max() <= 8**-0.5
        raise RuntimeError
    assert model.head is head
    assert model.head[1] is convolution
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    torch.manual_seed(1)
    with output_channels(model, context(), 3):
        assert torch.equal(model.head[1].weight, new.weight), "numbers from the context alone"


def test_a_head_without_a_convolution_is_refused() -> None:
    model = Small()
    model.head = nn.Sequential(nn.ReLU())
    with pytest.raises(UsageError, match="'head' holds no convolution"), output_channels(model, context(), 3):
        pass


BOTH = Pretext(Order(), Reconstruction(MASK))


@pytest.mark.parametrize("pretext", [Pretext(Order()), Pretext(None, Reconstruction(MASK)), BOTH], ids=["order", "mae", "lwi"])
def test_pretrain_changes_all_but_the_heads(pretext: Pretext) -> None:
    model, ctx = Small(), context()
    convolution, names = model.head[1], list(model.state_dict())
    before = copy.deepcopy(model.state_dict())
    pretrain(model, ctx, pretext)
    after = model.state_dict()
    assert model.head[1] is convolution
    assert list(after) == names
    assert not any(module._forward_hooks for module in model.modules())
    changed = {name.split(".")[0] for name in names if not torch.equal(before[name], after[name])}
    assert changed == ({"one", "two", "decoder"} if pretext.reconstruction else {"one", "two"})
    objectives = {name for name in ("order", "reconstruction") if getattr(pretext, name) is not None}
    assert set(ctx.fits[0].curve[0]) == {"step", "lr", "loss"} | objectives


def test_pretrain_repeats_bit_for_bit() -> None:
    first, second = Small(), Small()
    pretrain(first, context(), BOTH)
    torch.rand(13)
    pretrain(second, context(), BOTH)
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_network_learns_the_order_of_what_grows_with_depth() -> None:
    ctx = context(steps=150)
    pretrain(Small(), ctx, Pretext(Order(scope="sample")))
    losses = [row["order"] for row in ctx.fits[0].curve]
    assert losses[0] > 1.0
    assert losses[-1] < 0.15


def test_loss_adds_the_objectives_with_their_weights() -> None:
    curves = []
    for weights in ((1.0, 1.0), (3.0, 0.5)):
        ctx = context(steps=1)
        pretrain(Small(), ctx, Pretext(Order(weight=weights[0]), Reconstruction(MASK, weight=weights[1])))
        row = ctx.fits[0].curve[0]
        assert row["loss"] == pytest.approx(weights[0] * 2 * row["order"] + weights[1] * row["reconstruction"], rel=1e-5)
        curves.append((row["order"], row["reconstruction"]))
    assert curves[0] == curves[1]


def test_the_order_loss_of_eq_7_is_a_sum_over_slots() -> None:
    """By hand, level by level, sample by sample and slot by slot; slots of padding are in no sum."""
    logits = [torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    order = torch.tensor([[2, 0, 1, 3], [1, 0, PADDING, PADDING]])
    by_hand = 0.0
    for level in logits:
        for sample, slots in zip(level, order.tolist(), strict=True):
            for slot, label in enumerate(slots):
                if label != PADDING:
                    by_hand -= float(sample[slot].log_softmax(0)[label]) / len(order)
    found = order_losses(logits, order).sum() * slots_of_a_sample(order)
    assert float(found) == pytest.approx(by_hand, rel=1e-6)


def test_summed_over_slots_the_order_loss_weighs_b_times_as_much() -> None:
    ctx = context(steps=1)
    pretrain(Small(), ctx, Pretext(Order(weight=0.5, loss="sum"), Reconstruction(MASK)))
    row = ctx.fits[0].curve[0]
    slabs, levels = 4, 2
    assert row["loss"] == pytest.approx(0.5 * slabs * levels * row["order"] + row["reconstruction"], rel=1e-5)


def test_what_cannot_be_pretrained_is_refused_before_training() -> None:
    for pretext, says in (
        (Pretext(Order(taps=(1, 3))), r"taps \[3\]: the backbone has levels 1 to 2"),
        (Pretext(Order(taps=(0,))), r"taps \[0\]"),
        (Pretext(None, Reconstruction(Mask(0.5, 5))), "does not divide"),
        (Pretext(Order(loss="total")), "order_loss is mean or sum, got 'total'"),  # type: ignore[arg-type]
    ):
        ctx = context()
        with pytest.raises(UsageError, match=says):
            pretrain(Small(), ctx, pretext)
        assert not ctx.fits
