"""UNETR and Swin UNETR of MONAI: their levels, tokens, windows and orders of merging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from initbench.backbones.swin_unetr import LEGACY_ORDER, LegacyMerging, swin_unetr
from initbench.protocols import Grid, PatchError, structure_of
from tests.backbones.built import CHANNELS, CLASSES, build, noise


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


def test_version_2_of_swin_unetr_is_monais() -> None:
    patch: Grid = (64, 32, 32)
    theirs = SwinUNETR(in_channels=CHANNELS, out_channels=CLASSES, feature_size=12, window_size=4, use_v2=True).eval()
    x = noise(1, CHANNELS, *patch)
    for variant, turned in (("v2", x), ("v2-xyz", x.transpose(2, 4).contiguous())):
        ours = build("swin_unetr", variant, patch).eval()
        ours.load_state_dict(theirs.state_dict())
        with torch.no_grad():
            expected = theirs(turned)
            assert torch.equal(ours(x), expected.transpose(2, 4) if variant == "v2-xyz" else expected)


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
