"""``--fast``: compiled steps are those of the network as it was, and where they cannot be had a run says why and goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import initbench
from initbench import registry, seeding
from initbench.harness.regimens import Context, make_task
from initbench.protocols import Task, structure_of
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Optimizer
from initbench.sampling.samplers import PatchSampler
from initbench.sampling.volumes import make_volume
from initbench.spec import Spec
from initbench.training import fast
from initbench.training.fast import TOLERANCE, autotuned, compiled, steps_here, why_eager
from initbench.training.loop import Fit, FitSettings, backward, fit
from initbench.training.passes import Passes
from initbench.training.precision import Precision

CPU = torch.device("cpu")
PATCH = (32, 64, 64)
LOSS: dict[Precision, float] = {"float32": 2e-3, "bf16": 2e-2}
"""How far a loss may be from that of plain steps within 20 of them."""
OPTIMIZER = Optimizer.model_validate({"name": "adamw", "lr": 1e-2, "weight_decay": 0, "schedule": "constant", "warmup": 0})


@dataclass(frozen=True)
class Batch:
    """Six rows of four numbers."""

    image: Tensor


class Numbers:
    """A small network with running statistics and dropout, whose batch of a step is drawn from the step."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))

    def batch(self, step: int) -> Batch:
        return Batch(torch.randn(6, 4, generator=torch.Generator().manual_seed(step)))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.module(batch.image).square().mean()
        return loss, {"dice": loss.detach()}


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    why_eager.cache_clear()
    yield
    why_eager.cache_clear()


def settings(steps: int, precision: Precision = "float32") -> FitSettings:
    return FitSettings(steps, OPTIMIZER, precision, CPU, 0, "train")


def trained(task: Any, said: list[str] | None, steps: int = 5) -> Fit:
    """Trains a task: as it is where `said` is None, else with ``--fast``, and what that says is added to `said`."""
    with seeding.deterministic(1):
        if said is None:
            return fit(task, settings(steps))
        with compiled(task.module, task, settings(steps), said.append):
            return fit(task, settings(steps))


def fake(compiler: Callable[[Callable[..., Any]], Callable[..., Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiler(function))


def test_without_a_compiler_the_steps_are_plain_and_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(function: Callable[..., Any]) -> Callable[..., Any]:
        raise RuntimeError("backend='inductor' raised:\nInvalidCxxCompiler: No working C++ compiler found\n\nSet A=1 to see B")

    fake(missing, monkeypatch)
    said: list[str] = []
    one, other = Numbers(), Numbers()
    assert trained(one, said).curve == trained(other, None).curve
    assert said == ["--fast: steps were not compiled: InvalidCxxCompiler: No working C++ compiler found"]
    assert steps_here("cpu") == "eager"


def test_a_network_that_the_compiler_cannot_do_with_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(function: Callable[..., Any]) -> Callable[..., Any]:
        if function is not fast._probe:
            raise NotImplementedError("no such operator")
        return function

    fake(picky, monkeypatch)
    said: list[str] = []
    task = Numbers()
    assert trained(task, said).curve == trained(Numbers(), None).curve
    assert said == ["--fast: steps were not compiled: NotImplementedError: no such operator"]
    assert "forward" not in vars(task.module)


def test_compiled_steps_with_other_gradients_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: function(*given) * 1.01

    fake(wrong, monkeypatch)
    said: list[str] = []
    assert trained(Numbers(), said).curve == trained(Numbers(), None).curve
    assert said == ["--fast: steps were not compiled: their gradients are 2.0% off those of a plain step, more than 0.1%"]


def test_trying_a_network_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither gradients nor running statistics, and no pass counts that is not trained."""
    fake(lambda function: function, monkeypatch)
    said: list[str] = []
    task, passes = Numbers(), Passes()
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    with passes.watched(task.module), compiled(task.module, task, settings(2), said.append):
        assert "forward" in vars(task.module)
        assert all(torch.equal(value, before[name]) for name, value in task.module.state_dict().items())
        assert all(parameter.grad is None for parameter in task.module.parameters())
        assert fit(task, settings(2), passes=passes).units == 6
    assert "forward" not in vars(task.module)
    assert said == []


def test_kernels_are_chosen_by_timing_inside_the_block_alone() -> None:
    with seeding.deterministic(1):
        with autotuned():
            assert torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.benchmark


# --- with the compiler ------------------------------------------------------------------------------------------------


def plain(backbone: str, regimen: str = "plain") -> Any:
    """Training of a tiny network on made-up volumes."""
    recipe = load_recipe("generic-ct", size="tiny", backbone=backbone, budget="smoke")
    rng = np.random.default_rng(0)
    label = (rng.random((48, 96, 96)) < 0.01).astype(np.uint8)
    volume = make_volume(rng.normal(size=(1, *label.shape)).astype(np.float32), label, CPU)
    sampler = PatchSampler([volume], recipe.patch.model_copy(update={"size": PATCH}), recipe.augment, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = initbench.build(backbone, in_channels=1, num_classes=2, patch_size=PATCH, size="tiny")
    ctx = Context(model, structure_of(model), CPU, steps=20, root=0, loss=recipe.loss, sampler=sampler)
    return make_task(registry.find("regimen", Spec(regimen)), ctx)


def gradients(task: Task, precision: Precision = "float32", *, double: bool = False) -> Tensor:
    """The gradients of the first step, one after the other."""
    batch = task.batch(0)
    if double:
        task.module.double()
        batch = type(batch)(batch.image.double(), batch.label)
    seeding.seed_step(0, "dropout", "train", 0)
    task.module.train()
    backward(task, batch, CPU, precision)
    found = [parameter.grad.double().flatten() for parameter in task.module.parameters() if parameter.grad is not None]
    task.module.zero_grad()
    return torch.cat(found)


@pytest.mark.full
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("backbone", ["unetr", "unetrpp"])
def test_compiled_steps_are_as_right_as_plain_ones(backbone: str, precision: Precision) -> None:
    if why_eager("cpu"):
        pytest.skip(f"nothing can be compiled here: {why_eager('cpu')}")
    steps = settings(20, precision)
    with seeding.deterministic(1):
        eager = fit(plain(backbone), steps)
        exact, rounded = gradients(plain(backbone), double=True), gradients(plain(backbone), precision)
        said: list[str] = []
        task = plain(backbone)
        with compiled(task.module, task, steps, said.append):
            assert said == []
            found = gradients(task, precision)
            done = fit(task, steps)
    losses, expected = ([row["loss"] for row in each.curve] for each in (done, eager))
    off, off_plain = (float((each - exact).norm() / exact.norm()) for each in (found, rounded))
    assert off < min(TOLERANCE[precision], 1.5 * off_plain + 1e-5)
    assert losses == pytest.approx(expected, abs=LOSS[precision])


@pytest.mark.full
def test_a_hook_that_comes_and_goes_is_compiled_too() -> None:
    """The student of MedContext sees tokens in one pass of a step and not in the other."""
    if why_eager("cpu"):
        pytest.skip(f"nothing can be compiled here: {why_eager('cpu')}")
    curves = []
    for said in (None, list[str]()):
        task = plain("unetr", regimen="medcontext")
        network = task.module.network
        steps = settings(6)
        with seeding.deterministic(1), contextlib.ExitStack() as stack:
            if said is not None:
                stack.enter_context(compiled(network, task, steps, said.append))
                assert said == []
            curves.append(fit(task, steps).curve)
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    # An untrained network hardly looks at its tokens. What hiding them changes is small, and the same when compiled.
    changed, changed_when_compiled = (curve[0]["sup_masked"] - curve[0]["sup"] for curve in curves)
    assert abs(changed) > 1e-5
    assert changed_when_compiled == pytest.approx(changed, rel=0.05)
