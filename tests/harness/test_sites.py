"""The fan table: what each parameter is, and how many values it really sums."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import initbench
from initbench import registry
from initbench.harness.sites import find_sites
from initbench.protocols import Site, structure_of
from tests.networks import PATCHES, patch_of, tiny


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


# --- backbones --------------------------------------------------------------------------------------------------------

BACKBONES = (*PATCHES, "unetrpp(variant=tumor)")
"""Networks with every kind of layer there is here."""
OTHER = (".gamma", ".pos_embed", ".temperature", ".temperature2", "relative_position_bias_table", "position_embeddings")
"""What no law draws, by the endings of the names."""


def own_table(model: nn.Module) -> dict[str, Site]:
    return {site.name: site for site in find_sites(model, structure_of(model).projections)}


def test_the_cases_are_every_backbone() -> None:
    assert {case.partition("(")[0] for case in BACKBONES} == set(registry.names("backbone"))


@pytest.mark.parametrize("case", BACKBONES)
def test_every_parameter_of_a_backbone_has_the_role_of_its_layer(case: str) -> None:
    """By what the layers say of themselves, module by module, where the table goes by the names of parameters."""
    model = tiny(case, deep_supervision=True)
    found = own_table(model)
    expected: dict[int, tuple[str, int, int]] = {}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            expected[id(module.weight)] = ("linear", module.in_features, module.out_features)
        elif isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
            taps = math.prod(module.kernel_size) / math.prod(module.stride)  # per position, on average
            fan_in = round(module.weight.shape[0] * taps)
            expected[id(module.weight)] = ("transposed-conv", fan_in, module.weight[0].numel())
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            kernel = module.weight[0, 0].numel()
            outputs = module.weight.shape[0] // module.groups
            expected[id(module.weight)] = ("conv", module.weight[0].numel(), outputs * kernel)
    for name, parameter in model.named_parameters():
        site = found[name]
        if id(parameter) in expected:
            assert (site.role, site.fan_in, site.fan_out) == expected[id(parameter)], name
        elif name.endswith(".EF"):
            assert (site.role, site.fan_in, site.fan_out) == ("projection", *parameter.shape), name
        elif name.endswith(OTHER):
            assert site.role == "other", name
        else:
            assert site.role in ("bias", "norm"), name
            assert name.endswith((".weight", ".bias")), name
    assert len(found) == len(list(model.parameters()))


def test_raw_projections_are_tumors_and_the_tied_ones_of_synapse_stand_once() -> None:
    for variant, endings in (("synapse", {"E"}), ("lung", {"E", "F"}), ("tumor", {"EF"})):
        model = tiny(f"unetrpp(variant={variant})", deep_supervision=True)
        rows = [name for name in own_table(model) if ".epa_block." in name]
        blocks = {name.partition(".epa_block.")[0] for name in rows}
        for block in blocks:
            parts = [name.removeprefix(f"{block}.epa_block.").partition(".")[0] for name in rows if name.startswith(block)]
            assert endings == {part for part in parts if part in ("E", "F", "EF")}
            weights = [name for name in rows if name.startswith(f"{block}.epa_block.E.")]
            assert weights == ([] if variant == "tumor" else [f"{block}.epa_block.E.weight", f"{block}.epa_block.E.bias"])
    names = [name for name, _ in tiny("unetrpp", deep_supervision=True).named_parameters(remove_duplicate=False)]
    assert [name for name in names if ".epa_block.F." in name]  # the state dict has them twice


def test_unet_has_every_weight_once_under_its_first_name() -> None:
    model = tiny("unet", deep_supervision=True)
    found = own_table(model)
    assert not [name for name in found if "all_modules" in name or name.startswith("decoder.encoder.")]
    assert {site.role for site in found.values()} == {"conv", "transposed-conv", "bias", "norm"}


CONVOLUTIONS = ("conv", "transposed-conv")
RANDOM = (
    "uniform",
    "xavier-uniform",
    "xavier-normal",
    "kaiming-uniform",
    "kaiming-normal",
    "trunc-normal",
    "he-leaky",
    "orthogonal",
    "lsuv",
)


@pytest.mark.parametrize("case", [case for case in BACKBONES if not case.endswith(("synapse)", "ds-net"))])
def test_random_schemes_leave_finite_weights_and_all_norms_tables_and_scales(case: str) -> None:
    model = tiny(case, deep_supervision=True)
    constructed = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    sites = own_table(model)
    volume = torch.rand(1, 40, 96, 96, generator=torch.Generator().manual_seed(0)).numpy()
    for init in RANDOM:
        initbench.initialize(model, init, data=[volume], device="cpu", assignments=["pretext.batch=1"])
        drawn = CONVOLUTIONS if init == "he-leaky" else (*CONVOLUTIONS, "linear", "projection")
        for name, parameter in model.named_parameters():
            site = sites[name]
            assert bool(parameter.isfinite().all()), (init, name)
            if site.role in ("norm", "other"):
                assert torch.equal(parameter, constructed[name]), (init, name)
            elif site.role in drawn:
                assert not torch.equal(parameter, constructed[name]), (init, name)
        assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
        d, h, w = patch_of(case)
        with torch.no_grad():
            outputs = model.eval()(torch.from_numpy(volume[None, :, :d, :h, :w]))
        assert all(bool(output.isfinite().all()) for output in outputs), init
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(constructed[name])
