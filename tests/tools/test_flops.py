"""Multiply-adds against layers counted by hand and fvcore's counts of the published networks; what describe makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from initbench.cli.show import _describe, _reflow
from initbench.harness.build import build
from initbench.protocols import Size
from initbench.spec import parse
from initbench.tools.describe import describe
from initbench.tools.flops import multiply_adds
from tests import recordings
from tests.runs_factory import LIGHT, LIGHT_FILE

COUNTED = ("conv", "linear", "matmul", "einsum", "addmm")  # of fvcore's; it counts norms too
PUBLISHED = [("unetr", f"unetr_{variant}_c14", variant) for variant in ("perceptron", "conv")]
PUBLISHED += [("swin-unetr", f"swinunetr_c{n}", "default") for n in (2, 14)]
PUBLISHED += [("unetrpp", f"unetrpp_{variant}", variant) for variant in ("synapse", "lung", "acdc", "tumor")]
PUBLISHED += [("nnformer", f"nnformer_{variant}", variant) for variant in ("synapse", "acdc", "tumor")]


@pytest.mark.parametrize(("backbone", "recording", "variant"), PUBLISHED, ids=[name for _, name, _ in PUBLISHED])
def test_the_published_networks_have_fvcores_count(backbone: str, recording: str, variant: str) -> None:
    measured = recordings.measured(recording)
    patch, channels = tuple(measured["crop"]), measured["in_channels"]
    # MONAI reads numbers from tensors while it builds Swin UNETR; the others need no memory.
    with torch.device("cpu" if backbone == "swin-unetr" else "meta"):
        model = build(
            backbone,
            in_channels=channels,
            num_classes=measured["classes"],
            patch_size=patch,
            variant=variant,
            deep_supervision=backbone in ("unetrpp", "nnformer"),  # as they were recorded
        )
    expected = sum(number for operator, number in measured["flops_by_operator"].items() if operator in COUNTED)
    # fvcore rounds sums of attention to another order of the product: two millionths at most.
    assert multiply_adds(model, channels, patch) == pytest.approx(expected, rel=5e-6)


class Layers(nn.Module):
    """One of each kind, on (4, 6, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 6, (3, 1, 3), stride=(1, 2, 2), padding=(1, 0, 1), groups=2)
        self.norm = nn.InstanceNorm3d(6, affine=True)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(6, 10)
        self.up = nn.ConvTranspose3d(10, 4, (1, 2, 2), stride=(1, 2, 2))
        self.out = nn.Conv3d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        y = nn.functional.scaled_dot_product_attention(y, y, y)
        y = self.linear(y).transpose(1, 2).reshape(-1, 10, 4, 3, 4)
        logits: Tensor = self.out(torch.relu(self.up(y)))
        return logits


def test_layers_by_hand() -> None:
    coarse, fine = 4 * 3 * 4, 4 * 6 * 8
    conv = coarse * 6 * (2 // 2) * 3 * 3
    attention = 2 * coarse * coarse * 6
    linear = coarse * 6 * 10
    up = coarse * 10 * 4 * 4  # every input voxel feeds its 1 x 2 x 2 outputs
    out = fine * 4 * 3
    assert multiply_adds(Layers(), 2, (4, 6, 8)) == conv + attention + linear + up + out


def test_the_network_stays_as_it_is() -> None:
    model = Layers().train()
    model.linear.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    multiply_adds(model, 2, (4, 6, 8))
    assert model.training
    assert not model.linear.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_twice_the_volume_is_twice_the_work_of_a_convolutional_network() -> None:
    model = build("unet", in_channels=1, num_classes=2, patch_size=(16, 16, 16), size="tiny")
    assert multiply_adds(model, 1, (32, 16, 16)) == 2 * multiply_adds(model, 1, (16, 16, 16))


# --- describe ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["paper", "tiny"])
def test_describe_counts_what_it_builds(size: Size) -> None:
    table = describe("backbone", parse("unet"))
    model = build("unet", in_channels=1, num_classes=2, patch_size=(48, 96, 96), size=size)
    assert "(48, 96, 96)" in table["measured at"]
    assert float(table[f"{size} GMACs"]) == pytest.approx(multiply_adds(model, 1, (48, 96, 96)) / 1e9, rel=1e-3)
    idle = sum(p.numel() for head in list(table["heads"])[:-1] for p in model.get_submodule(head).parameters())
    assert table[f"{size} parameters"] == f"{sum(p.numel() for p in model.parameters()) - idle:,}"
    assert len(table[f"{size} levels"]) == 5
    assert (table["source"].partition("==")[0], table["licence"]) == ("dynamic-network-architectures", "Apache-2.0")


def test_describe_says_what_published_weights_were_trained_on() -> None:
    key = "axes of published weights"
    assert describe("backbone", parse("unet"))[key] == "DHW"
    assert describe("backbone", parse("unetr"))[key] == "WHD, where this network sees DHW; variant perceptron-xyz takes them"
    assert describe("backbone", parse("unetr(variant=perceptron-xyz)"))[key] == "WHD"


@pytest.mark.parametrize(
    ("line", "error"),
    [("assert x.sum().item() < 1e9", RuntimeError), ("torch.unique(x)", NotImplementedError)],
)
def test_describe_a_plug_in_whose_arithmetic_cannot_be_counted(line: str, error: type[Exception], tmp_path: Path) -> None:
    file = tmp_path / f"reads_values_{error.__name__}.py"
    source = LIGHT_FILE.read_text()
    file.write_text(source.replace("fine = torch.relu", f"{line}\n        fine = torch.relu"))
    model = build(f"{file}:light", in_channels=1, num_classes=2, patch_size=(16, 16, 16), size="tiny")
    with pytest.raises(error) as caught:
        multiply_adds(model, 1, (16, 16, 16))
    assert type(caught.value) is error, "the one is a kind of the other"
    assert describe("backbone", parse(f"{file}:light"))["tiny GMACs"].startswith("not counted: ")
    assert float(describe("backbone", parse(LIGHT))["tiny GMACs"]) > 0


def test_describe_knows_backbones_and_initializers_of_a_file_apart(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from initbench.protocols import initializer\n\n@initializer(learned=True)\ndef mine(model, ctx):\n    pass\n"
    )
    assert _describe(LIGHT)["heads"] == ["out"]
    assert _describe(f"{file}:mine")["learned"]
    assert _describe(LIGHT.replace(":light", ":one"))["parameters"] == {}


def test_docstrings_fit_any_terminal() -> None:
    text = "Title of\nit.\n\nPaper: a,\nb.\nSource: c.\n\n- one\n  and on\n- two\n"
    assert _reflow(text) == "Title of it.\n\nPaper: a, b.\nSource: c.\n\n- one and on\n- two"
    parameters = "Title.\n\nArgs:\n    one: what\n        it is.\n    two: else.\n\nWith z::\n\n    a = b\n    c = d\n\nAs\nsaid."
    assert _reflow(parameters) == (
        "Title.\n\nArgs:\n- one: what it is.\n- two: else.\n\nWith z::\n\n    a = b\n    c = d\n\nAs said."
    )
