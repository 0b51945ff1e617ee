"""Omnia-Net, DX-Net and DS-Net against recordings of the authors' code; what networks of slices and DS-Net promise beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from initbench.backbones.ds_net import ds_net
from initbench.backbones.dx_net import dx_net
from initbench.backbones.omnia_net import omnia_net
from initbench.backbones.slices import slice_by_slice
from initbench.backbones.unet_2d import unet_2d
from initbench.protocols import Backbone, Grid, PatchError, PatchRule, structure_of
from tests.backbones.built import noise
from tests.backbones.filled import check_gradients, check_keys, fill
from tests.recordings import Json, check_outputs, mean_square, recorded_input
from tests.shared_data import shared


@dataclass(frozen=True)
class Recorded:
    """A recording: its name, the backbone and the channels of the image."""

    name: str
    backbone: Backbone
    channels: int
    variant: str | None = None

    def read(self, kind: str) -> Json:
        loaded: Json = json.loads(shared("parity", f"{self.name}.{kind}.json").read_text())
        return loaded

    def model(self, recording: Json) -> nn.Module:
        patch: Grid = tuple(recording["crop"]) if len(recording["crop"]) == 3 else (1, *recording["crop"])
        return self.backbone(in_channels=self.channels, num_classes=recording["classes"], patch_size=patch, variant=self.variant)


WITH_OUTPUTS = [
    Recorded("omnianet_b0_in1_c4", omnia_net, 1),
    Recorded("omnianet_b4_in1_c5", omnia_net, 1, "b4"),
    Recorded("dxnet_in1_c5", dx_net, 1),
    Recorded("dsnet_in4_c3", ds_net, 4),
]
KEYS_ALONE = [
    Recorded("omnianet_b0_in3_c2", omnia_net, 3),
    Recorded("dxnet_in1_c5_b", dx_net, 1),
    Recorded("dsnet_in4_c3_b", ds_net, 4),
]


@pytest.mark.parametrize("recorded", WITH_OUTPUTS + KEYS_ALONE, ids=lambda recorded: recorded.name)
def test_keys_order_shapes_and_parameters(recorded: Recorded) -> None:
    recording = recorded.read("keys")
    with torch.device("meta"):
        model = recorded.model(recording)
    check_keys(model, recording)


# A double-precision convolution of volumes takes seconds.
QUICK = ("omnianet_b0_in1_c4",)


@pytest.mark.parametrize(
    "recorded",
    [pytest.param(item, id=item.name, marks=() if item.name in QUICK else pytest.mark.full) for item in WITH_OUTPUTS],
)
def test_outputs_and_gradients_in_float64(recorded: Recorded) -> None:
    recording = recorded.read("forward")
    model = recorded.model(recording).eval()
    assert fill(model) == recording["fill_sha256"]
    model.double()
    image = recorded_input(recording).double()
    flat = image.ndim == 4
    output = model(image[:, :, None])[:, :, 0] if flat else model(image)
    expected = recording["float64_run"]
    check_outputs([output], expected["outputs"], 1e-10)
    loss = mean_square([output])
    assert float(loss.detach()) == pytest.approx(expected["loss_mean_square_all_outputs"], rel=1e-10)
    loss.backward()
    check_gradients(model, expected["grad_l2"], recording["grad_none"], 1e-8, 0.0)


@pytest.mark.parametrize(
    ("backbone", "variant", "channels", "classes", "patch", "parameters"),
    [
        (omnia_net, "b0", 1, 4, (1, 64, 96), 6_258_128),
        (omnia_net, "b4", 1, 5, (1, 64, 96), 20_234_365),
        (ds_net, None, 4, 3, (128, 32, 64), 8_080_278),
        (dx_net, None, 1, 5, (32, 64, 32), 12_954_561),
    ],
)
def test_paper_is_the_released_network_to_the_parameter(
    backbone: Backbone, variant: str | None, channels: int, classes: int, patch: Grid, parameters: int
) -> None:
    with torch.device("meta"):
        model = backbone(in_channels=channels, num_classes=classes, patch_size=patch, variant=variant)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_tiny_networks_expand_into_one_another() -> None:
    """Omnia-Net's keys are DX-Net's, but for the transposed convolutions: names match one to one at every size."""
    flat = omnia_net(in_channels=1, num_classes=3, patch_size=(1, 32, 32), size="tiny").state_dict()
    deep = dx_net(in_channels=1, num_classes=3, patch_size=(32, 32, 32), size="tiny").state_dict()
    assert [key for key in deep if ".trans." not in key] == list(flat)
    for key, value in flat.items():
        assert deep[key].shape[: value.ndim] == value.shape, key


# --- slices -----------------------------------------------------------------------------------------------------------


def doubled(image: Tensor) -> Tensor:
    return 2 * image


def in_two_sizes(image: Tensor) -> list[Tensor]:
    return [image, image[..., ::2, ::2]]


@pytest.mark.parametrize("network", [doubled, in_two_sizes])
def test_slices_come_back_in_place(network: Callable[[Tensor], Tensor | list[Tensor]]) -> None:
    volume = noise(2, 3, 5, 4, 6)
    outputs = slice_by_slice(network, volume)
    for number in range(2):
        for depth in range(5):
            expected = network(volume[number : number + 1, :, depth])
            if isinstance(outputs, Tensor):
                assert isinstance(expected, Tensor)
                assert torch.equal(outputs[number, :, depth], expected[0])
            else:
                for output, alone in zip(outputs, expected, strict=True):
                    assert torch.equal(output[number, :, depth], alone[0])


@pytest.mark.parametrize(("backbone", "patch"), [(unet_2d, (1, 24, 40)), (omnia_net, (1, 32, 64))])
def test_a_slice_sees_no_other_slice(backbone: Backbone, patch: Grid) -> None:
    model = backbone(in_channels=1, num_classes=3, patch_size=patch, size="tiny").eval()
    assert structure_of(model).dimension == 2
    volume = noise(1, 1, 4, *patch[1:])
    changed = volume.clone()
    changed[:, :, 2] += 1
    with torch.no_grad():
        before, after = model(volume), model(changed)
    differs = (before - after).abs().amax((0, 1, 3, 4)) > 1e-6
    assert differs.tolist() == [False, False, True, False]
    with pytest.raises(PatchError, match=rf"with D = 1; nearest valid: \(1, {patch[1]}, {patch[2]}\)"):
        backbone(in_channels=1, num_classes=3, patch_size=(8, *patch[1:]), size="tiny")


def test_a_rule_with_one_depth() -> None:
    rule = PatchRule((1, 32, 32), depth=128)
    assert rule.at_least((10, 40, 64)) == (128, 64, 64)
    assert rule.at_most((200, 70, 64)) == (128, 64, 64)
    assert "with D = 128" in str(rule)
    assert "with D" not in str(PatchRule((1, 32, 32)))


# --- DS-Net -----------------------------------------------------------------------------------------------------------


def test_ds_net_takes_one_patch_of_128_slices() -> None:
    with pytest.raises(PatchError, match=r"nearest valid: \(128, 32, 32\)"):
        ds_net(in_channels=1, num_classes=2, patch_size=(96, 32, 32), size="tiny")
    model = ds_net(in_channels=1, num_classes=2, patch_size=(128, 32, 32), size="tiny").to("meta")
    assert model(torch.zeros(1, 1, 128, 32, 32, device="meta")).shape == (1, 2, 128, 32, 32)
    for batch, depth in ((2, 128), (1, 96)):
        with pytest.raises(ValueError, match=f"one patch of 128 slices at a time, got {batch} of {depth}: set patch.batch"):
            model(torch.zeros(batch, 1, depth, 32, 32, device="meta"))


# --- residual blocks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "patch"), [(omnia_net, (1, 32, 64)), (dx_net, (32, 32, 32)), (ds_net, (128, 32, 32))])
def test_with_its_exits_at_zero_a_residual_block_is_its_shortcut(backbone: Backbone, patch: Grid) -> None:
    model = backbone(in_channels=1, num_classes=3, patch_size=patch, size="tiny").eval()
    blocks = {name: module for name, module in model.named_modules() if getattr(module, "has_skip", False)}
    assert len(blocks) >= 9
    exits = structure_of(model).residual_exits
    assert {name.rpartition(".")[0].rpartition(".")[0] for name in exits} == set(blocks)
    for name, block in blocks.items():
        first = next(module for module in block.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
        image = noise(2, first.in_channels, *([6] * len(first.kernel_size)))
        with torch.no_grad():
            assert not torch.equal(block(image), image), name
            for exit_name in exits:
                if exit_name.startswith(f"{name}."):
                    model.get_parameter(exit_name).zero_()
            assert torch.equal(block(image), image), name
