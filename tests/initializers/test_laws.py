"""The data-independent initializers draw the law they name, with fans counted right, from nobody's generator but their own."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

import initbench
from initbench.errors import UsageError
from initbench.protocols import Structure, structure_of

# (fan_in, fan_out) by hand; every layer holds more than 10^4 weights.
FANS = {
    "linear.weight": (160, 120),
    "conv.weight": (12 * 27, 40 * 27),
    "grouped.weight": (12 * 27, 24 * 27),
    "up.weight": (64, 24 * 8),
    "grouped_up.weight": (32, 24 * 8),
    "overlapping.weight": (16 * 8, 12 * 64),
    "projection": (120, 90),
}
LINEAR = {"linear.weight", "projection"}
CONV = set(FANS) - LINEAR
UNTOUCHED = {"norm.weight", "norm.bias", "group_norm.weight", "group_norm.bias", "table", "activation.weight"}


def network(*, reverse: bool = False) -> nn.Module:
    """Every kind of layer; `reverse` registers the same names in the opposite order."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = {
            "linear": nn.Linear(160, 120),
            "conv": nn.Conv3d(12, 40, 3, stride=2),
            "grouped": nn.Conv3d(24, 48, 3, groups=2),
            "up": nn.ConvTranspose3d(64, 24, 2, stride=2),
            "grouped_up": nn.ConvTranspose3d(64, 48, 2, stride=2, groups=2),
            "overlapping": nn.ConvTranspose3d(16, 12, 4, stride=2),
            "norm": nn.LayerNorm(160),
            "group_norm": nn.GroupNorm(4, 40),
            "activation": nn.PReLU(),
        }
        tables = {"projection": nn.Parameter(torch.randn(120, 90)), "table": nn.Parameter(torch.randn(1, 6, 8))}
    model = nn.Module()
    step = -1 if reverse else 1
    for name, layer in list(layers.items())[::step]:
        model.add_module(name, layer)
    for name, parameter in list(tables.items())[::step]:
        model.register_parameter(name, parameter)
    model.structure = Structure((8, 8, 8), (), (), projections=("projection",))
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def drawn(init: str, *, seed: int = 0, reverse: bool = False) -> dict[str, Tensor]:
    model = network(reverse=reverse)
    initbench.initialize(model, init, seed=seed, device="cpu")
    return weights(model)


def changed(init: str) -> set[str]:
    before, after = weights(network()), drawn(init)
    return {name for name in before if not torch.equal(before[name], after[name])}


def law(init: str, fan_in: int, fan_out: int) -> Any:
    """The law an initializer names, with its defaults."""
    return {
        "uniform": lambda: _uniform(1 / math.sqrt(fan_in)),
        "xavier-uniform": lambda: _uniform(math.sqrt(6 / (fan_in + fan_out))),
        "xavier-normal": lambda: stats.norm(scale=math.sqrt(2 / (fan_in + fan_out))),
        "kaiming-uniform": lambda: _uniform(math.sqrt(6 / fan_in)),
        "kaiming-normal": lambda: stats.norm(scale=math.sqrt(2 / fan_in)),
        "trunc-normal": lambda: stats.truncnorm(-100, 100, scale=0.02),
        "he-leaky(scope='linear+conv')": lambda: stats.norm(scale=math.sqrt(2 / (1.0001 * fan_in))),
    }[init]()


def _uniform(bound: float) -> Any:
    return stats.uniform(-bound, 2 * bound)


def p_value(values: Tensor, expected: Any) -> float:
    flat: NDArray[np.float64] = values.flatten().double().numpy()
    assert flat.size >= 10_000
    return float(stats.kstest(flat, expected.cdf).pvalue)


LAWS = [
    "uniform",
    "xavier-uniform",
    "xavier-normal",
    "kaiming-uniform",
    "kaiming-normal",
    "trunc-normal",
    "he-leaky(scope='linear+conv')",
]
"""Random laws as they draw every layer."""
INITS = [law.partition("(")[0] for law in LAWS] + ["orthogonal"]
"""Everything that draws weights and looks at no data."""


@pytest.mark.parametrize("init", LAWS)
def test_every_layer_follows_the_law_with_its_fans(init: str) -> None:
    found = drawn(init)
    p_values = {name: p_value(found[name], law(init, *fans)) for name, fans in FANS.items()}
    assert min(p_values.values()) > 1e-3, p_values


@pytest.mark.parametrize("init", [init for init in LAWS if init != "trunc-normal"])
def test_the_check_catches_a_fan_that_is_off_by_a_factor_of_two(init: str) -> None:
    for name, (fan_in, fan_out) in FANS.items():
        wrong = drawn(init)[name] * math.sqrt(2)
        assert p_value(wrong, law(init, fan_in, fan_out)) < 1e-12
        assert p_value(drawn(init)[name], law(init, 2 * fan_in, 2 * fan_out)) < 1e-12


@pytest.mark.parametrize("init", ["uniform", "kaiming-uniform", "kaiming-normal", "he-leaky(scope='linear+conv')"])
def test_the_check_catches_torchs_fan_of_a_transposed_convolution(init: str) -> None:
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(network().get_parameter("up.weight"))
    assert fan_in == 24 * 8
    assert p_value(drawn(init)["up.weight"], law(init, fan_in, fan_out)) < 1e-12


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("xavier-uniform(gain=2.0)", lambda i, o: _uniform(2 * math.sqrt(6 / (i + o)))),
        ("xavier-normal(gain=0.5)", lambda i, o: stats.norm(scale=0.5 * math.sqrt(2 / (i + o)))),
        ("kaiming-uniform(mode=fan_out)", lambda i, o: _uniform(math.sqrt(6 / o))),
        ("kaiming-normal(mode=fan_out, gain=1.0)", lambda i, o: stats.norm(scale=1 / math.sqrt(o))),
        ("he-leaky(slope=1.0, scope='linear+conv')", lambda i, o: stats.norm(scale=1 / math.sqrt(i))),
        ("he-leaky(mode=fan_out, slope=0, scope='linear+conv')", lambda i, o: stats.norm(scale=math.sqrt(2 / o))),
        ("trunc-normal(std=0.1)", lambda i, o: stats.norm(scale=0.1)),
        ("trunc-normal(bound=0.03)", lambda i, o: stats.truncnorm(-1.5, 1.5, scale=0.02)),
    ],
)
def test_parameters_scale_the_law(init: str, expected: Any) -> None:
    found = drawn(init)
    p_values = {name: p_value(found[name], expected(*fans)) for name, fans in FANS.items()}
    assert min(p_values.values()) > 1e-3, p_values


def test_a_truncated_law_keeps_its_bound() -> None:
    assert max(float(drawn("trunc-normal(bound=0.03)")[name].abs().max()) for name in FANS) <= 0.03


@pytest.mark.parametrize("name", ["linear.weight", "conv.weight"])
@pytest.mark.parametrize(
    ("init", "reference"),
    [
        ("xavier-uniform", nn.init.xavier_uniform_),
        ("xavier-normal", nn.init.xavier_normal_),
        ("kaiming-uniform", nn.init.kaiming_uniform_),
        ("kaiming-normal", nn.init.kaiming_normal_),
    ],
)
def test_plain_layers_agree_with_torch(name: str, init: str, reference: Any) -> None:
    expected = reference(torch.empty_like(network().get_parameter(name)), generator=torch.Generator().manual_seed(9))
    found = drawn(init)[name]
    assert float(found.std()) == pytest.approx(float(expected.std()), rel=0.03)
    assert stats.ks_2samp(found.flatten().numpy(), expected.flatten().numpy()).pvalue > 1e-3


def test_he_leaky_is_nnunets_law_of_plain_convolutions() -> None:
    expected = nn.init.kaiming_normal_(torch.empty(40, 12, 3, 3, 3), a=1e-2, generator=torch.Generator().manual_seed(9))
    found = drawn("he-leaky")["conv.weight"]
    assert float(found.std()) == pytest.approx(float(expected.std()), rel=0.03)
    assert stats.ks_2samp(found.flatten().numpy(), expected.flatten().numpy()).pvalue > 1e-3


def test_uniform_is_what_torch_layers_draw_themselves() -> None:
    for name in ("linear.weight", "conv.weight", "grouped.weight"):
        own = network().get_parameter(name).detach()
        assert stats.ks_2samp(own.flatten().numpy(), drawn("uniform")[name].flatten().numpy()).pvalue > 1e-3


# --- scope and bias ---------------------------------------------------------------------------------------------------


def biases(names: set[str]) -> set[str]:
    return {name.replace("weight", "bias") for name in names if name.endswith(".weight")}


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize(("scope", "names"), [("linear", LINEAR), ("conv", CONV), ("linear+conv", LINEAR | CONV)])
def test_scope_says_which_layers_are_drawn(init: str, scope: str, names: set[str]) -> None:
    quoted = f"'{scope}'" if "+" in scope else scope
    assert changed(f"{init}(scope={quoted}, bias=keep)") == names
    assert changed(f"{init}(scope={quoted}, bias=zero)") == names | biases(names)


@pytest.mark.parametrize("init", [init for init in INITS if init != "he-leaky"])
def test_the_default_draws_everything_but_norms_and_tables(init: str) -> None:
    expected = set(FANS) if init == "uniform" else set(FANS) | biases(set(FANS))
    assert changed(init) == expected
    found = drawn(init)
    zero = {name for name in found if name.endswith("bias") and not found[name].any()}
    assert zero == {"norm.bias", "group_norm.bias"} | (set() if init == "uniform" else biases(set(FANS)))
    assert not UNTOUCHED & changed(init)


def test_he_leaky_draws_convolutions_unless_told_otherwise() -> None:
    assert changed("he-leaky") == CONV | biases(CONV)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("xavier-normal(scope=norms)", "scope='norms': it has to be 'linear', 'conv' or 'linear.conv'"),
        ("uniform(bias=one)", "bias='one': it has to be 'zero' or 'keep'"),
        ("kaiming-normal(mode=fan_avg)", "mode='fan_avg': it has to be 'fan_in' or 'fan_out'"),
        ("xavier-normal(mode=fan_in)", "takes no mode; its parameters: gain=1.0"),
        ("xavier-norml", "did you mean xavier-normal"),
        ("xavier-uniform(gain=0)", "gain is a finite number above 0, got 0"),
        ("xavier-normal(gain=-1.0)", "gain is a finite number above 0, got -1.0"),
        ("kaiming-uniform(gain=relu)", "gain='relu': it has to be a valid number"),
        ("kaiming-normal(gain=True)", "gain=True: it has to be a valid number"),
        ("kaiming-uniform(mode=both)", "mode='both': it has to be 'fan_in' or 'fan_out'"),
        ("trunc-normal(std=0.0)", "std is a finite number above 0, got 0.0"),
        ("trunc-normal(bound=-2.0)", "bound is a finite number above 0, got -2.0"),
        ("he-leaky(slope=steep)", "slope='steep': it has to be a valid number"),
        ("he-leaky(scope=all)", "scope='all': it has to be 'linear', 'conv' or 'linear.conv'"),
        ("orthogonal(gain=0.0)", "gain is a finite number above 0, got 0.0"),
        ("orthogonal(bias=2)", "bias=2: it has to be 'zero' or 'keep'"),
        ("orthogonal(mode=fan_in)", "takes no mode; its parameters: gain=1.0"),
    ],
)
def test_what_does_not_exist_is_refused(init: str, message: str) -> None:
    model = network()
    before = weights(model)
    with pytest.raises(UsageError, match=message):
        initbench.initialize(model, init)
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())


# --- where the numbers come from --------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", INITS)
def test_same_seed_same_bits_in_any_order_and_under_any_global_seed(init: str) -> None:
    first = drawn(init, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        second = drawn(init, seed=3, reverse=True)
    assert list(first) != list(second)
    assert {name for name in first if not torch.equal(first[name], second[name])} == set()


@pytest.mark.parametrize("init", INITS)
def test_no_global_generator_is_read_or_moved(init: str) -> None:
    model = network()
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    initbench.initialize(model, init, device="cpu")
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tolist() == numpy_state
    assert random.getstate() == python_state


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("init", INITS)
def test_another_seed_gives_independent_numbers(init: str) -> None:
    first, second = drawn(init, seed=0), drawn(init, seed=1)
    assert max(abs(correlation(first[name], second[name])) for name in FANS.keys() & changed(init)) < 0.05


def test_two_layers_of_a_shape_get_independent_numbers() -> None:
    model = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 100))
    initbench.initialize(model, "xavier-normal")
    assert abs(correlation(model[0].weight.detach(), model[1].weight.detach())) < 0.05


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("xavier-normal", "kaiming-normal"),
        ("xavier-uniform", "uniform"),
        ("xavier-normal", "xavier-normal(gain=2.0)"),
        ("kaiming-normal", "kaiming-normal(mode=fan_out)"),
    ],
)
def test_two_inits_share_no_numbers(one: str, other: str) -> None:
    first, second = drawn(one), drawn(other)
    assert max(abs(correlation(first[name], second[name])) for name in FANS) < 0.05


def test_a_spelled_out_default_is_the_same_init() -> None:
    first, second = drawn("xavier-normal"), drawn("xavier-normal( bias='zero',gain=1.0 )")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_heads_are_redrawn_the_same_for_every_init() -> None:
    models = {init: nn.ModuleDict({"body": nn.Conv3d(1, 4, 3), "out": nn.Conv3d(4, 2, 1)}) for init in ("default", *INITS)}
    for init, model in models.items():
        initbench.initialize(model, init, seed=5, heads=["out"])
    heads = [model.get_submodule("out").state_dict() for model in models.values()]
    assert all(torch.equal(head[key], heads[0][key]) for head in heads for key in ("weight", "bias"))
    assert structure_of(network()).heads == ()
