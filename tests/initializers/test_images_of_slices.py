"""``images`` into TransUNet and Swin-Unet as their authors load them, from narrow encoders of timm's that are registered here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

import initbench
from initbench.backbones import missformer as miss
from initbench.backbones import swin_unet as swin
from initbench.backbones import transunet as trans
from initbench.backbones.slices import SliceNetwork
from initbench.checkpoints.quiet_timm import import_timm
from initbench.errors import UsageError

timm = import_timm()
from timm.models import generate_default_cfgs, register_model  # noqa: E402
from timm.models.resnetv2 import ResNetV2  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from timm.models.vision_transformer_hybrid import HybridEmbed  # noqa: E402

State = dict[str, Tensor]
default_cfgs = generate_default_cfgs(
    {
        "narrow_r50_vit": {"first_conv": "patch_embed.backbone.stem.conv", "classifier": "head"},
        "narrow_swin": {"first_conv": "patch_embed.proj", "classifier": "head.fc"},
    }
)


@register_model
def narrow_r50_vit(pretrained: bool = False, **options: Any) -> nn.Module:
    """As wide and deep as TransUNet at size tiny, for images of 64 x 64."""
    backbone = ResNetV2(
        layers=(1, 1, 1), channels=(128, 256, 512), stem_chs=32, num_classes=0, global_pool="", preact=False, stem_type="same"
    )
    model: nn.Module = VisionTransformer(
        img_size=64, patch_size=1, num_classes=5, embed_dim=48, depth=2, num_heads=4, mlp_ratio=2,
        embed_layer=partial(HybridEmbed, backbone=backbone),
    )  # fmt: skip
    return _with_cfg(model, "narrow_r50_vit")


@register_model
def narrow_swin(pretrained: bool = False, **options: Any) -> nn.Module:
    """As wide as Swin-Unet at size tiny, with two more blocks in the third stage, as Swin-T has four more."""
    model: nn.Module = SwinTransformer(
        img_size=64, num_classes=5, embed_dim=24, depths=(2, 2, 4, 2), num_heads=(3, 6, 12, 24), window_size=4
    )
    return _with_cfg(model, "narrow_swin")


def _with_cfg(model: nn.Module, name: str) -> nn.Module:
    model.pretrained_cfg = default_cfgs[name].default.to_dict()  # type: ignore[assignment]
    return model


def made_up(name: str) -> nn.Module:
    """An encoder in which nothing matches by being zero or one."""
    model: nn.Module = timm.create_model(name, pretrained=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.5 * torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5 + 0.01)
    return model.eval()


@pytest.fixture(scope="module")
def hybrid() -> nn.Module:
    return made_up("narrow_r50_vit")


@pytest.fixture(scope="module")
def windows() -> nn.Module:
    return made_up("narrow_swin")


def google(state: State) -> dict[str, NDArray[Any]]:
    """The weights of the hybrid under the names, in the shapes and in the order of axes of Google's archive."""
    arrays: dict[str, NDArray[Any]] = {}

    def kernel(name: str, key: str) -> None:
        arrays[f"{name}/kernel"] = state[f"{key}.weight"].permute(2, 3, 1, 0).numpy()

    def norm(name: str, key: str, *, flat: bool = True) -> None:
        for theirs, ours in (("scale", "weight"), ("bias", "bias")):
            value = state[f"{key}.{ours}"].numpy()
            arrays[f"{name}/{theirs}"] = value if flat else value[None, None, None]

    backbone = "patch_embed.backbone"
    kernel("conv_root", f"{backbone}.stem.conv")
    norm("gn_root", f"{backbone}.stem.norm", flat=False)
    for block in range(3):
        theirs, ours = f"block{block + 1}/unit1", f"{backbone}.stages.{block}.blocks.0"
        for number in (1, 2, 3):
            kernel(f"{theirs}/conv{number}", f"{ours}.conv{number}")
            norm(f"{theirs}/gn{number}", f"{ours}.norm{number}", flat=False)
        kernel(f"{theirs}/conv_proj", f"{ours}.downsample.conv")
        norm(f"{theirs}/gn_proj", f"{ours}.downsample.norm", flat=False)
    kernel("embedding", "patch_embed.proj")
    arrays["embedding/bias"] = state["patch_embed.proj.bias"].numpy()
    arrays["cls"] = state["cls_token"].numpy()
    arrays["Transformer/posembed_input/pos_embedding"] = state["pos_embed"].numpy()
    norm("Transformer/encoder_norm", "norm")
    for layer in range(2):
        theirs, ours = f"Transformer/encoderblock_{layer}", f"blocks.{layer}"
        norm(f"{theirs}/LayerNorm_0", f"{ours}.norm1")
        norm(f"{theirs}/LayerNorm_2", f"{ours}.norm2")
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        weights, biases = state[f"{ours}.attn.qkv.weight"].chunk(3), state[f"{ours}.attn.qkv.bias"].chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            arrays[f"{attention}/{name}/kernel"] = weight.T.reshape(48, 4, 12).numpy()
            arrays[f"{attention}/{name}/bias"] = bias.reshape(4, 12).numpy()
        arrays[f"{attention}/out/kernel"] = state[f"{ours}.attn.proj.weight"].T.reshape(4, 12, 48).numpy()
        arrays[f"{attention}/out/bias"] = state[f"{ours}.attn.proj.bias"].numpy()
        for number in (0, 1):
            dense = f"{theirs}/MlpBlock_3/Dense_{number}"
            arrays[f"{dense}/kernel"] = state[f"{ours}.mlp.fc{number + 1}.weight"].T.numpy()
            arrays[f"{dense}/bias"] = state[f"{ours}.mlp.fc{number + 1}.bias"].numpy()
    return arrays


def released(state: State) -> State:
    """Swin-T as Microsoft saves it: patches are merged at the end of a stage, and the tables of the blocks are there."""
    found = {"layers.0.blocks.1.attn_mask": torch.zeros(16, 16, 16)}
    for key, value in state.items():
        name = key.replace("head.fc.", "head.")
        for stage in range(3):
            if key.startswith(f"layers.{stage + 1}.downsample."):
                name = key.replace(f"layers.{stage + 1}.", f"layers.{stage}.", 1)
        found[name] = value
    return found


def filled(model: nn.Module, path: Path, source: str, init: str = "images") -> dict[str, Any]:
    given = [f"init.source={source}", f"init.path={path}"]
    report: dict[str, Any] = initbench.initialize(model, init, assignments=given)["report"]
    return report


def transunet(size: int = 64) -> SliceNetwork:
    model = trans.transunet(in_channels=1, num_classes=3, patch_size=(1, size, size), size="tiny").eval()
    assert isinstance(model, SliceNetwork)
    return model


def swin_unet() -> SliceNetwork:
    model = swin.swin_unet(in_channels=1, num_classes=3, patch_size=(1, 64, 64), size="tiny").eval()
    assert isinstance(model, SliceNetwork)
    return model


# --- TransUNet --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["timm", "google"])
def test_transunet_gets_its_whole_encoder(kind: str, hybrid: nn.Module, tmp_path: Path) -> None:
    model, state = transunet(), hybrid.state_dict()
    if kind == "timm":
        path = tmp_path / "weights.pth"
        torch.save(state, path)
    else:
        path = tmp_path / "R50+ViT-B_16.npz"
        np.savez(path, **google(state))
    report = filled(model, path, "narrow_r50_vit")
    encoder = {key for key, _ in model.named_parameters() if key.startswith("transformer.")}
    assert {*report["matched"], *report["reshaped"]} == encoder
    assert (report["parts"], report["stem"]) == ({"transformer": 1.0}, "kept")
    assert {key for key in report["skipped"] if not key.startswith("head.")} == {"cls_token"}
    own = model.state_dict()
    hybrid_model = "transformer.embeddings.hybrid_model"
    for ours, theirs in (
        (f"{hybrid_model}.root.conv.weight", "stem.conv.weight"),
        (f"{hybrid_model}.body.block3.unit1.conv2.weight", "stages.2.blocks.0.conv2.weight"),
        (f"{hybrid_model}.body.block2.unit1.gn_proj.bias", "stages.1.blocks.0.downsample.norm.bias"),
    ):
        assert torch.equal(own[ours], state[f"patch_embed.backbone.{theirs}"]), ours
    assert torch.equal(own[trans.POSITIONS], state["pos_embed"][:, 1:])
    tokens = torch.randn(2, 16, 48, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = hybrid.get_submodule("norm")(hybrid.get_submodule("blocks")(tokens))
        found = model.get_submodule("transformer.encoder")(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_positions_of_another_grid_are_zoomed_linearly(hybrid: nn.Module, tmp_path: Path) -> None:
    """As the release does: `scipy.ndimage.zoom` of order 1, without the class token."""
    path = tmp_path / "weights.pth"
    torch.save(hybrid.state_dict(), path)
    model = transunet(96)
    filled(model, path, "narrow_r50_vit")
    grid = hybrid.state_dict()["pos_embed"][0, 1:].reshape(4, 4, 48).numpy()
    expected = ndimage.zoom(grid, (6 / 4, 6 / 4, 1), order=1).reshape(36, 48)
    np.testing.assert_allclose(model.get_parameter(trans.POSITIONS).detach()[0].numpy(), expected, atol=1e-6)


def test_archives_that_are_none_are_refused(hybrid: nn.Module, tmp_path: Path) -> None:
    arrays = google(hybrid.state_dict())
    objects = tmp_path / "objects.npz"
    np.savez(objects, **(arrays | {"extra": np.array([{"a": 1}], dtype=object)}))
    lacking = tmp_path / "lacking.npz"
    np.savez(lacking, **{key: value for key, value in arrays.items() if "encoderblock_1" not in key})
    torn = tmp_path / "torn.npz"
    torn.write_bytes(objects.read_bytes()[:1000])
    for path, says in (
        (objects, "cannot be read as an archive of arrays"),
        (torn, "cannot be read as an archive of arrays"),
        (lacking, "is not Google's archive of narrow_r50_vit"),
    ):
        model = transunet()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(UsageError, match=says):
            filled(model, path, "narrow_r50_vit")
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# --- Swin-Unet --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["timm", "release"])
def test_swin_unet_gets_its_encoder_and_most_of_its_decoder(kind: str, windows: nn.Module, tmp_path: Path) -> None:
    model, path, state = swin_unet(), tmp_path / "weights.pth", windows.state_dict()
    torch.save(state if kind == "timm" else {"model": released(state)}, path)
    report = filled(model, path, "narrow_swin")
    names = [key.removeprefix("swin_unet.") for key, _ in model.named_parameters()]
    encoder = {key for key in names if key.startswith(("patch_embed.", "layers.", "norm."))}
    decoder = {key for key in names if key.startswith("layers_up.") and ".blocks." in key}
    assert {key.removeprefix("swin_unet.") for key in report["matched"]} == encoder | decoder
    # 117 and the last norm; with the tables that are computed (6 indices, 2 masks at this size) 78 and these of the decoder.
    assert (len(encoder), len(decoder)) == (117 + 2, 78)
    assert report["parts"] == {"swin_unet.patch_embed": 1.0, "swin_unet.layers": 1.0, "swin_unet.norm": 1.0}
    own = model.state_dict()
    for stage in range(3):
        for key, value in own.items():
            start = f"swin_unet.layers_up.{3 - stage}.blocks."
            if key.startswith(start) and "attn_mask" not in key:
                assert torch.equal(value, own[f"swin_unet.layers.{stage}.blocks.{key.removeprefix(start)}"]), key


def test_features_of_swin_are_timms(windows: nn.Module, tmp_path: Path) -> None:
    """Up to the third stage, of which the network has two blocks of four."""
    model, path = swin_unet(), tmp_path / "weights.pth"
    torch.save(windows.state_dict(), path)
    filled(model, path, "narrow_swin")
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = theirs = windows.get_submodule("patch_embed")(image)
        for stage in (0, 1):
            theirs = windows.get_submodule(f"layers.{stage}")(theirs)
        theirs = windows.get_submodule("layers.2.downsample")(theirs)
        ours = model.get_submodule("swin_unet.patch_embed")(image)
        for stage in (0, 1):
            ours = model.get_submodule(f"swin_unet.layers.{stage}")(ours)
    torch.testing.assert_close(ours, theirs.flatten(1, 2), rtol=1e-4, atol=1e-5)


# --- what is refused, and controls ------------------------------------------------------------------------------------


def test_other_encoders_and_missformer_are_refused(hybrid: nn.Module, windows: nn.Module, tmp_path: Path) -> None:
    paths = {"narrow_r50_vit": tmp_path / "vit.pth", "narrow_swin": tmp_path / "swin.pth"}
    torch.save(hybrid.state_dict(), paths["narrow_r50_vit"])
    torch.save(windows.state_dict(), paths["narrow_swin"])
    missformer = miss.missformer(in_channels=1, num_classes=3, patch_size=(1, 64, 64), size="tiny")
    for model, source, says in (
        (missformer, "narrow_swin", "missformer starts from random weights"),
        (swin_unet(), "narrow_r50_vit", r"has shape .*, and swin-unet has \(24, 3, 4, 4\) there. Take weights of swin_tiny"),
        (transunet(), "narrow_swin", r"has shape \(24,\), and transunet has \(48,\) there. Take weights of vit_base_r50_s16_224"),
    ):
        with pytest.raises(UsageError, match=says):
            filled(model, paths[source], source)


def test_shuffled_weights_of_images_keep_their_scales(windows: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(windows.state_dict(), path)
    plain, shuffled = swin_unet(), swin_unet()
    filled(plain, path, "narrow_swin")
    initbench.initialize(shuffled, f"shuffled(images(source=narrow_swin, path={str(path)!r}))")
    key = "swin_unet.layers_up.2.blocks.0.mlp.fc1.weight"
    one, other = plain.get_parameter(key).detach(), shuffled.get_parameter(key).detach()
    assert not torch.equal(one, other)
    assert torch.equal(one.flatten().sort().values, other.flatten().sort().values)
    for name, value in plain.named_buffers():
        assert torch.equal(value, dict(shuffled.named_buffers())[name]), name
