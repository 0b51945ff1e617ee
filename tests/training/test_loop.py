"""The training loop: schedules by hand, a run that repeats bit for bit, divergence found, gradients clipped."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.recipes.settings import Optimizer
from initbench.training import loop
from initbench.training.checkpoints import Checkpoints
from initbench.training.loop import Fit, FitSettings, fit, learning_rate, make_optimizer, parameters_finite


def optimizer(**values: Any) -> Optimizer:
    return Optimizer.model_validate(
        {"name": "adamw", "lr": 0.01, "weight_decay": 0, "schedule": "constant", "warmup": 0} | values
    )


def settings(chosen: Optimizer, steps: int = 30, stage: Literal["pretext", "train"] = "train", root: int = 0) -> FitSettings:
    return FitSettings(steps, chosen, "float32", torch.device("cpu"), root, stage)


@dataclass
class Points:
    image: Tensor
    target: Tensor


@dataclass
class Line:
    """Least squares with dropout; notes what it saw."""

    module: nn.Module
    broken: int | None = None
    untidy: bool = False
    dropped: list[Tensor] = field(default_factory=list)

    def batch(self, step: int) -> Points:
        if self.untidy:
            torch.rand(step + 1)
        image = torch.randn(8, 3, generator=seeding.torch_generator(0, "order", step))
        target = image.sum(1, keepdim=True) + 1
        return Points(image * (float("nan") if step == self.broken else 1.0), target)

    def loss(self, batch: Points) -> tuple[Tensor, dict[str, Tensor]]:
        self.dropped.append(nn.functional.dropout(torch.ones(64), 0.5))
        error = (self.module(nn.functional.dropout(batch.image, 0.2)) - batch.target).square().mean()
        return error, {"mse": error.detach()}


def line(**values: Any) -> Line:
    module = nn.Linear(3, 1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.1)
    return Line(module, **values)


def test_warm_up_starts_above_zero_and_reaches_the_rate() -> None:
    chosen = optimizer(lr=0.1, warmup=0.05)
    assert [learning_rate(step, 100, chosen) for step in range(6)] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert learning_rate(0, 100, optimizer(lr=0.1)) == 0.1


def test_cosine() -> None:
    chosen = optimizer(lr=0.1, warmup=0.2, schedule="cosine")
    rates = [learning_rate(step, 100, chosen) for step in range(100)]
    assert rates[20] == pytest.approx(0.1)
    assert rates[40] == pytest.approx(0.1 * 0.5 * (1 + math.sqrt(0.5)))  # a quarter of the way: 45 degrees
    assert rates[60] == pytest.approx(0.05)
    assert rates[99] == pytest.approx(0.1 * 0.5 * (1 - math.cos(math.pi / 80)))
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_poly() -> None:
    chosen = optimizer(lr=0.1, schedule="poly", poly_power=2.0)
    assert learning_rate(0, 10, chosen) == pytest.approx(0.1)
    assert learning_rate(5, 10, chosen) == pytest.approx(0.025)
    assert learning_rate(9, 10, chosen) == pytest.approx(0.001)
    assert learning_rate(5, 10, optimizer(lr=0.1, schedule="poly")) == pytest.approx(0.1 * 0.5**0.9)


def test_optimizers_take_what_wants_a_gradient() -> None:
    module = nn.Linear(3, 1)
    module.bias.requires_grad_(False)
    sgd = make_optimizer(module, optimizer(name="sgd", momentum=0.9, weight_decay=0.5))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["params"] == [module.weight]
    group = sgd.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 0.5)
    assert isinstance(make_optimizer(module, optimizer()), torch.optim.AdamW)


def test_sgd_without_momentum() -> None:
    make_optimizer(nn.Linear(3, 1), optimizer(name="sgd", momentum=0.0))


def trained(task: Line, **values: Any) -> tuple[Fit, list[Tensor]]:
    result = fit(task, settings(optimizer(schedule="cosine", warmup=0.1), **values))
    return result, [parameter.detach().clone() for parameter in task.module.parameters()]


@pytest.mark.parametrize("untidy", [False, True])
def test_same_seed_same_bits(untidy: bool) -> None:
    first, weights = trained(line())
    torch.rand(17)
    second, again = trained(line(untidy=untidy))
    assert first.curve == second.curve
    assert all(torch.equal(a, b) for a, b in zip(weights, again, strict=True))
    assert trained(line(), root=1)[0].curve != first.curve


def test_learns_and_counts() -> None:
    task = line()
    result = fit(task, settings(optimizer(lr=0.05), 200))
    assert result.curve[-1]["loss"] < 0.3 * result.curve[0]["loss"]
    assert (result.steps, result.patches, result.diverged_at) == (200, 1600, None)
    assert [row["step"] for row in result.curve] == list(range(200))
    assert set(result.curve[0]) == {"step", "lr", "loss", "mse"}
    assert result.seconds > 0
    assert result.peak_memory > 2**20
    assert parameters_finite(task.module)


def test_dropout_is_a_function_of_seed_stage_and_step() -> None:
    masks = {}
    for key in [("train", 0), ("train", 1), ("pretext", 0)]:
        task = line()
        fit(task, settings(optimizer(), 12, stage=key[0], root=key[1]))  # type: ignore[arg-type]
        masks[key] = task.dropped
    shorter = line(untidy=True)
    fit(shorter, settings(optimizer(), 5))
    assert all(torch.equal(a, b) for a, b in zip(shorter.dropped, masks["train", 0][:5], strict=True))
    everything = [tuple(mask.tolist()) for several in masks.values() for mask in several]
    assert len(set(everything)) == 36


@pytest.mark.parametrize("broken", [0, 9, 10, 13, 29])
def test_divergence_is_found_at_its_step(broken: int) -> None:
    task = line(broken=broken)
    result = fit(task, settings(optimizer()))
    assert result.diverged_at == broken
    assert result.steps == len(result.curve) == broken + 1
    assert math.isnan(result.curve[-1]["loss"])
    assert all(math.isfinite(row["loss"]) for row in result.curve[:-1])
    assert len(task.dropped) <= (broken // 10 + 1) * 10, "training stops at the next look"
    assert not parameters_finite(task.module)


def test_every_row_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With and without checkpoints in between: the cost of a stage is linear in its steps."""
    looked: list[float] = []

    def is_finite(value: float) -> bool:
        looked.append(value)
        return math.isfinite(value)

    monkeypatch.setattr(loop, "math", SimpleNamespace(isfinite=is_finite))
    for checkpoints in (None, Checkpoints(tmp_path, "train", 0.0)):
        looked.clear()
        result = fit(line(), settings(optimizer(), 97), None, checkpoints)
        assert looked == [row["loss"] for row in result.curve]


def test_losses_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps of a loss and its part are one read of the device."""
    reads: list[int] = []
    stack = torch.stack

    def counted(tensors: Any, *arguments: Any) -> Tensor:
        reads.append(len(tensors))
        return stack(tensors, *arguments)

    monkeypatch.setattr(torch, "stack", counted)
    fit(line(), settings(optimizer(), 25))
    assert reads == [20, 20, 10]


@pytest.mark.parametrize("clip", [0.0, 1e-3, 1e6])
def test_gradient_clipping(clip: float) -> None:
    task = line()
    before = torch.cat([parameter.detach().flatten().clone() for parameter in task.module.parameters()])
    chosen = optimizer(name="sgd", lr=0.1, momentum=0.5, clip=clip)
    seeding.seed_step(0, "dropout", "train", 0)
    loss, _ = task.loss(task.batch(0))
    norm = float(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(task.module.parameters()))]).norm())
    fit(task, settings(chosen, 1))
    after = torch.cat([parameter.detach().flatten() for parameter in task.module.parameters()])
    taken = min(norm, clip) if clip else norm
    assert float((after - before).norm()) == pytest.approx(0.1 * 1.5 * taken, rel=1e-3)  # Nesterov's first step: g + m g


def test_the_network_is_put_into_training_mode() -> None:
    task = line()
    task.module.eval()
    fit(task, settings(optimizer(), 1))
    assert task.module.training
