"""The fan table: what each parameter is, and how many values it really sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from initbench.harness.sites import find_sites
from initbench.protocols import Site


def table(model: nn.Module, *projections: str) -> dict[str, Site]:
    return {site.name: site for site in find_sites(model, projections)}


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("layer", "role", "fan_in", "fan_out"),
    [
        (nn.Linear(7, 5), "linear", 7, 5),
        (nn.Conv3d(6, 4, 3), "conv", 6 * 27, 4 * 27),
        (nn.Conv3d(6, 4, (1, 3, 5)), "conv", 6 * 15, 4 * 15),
        (nn.Conv3d(6, 4, 3, groups=2), "conv", 3 * 27, 2 * 27),
        (nn.Conv3d(6, 6, 3, groups=6), "conv", 27, 27),
        (nn.Conv2d(6, 4, 3), "conv", 6 * 9, 4 * 9),
        (nn.Conv1d(6, 4, 3), "conv", 6 * 3, 4 * 3),
        (nn.ConvTranspose3d(6, 4, 2, stride=2), "transposed-conv", 6, 4 * 8),
        (nn.ConvTranspose3d(6, 4, 2, stride=2, groups=2), "transposed-conv", 3, 2 * 8),
        (nn.ConvTranspose3d(6, 4, 4, stride=2), "transposed-conv", 6 * 8, 4 * 64),
        (nn.ConvTranspose3d(6, 4, 3, stride=2), "transposed-conv", 20, 4 * 27),  # 6 · 1.5³ = 20.25
        (nn.ConvTranspose3d(6, 4, 3), "transposed-conv", 6 * 27, 4 * 27),
        (nn.ConvTranspose3d(6, 4, (1, 2, 4), stride=(1, 2, 2)), "transposed-conv", 6 * 2, 4 * 8),
        (nn.ConvTranspose3d(6, 4, 1, stride=2), "transposed-conv", 6, 4),  # where it writes at all, it sums the channels
    ],
    ids=str,
)
def test_fans_of_a_layer(layer: nn.Module, role: str, fan_in: int, fan_out: int) -> None:
    found = table(nn.ModuleDict({"layer": layer}))
    assert found["layer.weight"] == Site("layer.weight", role, fan_in, fan_out, role)
    assert found["layer.bias"] == Site("layer.bias", "bias", fan_in, fan_out, role)


LINEAR_MAPS = [
    nn.Linear(96, 64),
    nn.Conv3d(24, 16, 3),
    nn.Conv3d(24, 32, 3, groups=2),
    nn.Conv3d(24, 16, 2, stride=2),
    nn.ConvTranspose3d(32, 16, 2, stride=2),
    nn.ConvTranspose3d(32, 32, 2, stride=2, groups=2),
    nn.ConvTranspose3d(32, 16, 4, stride=2),
    nn.ConvTranspose3d(32, 16, 3, stride=2),
    nn.ConvTranspose3d(32, 16, 3),
]


@pytest.mark.parametrize("layer", LINEAR_MAPS, ids=str)
def test_fan_in_is_the_variance_a_unit_input_gets(layer: nn.Module) -> None:
    with torch.no_grad():
        layer.weight.copy_(normal(*layer.weight.shape, seed=1))
        layer.bias.zero_()
        if isinstance(layer, nn.Linear):
            output = layer(normal(2000, layer.in_features, seed=2))
        else:
            output = layer(normal(4, layer.in_channels, 10, 10, 10, seed=2))
            if isinstance(layer, nn.ConvTranspose3d):  # borders sum less, and even and odd positions differ
                inner = slice(4, 4 + (output.shape[-1] - 8) // 2 * 2)
                output = output[:, :, inner, inner, inner]
    fan_in = table(layer)["weight"].fan_in
    assert float(output.var()) == pytest.approx(fan_in, rel=0.06)


@pytest.mark.parametrize("layer", [layer for layer in LINEAR_MAPS if getattr(layer, "kernel_size", ()) != (2, 2, 2)], ids=str)
def test_fan_out_is_the_variance_a_unit_gradient_gets(layer: nn.Module) -> None:
    with torch.no_grad():
        layer.weight.copy_(normal(*layer.weight.shape, seed=1))
    if isinstance(layer, nn.Linear):
        x = normal(2000, layer.in_features, seed=2).requires_grad_()
    else:
        x = normal(4, layer.in_channels, 10, 10, 10, seed=2).requires_grad_()
    output = layer(x)
    (output * normal(*output.shape, seed=3)).sum().backward()
    assert x.grad is not None
    gradient = x.grad[:, :, 2:-2, 2:-2, 2:-2] if isinstance(layer, nn.Conv3d) else x.grad  # borders of a convolution feed less
    assert float(gradient.var()) == pytest.approx(table(layer)["weight"].fan_out, rel=0.06)


def test_a_bare_matrix_is_a_projection_where_it_is_declared() -> None:
    model = nn.Module()
    model.attention = nn.Module()
    model.attention.mix = nn.Parameter(torch.zeros(5, 9))
    assert table(model, "attention.mix")["attention.mix"] == Site("attention.mix", "projection", 5, 9, "projection")
    assert table(model)["attention.mix"] == Site("attention.mix", "other", 0, 0, "other")


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.BatchNorm3d(4), nn.InstanceNorm3d(4, affine=True)], ids=str
)
def test_norms_have_no_fans(norm: nn.Module) -> None:
    assert list(table(norm).values()) == [Site("weight", "norm", 0, 0, "norm"), Site("bias", "norm", 0, 0, "norm")]


def test_what_no_scheme_knows_is_other() -> None:
    model = nn.ModuleDict({"activation": nn.PReLU(), "words": nn.Embedding(3, 4), "attention": nn.MultiheadAttention(4, 2)})
    found = table(model)
    assert {name for name, site in found.items() if site.role != "other"} == {
        "attention.out_proj.weight",
        "attention.out_proj.bias",
    }
    assert all(site.fan_in == site.fan_out == 0 for site in found.values() if site.role == "other")


def test_every_parameter_once_in_the_networks_order() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True), nn.Linear(2, 2, bias=False))
    assert [site.name for site in find_sites(model)] == [name for name, _ in model.named_parameters()]


def test_a_tied_parameter_stands_under_its_first_name() -> None:
    model = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4)})
    model["second"].weight = model["first"].weight
    assert list(table(model)) == ["first.weight", "first.bias", "second.bias"]
    shared = nn.Linear(4, 4)
    assert list(table(nn.ModuleDict({"a": shared, "b": shared}))) == ["a.weight", "a.bias"]
