"""TransUNet, Swin-Unet and MISSFormer against recordings of the authors' code, and what they promise beside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from initbench.backbones import missformer as miss
from initbench.backbones import swin_unet as swin
from initbench.backbones import transunet as trans
from initbench.backbones.slices import SliceNetwork, in_colours
from initbench.protocols import Backbone, Grid, PatchError, structure_of
from tests.backbones.built import noise
from tests.backbones.filled import check_gradients, check_keys, fill
from tests.recordings import Json, check_outputs, mean_square, recorded_input
from tests.shared_data import shared

Builder = Callable[[int, int, Grid], nn.Module]


def _transunet(units: tuple[int, int, int], skips: int) -> Builder:
    widths = trans.Widths(32, units, 48, 96, 4, 2, 512, (32, 24, 16, 8), skips)
    return lambda channels, classes, patch: trans.TransUNet(channels, classes, patch, widths, as_list=False)


def _swin_unet(window: int) -> Builder:
    widths = swin.Widths(24, (3, 6, 12, 24), window)
    return lambda channels, classes, patch: swin.SwinUnet(channels, classes, patch, widths, as_list=False)


def _tiny(backbone: Backbone) -> Builder:
    return lambda channels, classes, patch: backbone(in_channels=channels, num_classes=classes, patch_size=patch, size="tiny")


def _paper(backbone: Backbone) -> Builder:
    return lambda channels, classes, patch: backbone(in_channels=channels, num_classes=classes, patch_size=patch)


@dataclass(frozen=True)
class Recorded:
    """A recording: its name, the channels of the image, and what of ours computes the same.

    `slow`: its outputs are compared in the full run alone.
    """

    name: str
    channels: int
    build: Builder
    slow: bool = False

    def read(self, kind: str) -> Json:
        loaded: Json = json.loads(shared("parity", f"{self.name}.{kind}.json").read_text())
        return loaded

    def model(self, recording: Json) -> SliceNetwork:
        height, width = recording["crop"]
        model = self.build(self.channels, recording["classes"], (1, height, width))
        assert isinstance(model, SliceNetwork)
        return model


RECORDED = [
    Recorded("transunet_tiny", 3, _transunet((1, 2, 1), skips=3)),
    Recorded("transunet_tiny_odd", 1, _transunet((2, 1, 2), skips=2)),
    Recorded("transunet_r50b16_c9", 1, _paper(trans.transunet), slow=True),
    Recorded("swinunet_tiny", 3, _swin_unet(window=4)),
    Recorded("swinunet_tiny_w7", 1, _swin_unet(window=6)),
    Recorded("swinunet_tiny224_c9", 1, _paper(swin.swin_unet), slow=True),
    Recorded("missformer_small", 3, _paper(miss.missformer)),
    Recorded("missformer_small96", 1, _paper(miss.missformer)),
    Recorded("missformer_c9", 1, _paper(miss.missformer), slow=True),
]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
def test_keys_order_shapes_and_parameters(recorded: Recorded) -> None:
    recording = recorded.read("keys")
    with torch.device("meta"):
        model = recorded.model(recording)
    check_keys(model, recording)


@pytest.mark.parametrize(
    "recorded", [pytest.param(item, id=item.name, marks=pytest.mark.full if item.slow else ()) for item in RECORDED]
)
def test_outputs_and_gradients_in_float64(recorded: Recorded) -> None:
    """At paper size outputs were recorded and no gradients. A key's bias has a gradient of 0, but for rounding."""
    recording = recorded.read("forward")
    model = recorded.model(recording).eval()
    assert fill(model, kept=recording["not_filled"]) == recording["fill_sha256"]
    model.double()
    output = model.of_slices(recorded_input(recording).double())
    expected = recording["float64_run"]
    check_outputs([output], expected["outputs"], 1e-10)
    if "grad_l2" in expected:
        loss = mean_square([output])
        assert float(loss.detach()) == pytest.approx(expected["loss_mean_square_all_outputs"], rel=1e-10)
        loss.backward()
        check_gradients(model, expected["grad_l2"], recording["grad_none"], 1e-8, 1e-18)


@pytest.mark.parametrize(
    ("backbone", "parameters", "unused"),
    [(trans.transunet, 105_277_081, 0), (swin.swin_unet, 27_168_900, 0), (miss.missformer, 42_462_537, 7_009_792)],
)
def test_paper_is_the_released_network_to_the_parameter(backbone: Backbone, parameters: int, unused: int) -> None:
    with torch.device("meta"):
        model = backbone(in_channels=1, num_classes=9, patch_size=(1, 224, 224))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(model.get_parameter(name).numel() for name in structure_of(model).unused) == unused


NETWORKS: list[tuple[Backbone, Grid]] = [
    (trans.transunet, (1, 32, 48)),
    (swin.swin_unet, (1, 64, 32)),
    (miss.missformer, (1, 64, 32)),
]


@pytest.mark.parametrize(("backbone", "patch"), NETWORKS)
def test_a_slice_sees_no_other_slice(backbone: Backbone, patch: Grid) -> None:
    model = backbone(in_channels=1, num_classes=3, patch_size=patch, size="tiny").eval()
    assert structure_of(model).dimension == 2
    volume = noise(1, 1, 3, *patch[1:])
    changed = volume.clone()
    changed[:, :, 1] += 1
    with torch.no_grad():
        before, after = model(volume), model(changed)
    assert before.shape == (1, 3, 3, *patch[1:])
    differs = (before - after).abs().amax((0, 1, 3, 4)) > 1e-6
    assert differs.tolist() == [False, True, False]
    with pytest.raises(PatchError, match=rf"with D = 1.*nearest valid: \(1, {patch[1]}, {patch[2]}\)"):
        backbone(in_channels=1, num_classes=3, patch_size=(8, *patch[1:]), size="tiny")


def test_one_channel_is_three_colours_and_others_are_themselves() -> None:
    grey, several = noise(2, 1, 4, 6), noise(2, 4, 4, 6)
    assert torch.equal(in_colours(grey), grey.repeat(1, 3, 1, 1))
    assert in_colours(several) is several
    for backbone, patch in NETWORKS:
        widths = []
        for channels in (1, 3, 4):
            with torch.device("meta"):
                model = backbone(in_channels=channels, num_classes=2, patch_size=patch, size="tiny")
            stem = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
            widths.append(stem.in_channels)
        assert widths == [3, 3, 4]


def test_windows_that_do_not_divide_the_grid_are_padded() -> None:
    """Paper's windows of 7 on a grid of 24 x 16; the release has no such grid."""
    widths = swin.Widths(12, (1, 1, 2, 2), 7)
    model = swin.SwinUnet(1, 2, (1, 96, 64), widths, as_list=False).eval()
    with torch.no_grad():
        assert model(noise(1, 1, 1, 96, 64)).shape == (1, 2, 1, 96, 64)


def residual_blocks(model: nn.Module) -> dict[str, tuple[nn.Module, Tensor]]:
    """Every block whose shortcut is its input, with such an input."""
    kinds = (trans.Layer, trans.Unit, swin.Block, miss.Block, miss.BridgeLayer)
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    for name, module in model.named_modules():
        if not isinstance(module, kinds) or name.startswith("decoder_3.") or getattr(module, "has_projection", False):
            continue
        seen: list[Tensor] = []
        handle = module.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            patch = structure_of(model).patch_size
            model(noise(1, 1, *patch))
        handle.remove()
        found[name] = (module, seen[0])
    return found


@pytest.mark.parametrize(
    ("build", "count"), [(_transunet((1, 2, 1), skips=3), 3), (_swin_unet(window=4), 14), (_tiny(miss.missformer), 18)]
)
def test_with_its_exits_at_zero_a_residual_block_is_its_shortcut(build: Builder, count: int) -> None:
    model = build(1, 3, (1, 32, 32)).eval()
    blocks = residual_blocks(model)
    assert len(blocks) == count
    before = {name: block(image) for name, (block, image) in blocks.items()}
    with torch.no_grad():
        for name in structure_of(model).residual_exits:
            model.get_parameter(name).zero_()
        for name, (block, image) in blocks.items():
            assert not torch.equal(before[name], image), name
            assert torch.equal(block(image), image), name


# --- their own initialization -----------------------------------------------------------------------------------------


@pytest.fixture
def seeded() -> Iterator[None]:
    """The networks here draw from the global generator; small weights have laws that another seed may miss by a tenth."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.usefixtures("seeded")
def test_transunet_draws_its_feed_forward_layers_and_leaves_positions_at_zero() -> None:
    model = trans.transunet(in_channels=1, num_classes=3, patch_size=(1, 32, 32), size="tiny")
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    bound = (6 / (48 + 96)) ** 0.5
    for name in ("fc1", "fc2"):
        weight = weights[f"transformer.encoder.layer.0.ffn.{name}.weight"]
        assert bound * 0.98 < float(weight.abs().max()) <= bound
        assert 0 < float(weights[f"transformer.encoder.layer.0.ffn.{name}.bias"].abs().max()) < 1e-5
    assert not weights["transformer.embeddings.position_embeddings"].any()


@pytest.mark.usefixtures("seeded")
def test_swin_unet_draws_linear_layers_narrowly_and_convolutions_as_torch_does() -> None:
    model = swin.swin_unet(in_channels=1, num_classes=3, patch_size=(1, 32, 32), size="tiny")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.1), name
            assert module.bias is None or not module.bias.any(), name
    embedding = model.get_parameter("swin_unet.patch_embed.proj.weight").detach()
    assert float(embedding.std()) == pytest.approx((3 * 48) ** -0.5, rel=0.1)


def test_missformer_draws_its_decoder_alone() -> None:
    model = miss.missformer(in_channels=1, num_classes=3, patch_size=(1, 32, 32), size="tiny")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            assert bool(module.bias.any()) != name.startswith("decoder_"), name
