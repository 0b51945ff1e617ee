"""Supervised stages of small networks, as the harness makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from initbench import registry, seeding
from initbench.harness.regimens import Context, make_task
from initbench.protocols import Structure, Tokens, structure_of
from initbench.recipes.settings import Loss, Optimizer
from initbench.spec import parse
from initbench.training.checkpoints import Checkpoints
from initbench.training.loop import Fit, FitSettings, fit
from initbench.training.passes import Passes

CPU = torch.device("cpu")
PATCH = (4, 8, 8)
SGD = Optimizer.model_validate({"name": "sgd", "lr": 0.01, "weight_decay": 0, "schedule": "constant", "warmup": 0, "momentum": 0})


@dataclass(frozen=True)
class Batch:
    """A batch of labelled patches."""

    image: Tensor
    label: Tensor


class Batches:
    """Noise as labelled patches, a function of the step."""

    def __init__(self, samples: int = 2) -> None:
        self.samples = samples

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        generator = seeding.torch_generator(0, "order", step)
        image = torch.randn((self.samples, 1, *PATCH), generator=generator)
        return Batch(image, (image[:, 0] > 0).long())


class Small(nn.Module):
    """Tokens of 2 x 2 x 2 voxels, a norm with running statistics, dropout, and a head that makes voxels of tokens."""

    def __init__(self, *, with_tokens: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 6, 2, stride=2)
        self.norm = nn.BatchNorm3d(6)
        self.drop = nn.Dropout(0.1)
        self.out = nn.ConvTranspose3d(6, 2, 2, stride=2)
        tokens = Tokens("stem", (2, 4, 4), 6)
        self.structure = Structure(PATCH, (), ("out",), name="small", tokens=tokens if with_tokens else None)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 1, D, H, W)`` to ``(N, 2, D, H, W)``."""
        return self.out(self.drop(torch.relu(self.norm(self.stem(x)))))


def small(seed: int = 0, **values: Any) -> Small:
    """The network from a seed."""
    with seeding.forked(seed, "construct"):
        return Small(**values)


def context(model: nn.Module, steps: int = 4, **values: Any) -> Context:
    """What the harness hands a regimen for a network on the CPU."""
    asked = {"root": 0, "loss": Loss(), "sampler": Batches(), "mask_patch": 2, **values}
    return Context(model=model, structure=structure_of(model), device=CPU, steps=steps, **asked)


def stage(regimen: str, model: nn.Module, steps: int = 4, **values: Any) -> Any:
    """The task of a regimen."""
    component = registry.find("regimen", parse(regimen))
    component.check()
    return make_task(component, context(model, steps, **values))


def trained(
    task: Any, steps: int = 4, checkpoints: Checkpoints | None = None, until: int | None = None, passes: Passes | None = None
) -> Fit:
    """Trains a task with the one loop, by plain steps down the gradient."""
    return fit(task, FitSettings(steps, SGD, "float32", CPU, 0, "train", until), None, checkpoints, passes)
