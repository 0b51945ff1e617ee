"""``lsuv``: every layer's output has variance 1 on a batch of training patches, for no step of training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

import initbench
from initbench.errors import UsageError
from initbench.protocols import Grid, Structure
from initbench.recipes.load import load_recipe
from initbench.sampling.samplers import UnlabelledSampler
from initbench.sampling.volumes import make_volume
from tests.msd_factory import make_msd
from tests.recorded import record_values

PATCH: Grid = (8, 16, 16)
BODY = {"first.weight", "up.weight", "linear.weight", "last.weight"}


class Net(nn.Module):
    """Layers registered in another order than they are called in; one of them is called twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv3d(6, 5, 3, padding=1)
        self.linear = nn.Linear(6, 6)
        self.up = nn.ConvTranspose3d(8, 6, 2, stride=2)
        self.first = nn.Conv3d(1, 8, 2, stride=2)
        self.norm = nn.BatchNorm3d(8)
        self.idle = nn.Linear(3, 3)
        self.out = nn.Conv3d(5, 2, 1)
        self.structure = Structure(PATCH, (), ("out",))

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(leaky_relu(self.norm(self.first(x)), 0.1)).movedim(1, -1)
        y = self.linear(torch.tanh(self.linear(y))).movedim(-1, 1)
        return self.out(self.last(leaky_relu(y)))


def network() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


def volumes() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [(rng.random((1, *shape)) ** 2).astype(np.float32) for shape in ((12, 20, 18), (9, 24, 30))]


def lsuv(model: nn.Module, init: str = "lsuv", **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"data": volumes(), "device": "cpu", "assignments": ["pretext.batch=3"]}
    return initbench.initialize(model, init, **settings | options)


def patches(seed: int = 0) -> Tensor:
    """The batch that the harness cuts from `volumes` at step 0."""
    recipe = load_recipe("base", size="paper", backbone="", budget="paper", assignments=["preprocess.spacing=native"])
    made = [make_volume(volume, None, torch.device("cpu")) for volume in volumes()]
    return UnlabelledSampler(made, PATCH, 3, recipe.augment, seed).batch(0).image


def variances(model: nn.Module, image: Tensor) -> dict[str, float]:
    """Output variance of every layer at its first call."""
    found: dict[str, float] = {}

    def measure(module: nn.Module, inputs: object, output: Tensor) -> None:
        found.setdefault(names[module], float(output.var(correction=0)))

    names = {module: f"{name}.weight" for name, module in model.named_modules() if hasattr(module, "weight")}
    handles = [module.register_forward_hook(measure) for module in names]
    with torch.no_grad():
        model.eval()(image)
    for handle in handles:
        handle.remove()
    return found


def test_every_layer_has_output_variance_one() -> None:
    model = network()
    coverage = lsuv(model)
    found = variances(model, patches())
    assert {name: found[name] for name in BODY} == pytest.approx(dict.fromkeys(BODY, 1), abs=0.1)
    before = network()
    lsuv(before, "orthogonal")
    drawn = variances(before, patches())
    assert max(abs(drawn[name] - 1) for name in BODY) > 0.3
    report = coverage["report"]
    assert list(report["scaled"]) == ["first.weight", "up.weight", "linear.weight", "last.weight"]  # as they are called
    assert report["skipped"] == {"idle.weight": "never called"}
    assert report["summary"] == "4 layers have output variance 1 within 0.1; 1 left as drawn (never called)"
    for name in BODY:
        assert report["scaled"][name]["variance"] == pytest.approx(found[name], abs=1e-5)


def naive(model: nn.Module, order: list[str], image: Tensor, tolerance: float, trials: int) -> None:
    """Algorithm 1 as it is written: the whole network again for every layer and trial."""
    for name in order:
        for _ in range(trials):
            variance = variances(model, image)[name]
            if abs(variance - 1) <= tolerance:
                break
            with torch.no_grad():
                model.get_parameter(name).div_(math.sqrt(variance))


@pytest.mark.parametrize(
    ("parameters", "tolerance", "trials"),
    [("", 0.1, 10), ("bias=keep, tolerance=0.001", 0.001, 10), ("bias=keep, iterations=2, tolerance=0.001", 0.001, 2)],
)
def test_one_pass_gives_what_the_algorithm_gives_in_many(parameters: str, tolerance: float, trials: int) -> None:
    init = f"lsuv({parameters})" if parameters else "lsuv"
    model, expected = network(), network()
    coverage = lsuv(model, init)
    rows = coverage["report"]["scaled"]
    expected.load_state_dict(model.state_dict())
    with torch.no_grad():  # back to what it was drawn as
        for name, row in rows.items():
            expected.get_parameter(name).div_(row["factor"])
    naive(expected, list(rows), patches(), tolerance, trials)
    for name in BODY:
        assert torch.allclose(model.get_parameter(name), expected.get_parameter(name), rtol=1e-4, atol=1e-6), name


def test_the_directions_are_those_of_the_orthogonal_draw() -> None:
    model = network()
    lsuv(model)
    matrix = model.linear.weight.detach()
    square = matrix @ matrix.T
    assert torch.allclose(square, square[0, 0] * torch.eye(6), atol=1e-5 * float(square[0, 0]))
    tap = model.up.weight.detach()[:, :, 0, 1, 0]
    assert torch.allclose(tap.T @ tap, (tap[:, 0] @ tap[:, 0]) * torch.eye(6), atol=1e-4)


def test_statistics_modes_hooks_and_settings_are_left_as_they_were() -> None:
    model = network()
    model.norm.eval()
    modes = [module.training for module in model.modules()]
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    state = torch.get_rng_state()
    coverage = lsuv(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(buffers[name], value) for name, value in model.named_buffers())
    assert coverage["buffers_changed"] == []
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert {"norm.weight", "norm.bias"} <= set(coverage["unchanged"])


def test_same_seed_same_bits_under_any_global_seed_and_precision() -> None:
    first, second, other = network(), network(), network()
    lsuv(first)
    with torch.random.fork_rng(), torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(99)
        lsuv(second)
    lsuv(other, seed=1)
    assert all(torch.equal(p, second.get_parameter(name)) for name, p in first.named_parameters())
    assert not torch.equal(first.first.weight, other.first.weight)


def test_scope_and_bias() -> None:
    model, before = network(), network()
    coverage = lsuv(model, "lsuv(scope=conv, bias=keep)")
    assert set(coverage["report"]["scaled"]) == {"first.weight", "up.weight", "last.weight"}
    for name in ("linear.weight", "linear.bias", "first.bias", "idle.weight"):
        assert torch.equal(model.get_parameter(name), before.get_parameter(name)), name
    lsuv(model)
    assert not model.linear.bias.any()


def test_layers_without_a_varying_output_are_left_and_named() -> None:
    model = network()
    coverage = lsuv(model, data=[np.zeros((1, 12, 20, 20), np.float32)])
    assert set(coverage["report"]["scaled"]) == set()
    assert {reason.partition(" ")[0] for reason in coverage["report"]["skipped"].values()} == {"output", "never"}
    expected = network()
    lsuv(expected, "orthogonal")
    norms = [float(m.first.weight.detach().norm()) for m in (model, expected)]
    assert norms[0] == pytest.approx(norms[1])  # drawn under another name, so other numbers of the same size


def test_values_that_are_not_finite_do_not_reach_a_weight() -> None:
    data = volumes()
    for volume in data:
        volume[:] = np.inf
    model = network()
    coverage = lsuv(model, data=data)
    assert not coverage["report"]["scaled"]
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_weight_of_two_layers_is_scaled_where_it_is_first_used() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv3d(1, 1, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)
            self.one.weight = self.two.weight
            self.structure = Structure(PATCH, (), ())

        def forward(self, x: Tensor) -> Tensor:
            return self.one(torch.tanh(self.two(x)))

    model = Tied()
    coverage = lsuv(model)
    assert list(coverage["report"]["scaled"]) == ["one.weight"]
    assert variances(model, patches())["two.weight"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("init", "options", "message"),
    [
        ("lsuv", {"data": None}, r"lsuv looks at training volumes: pass data=\[...\].* and patch_size="),
        ("lsuv", {"data": []}, "lsuv looks at training volumes"),
        ("lsuv(tolerance=0)", {}, "tolerance is a finite number above 0, got 0"),
        ("lsuv(iterations=0)", {}, "iterations is a whole number from 1, got 0"),
        ("lsuv(iterations=1.5)", {}, "iterations=1.5: it has to be a valid integer"),
        ("lsuv(scope=norms)", {}, "scope='norms': it has to be"),
        ("lsuv(bias=one)", {}, "bias='one': it has to be"),
    ],
)
def test_what_cannot_work_is_refused_and_changes_nothing(init: str, options: dict[str, Any], message: str) -> None:
    model, before = network(), network()
    with pytest.raises(UsageError, match=message):
        lsuv(model, init, **options)
    assert all(torch.equal(p, before.get_parameter(name)) for name, p in model.named_parameters())


def test_a_network_that_does_not_know_its_patch_is_asked_for_it() -> None:
    model = network()
    del model.structure
    with pytest.raises(UsageError, match="patch_size="):
        lsuv(model)
    assert lsuv(model, patch_size=PATCH)["report"]["scaled"]


def test_a_run_takes_all_its_steps_for_training(tmp_path: Path) -> None:
    make_msd(tmp_path / "Task04_Hippocampus", cases=5, classes=3)
    small = ("patch.size=16,32,32", "preprocess.spacing=0.2,0.5,0.5", "patch.batch=1", "steps.smoke=2", "inference.overlap=0")
    outcome = initbench.run(
        "lsuv",
        "unetrpp(variant=lung)",
        "hippocampus",
        data_root=tmp_path,
        out=tmp_path / "runs",
        size="tiny",
        budget="smoke",
        device="cpu",
        assignments=small,
    )[0]
    assert outcome.state == "ok", outcome.message
    assert "layers have output variance 1 within 0.1" in outcome.message
    assert outcome.folder is not None
    record = record_values(outcome.folder)
    assert (record["cost"]["init"]["steps"], record["cost"]["train"]["steps"]) == (0, 2)
