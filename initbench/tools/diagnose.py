"""What an init does to signals at step 0: scale of activations and gradients per layer, dead units, effective rank.

It also shows which share of the loss and of the gradient each term of a regimen has.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.choices import PRETEXT_STEPS, REGIMEN
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.rehearsal import Rehearsals
from initbench.harness.request import RunRequest
from initbench.harness.run import Run
from initbench.harness.sites import find_sites
from initbench.protocols import NoProgress, Progress, Role, Task, structure_of

_ROLES: tuple[Role, ...] = ("linear", "conv", "transposed-conv")
_TOKENS = 4096  # of a layer's outputs, for the rank
_DEAD = 1e-8  # of the layer's mean variance


@dataclass(frozen=True)
class LayerState:
    """A layer on the first training batch, in float32 and training mode.

    Attributes:
        activation: root mean square of the outputs.
        gradient: root mean square of the loss's gradient with respect to the outputs.
        update: root mean square of the weight's gradient, divided by the root mean square of the weight.
        dead: share of output channels that do not vary over the batch, or get no gradient.
        rank: effective rank of the outputs over their channels, 1 where all directions carry the same variance.
    """

    name: str
    role: Role
    activation: float
    gradient: float
    update: float
    dead: float
    rank: float


@dataclass(frozen=True)
class TermState:
    """A term of a regimen's loss on the first training batch.

    Attributes:
        loss: the term with its weight.
        loss_share: of the sum of all terms.
        gradient: norm of its gradient with respect to all parameters of the network.
        gradient_share: of the sum of these norms.
    """

    name: str
    loss: float
    loss_share: float
    gradient: float
    gradient_share: float


@dataclass(frozen=True)
class Diagnosis:
    """An init on a network: its layers in the order of execution, and the loss of the batch.

    Attributes:
        terms: of the loss, where the regimen tells them apart.
        pretext_steps: steps of a learned init that were trained before.
        budget_steps: steps that the budget gives the init; more than `pretext_steps` where these were cut short.
    """

    init: str
    backbone: str
    loss: float
    layers: tuple[LayerState, ...]
    regimen: str = REGIMEN
    terms: tuple[TermState, ...] = ()
    pretext_steps: int = 0
    budget_steps: int = 0


def diagnose(request: RunRequest, progress: Progress | None = None, most_pretext_steps: int | None = PRETEXT_STEPS) -> Diagnosis:
    """Initializes the network of a request and looks at its first training batch; only a learned init's pretext is trained.

    Args:
        request: the run that would be trained.
        progress: told of the pretext.
        most_pretext_steps: at which the pretext is cut short; None for all steps that the budget gives it.

    Raises:
        UsageError: the request is wrong. InitbenchError: the pretext diverged.
    """
    progress = progress or NoProgress()
    cell = resolve_cell(request, progress, check=Rehearsals().check_draft)
    budget_steps = cell.pretext_steps
    if most_pretext_steps is not None and budget_steps > most_pretext_steps:
        cell = _with_pretext_steps(cell, most_pretext_steps)
    run = Run(cell, Path(), progress)
    with seeding.deterministic(request.threads):
        model, volumes = run.initialized()
        task = run.supervised_task(model, volumes)
        loss, layers = look(model, task)
        terms = weigh(model, task)
    return Diagnosis(cell.init_name, cell.backbone_name, loss, layers, cell.regimen_name, terms, cell.pretext_steps, budget_steps)


def _with_pretext_steps(cell: Cell, steps: int) -> Cell:
    """Returns the cell with another share of its budget for the pretext, so that the schedule of the optimizer fits the steps."""
    pretext = cell.recipe.pretext.model_copy(update={"share": steps / cell.total_steps})
    recipe = cell.recipe.model_copy(update={"pretext": pretext})
    return replace(cell, choices=replace(cell.choices, recipe=recipe))


def weigh(model: nn.Module, task: Task) -> tuple[TermState, ...]:
    """Measures the terms of a task's loss on its first batch; none where the task has no `terms`.

    Args:
        model: the network, after its init stage.
        task: of its regimen. ``terms(batch)`` yields, for each of its losses, the terms by name with their weights.
    """
    terms = getattr(task, "terms", None)
    if terms is None:
        return ()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses: dict[str, float] = {}
    gradients: dict[str, float] = {}
    seeding.seed_step(0, "dropout", "diagnose", 0)
    for named in terms(task.batch(0)):
        for name, term in named.items():
            norms = []
            for gradient in torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True):
                if gradient is not None:
                    norms.append(float(gradient.double().norm()))
            losses[name], gradients[name] = float(term.detach()), math.hypot(*norms)
    whole, slope = sum(losses.values()), sum(gradients.values())
    states = []
    for name, loss in losses.items():
        states.append(TermState(name, loss, loss / whole, gradients[name], gradients[name] / slope))
    return tuple(states)


def look(model: nn.Module, task: Task) -> tuple[float, tuple[LayerState, ...]]:
    """Does one forward and backward pass over the first batch of a task; returns the loss and the state of each layer."""
    watched, roles = {}, {}
    for site in find_sites(model, structure_of(model).projections):
        name, _, leaf = site.name.rpartition(".")
        if leaf == "weight" and site.role in _ROLES:
            watched[name], roles[name] = model.get_submodule(name), site.role
    model.train()
    model.zero_grad(set_to_none=True)
    seeding.seed_step(0, "dropout", "diagnose", 0)
    with _recorded(watched) as outputs:
        loss, _ = task.loss(task.batch(0))
        loss.backward()  # type: ignore[no-untyped-call]
    states = []
    for name, output in outputs.items():
        states.append(_state(name, roles[name], watched[name], output))
    model.zero_grad(set_to_none=True)
    return float(loss.detach()), tuple(states)


@contextlib.contextmanager
def _recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Yields a table that gets the outputs of modules in the order of their first execution, with their gradients retained."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            """Keeps the first `output` of the module."""
            if name not in outputs:
                output.retain_grad()
                outputs[name] = output

        return hook

    handles = []
    for name, module in modules.items():
        handles.append(module.register_forward_hook(keep(name)))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _state(name: str, role: Role, module: nn.Module, output: Tensor) -> LayerState:
    last = role == "linear"
    values = _by_channel(output.detach(), last)
    gradient = torch.zeros_like(values)
    if output.grad is not None:
        gradient = _by_channel(output.grad, last)
    variance = values.var(dim=0, correction=0)
    dead = (variance <= _DEAD * variance.mean()) | (gradient.abs().amax(dim=0) == 0)
    weight = module.get_parameter("weight")
    slope, update = 0.0, math.inf
    if weight.grad is not None:
        slope = _rms(weight.grad)
    size = _rms(weight.detach())
    if size:
        update = slope / size
    return LayerState(
        name,
        role,
        activation=_rms(values),
        gradient=_rms(gradient),
        update=update,
        dead=float(dead.double().mean()),
        rank=effective_rank(values) / values.shape[1],
    )


def _by_channel(value: Tensor, last: bool) -> Tensor:
    """Returns values as ``(positions, channels)``; `last` says that the channels are the last axis, else they are the second."""
    if not last:
        value = value.movedim(1, -1)
    return value.reshape(-1, value.shape[-1]).float()


def _rms(value: Tensor) -> float:
    return float(value.double().square().mean().sqrt())


def effective_rank(values: Tensor) -> float:
    """Computes exp of the entropy of the normalized eigenvalues of the channels' covariance (Roy and Vetterli, EUSIPCO 2007).

    Args:
        values: ``(positions, channels)``; evenly spaced positions are taken where there are many.
    """
    step = max(1, len(values) // _TOKENS)
    sample = values[::step].double()
    centred = sample - sample.mean(dim=0)
    spectrum = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0)
    total = float(spectrum.sum())
    if total == 0:
        return 0.0
    share = spectrum / total
    share = share[share > 0]
    return float(torch.exp(-(share * share.log()).sum()))


def draw(found: Sequence[Diagnosis], path: Path) -> None:
    """Draws activation, gradient and rank along the depth of the network, a line per init."""
    from matplotlib.figure import Figure

    panels = (
        ("activation", "activation, RMS", True),
        ("gradient", "gradient of outputs, RMS", True),
        ("rank", "effective rank / channels", False),
    )
    figure = Figure(figsize=(10, 8), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True)
    for axis, (field, label, log) in zip(axes, panels, strict=True):
        for item, marker in zip(found, "osD^vPX*", strict=False):
            values = np.array([getattr(layer, field) for layer in item.layers])
            if log:
                values = np.where(values > 0, values, np.nan)
            axis.plot(values, marker=marker, markersize=3, linewidth=1, label=item.init)
        axis.set_ylabel(label)
        axis.grid(visible=True, alpha=0.3)
        if log:
            axis.set_yscale("log")
    names = [layer.name for layer in found[0].layers]
    every = max(1, len(names) // 24)
    axes[-1].set_xticks(range(0, len(names), every), names[::every], rotation=60, ha="right", fontsize=6)
    axes[0].legend(fontsize=8)
    axes[0].set_title(f"{found[0].backbone}: signals at step 0, layers in the order of execution")
    figure.savefig(path, dpi=150)
