"""What every backbone promises, and the parts of UNETR++ against the plainest code that says the same."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from initbench.backbones.nnformer import nnformer
from initbench.backbones.swin_unetr import LEGACY_ORDER, LegacyMerging, swin_unetr
from initbench.backbones.unet import unet
from initbench.backbones.unetr import unetr
from initbench.backbones.unetrpp import EPA, UNETRPP, VARIANTS, WIDTHS, ResBlock, TransformerBlock, unetrpp
from initbench.protocols import Backbone, BackboneInfo, Grid, PatchError, structure_of

BACKBONES: dict[str, Backbone] = {
    "unetrpp": unetrpp,
    "unetr": unetr,
    "swin_unetr": swin_unetr,
    "unet": unet,
    "nnformer": nnformer,
}
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
    ("unet", "default", (16, 40, 48)),
    ("nnformer", "synapse", (32, 96, 64)),
    ("nnformer", "acdc", (10, 64, 32)),
    ("nnformer", "tumor", (64, 96, 64)),
]
CHANNELS, CLASSES = 2, 5
each_case = pytest.mark.parametrize(("name", "variant", "patch"), CASES, ids=[f"{n}-{v}" for n, v, _ in CASES])


def build(name: str, variant: str, patch: Grid, *, deep_supervision: bool = False, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BACKBONES[name](
            in_channels=CHANNELS,
            num_classes=CLASSES,
            patch_size=patch,
            size="tiny",
            variant=variant,
            deep_supervision=deep_supervision,
        )


def info(name: str) -> BackboneInfo:
    found = BACKBONES[name].info  # type: ignore[attr-defined]
    assert isinstance(found, BackboneInfo)
    return found


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spread(tensor: Tensor, sd: float) -> bool:
    """Whether the standard deviation of a tensor is `sd`, to five of its own standard errors."""
    return abs(float(tensor.detach().std()) / sd - 1) < 5 / math.sqrt(2 * tensor.numel())


def wake(model: nn.Module) -> nn.Module:
    """Takes gamma from its 1e-6 and the position embeddings from zero, so that the attention shows in the output."""
    with torch.no_grad():
        for parameter_name, p in model.named_parameters():
            if parameter_name.endswith(("gamma", "pos_embed", "temperature", "temperature2")):
                p.copy_(1 + 0.3 * noise(*p.shape, seed=len(parameter_name)))
    return model


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


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
            shapes = {"NCDHW": (1, level.channels, *grid), "NLC": (1, tokens, level.channels)}
            assert output.shape == shapes[level.layout]
            assert (after - before).abs().max() > 1e-3 * before.abs().max(), level.module


@each_case
def test_heads_are_the_heads(name: str, variant: str, patch: Grid) -> None:
    model = build(name, variant, patch, deep_supervision=True).eval()
    heads = structure_of(model).heads
    last = {
        key
        for key, module in model.named_modules()
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)) and module.out_channels == CLASSES
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
    patch: Grid = (64, 64, 64)
    default = BACKBONES[name](in_channels=1, num_classes=2, patch_size=patch, size="tiny").state_dict()
    first = build(name, info(name).variants[0], patch).state_dict()
    assert list(default) == list(first)


@each_case
def test_a_wrong_patch_names_the_nearest(name: str, variant: str, patch: Grid) -> None:
    rule = info(name).patches[variant]
    d, h, w = rule.at_least((1, 1, 1))
    d += rule.multiple[0]
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


# --- initialization of their own --------------------------------------------------------------------------------------


def test_unetrpp_initializes_only_the_linear_layers_of_its_encoder() -> None:
    model = build("unetrpp", "lung", (32, 64, 64))
    for key, module in model.named_modules():
        if isinstance(module, nn.Linear):
            bias = module.bias
            if key.startswith("unetr_pp_encoder"):
                assert spread(module.weight, 0.02), key
                assert bias is None or not bias.any(), key
            else:
                assert spread(module.weight, 1 / math.sqrt(3 * module.in_features)), key
                assert bias is None or bias.any(), key
        elif isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert float(module.weight.detach().abs().max()) <= bound, key
            assert spread(module.weight, bound / math.sqrt(3)), key
        elif isinstance(module, TransformerBlock):
            assert torch.equal(module.gamma, torch.full_like(module.gamma, 1e-6))
            assert not module.pos_embed.any()
            assert torch.equal(module.epa_block.temperature, torch.ones(4, 1, 1))
            assert torch.equal(module.epa_block.temperature2, torch.ones(4, 1, 1))


def test_the_bare_projection_of_tumor_is_uniform_by_its_length() -> None:
    model = build("unetrpp", "tumor", (64, 64, 64))
    matrices = [module.EF.detach() for module in model.modules() if isinstance(module, EPA)]
    assert matrices
    for matrix in matrices:
        bound = 1 / math.sqrt(matrix.shape[1])
        assert float(matrix.abs().max()) <= bound
        assert spread(matrix, bound / math.sqrt(3))


def test_unetr_initializes_its_embeddings() -> None:
    model = build("unetr", "perceptron", (64, 64, 64))
    weights = {key: p.detach() for key, p in model.named_parameters()}
    patches = "vit.patch_embedding.patch_embeddings.1."
    assert spread(weights["vit.patch_embedding.position_embeddings"], 0.02)
    assert spread(weights[patches + "weight"], 0.02)
    assert not weights[patches + "bias"].any()
    assert spread(weights["vit.blocks.0.attn.qkv.weight"], 1 / math.sqrt(3 * 96))
    conv = build("unetr", "conv", (64, 64, 64)).state_dict()["vit.patch_embedding.patch_embeddings.weight"]
    assert spread(conv, 1 / math.sqrt(3 * CHANNELS * 16**3))


def test_swin_unetr_initializes_its_position_tables_only() -> None:
    for key, p in build("swin_unetr", "default", (64, 64, 64)).state_dict().items():
        if key.endswith("relative_position_bias_table"):
            assert spread(p, 0.02), key
        elif key.endswith(("qkv.weight", "linear1.weight", "linear2.weight")):
            assert spread(p, 1 / math.sqrt(3 * p.shape[1])), key


# --- UNETR++ ----------------------------------------------------------------------------------------------------------


def naive_epa(epa: EPA, x: np.ndarray) -> np.ndarray:
    """EPA as sums over single numbers, and its head merge as an address computation."""
    B, N, C = x.shape
    h, d = 4, C // 4
    w = {key: p.detach().numpy() for key, p in epa.state_dict().items()}
    P = w["EF"].shape[1] if "EF" in w else w["E.weight"].shape[0]
    out = np.zeros((B, N, C))
    for b in range(B):
        x_channel, x_spatial = np.zeros((N, C)), np.zeros(N * C)
        for head in range(h):
            rows = [slice(part * C + head * d, part * C + (head + 1) * d) for part in range(4)]
            q, k, v_channel, v_spatial = (w["qkvv.weight"][row] @ x[b].T for row in rows)  # (d, N) each
            kp, vp = np.zeros((d, P)), np.zeros((d, P))
            for j in range(d):
                for p in range(P):
                    if "EF" in w:
                        kp[j, p] = sum(k[j, n] * w["EF"][n, p] for n in range(N))
                        vp[j, p] = sum(v_spatial[j, n] * w["EF"][n, p] for n in range(N))
                    else:
                        kp[j, p] = sum(k[j, n] * w["E.weight"][p, n] for n in range(N)) + w["E.bias"][p]
                        vp[j, p] = sum(v_spatial[j, n] * w["F.weight"][p, n] for n in range(N)) + w["F.bias"][p]
            for j in range(d):
                q[j] = q[j] / math.sqrt(sum(value**2 for value in q[j]))
                k[j] = k[j] / math.sqrt(sum(value**2 for value in k[j]))
            for i in range(d):
                e = [math.exp(w["temperature"][head, 0, 0] * sum(q[i] * k[j])) for j in range(d)]
                for n in range(N):
                    x_channel[n, head * d + i] = sum(e[j] / sum(e) * v_channel[j, n] for j in range(d))
            for n in range(N):
                e = [math.exp(w["temperature2"][head, 0, 0] * sum(q[:, n] * kp[:, p])) for p in range(P)]
                for j in range(d):
                    # Not row n, column head * d + j: the authors lay it out by channel, head, token.
                    x_spatial[(j * h + head) * N + n] = sum(e[p] / sum(e) * vp[j, p] for p in range(P))
        rows_of_c = x_spatial.reshape(N, C)
        if "out_proj.weight" in w:
            spatial = rows_of_c @ w["out_proj.weight"].T + w["out_proj.bias"]
            channel = x_channel @ w["out_proj2.weight"].T + w["out_proj2.bias"]
            out[b] = np.concatenate([spatial, channel], axis=1)
        else:
            out[b] = x_channel + rows_of_c
    return out


@pytest.mark.parametrize("variant", ["synapse", "lung", "tumor"])
def test_epa_equals_its_loops(variant: str) -> None:
    torch.manual_seed(0)
    epa = EPA(6, 8, 3, VARIANTS[variant]).double().eval()
    with torch.no_grad():
        for temperature in (epa.temperature, epa.temperature2):
            temperature.copy_(torch.tensor([2.0, 5.0, 1.0, 9.0]).reshape(4, 1, 1))
        x = noise(2, 6, 8).double()
        assert np.abs(epa(x).numpy() - naive_epa(epa, x.numpy())).max() < 1e-12


def test_the_spatial_branch_scrambles_tokens_and_channels() -> None:
    """With uniform attention every token of a head gets one value, so the merge shows by where it lands."""
    tokens, dim = 5, 8
    epa = EPA(tokens, dim, 3, VARIANTS["tumor"]).eval()
    with torch.no_grad():
        epa.temperature2.zero_()
        epa.EF.fill_(1 / tokens)
        epa.qkvv.weight.zero_()
        # The spatial values are the input; the channel values stay zero.
        epa.qkvv.weight[3 * dim :] = torch.eye(dim)
        row = torch.arange(dim, dtype=torch.float32)
        merged = epa(row.expand(1, tokens, dim))
    # Head h holds channels 2h and 2h + 1. By channel within the head, then head, then token, in rows of 8.
    flat = [float(2 * head + channel) for channel in range(2) for head in range(4) for _ in range(tokens)]
    assert merged.flatten().tolist() == pytest.approx(flat)
    assert not torch.allclose(merged[0], row.expand(tokens, dim))


def naive_conv(x: Tensor, weight: Tensor) -> Tensor:
    """A 3x3x3 convolution with padding 1, one offset at a time."""
    D, H, W = x.shape[2:]
    padded = torch.zeros(*x.shape[:2], D + 2, H + 2, W + 2, dtype=x.dtype)
    padded[:, :, 1:-1, 1:-1, 1:-1] = x
    total = torch.zeros(x.shape[0], weight.shape[0], D, H, W, dtype=x.dtype)
    for d, h, w in np.ndindex(3, 3, 3):
        window = padded[:, :, d : d + D, h : h + H, w : w + W]
        total += torch.einsum("ncdhw,oc->nodhw", window, weight[:, :, d, h, w])
    return total


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def test_residual_block_with_instance_norm_and_another_width() -> None:
    block = ResBlock(2, 3, "instance").double()
    assert list(block.state_dict()) == ["conv1.conv.weight", "conv2.conv.weight", "conv3.conv.weight"]
    w1, w2, w3 = block.state_dict().values()

    def norm(y: Tensor) -> Tensor:
        mean = y.mean((2, 3, 4), keepdim=True)
        return (y - mean) / torch.sqrt((y - mean).square().mean((2, 3, 4), keepdim=True) + 1e-5)

    x = noise(2, 2, 3, 4, 5).double()
    y = norm(naive_conv(leaky(norm(naive_conv(x, w1))), w2))
    residual = norm(torch.einsum("ncdhw,oc->nodhw", x, w3[:, :, 0, 0, 0]))
    assert torch.allclose(block(x), leaky(y + residual), rtol=0, atol=1e-12)


def test_residual_block_with_batch_norm_and_one_width() -> None:
    block = ResBlock(3, 3, "batch").double()
    assert not hasattr(block, "conv3")
    with torch.no_grad():
        for i, (key, tensor) in enumerate(block.state_dict().items()):
            if "norm" in key and tensor.is_floating_point():
                tensor.copy_(noise(3, seed=i).double().abs() + 0.5)
    w = block.state_dict()
    x = noise(2, 3, 3, 4, 5).double()

    def expected(training: bool) -> Tensor:
        def norm(y: Tensor, name: str) -> Tensor:
            mean, var = (w[f"{name}.running_{part}"].reshape(1, 3, 1, 1, 1) for part in ("mean", "var"))
            if training:
                mean = y.mean((0, 2, 3, 4), keepdim=True)
                var = (y - mean).square().mean((0, 2, 3, 4), keepdim=True)
            scale, shift = (w[f"{name}.{part}"].reshape(1, 3, 1, 1, 1) for part in ("weight", "bias"))
            return (y - mean) / torch.sqrt(var + 1e-5) * scale + shift

        y = norm(naive_conv(leaky(norm(naive_conv(x, w["conv1.conv.weight"]), "norm1")), w["conv2.conv.weight"]), "norm2")
        return leaky(y + x)

    assert torch.allclose(block.eval()(x), expected(training=False), rtol=0, atol=1e-12)
    assert torch.allclose(block.train()(x), expected(training=True), rtol=0, atol=1e-12)


def test_the_position_embedding_stays_in_the_residual_path() -> None:
    block = TransformerBlock(24, 8, 3, VARIANTS["synapse"]).eval()
    with torch.no_grad():
        block.gamma.zero_()
        for p in block.conv8.parameters():
            p.zero_()
        block.pos_embed.copy_(noise(1, 24, 8))
        x = noise(1, 8, 2, 3, 4)
        # Tokens are numbered with W fastest.
        assert torch.allclose(block(x), x + block.pos_embed.reshape(1, 2, 3, 4, 8).permute(0, 4, 1, 2, 3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_depth_and_epsilon_of_the_variants(variant: str) -> None:
    """What an evaluation in single precision does not show."""
    model = UNETRPP(1, 2, (32, 32, 32), variant=VARIANTS[variant], widths=WIDTHS["tiny"])
    blocks = [module for module in model.modules() if isinstance(module, TransformerBlock)]
    assert len(blocks) == 4 * WIDTHS["tiny"].encoder_blocks + 3 * WIDTHS["tiny"].decoder_blocks
    attention = 0.15 if variant == "synapse" else 0.1
    for block in blocks:
        rates = {key: m.p for key, m in block.named_modules() if isinstance(m, (nn.Dropout, nn.Dropout3d))}
        assert rates == {"epa_block.attn_drop": attention, "epa_block.attn_drop_2": attention, "conv8.0": 0.1}
        assert isinstance(block.conv8[0], nn.Dropout3d)
        assert block.norm.eps == 1e-5
    assert {m.eps for m in model.modules() if isinstance(m, nn.GroupNorm)} == {1e-5}


def test_tied_projections_are_one_parameter_under_two_keys() -> None:
    model = build("unetrpp", "synapse", (32, 32, 32))
    state, parameters = model.state_dict(), dict(model.named_parameters())
    tied = [key for key in state if ".epa_block.E." in key]
    assert tied
    for key in tied:
        twin = key.replace(".E.", ".F.")
        assert state[key].data_ptr() == state[twin].data_ptr()
        assert key in parameters
        assert twin not in parameters


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (2, 2), (3, 1), (4, 4), (6, 2)])
def test_unetrpp_takes_any_number_of_channels(channels: int, groups: int) -> None:
    model = UNETRPP(channels, 2, (16, 32, 32), variant=VARIANTS["synapse"], widths=WIDTHS["tiny"]).eval()
    stem = model.unetr_pp_encoder.downsample_layers[0][1]
    assert isinstance(stem, nn.GroupNorm)
    assert stem.num_groups == groups
    with torch.no_grad():
        assert model(noise(1, channels, 16, 32, 32)).shape == (1, 2, 16, 32, 32)


# --- the two of MONAI -------------------------------------------------------------------------------------------------


def passed(model: nn.Module, names: list[str], x: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, ...]]]:
    """Outputs of the declared levels and inputs of the modules `names` in one evaluation."""
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, tuple[Tensor, ...]] = {}
    for level in structure_of(model).levels:
        model.get_submodule(level.module).register_forward_hook(
            lambda module, given, output, name=level.module: outputs.update({name: output})
        )
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(lambda module, given, name=name: inputs.update({name: given}))
    with torch.no_grad():
        model.eval()(x)
    return outputs, inputs


def test_levels_of_unetr_are_what_its_decoder_takes() -> None:
    patch: Grid = (32, 48, 16)
    outputs, inputs = passed(
        build("unetr", "perceptron", patch),
        ["encoder2", "encoder3", "encoder4", "decoder5"],
        noise(1, CHANNELS, *patch),
    )
    for tokens, taken in zip(outputs.values(), inputs.values(), strict=True):
        assert torch.equal(tokens.transpose(1, 2).reshape(1, -1, 2, 3, 1), taken[0])


def test_levels_of_swin_unetr_are_normalized_into_its_decoder() -> None:
    patch: Grid = (64, 32, 32)
    model = build("swin_unetr", "default", patch)
    taking = {"encoder2": 0, "encoder3": 0, "encoder4": 0, "decoder5": 1, "encoder10": 0}
    outputs, inputs = passed(model, list(taking), noise(1, CHANNELS, *patch))
    for level, (name, place) in zip(outputs.values(), taking.items(), strict=True):
        centred = level - level.mean(1, keepdim=True)
        expected = centred / torch.sqrt(centred.square().mean(1, keepdim=True) + 1e-5)
        assert torch.allclose(inputs[name][place], expected, atol=1e-4)


def test_the_window_of_swin_unetr_follows_its_size() -> None:
    for size, window in (("tiny", 4), ("paper", 7)):
        model = swin_unetr(in_channels=1, num_classes=2, patch_size=(64, 64, 64), size=size)  # type: ignore[arg-type]
        tables = [p for key, p in model.named_parameters() if key.endswith("relative_position_bias_table")]
        assert {len(table) for table in tables} == {(2 * window - 1) ** 3}


def test_unetr_numbers_its_tokens_with_w_fastest() -> None:
    patch: Grid = (32, 48, 64)
    for variant in ("perceptron", "conv"):
        model = build("unetr", variant, patch)
        embed = model.get_submodule("vit.patch_embedding")
        x = torch.zeros(1, CHANNELS, *patch)
        changed = x.clone()
        changed[:, :, 16:32, 0:16, 32:48] = 1
        with torch.no_grad():
            rows = (embed(changed) - embed(x)).abs().sum(-1)[0].nonzero().flatten().tolist()
        assert rows == [np.ravel_multi_index((1, 0, 2), (2, 3, 4))]


def test_the_merging_orders_of_swin_unetr_share_keys_but_not_outputs() -> None:
    patch: Grid = (64, 32, 32)
    new, old = (build("swin_unetr", variant, patch).eval() for variant in ("default", "legacy-merge"))
    old.load_state_dict(new.state_dict())
    assert list(old.state_dict()) == list(new.state_dict())
    x = noise(1, CHANNELS, *patch)
    with torch.no_grad():
        expected, other = new(x), old(x)
    assert (expected - other).abs().max() > 0.05 * expected.abs().max()


def test_legacy_merging_concatenates_two_neighbours_twice() -> None:
    assert len(set(LEGACY_ORDER)) == 6
    merging = LegacyMerging(1)
    with torch.no_grad():
        merging.norm = nn.Identity()  # type: ignore[assignment]
        merging.reduction.weight.zero_()
        x = torch.arange(8.0).reshape(1, 2, 2, 2, 1)
        taken = []
        for i in range(8):
            merging.reduction.weight.zero_()
            merging.reduction.weight[0, i] = 1
            taken.append(int(merging(x).flatten()[0]))
    # The value of a voxel is its address 4 d + 2 h + w.
    assert taken == [0b000, 0b100, 0b010, 0b001, 0b101, 0b010, 0b001, 0b111]
    with pytest.raises(ValueError, match="three spatial axes"):
        LegacyMerging(1, spatial_dims=2)


def test_swin_unetr_refuses_a_patch_with_one_voxel_at_the_bottom() -> None:
    with pytest.raises(PatchError, match=r"one voxel .* nearest valid: \(32, 32, 64\)"):
        build("swin_unetr", "default", (32, 32, 32))
