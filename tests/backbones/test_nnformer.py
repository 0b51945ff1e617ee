"""The parts of nnFormer against the plainest code that says the same, and what its variants do differently."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from initbench.backbones.nnformer import (
    MASKED,
    VARIANTS,
    WIDTHS,
    Block,
    DropPath,
    NNFormer,
    Partition,
    WindowAttention,
    bias_index,
    nnformer,
    partitions,
)
from initbench.protocols import Grid, structure_of

PARTITIONS = [
    Partition((4, 6, 2), (2, 3, 2)),
    Partition((4, 6, 8), (4, 2, 4), (2, 1, 2)),
    Partition((5, 3, 4), (2, 2, 2), (1, 1, 1)),  # filled up along two axes
    Partition((3, 7, 6), (3, 5, 5), (1, 2, 2)),
    Partition((2, 2, 3), (3, 5, 5), (1, 2, 2)),  # smaller than its window
]
PATCHES: dict[str, Grid] = {"synapse": (32, 96, 64), "acdc": (14, 64, 96), "tumor": (64, 96, 64)}
each_partition = pytest.mark.parametrize("partition", PARTITIONS, ids=str)
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiny(variant: str, *, deep_supervision: bool = False) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nnformer(
            in_channels=1,
            num_classes=3,
            patch_size=PATCHES[variant],
            size="tiny",
            variant=variant,
            deep_supervision=deep_supervision,
        )


def blocks(model: nn.Module) -> dict[str, Block]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Block)}


# --- windows ----------------------------------------------------------------------------------------------------------


def cells(size: Grid) -> list[Grid]:
    """Every cell of a grid, row-major."""
    return [(d, h, w) for d in range(size[0]) for h in range(size[1]) for w in range(size[2])]


def sources(partition: Partition) -> list[list[Grid]]:
    """Per window, in order, the place on the filled grid that each of its tokens comes from."""
    places = []
    for corner in cells(partition.counts):
        window = []
        for cell in cells(partition.window):
            rolled = [c * edge + i for c, edge, i in zip(corner, partition.window, cell, strict=True)]
            d, h, w = ((r + s) % size for r, s, size in zip(rolled, partition.shift, partition.padded, strict=True))
            window.append((d, h, w))
        places.append(window)
    return places


@each_partition
def test_windows_hold_the_tokens_of_their_place(partition: Partition) -> None:
    tokens = noise(2, math.prod(partition.grid), 3)
    windows = partition.cut(tokens)
    grid = tokens.reshape(2, *partition.grid, 3).numpy()
    places = sources(partition)
    assert windows.shape == (2 * len(places), math.prod(partition.window), 3)
    for n, (i, window) in itertools.product(range(2), enumerate(places)):
        for token, place in zip(windows[n * len(places) + i].numpy(), window, strict=True):
            inside = all(p < size for p, size in zip(place, partition.grid, strict=True))
            assert np.array_equal(token, grid[(n, *place)] if inside else np.zeros(3))


@each_partition
def test_joining_undoes_cutting(partition: Partition) -> None:
    tokens = noise(2, math.prod(partition.grid), 3)
    assert torch.equal(partition.join(partition.cut(tokens)), tokens)


@each_partition
def test_the_mask_parts_what_the_roll_brought_together(partition: Partition) -> None:
    """Two tokens of a window are neighbours where they lie as far apart on the grid as in the window."""
    inside = cells(partition.window)
    mask = partition.mask()
    expected = torch.zeros_like(mask)
    for i, window in enumerate(sources(partition)):
        for (a, first), (b, second) in itertools.product(enumerate(window), repeat=2):
            apart = [p - q for p, q in zip(first, second, strict=True)]
            expected[i, a, b] = 0 if apart == [p - q for p, q in zip(inside[a], inside[b], strict=True)] else -100
    assert torch.equal(mask, expected)
    assert bool((mask == MASKED).any()) == partition.shifted


@pytest.mark.parametrize(
    ("grid", "window", "bounded", "used", "shift"),
    [
        ((32, 32, 32), (4, 4, 4), True, (4, 4, 4), (2, 2, 2)),
        ((16, 24, 16), (8, 8, 8), True, (8, 8, 8), (4, 4, 4)),
        # No larger than the window along one axis: a cube of that edge, not shifted, on all three.
        ((8, 8, 8), (8, 8, 8), True, (8, 8, 8), (0, 0, 0)),
        ((4, 16, 16), (4, 4, 4), True, (4, 4, 4), (0, 0, 0)),
        ((24, 6, 16), (8, 8, 8), True, (6, 6, 6), (0, 0, 0)),
        ((2, 3, 4), (4, 4, 4), True, (2, 2, 2), (0, 0, 0)),
        # The flat ones stay, whatever the grid, and are not shifted on a grid that is one window alone.
        ((14, 40, 40), (3, 5, 5), False, (3, 5, 5), (1, 2, 2)),
        ((7, 10, 10), (7, 10, 10), False, (7, 10, 10), (0, 0, 0)),
        ((3, 2, 2), (3, 5, 5), False, (3, 5, 5), (1, 2, 2)),
    ],
)
def test_windows_and_shifts_of_a_grid(grid: Grid, window: Grid, bounded: bool, used: Grid, shift: Grid) -> None:
    assert partitions(grid, window, bounded=bounded) == (Partition(grid, used), Partition(grid, used, shift))


# --- attention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "rows", "used"),
    [((4, 4, 4), 343, 115), ((8, 8, 8), 3375, 547), ((3, 5, 5), 405, 137), ((7, 10, 10), 4693, 709)],
)
def test_the_bias_index_collides_as_the_authors_does(window: Grid, rows: int, used: int) -> None:
    index = bias_index(window)
    assert index.shape == (math.prod(window),) * 2
    assert index.dtype == torch.int64
    assert index.unique().tolist() == list(range(used))
    assert WindowAttention(6, 3, window).relative_position_bias_table.shape == (rows, 3)


def naive_attention(attention: WindowAttention, x: np.ndarray, skip: np.ndarray | None, window: Grid, heads: int) -> np.ndarray:
    """Attention as sums over single numbers."""
    w = {key: p.detach().numpy() for key, p in attention.named_parameters()}
    count, tokens, channels = x.shape
    size = channels // heads
    places = cells(window)
    out = np.zeros_like(x)
    for b in range(count):
        if skip is None:
            q, k, v = np.split(x[b] @ w["qkv.weight"].T + w["qkv.bias"], 3, axis=1)
        else:
            q = x[b]
            k, v = np.split(skip[b] @ w["kv.weight"].T + w["kv.bias"], 2, axis=1)
        merged = np.zeros((tokens, channels))
        for head, i in itertools.product(range(heads), range(tokens)):
            mine = slice(head * size, (head + 1) * size)
            logits = []
            for j in range(tokens):
                d, h, e = (a - c + edge - 1 for a, c, edge in zip(places[i], places[j], window, strict=True))
                row = d * (3 * window[1] - 1) + h * (2 * window[1] - 1) + e
                logit = sum(q[i, mine] * k[j, mine]) / math.sqrt(size) + w["relative_position_bias_table"][row, head]
                if attention.mask is not None:
                    logit += float(attention.mask[b % len(attention.mask), i, j])
                logits.append(math.exp(logit))
            merged[i, mine] = sum(e / sum(logits) * v[j, mine] for j, e in enumerate(logits))
        out[b] = merged @ w["proj.weight"].T + w["proj.bias"]
    return out


@pytest.mark.parametrize("of_skip", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_its_loops(of_skip: bool, masked: bool) -> None:
    """Of a skip, the queries are the input as it is."""
    window: Grid = (2, 3, 2)
    partition = Partition((4, 3, 4), window, (1, 1, 1))
    mask = partition.mask() if masked else None
    torch.manual_seed(0)
    attention = WindowAttention(6, 3, window, mask=mask, of_skip=of_skip).double()
    with torch.no_grad():
        attention.relative_position_bias_table.copy_(noise(*attention.relative_position_bias_table.shape))
        x = noise(2 * math.prod(partition.counts), 12, 6, seed=2)
        skip = noise(*x.shape, seed=3) if of_skip else None
        ours = attention(x) if skip is None else attention(x, skip)
    expected = naive_attention(attention, x.numpy(), None if skip is None else skip.numpy(), window, 3)
    assert np.abs(ours.numpy() - expected).max() < 1e-12
    linear = {name for name, module in attention.named_modules() if isinstance(module, nn.Linear)}
    assert linear == {"kv" if of_skip else "qkv", "proj"}


def test_a_block_with_a_skip_attends_to_it_and_adds_it() -> None:
    partition = Partition((2, 3, 4), (2, 2, 2))
    torch.manual_seed(0)
    block = Block(6, 3, partition, 0.0, masked=True, of_skip=True).double()
    x, skip = noise(1, 24, 6), noise(1, 24, 6, seed=2)
    with torch.no_grad():
        attended = block.attn(partition.cut(block.norm1(x)), partition.cut(block.norm1(skip)))
        y = x + skip + partition.join(attended)
        hidden = block.norm2(y) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        assert torch.allclose(block(x, skip), y + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias, rtol=0, atol=1e-12)


# --- variants ---------------------------------------------------------------------------------------------------------


@each_variant
def test_which_blocks_shift_and_which_mask(variant: str) -> None:
    found = blocks(tiny(variant))
    assert len(found) == 14
    shifted = {name for name, block in found.items() if block.partition.shifted}
    masked = {name for name, block in found.items() if block.attn.mask is not None}
    second = {name for name in found if name.endswith("blocks.1")}
    if variant == "acdc":
        # Every grid here differs from its window.
        assert shifted == second
        assert {found[name].partition.shift for name in shifted} == {(1, 2, 2)}
        assert masked == set()
    else:
        # The third and the fourth stage are no larger than their windows.
        assert shifted == masked == {name for name in second if ".layers.0." in name or ".layers.1." in name}
    for name in masked:
        assert torch.equal(found[name].attn.mask, found[name].partition.mask())  # type: ignore[arg-type]


@pytest.mark.parametrize(("variant", "decoder"), [("synapse", (3, 6, 12)), ("acdc", (3, 6, 12)), ("tumor", (6, 12, 24))])
def test_heads_of_the_attention(variant: str, decoder: tuple[int, ...]) -> None:
    """Their number shows in no shape but the bias table's."""
    expected = {f"model_down.layers.{i}": 3 << i for i in range(4)} | {f"decoder.layers.{i}": n for i, n in enumerate(decoder)}
    for name, block in blocks(tiny(variant)).items():
        heads = expected[name.partition(".blocks")[0]]
        assert block.attn.heads == block.attn.relative_position_bias_table.shape[1] == heads


@pytest.mark.parametrize(
    ("variant", "channels", "classes", "patch", "parameters"),
    [
        ("synapse", 1, 14, (64, 128, 128), 149_538_086),
        ("acdc", 1, 4, (14, 160, 160), 37_160_200),
        ("tumor", 4, 4, (128, 128, 128), 37_606_726),
    ],
)
def test_paper_size_without_deep_supervision(variant: str, channels: int, classes: int, patch: Grid, parameters: int) -> None:
    with torch.device("meta"):
        model = nnformer(in_channels=channels, num_classes=classes, patch_size=patch, variant=variant)
    assert sum(p.numel() for p in model.parameters()) == parameters


def meets_itself(variant: str, axis: int, size: int) -> bool:
    """Whether the way down and up again gives the sizes of the skips, by the published strides of an axis.

    Where a window may shrink to the grid, one token is too few: its attention has nothing to learn.
    """
    stem = {"synapse": (2, 4, 4), "acdc": (1, 4, 4), "tumor": (4, 4, 4)}[variant][axis]
    if size % stem:
        return False
    flat = variant == "acdc" and axis == 0
    down = [size // stem]
    for stage in range(3):
        if flat and stage == 0:
            down.append(down[-1])
        elif flat and stage == 2:
            down.append((down[-1] - 3) // 2 + 1)  # no padding
        else:
            down.append((down[-1] + 2 - 3) // 2 + 1)
    up = [2 * down[1], 2 * down[2], 2 * down[3]]
    if flat:
        up = [down[1], 2 * down[2], 2 * down[3] + 1]
    return down[3] > (0 if variant == "acdc" else 1) and up == down[:3]


@each_variant
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_patches_are_those_that_the_way_up_meets_again(variant: str, axis: int) -> None:
    rule = VARIANTS[variant].patches
    for size in range(1, 200):
        patch = list(rule.at_least((1, 1, 1)))
        patch[axis] = size
        assert (rule.at_least(patch) == tuple(patch)) == meets_itself(variant, axis, size), size


@pytest.mark.parametrize(
    ("variant", "grids"),
    [
        ("synapse", [(32, 96, 64), (16, 48, 32), (8, 24, 16)]),
        ("acdc", [(14, 64, 96), (14, 32, 48), (7, 16, 24)]),
        ("tumor", [(64, 96, 64), (32, 48, 32), (16, 24, 16)]),
    ],
)
def test_grids_of_the_outputs(variant: str, grids: list[Grid]) -> None:
    outputs = tiny(variant, deep_supervision=True).to("meta")(torch.zeros(1, 1, *PATCHES[variant], device="meta"))
    assert [tuple(output.shape) for output in outputs] == [(1, 3, *grid) for grid in grids]


def test_grids_of_the_levels_of_acdc() -> None:
    levels = structure_of(tiny("acdc")).levels
    assert [level.grid for level in levels] == [(14, 16, 24), (14, 8, 12), (7, 4, 6), (3, 2, 3)]


# --- training and initialization --------------------------------------------------------------------------------------


@each_variant
def test_stochastic_depth_grows_with_the_order_of_execution(variant: str) -> None:
    rates = {name: block.drop_path.rate for name, block in blocks(tiny(variant)).items()}
    expected = {f"model_down.layers.{j // 2}.blocks.{j % 2}": 0.2 * j / 7 for j in range(8)}
    for layer, pair in {2: (0, 0.04), 1: (0.08, 0.12), 0: (0.16, 0.2)}.items():
        expected |= {f"decoder.layers.{layer}.blocks.{i}": rate for i, rate in enumerate(pair)}
    assert rates == pytest.approx(expected, abs=1e-12)


def test_stochastic_depth_leaves_out_whole_samples() -> None:
    drop = DropPath(0.25)
    x = torch.ones(4000, 3, 2)
    torch.manual_seed(0)
    first = drop(x)
    torch.manual_seed(0)
    assert torch.equal(drop(x), first)
    assert not torch.equal(drop(x), first)
    assert (first == first[:, :1, :1]).all()
    assert set(first.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert abs(float(first.mean()) - 1) < 5 * math.sqrt(0.25 / 0.75 / len(x))
    assert drop.eval()(x) is x


def test_both_branches_of_a_block_are_left_out() -> None:
    block = Block(6, 3, Partition((2, 2, 2), (2, 2, 2)), 1 - 1e-9, masked=True)
    x = noise(2, 8, 6).float()
    assert torch.equal(block(x), x)
    assert not torch.equal(block.eval()(x), x)


@each_variant
def test_initializes_its_bias_tables_only(variant: str) -> None:
    def spread(p: Tensor, sd: float) -> bool:
        return abs(float(p.detach().std()) / sd - 1) < 5 / math.sqrt(2 * p.numel())

    model = tiny(variant)
    tables = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv3d | nn.ConvTranspose3d):
            assert module.bias is not None
            bound = 1 / math.sqrt(module.weight[0].numel())
            for p in (module.weight, module.bias):
                assert float(p.detach().abs().max()) <= bound, name
            assert spread(module.weight, bound / math.sqrt(3)), name
            assert module.bias.any(), name
        elif isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
            assert not module.bias.any()
            assert module.eps == 1e-5
        elif isinstance(module, WindowAttention):
            tables += 1
            assert spread(module.relative_position_bias_table, 0.02), name
    assert tables == 14


# --- the mask is built once -------------------------------------------------------------------------------------------


def test_the_mask_follows_the_network_and_is_in_no_file() -> None:
    model = tiny("synapse")
    assert not any("mask" in key for key in model.state_dict())
    name = "model_down.layers.0.blocks.1.attn.mask"
    with torch.no_grad():
        double = copy.deepcopy(model).double().eval()
        assert double.get_buffer(name).dtype == torch.float64
        assert double(noise(1, 1, *PATCHES["synapse"])).dtype == torch.float64
    shadow = copy.deepcopy(model).to("meta")
    assert shadow.get_buffer(name).is_meta
    assert shadow(torch.zeros(2, 1, *PATCHES["synapse"], device="meta")).shape == (2, 3, *PATCHES["synapse"])
    assert not model.get_buffer(name).is_meta


def test_one_network_holds_one_mask_per_shifted_stage() -> None:
    with torch.device("meta"):
        model = NNFormer(1, 2, (64, 128, 128), variant="synapse", widths=WIDTHS["paper"]["synapse"])
    masks = {name: tuple(buffer.shape) for name, buffer in model.named_buffers() if name.endswith("mask")}
    assert masks == {
        f"{part}.layers.{stage}.blocks.1.attn.mask": (count, 64, 64)
        for part in ("model_down", "decoder")
        for stage, count in ((0, 512), (1, 64))
    }
