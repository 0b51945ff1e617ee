"""What every backbone promises: outputs, gradients, levels, heads, state dicts, patches, published sizes."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from initbench.backbones.unetrpp import VARIANTS
from initbench.protocols import BackboneInfo, Grid, PatchError, structure_of
from tests.backbones.built import BACKBONES, CHANNELS, CLASSES, build, noise

# No two axes alike where the divisor allows it, so that a swapped axis shows.
CASES: list[tuple[str, str, Grid]] = [
    ("unetrpp", "synapse", (32, 96, 64)),
    ("unetrpp", "lung", (8, 96, 64)),
    ("unetrpp", "acdc", (16, 64, 32)),
    ("unetrpp", "tumor", (64, 32, 32)),
    ("unetr", "perceptron", (32, 48, 16)),
    ("unetr", "conv", (16, 32, 48)),
    ("swin_unetr", "default", (64, 32, 32)),
    ("swin_unetr", "legacy-merge", (32, 64, 32)),
    ("unetr", "perceptron-xyz", (16, 48, 32)),
    ("swin_unetr", "legacy-merge-xyz", (32, 32, 64)),
    ("swin_unetr", "v2-xyz", (32, 32, 64)),
    ("unet", "default", (16, 40, 48)),
    ("nnformer", "synapse", (32, 96, 64)),
    ("nnformer", "acdc", (10, 64, 32)),
    ("nnformer", "tumor", (64, 96, 64)),
    ("unet_2d", "default", (1, 40, 48)),
]
each_case = pytest.mark.parametrize(("name", "variant", "patch"), CASES, ids=[f"{n}-{v}" for n, v, _ in CASES])


def info(name: str) -> BackboneInfo:
    found = BACKBONES[name].info  # type: ignore[attr-defined]
    assert isinstance(found, BackboneInfo)
    return found


def wake(model: nn.Module) -> nn.Module:
    """Takes gamma from its 1e-6 and the position embeddings from zero, so that the attention shows in the output."""
    with torch.no_grad():
        for parameter_name, p in model.named_parameters():
            if parameter_name.endswith(("gamma", "pos_embed", "temperature", "temperature2")):
                p.copy_(1 + 0.3 * noise(*p.shape, seed=len(parameter_name)))
    return model


# --- every backbone ---------------------------------------------------------------------------------------------------


@each_case
def test_one_output_at_full_resolution(name: str, variant: str, patch: Grid) -> None:
    model = build(name, variant, patch).eval()
    with torch.no_grad():
        assert model(noise(2, CHANNELS, *patch)).shape == (2, CLASSES, *patch)


@each_case
def test_deep_supervision_gives_a_list_finest_first(name: str, variant: str, patch: Grid) -> None:
    plain, deep = (build(name, variant, patch, deep_supervision=ds) for ds in (False, True))
    deep.load_state_dict(plain.state_dict(), strict=False)
    x = noise(1, CHANNELS, *patch)
    with torch.no_grad():
        expected = plain.eval()(x)
        outputs = deep.eval()(x)
    assert isinstance(outputs, list)
    assert torch.equal(outputs[0], expected)
    assert len(outputs) == len(structure_of(deep).heads)
    if name == "unetrpp":
        stem = VARIANTS[variant].stem
        for output, factor in zip(outputs[1:], (1, 2), strict=True):
            grid = tuple(p // (s * factor) for p, s in zip(patch, stem, strict=True))
            assert output.shape == (1, CLASSES, *grid)
    if name in ("unetrpp", "nnformer"):
        deep.do_ds = False  # type: ignore[assignment]
        with torch.no_grad():
            assert torch.equal(deep(x), expected)


def backward(model: nn.Module, patch: Grid, *, bfloat16: bool = False) -> dict[str, Tensor | None]:
    """Gradients of one training step; the dropout is seeded."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            outputs = model.train()(noise(2, CHANNELS, *patch))
    assert isinstance(outputs, list)
    assert all(output.isfinite().all() for output in outputs)
    sum((output.float().square().mean() for output in outputs), torch.zeros(())).backward()
    return {key: p.grad for key, p in model.named_parameters()}


@pytest.mark.usefixtures("deterministic")
@each_case
def test_a_gradient_reaches_every_used_parameter(name: str, variant: str, patch: Grid) -> None:
    model = wake(build(name, variant, patch, deep_supervision=True))
    gradients = backward(model, patch)
    assert {key for key, g in gradients.items() if g is None} == set(structure_of(model).unused)
    used = {key: g for key, g in gradients.items() if g is not None}
    assert [key for key, g in used.items() if not g.isfinite().all() or not g.any()] == []


@pytest.mark.usefixtures("deterministic")
@each_case
def test_trains_in_bfloat16(name: str, variant: str, patch: Grid) -> None:
    # No level of depth 2: there oneDNN leaves parts of the weight gradient of a 3x3x3 bfloat16 convolution unwritten.
    rule = info(name).patches[variant]
    first = 2 if variant.endswith("-xyz") else 0  # the network's first axis
    patch = rule.at_least([3 * rule.multiple[axis] if axis == first else patch[axis] for axis in range(3)])
    gradients = [
        backward(wake(build(name, variant, patch, deep_supervision=True)), patch, bfloat16=bf16) for bf16 in (False, True)
    ]
    for key, exact in gradients[0].items():
        rounded = gradients[1][key]
        assert (exact is None) == (rounded is None)
        if exact is not None and rounded is not None:
            assert rounded.dtype == torch.float32
            assert rounded.isfinite().all(), key
            assert float(rounded.norm()) < 2 * float(exact.norm()) + 1e-3, key


@each_case
def test_levels_are_what_their_modules_give_and_the_decoder_reads(name: str, variant: str, patch: Grid) -> None:
    model = build(name, variant, patch).eval()
    structure = structure_of(model)
    assert structure.patch_size == patch
    x = noise(1, CHANNELS, *patch)
    with torch.no_grad():
        before = model(x)
        for level in structure.levels:
            seen: list[Tensor] = []

            def shift(module: nn.Module, inputs: object, output: Tensor, seen: list[Tensor] = seen) -> Tensor:
                seen.append(output)
                return output + noise(*output.shape)

            handle = model.get_submodule(level.module).register_forward_hook(shift)
            after = model(x)
            handle.remove()
            [output] = seen
            tokens = math.prod(level.grid)
            grid = level.grid if level.axes == "DHW" else level.grid[::-1]
            shapes = {
                "NCDHW": (1, level.channels, *grid),
                "NLC": (1, tokens, level.channels),
                "NCHW": (1, level.channels, *grid[1:]),
            }
            assert output.shape == shapes[level.layout]
            assert (after - before).abs().max() > 1e-3 * before.abs().max(), level.module


@each_case
def test_heads_are_the_heads(name: str, variant: str, patch: Grid) -> None:
    model = build(name, variant, patch, deep_supervision=True).eval()
    heads = structure_of(model).heads
    last = {
        key
        for key, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)) and module.out_channels == CLASSES
    }
    assert {head for key in last for head in heads if key == head or key.startswith(f"{head}.")} == set(heads)
    assert len(last) == len(heads)
    with torch.no_grad():
        for head in heads:
            for p in model.get_submodule(head).parameters():
                p.zero_()
        assert not any(output.any() for output in model(noise(1, CHANNELS, *patch)))


@each_case
def test_state_dict_round_trip(name: str, variant: str, patch: Grid) -> None:
    source, target = wake(build(name, variant, patch)).eval(), build(name, variant, patch, seed=1).eval()
    x = noise(1, CHANNELS, *patch)
    with torch.no_grad():
        assert not torch.equal(source(x), target(x))
        target.load_state_dict(copy.deepcopy(source.state_dict()))
        assert torch.equal(source(x), target(x))


@each_case
def test_same_seed_same_bits(name: str, variant: str, patch: Grid) -> None:
    first, second, other = (build(name, variant, patch, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_first_variant_is_the_default(name: str) -> None:
    assert set(info(name).patches) == set(info(name).variants)
    patch = info(name).patches[info(name).variants[0]].at_least((64, 64, 64))
    default = BACKBONES[name](in_channels=1, num_classes=2, patch_size=patch, size="tiny").state_dict()
    first = build(name, info(name).variants[0], patch).state_dict()
    assert list(default) == list(first)


@each_case
def test_a_wrong_patch_names_the_nearest(name: str, variant: str, patch: Grid) -> None:
    rule = info(name).patches[variant]
    d, h, w = rule.at_least((1, 1, 1))
    d += 0 if rule.depth else rule.multiple[0]
    with pytest.raises(PatchError, match="nearest valid") as caught:
        build(name, variant, (d, h, w + 1))
    assert f"{(d, h, w)} or {(d, h, w + rule.multiple[2])}" in str(caught.value)
    assert f"({variant})" in str(caught.value)


@pytest.mark.parametrize("name", BACKBONES)
def test_unknown_names_are_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(ValueError, match=", ".join(info(name).variants)):
        build(name, "nonesuch", (64, 64, 64))
    with pytest.raises(ValueError, match="paper, tiny"):
        BACKBONES[name](in_channels=1, num_classes=2, patch_size=(64, 64, 64), size="huge")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "variant", "channels", "classes", "patch", "parameters"),
    [
        ("unetrpp", "synapse", 1, 14, (64, 128, 128), 42_952_850),
        ("unetrpp", "lung", 1, 2, (32, 192, 192), 121_174_798),
        ("unetrpp", "acdc", 1, 4, (16, 160, 160), 66_796_404),
        ("unetrpp", "tumor", 4, 4, (128, 128, 128), 42_647_604),
        ("unetr", "perceptron", 1, 14, (96, 96, 96), 92_802_478),
        ("unetr", "conv", 1, 14, (96, 96, 96), 92_802_478),
        ("swin_unetr", "default", 1, 14, (96, 96, 96), 62_187_296),
        ("swin_unetr", "legacy-merge", 1, 14, (96, 96, 96), 62_187_296),
        ("nnformer", "synapse", 1, 14, (64, 128, 128), 150_054_210),
        ("nnformer", "acdc", 1, 4, (14, 160, 160), 37_197_072),
        ("nnformer", "tumor", 4, 4, (128, 128, 128), 37_754_190),
    ],
)
def test_paper_is_the_published_network_to_the_parameter(
    name: str, variant: str, channels: int, classes: int, patch: Grid, parameters: int
) -> None:
    # MONAI reads numbers from tensors while it builds Swin UNETR, so that one cannot be built without its memory.
    with torch.device("cpu" if name == "swin_unetr" else "meta"):
        model = BACKBONES[name](
            in_channels=channels, num_classes=classes, patch_size=patch, variant=variant, deep_supervision=True
        )
    assert sum(p.numel() for p in model.parameters()) == parameters
