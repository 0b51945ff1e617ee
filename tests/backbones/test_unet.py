"""The U-Net against nnU-Net's class built by hand, its plan against plans worked out by hand, its law against He's."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_model
from torch import nn

from initbench.backbones.unet import LEAST, Strides, plan, unet
from initbench.harness.coverage import Coverage, state_digest
from initbench.harness.weights import save_weights
from initbench.protocols import Grid, PatchError, structure_of
from initbench.recipes.load import load_recipe
from tests.backbones.built import noise

ONE, TWO, IN_PLANE, DEPTH = (1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 1, 1)
CUBE, FLAT = (3, 3, 3), (1, 3, 3)

# Worked out on paper from the rule. 128^3 (liver, brain tumours) and 40x56x40 (hippocampus) are patches of nnU-Net's own plans
# with nearly isotropic voxels: there its planner says the same.
BY_HAND: dict[Grid, tuple[list[Grid], list[Grid]]] = {
    (128, 128, 128): ([ONE, *[TWO] * 5], [CUBE] * 6),
    (40, 56, 40): ([ONE, *[TWO] * 3], [CUBE] * 4),
    (112, 160, 128): ([ONE, *[TWO] * 4, IN_PLANE], [CUBE] * 6),
    # 256 would go to 4 with a sixth halving.
    (256, 256, 256): ([ONE, *[TWO] * 5], [CUBE] * 6),
    # Depth waits at 16 against 160, 80 and 40, is in step with 20, goes to 8 and then to 4.
    (16, 160, 160): ([ONE, *[IN_PLANE] * 3, TWO, TWO], [FLAT] * 3 + [CUBE] * 3),
    # At exactly half it waits once; 32 and 32 are in step.
    (32, 64, 64): ([ONE, IN_PLANE, TWO, TWO, TWO], [FLAT] + [CUBE] * 4),
    # Depth never gets its turn: at 8 all three are alike, and the others were halved five times.
    (8, 256, 256): ([ONE, *[IN_PLANE] * 5], [FLAT] * 5 + [CUBE]),
    # 36 is stuck at 9 and 12 ends at 6; 64 stops at 8, as an axis that goes alone keeps 6.
    (36, 64, 12): ([ONE, (2, 2, 1), (2, 2, 1), (1, 2, 2)], [(3, 3, 1), (3, 3, 1), CUBE, CUBE]),
    # A single long axis.
    (64, 8, 8): ([ONE, *[DEPTH] * 3, TWO], [(3, 1, 1)] * 3 + [CUBE] * 2),
    (8, 8, 8): ([ONE, TWO], [CUBE] * 2),
}


def hand_built(
    patch: Grid, features: Sequence[int], strides: Sequence[Grid], kernels: Sequence[Grid], **options: Any
) -> PlainConvUNet:
    """What nnU-Net makes of the `architecture` of a plan."""
    model = PlainConvUNet(
        n_stages=len(features),
        features_per_stage=features,
        conv_op=nn.Conv3d,
        kernel_sizes=kernels,
        strides=strides,
        n_conv_per_stage=[2] * len(features),
        n_conv_per_stage_decoder=[2] * (len(features) - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        dropout_op=None,
        dropout_op_kwargs=None,
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        **options,
    )
    model.apply(model.initialize)
    return model


def small(patch: Grid = (16, 32, 24), *, deep_supervision: bool = False, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return unet(in_channels=2, num_classes=3, patch_size=patch, size="tiny", deep_supervision=deep_supervision)


# --- plan -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patch", "expected"), BY_HAND.items(), ids=["x".join(map(str, patch)) for patch in BY_HAND])
def test_plan_by_hand(patch: Grid, expected: tuple[list[Grid], list[Grid]]) -> None:
    assert plan(patch) == Strides(tuple(expected[0]), tuple(expected[1]))


sizes = st.integers(2, 80).map(lambda k: 4 * k)
patches = st.tuples(sizes, sizes, sizes)


@given(patches)
def test_every_plan_halves_evenly_and_leaves_enough(patch: Grid) -> None:
    own = plan(patch)
    grids = own.grids(patch)
    assert 2 <= len(grids) == len(own.kernels) <= 16
    assert own.strides[0] == ONE
    assert own.kernels[-1] == CUBE
    for axis in range(3):
        assert patch[axis] == grids[-1][axis] << sum(stride[axis] == 2 for stride in own.strides)
        assert grids[-1][axis] >= LEAST
        assert sum(stride[axis] == 2 for stride in own.strides) <= 5
        kernels = [kernel[axis] for kernel in own.kernels]
        assert kernels == sorted(kernels)  # 1 while it waits, then 3
    for stride, before in zip(own.strides[1:], own.kernels, strict=False):
        assert all(kernel == 3 for step, kernel in zip(stride, before, strict=True) if step == 2)  # none is skipped over
        assert stride != ONE


@given(patches, st.permutations(range(3)))
def test_the_plan_knows_no_axis_by_name(patch: Grid, order: list[int]) -> None:
    def turned(grid: Grid) -> Grid:
        return grid[order[0]], grid[order[1]], grid[order[2]]

    own, other = plan(patch), plan(turned(patch))
    assert other == Strides(tuple(turned(stride) for stride in own.strides), tuple(turned(kernel) for kernel in own.kernels))


@settings(max_examples=25)
@given(patches, st.booleans(), st.sampled_from(["tiny", "paper"]))
def test_every_patch_of_the_rule_works(patch: Grid, deep_supervision: bool, size: Any) -> None:
    with torch.device("meta"):
        model = unet(in_channels=1, num_classes=2, patch_size=patch, size=size, deep_supervision=deep_supervision)
        x = torch.empty(1, 1, *patch)
    structure = structure_of(model)
    outputs = model(x)
    if not deep_supervision:
        assert outputs.shape == (1, 2, *patch)
        return
    grids = plan(patch).grids(patch)
    assert [output.shape for output in outputs] == [(1, 2, *grid) for grid in grids[:-1]]
    assert [level.grid for level in structure.levels] == list(grids)


@pytest.mark.parametrize("patch", [(6, 8, 8), (4, 8, 8), (8, 8, 4), (8, 8, 9)])
def test_other_patches_are_refused(patch: Grid) -> None:
    with pytest.raises(PatchError, match=r"nearest valid: \(8, 8, 8\)"):
        unet(in_channels=1, num_classes=2, patch_size=patch, size="tiny")


# --- the network ------------------------------------------------------------------------------------------------------

PAPER = {
    (128, 128, 128): [32, 64, 128, 256, 320, 320],
    (40, 56, 40): [32, 64, 128, 256],
    (16, 160, 160): [32, 64, 128, 256, 320, 320],
}


@pytest.mark.parametrize(("patch", "features"), PAPER.items())
def test_paper_is_nnunets_network(patch: Grid, features: list[int]) -> None:
    strides, kernels = BY_HAND[patch]
    with torch.device("meta"):
        theirs = hand_built(patch, features, strides, kernels, input_channels=1, num_classes=3)
        ours = unet(in_channels=1, num_classes=3, patch_size=patch)
    assert [(key, p.shape) for key, p in ours.state_dict().items()] == [(key, p.shape) for key, p in theirs.state_dict().items()]
    assert str(ours) == str(theirs)  # strides, paddings, epsilons and slopes


def test_parameters_of_the_usual_3d_network() -> None:
    """Six stages, one channel, two classes, counted by layer: convolution weights and biases, norm weights and biases."""
    features = PAPER[128, 128, 128]

    def block(inputs: int, outputs: int) -> int:
        return sum(27 * i * outputs + 3 * outputs for i in (inputs, outputs))

    encoder = sum(block(i, o) for i, o in zip([1, *features], features, strict=False))
    pairs = list(itertools.pairwise(features))  # (skip, below)
    decoder = sum(8 * below * skip + skip + block(2 * skip, skip) + 2 * skip + 2 for skip, below in pairs)
    with torch.device("meta"):
        model = unet(in_channels=1, num_classes=2, patch_size=(128, 128, 128))
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_the_same_seed_gives_nnunets_numbers_and_outputs(deep_supervision: bool) -> None:
    patch = (32, 64, 64)
    strides, kernels = BY_HAND[patch]
    features = [16, 32, 64, 128, 128]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = hand_built(
            patch, features, strides, kernels, input_channels=1, num_classes=3, deep_supervision=deep_supervision
        ).eval()
        torch.manual_seed(5)
        ours = unet(in_channels=1, num_classes=3, patch_size=patch, size="tiny", deep_supervision=deep_supervision).eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert state_digest(ours) == state_digest(theirs)
    x = noise(1, 1, *patch)
    with torch.no_grad():
        mine, reference = ours(x), theirs(x)
    assert isinstance(mine, list) is deep_supervision
    for a, b in zip(mine, reference, strict=True):
        assert torch.equal(a, b)


def test_every_layer_has_hes_law() -> None:
    """kaiming_normal with slope 0.01 over fan_in, which torch takes from axis 1 of a transposed convolution too; biases zero."""
    layers = 0
    for name, module in small((32, 64, 64)).named_modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            layers += 1
            fan_in = module.weight.shape[1] * math.prod(module.kernel_size)
            sd = math.sqrt(2 / (1 + 0.01**2) / fan_in)
            assert abs(float(module.weight.detach().std()) / sd - 1) < 5 / math.sqrt(2 * module.weight.numel()), name
            assert module.bias is not None
            assert not module.bias.any(), name
        elif isinstance(module, nn.InstanceNorm3d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert not module.bias.any()
    assert layers == 5 * 2 + 4 * (1 + 2 + 1)


def test_idle_heads_are_declared_and_get_no_gradient() -> None:
    model = small((32, 64, 64))
    structure = structure_of(model)
    assert structure.heads == tuple(f"decoder.seg_layers.{i}" for i in range(4))
    assert set(structure.unused) == {f"decoder.seg_layers.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")}
    model(noise(2, 2, 32, 64, 64)).square().mean().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == set(structure.unused)
    assert structure_of(small((32, 64, 64), deep_supervision=True)).unused == ()


@pytest.mark.usefixtures("deterministic")
def test_the_smallest_patch_trains() -> None:
    model = small((8, 8, 8), deep_supervision=True)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.train()(noise(1, 2, 8, 8, 8))
    assert [output.shape for output in outputs] == [(1, 3, 8, 8, 8)]
    outputs[0].float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_a_copy_runs_on_the_meta_device() -> None:
    shadow = copy.deepcopy(small()).to("meta")
    assert shadow(torch.empty(1, 2, 16, 32, 24, device="meta")).shape == (1, 3, 16, 32, 24)


def test_weights_under_several_names_are_saved_once_and_read_back(tmp_path: Path) -> None:
    source, target = small(), small(seed=1)
    assert len(source.state_dict()) > 2 * len(list(source.parameters()))
    save_weights(source, tmp_path / "w.safetensors", {})
    stored = 4 * sum(p.numel() for p in source.parameters())
    assert stored < (tmp_path / "w.safetensors").stat().st_size < stored + 20_000
    assert state_digest(source) != state_digest(target)
    load_model(target, tmp_path / "w.safetensors")
    assert state_digest(source) == state_digest(target)


def test_coverage_counts_every_weight_once() -> None:
    model = small()
    before = Coverage(model)
    with torch.no_grad():
        for p in model.get_submodule("encoder").parameters():
            p.add_(1)
    table = before.compare(model, "shift")
    total, changed = (sum(p.numel() for p in part.parameters()) for part in (model, model.get_submodule("encoder")))
    assert table["changed_share"] == changed / total
    assert table["groups"] == {"encoder": 1.0, "decoder": 0.0}


def test_the_paper_recipe_is_nnunets() -> None:
    found = load_recipe("base", size="paper", backbone="unet", budget="paper", assignments=["preprocess.spacing=native"])
    optimizer = found.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ("sgd", 1e-2, 0.99, 3e-5)
    assert (optimizer.schedule, optimizer.poly_power, optimizer.warmup, optimizer.clip) == ("poly", 0.9, 0.0, 12.0)
    assert (found.patch.batch, found.patch.foreground, found.steps.paper) == (2, 0.33, 250_000)
    assert found.loss.deep_supervision
    assert not found.loss.background
