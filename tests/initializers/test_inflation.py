"""``inflate-2d``: the arithmetic by hand and against the 2D layers, and timm's encoders in every network."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import initbench
from initbench import registry
from initbench.checkpoints.images import Wanted, load_encoder
from initbench.checkpoints.inflation import (
    RULES,
    axis_average,
    centre,
    in_plane,
    inflate,
    positions,
    repeat,
    turned,
    with_channels,
)
from initbench.checkpoints.quiet_timm import import_timm
from initbench.errors import InitbenchError, UsageError
from initbench.protocols import Grid, ImageWeights, structure_of
from initbench.spec import Spec
from tests.networks import PATCHES, tiny

State = dict[str, Tensor]
TINY_VIT = {"embed_dim": 96, "num_heads": 4, "mlp_ratio": 2}
OF_SLICES = ("unet-2d", "omnia-net", "transunet", "swin-unet", "missformer")
"""Networks into which nothing is inflated."""
UNETR_VARIANTS = ("perceptron", "conv", "perceptron-xyz", "conv-xyz")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- the rules --------------------------------------------------------------------------------------------------------

KERNEL = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]


def test_repeat_by_hand() -> None:
    found = repeat(KERNEL, 4)
    assert found.shape == (1, 1, 4, 2, 2)
    assert all(torch.equal(found[0, 0, d], torch.tensor([[0.25, 0.5], [0.75, 1.0]])) for d in range(4))


@pytest.mark.parametrize(
    ("depth", "shares"),
    [(1, [1.0]), (2, [0.5, 0.5]), (3, [0.0, 1.0, 0.0]), (4, [0.0, 0.5, 0.5, 0.0]), (5, [0.0, 0.0, 1.0, 0.0, 0.0])],
)
def test_centre_by_hand(depth: int, shares: list[float]) -> None:
    found = centre(KERNEL, depth)[0, 0]
    assert torch.equal(found, torch.stack([share * KERNEL[0, 0] for share in shares]))


def test_axis_average_by_hand() -> None:
    """K[d, h, w] = (k[h, w] + k[d, w] + k[d, h]) / 6."""
    found = axis_average(KERNEL, 2)[0, 0]
    expected = [[[1 + 1 + 1, 2 + 2 + 1], [3 + 1 + 2, 4 + 2 + 2]], [[1 + 3 + 3, 2 + 4 + 3], [3 + 3 + 4, 4 + 4 + 4]]]
    assert torch.allclose(found, torch.tensor(expected) / 6)


def test_axis_average_treats_the_axes_alike() -> None:
    kernel = numbers(3, 2, 5, 5)
    symmetric = axis_average(kernel + kernel.transpose(2, 3), 5)
    for order in permutations((2, 3, 4)):
        assert torch.allclose(symmetric.permute(0, 1, *order), symmetric)
    assert torch.allclose(axis_average(kernel, 5).sum((2, 3, 4)), kernel.sum((2, 3)))


def test_axis_average_needs_a_cube() -> None:
    with pytest.raises(ValueError, match=r"one size along all axes, got \(1, 3, 3\)"):
        axis_average(numbers(1, 1, 3, 3), 1)


@pytest.mark.parametrize("rule", [repeat, centre])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
def test_constant_along_depth_the_3d_convolution_is_the_2d_one(rule: Callable[[Tensor, int], Tensor], depth: int) -> None:
    kernel, image = numbers(4, 3, 3, 5), numbers(2, 3, 9, 8, seed=1)
    expected = functional.conv2d(image, kernel, stride=2, padding=1)
    volume = image[:, :, None].expand(-1, -1, depth + 2, -1, -1)
    found = functional.conv3d(volume, rule(kernel, depth), stride=(1, 2, 2), padding=(0, 1, 1))
    assert found.shape[2] == 3
    assert torch.allclose(found, expected[:, :, None].expand_as(found), atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_is_equal_colours(channels: int) -> None:
    """Every channel shows the same image: the answer of the three colours that did."""
    kernel, grey = numbers(4, 3, 3, 3), numbers(2, 1, 8, 8, seed=1)
    expected = functional.conv2d(grey.expand(-1, 3, -1, -1), kernel)
    found = functional.conv2d(grey.expand(-1, channels, -1, -1), with_channels(kernel, channels))
    assert torch.allclose(found, expected, atol=1e-12)


def test_channels_by_hand() -> None:
    kernel = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    assert with_channels(kernel, 1).flatten().tolist() == [9]
    assert with_channels(kernel, 2).flatten().tolist() == [4.5, 4.5]
    assert with_channels(kernel, 3) is kernel
    assert with_channels(kernel.sum(1, keepdim=True), 1).flatten().tolist() == [9]


def test_a_larger_kernel_sees_a_larger_image_alike() -> None:
    kernel, image = numbers(4, 2, 3, 3), numbers(5, 2, 3, 3, seed=1)
    larger = functional.interpolate(image, (5, 4), mode="bicubic", antialias=True)
    expected, found = functional.conv2d(image, kernel), functional.conv2d(larger, in_plane(kernel, (5, 4)))
    assert torch.allclose(found, expected, atol=1e-4)  # the library computes in single precision
    assert in_plane(kernel, (3, 3)) is kernel


def test_a_kernel_of_any_size() -> None:
    for name, size in (("repeat", (2, 3, 3)), ("centre", (1, 5, 4)), ("axis-average", (3, 3, 3))):
        found = inflate(numbers(4, 3, 7, 7).float(), 2, size, RULES[name])
        assert found.shape == (4, 2, *size)
        assert bool(found.isfinite().all())


# --- positions --------------------------------------------------------------------------------------------------------


def test_positions_by_hand() -> None:
    """The class token goes, the plane is halved by averaging, every depth gets it."""
    table = torch.tensor([99.0, 1.0, 2.0, 3.0, 6.0]).reshape(1, 5, 1)
    same = positions(table, 1, (2, 2, 2))
    assert same is not None
    assert same.flatten().tolist() == [1, 2, 3, 6, 1, 2, 3, 6]
    mean = positions(table, 1, (3, 1, 1))
    assert mean is not None
    assert torch.allclose(mean.flatten(), torch.full((3,), 3.0))
    rows = positions(table, 1, (1, 2, 1))
    assert rows is not None
    assert torch.allclose(rows.flatten(), torch.tensor([1.5, 4.5]))


def test_positions_with_and_without_class_tokens() -> None:
    table = numbers(1, 16, 4).float()
    for prefix in (0, 1, 5):  # timm has tables that leave the class tokens out
        found = positions(table, prefix, (1, 4, 4))
        assert found is not None
        assert torch.equal(found.flatten(1, 3), table)
    assert positions(numbers(1, 12, 4), 1, (1, 3, 3)) is None


def test_turned() -> None:
    volume = numbers(1, 2, 3, 4, 5)
    assert turned(volume, "DHW", 2) is volume
    assert turned(volume, "WHD", 2).shape == (1, 2, 5, 4, 3)


# --- timm's ViT in UNETR ----------------------------------------------------------------------------------------------


def timm_model(name: str, **options: Any) -> nn.Module:
    """With random weights everywhere, so that nothing matches by being zero or one."""
    model: nn.Module = import_timm().create_model(name, pretrained=False, **options)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(0.2 * numbers(*parameter.shape, seed=i) + (parameter.ndim == 1))
    return model.eval()


def saved(state: State, folder: Path, name: str = "weights.safetensors") -> Path:
    path = folder / name
    save_file({key: value.detach().contiguous() for key, value in state.items()}, path)
    return path


def build(name: str, variant: str | None = None, *, patch: Grid, channels: int = 1) -> nn.Module:
    return tiny(name, in_channels=channels, patch_size=patch, variant=variant, seed=1)


def inflated(model: nn.Module, path: Path, source: str = "vit_tiny_patch16_224", **params: str) -> dict[str, Any]:
    given = [f"init.{key}={value}" for key, value in {"path": str(path), "source": source, **params}.items()]
    coverage: dict[str, Any] = initbench.initialize(model, "inflate-2d", assignments=given)
    json.dumps(coverage, allow_nan=False)
    report: dict[str, Any] = coverage["report"]
    return report


def without_query_bias(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("qkv.bias"):
                parameter[: len(parameter) // 3] = 0
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5  # MONAI's; timm has 1e-6
    return model


def tokens(model: nn.Module, volume: Tensor) -> Tensor:
    """What UNETR's ViT gives, ``(N, D, H, W, dim)``."""
    seen: list[Tensor] = []
    vit = model.get_submodule("vit")
    hook = vit.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    with torch.no_grad():
        model.double().eval()(volume)
    hook.remove()
    own = structure_of(model)
    grid = own.levels[-1].grid if own.axes == "DHW" else own.levels[-1].grid[::-1]
    return turned(seen[0].reshape(len(volume), *grid, -1), own.axes, 1)


# A layer scale has nothing to do with how patches are embedded, so one variant shows it in the quick run.
@pytest.mark.parametrize(
    ("options", "variant"),
    [pytest.param({}, variant, id=f"plain-{variant}") for variant in UNETR_VARIANTS]
    + [
        pytest.param({"init_values": 0.5}, variant, id=f"layer scale-{variant}", marks=pytest.mark.full if place else ())
        for place, variant in enumerate(UNETR_VARIANTS)
    ],
)
def test_on_a_volume_of_one_image_unetr_sees_what_the_vit_saw(variant: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Patch embedding, positions, blocks and norm at once: the slices are equal, so every depth has the image's tokens."""
    vit = timm_model(
        "vit_tiny_patch16_224", img_size=48, class_token=False, global_pool="avg", fc_norm=False, **TINY_VIT, **options
    )
    without_query_bias(vit)
    model = build("unetr", variant, patch=(32, 48, 48))
    inflated(model, saved(vit.state_dict(), tmp_path))
    image = numbers(2, 1, 48, 48, seed=99)
    with torch.no_grad():
        expected = vit.double().forward_features(image.expand(-1, 3, -1, -1)).reshape(2, 1, 3, 3, 96)
    found = tokens(model, image[:, :, None].expand(-1, -1, 32, -1, -1).contiguous())
    assert found.shape == (2, 2, 3, 3, 96)
    assert torch.allclose(found, expected.expand_as(found), rtol=0, atol=1e-5)  # the weights are in single precision


def test_a_block_is_timms_but_for_the_bias_of_its_queries(tmp_path: Path) -> None:
    x = numbers(2, 7, 96, seed=5)
    for whole in (False, True):
        vit = timm_model("vit_tiny_patch16_224", **TINY_VIT)
        model = build("unetr", patch=(16, 32, 32))
        if not whole:
            without_query_bias(vit)
        inflated(model, saved(vit.state_dict(), tmp_path))
        with torch.no_grad():
            expected = vit.double().get_submodule("blocks.3")(x)
            found = model.double().eval().get_submodule("vit.blocks.3")(x)
        assert torch.allclose(found, expected, rtol=0, atol=1e-5) is not whole


@pytest.mark.parametrize("variant", UNETR_VARIANTS)
@pytest.mark.parametrize("rule", RULES)
def test_unetr_gets_a_whole_vit(variant: str, rule: str, tmp_path: Path) -> None:
    vit = timm_model("vit_tiny_patch16_224", **TINY_VIT)
    model = build("unetr", variant, patch=(32, 48, 16), channels=2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = inflated(model, saved(vit.state_dict(), tmp_path), rule=rule)
    state = vit.state_dict()
    assert report["groups"]["vit"] == 1
    assert (report["rule"], report["source"]) == (rule, "vit_tiny_patch16_224")
    assert all(not key.startswith("vit.") for key in report["missing"])
    assert {key for key in report["skipped"] if "qkv" not in key} == {"cls_token"}
    assert len(report["skipped"]) == 13
    assert "query part is lost" in report["skipped"]["blocks.0.attn.qkv.bias"]
    assert torch.equal(model.get_parameter("vit.blocks.11.mlp.linear2.weight"), state["blocks.11.mlp.fc2.weight"])
    assert torch.equal(model.get_parameter("encoder1.layer.conv1.conv.weight"), before["encoder1.layer.conv1.conv.weight"])
    weight = model.get_parameter(f"vit.patch_embedding.patch_embeddings{'.1' if 'perceptron' in variant else ''}.weight")
    kernel = weight.reshape(96, 16, 16, 16, 2).movedim(-1, 1) if weight.ndim == 2 else weight
    kernel = kernel.transpose(2, 4) if variant.endswith("xyz") else kernel
    expected = inflate(state["patch_embed.proj.weight"], 2, (16, 16, 16), RULES[rule])
    assert torch.equal(kernel, expected)
    table = positions(state["pos_embed"], 1, (2, 3, 1))
    assert table is not None
    order = table.transpose(1, 3) if variant.endswith("xyz") else table
    assert torch.equal(model.get_parameter("vit.patch_embedding.position_embeddings"), order.reshape(1, 6, 96))


# --- stems ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in registry.names("backbone") if name not in OF_SLICES])
def test_declared_stems_read_the_image(name: str) -> None:
    model = build(name, patch=PATCHES[name], channels=2)
    stems = structure_of(model).published.images.stems
    assert stems
    for stem in stems:
        assert model.get_submodule(stem).get_parameter("weight").shape[1] in (2, 2 * 16**3)


@pytest.mark.parametrize(
    ("name", "variant", "source", "layer"),
    [
        ("unet", None, "resnet18", "encoder.stages.0.0.convs.0.conv"),
        ("unet", None, "efficientnet_b0", "encoder.stages.0.0.convs.0.conv"),
        ("nnformer", None, "resnet50d", "model_down.patch_embed.proj1.conv1"),
        ("unetrpp", None, "convnext_atto", "unetr_pp_encoder.downsample_layers.0.0.conv"),
        ("unetrpp", None, "resnet18", "encoder1.conv1.conv"),
        ("unetr", "perceptron-xyz", "resnet18", "encoder1.layer.conv1.conv"),
        ("swin-unetr", "default", "convnext_atto", "swinViT.patch_embed.proj"),
        ("swin-unetr", "default-xyz", "resnet18", "encoder1.layer.conv1.conv"),
    ],
)
def test_a_stem_goes_where_the_network_has_one_of_its_kind(
    name: str, variant: str | None, source: str, layer: str, tmp_path: Path
) -> None:
    net = timm_model(source)
    model = build(name, variant, patch=PATCHES[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = inflated(model, saved(net.state_dict(), tmp_path), source)
    weight = model.get_parameter(f"{layer}.weight")
    own = structure_of(model)
    kernel = net.get_parameter(f"{net.pretrained_cfg['first_conv']}.weight")
    size = tuple(weight.shape[2:]) if own.axes == "DHW" else tuple(weight.shape[2:])[::-1]
    expected = turned(inflate(kernel[: len(weight)].detach(), 1, size, repeat), own.axes, 2)  # type: ignore[arg-type]
    assert torch.equal(weight, expected)
    changed = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    heads = tuple(f"{head}." for head in own.heads)
    assert {key for key in changed if not key.startswith(heads)} <= {f"{layer}.weight", f"{layer}.bias"}
    assert f"{layer}.weight" in report["reshaped"]
    assert set(report["skipped"].values()) == {"the network has no such part"}


def test_a_resnet_slides_over_slices_as_it_did(tmp_path: Path) -> None:
    """A U-Net on thick slices has kernel 1 along depth: then every slice gets the answer of the (3 x 3) stem."""
    net = timm_model("resnet50d")
    model = build("unet", patch=(8, 32, 32))
    inflated(model, saved(net.state_dict(), tmp_path), "resnet50d")
    layer = model.get_submodule("encoder.stages.0.0.convs.0.conv")
    assert layer.get_parameter("weight").shape == (16, 1, 1, 3, 3)
    image = numbers(1, 1, 32, 32).float()
    with torch.no_grad():
        layer.get_parameter("bias").zero_()
        found = layer(image[:, :, None].expand(-1, -1, 8, -1, -1))
        expected = functional.conv2d(image.expand(-1, 3, -1, -1), net.get_parameter("conv1.0.weight")[:16], padding=1)
    assert torch.allclose(found, expected[:, :, None].expand_as(found), atol=1e-5)


# --- files and refusals -----------------------------------------------------------------------------------------------


def test_wrapped_half_precision_pickles(tmp_path: Path) -> None:
    state = timm_model("vit_tiny_patch16_224", **TINY_VIT).state_dict()
    path = tmp_path / "weights.pth"
    torch.save({"model": {f"module.{key}": value.half() for key, value in state.items()}, "epoch": 3}, path)
    model = build("unetr", patch=(16, 32, 32))
    assert inflated(model, path)["groups"]["vit"] == 1
    assert model.get_parameter("vit.norm.weight").dtype == torch.float32
    assert torch.equal(model.get_parameter("vit.norm.weight"), state["norm.weight"].half().float())


def test_weights_of_timm_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a download: what timm gives under that name, and the name of its weights on record."""
    net, asked = timm_model("resnet18"), []
    create = import_timm().create_model

    def loader(source: str, pretrained: bool) -> nn.Module:
        asked.append((source, pretrained))
        torch.rand(1)  # building draws from the global generator
        return net if pretrained else create(source, pretrained=False)

    monkeypatch.setattr(import_timm(), "create_model", loader)
    model, before = build("unet", patch=(32, 32, 32)), torch.get_rng_state()
    coverage = initbench.initialize(model, "inflate-2d(source=resnet18, download=True)")
    assert asked == [("resnet18", False), ("resnet18", True)]
    assert coverage["report"]["file"] == "resnet18.a1_in1k"
    assert coverage["report"]["summary"].startswith("resnet18.a1_in1k: 0.")
    assert coverage["report"]["summary"].endswith(": encoder.stages.0.0.convs.0.conv.weight alone")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_computes_while_it_is_built(tmp_path: Path) -> None:
    """timm's RegNets sort their widths with `torch.unique`, so they cannot be built without memory."""
    with pytest.raises(NotImplementedError), torch.device("meta"):
        import_timm().create_model("regnetx_002", pretrained=False)
    weights = import_timm().create_model("regnetx_002", pretrained=False).state_dict()
    before = torch.get_rng_state()
    encoder = load_encoder(Wanted("inflate-2d", "regnetx_002", str(saved(weights, tmp_path))), ImageWeights())
    assert torch.equal(torch.get_rng_state(), before), "its numbers are drawn in a fork of the generator"
    assert (encoder.stem, encoder.cuts, encoder.width, encoder.heads) == ("stem.conv", False, 0, 0)
    assert torch.equal(encoder.tensors["stem.conv.weight"], weights["stem.conv.weight"])


def test_no_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    create = import_timm().create_model

    def offline(source: str, pretrained: bool) -> nn.Module:
        if pretrained:
            raise OSError("no route to host\nmore of that")
        model: nn.Module = create(source, pretrained=False)
        return model

    monkeypatch.setattr(import_timm(), "create_model", offline)
    with pytest.raises(InitbenchError, match=r"cannot be downloaded \(no route to host\)\. .* give path=weights\.pth"):
        initbench.initialize(build("unetr", patch=(16, 32, 32)), "inflate-2d(download=True)")


@pytest.mark.parametrize(
    ("name", "source", "options", "params", "message"),
    [
        ("unetr", "vit_tiny_patch16_224", {}, {}, r"is a ViT of width 192, and the network's is 96 wide: take one of width 96"),
        (
            "unetr",
            "vit_tiny_patch16_224",
            TINY_VIT | {"mlp_ratio": 4},
            {},
            r"mlp\.fc1\.\w+ of .* has shape \(384,.* and .* \(192,",
        ),
        ("unetr", "vit_tiny_patch16_224", TINY_VIT, {"rule": "thrice"}, "no rule 'thrice'; it has repeat, centre, axis-average"),
        ("unetr", "vit_tiny_patch16_224", TINY_VIT, {"source": "resnet18"}, r"holds no weights of resnet18: conv1\.weight and"),
        ("unetr", "resnet18", {}, {"source": "vit_tiny_patch16_224"}, r"pos_embed and \d+ more are not in it"),
        ("unetr", "resnet18", {}, {"source": "resnet17"}, "timm .* has no model 'resnet17'"),
        ("unetr", "resnet18", {}, {"source": "crossvit_9_240"}, "stem of crossvit_9_240 is not one convolution"),
        ("unet", "vit_tiny_patch16_224", TINY_VIT, {}, r"cuts the image into patches, and each stem .* slides over"),
        ("unet", "resnet18", {}, {"rule": "axis-average"}, r"one size along all axes, got \(1, 3, 3\)"),
        ("unetr", "convnext_atto", {}, {}, "has 40 filters, and .* of the network 96"),
    ],
)
def test_refusals(name: str, source: str, options: dict[str, Any], params: dict[str, str], message: str, tmp_path: Path) -> None:
    path = saved(timm_model(source, **options).state_dict(), tmp_path)
    model = build(name, patch=(16, 32, 32) if name == "unetr" else (8, 32, 32))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UsageError, match=message):
        inflated(model, path, **{"source": source, **params})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_heads_must_agree(tmp_path: Path) -> None:
    module = registry.find("backbone", Spec("unetr")).target.__module__
    unetr = __import__(module, fromlist=["build_unetr"])
    model = unetr.build_unetr(1, 2, (16, 32, 32), widths=unetr.Widths(8, 192, 768, 4))
    path = saved(timm_model("vit_tiny_patch16_224").state_dict(), tmp_path)
    with pytest.raises(UsageError, match="has 3 attention heads, and the network 4"):
        inflated(model, path)


def test_a_network_that_declares_nothing_is_refused(tmp_path: Path) -> None:
    path = saved(timm_model("resnet18").state_dict(), tmp_path)
    with pytest.raises(UsageError, match="the network does not declare where weights of images belong"):
        inflated(nn.Conv3d(1, 2, 3), path, "resnet18")


def test_a_file_that_is_gone_or_broken(tmp_path: Path) -> None:
    model = build("unet", patch=(8, 32, 32))
    with pytest.raises(UsageError, match="is no file"):
        inflated(model, tmp_path / "gone.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(InitbenchError, match="broken"):
        inflated(model, tmp_path / "broken.pth")


def test_it_is_marked_as_external() -> None:
    info = registry.find("initializer", Spec("inflate-2d")).target.info
    assert (info.external, info.learned, info.files) == (True, False, ("path",))
    assert SimpleNamespace(**registry.find("initializer", Spec("inflate-2d")).takes).rule == "repeat"
