"""Of the examination: a tiny network is trained, to see whether the same seed gives the same bits and whether bf16 is fast."""

from __future__ import annotations

import math
import random
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench import registry, seeding
from initbench.datasets.phantom import PhantomLung
from initbench.doctor.findings import Finding
from initbench.harness.build import construct
from initbench.harness.hardware import resolve_precision
from initbench.harness.process_state import kept
from initbench.harness.regimens import plain_task
from initbench.harness.snapshot import tensor_digest
from initbench.preprocessing.parameters import resolve_parameters, scan
from initbench.preprocessing.preprocess import preprocess
from initbench.protocols import Grid, PatchRule, Task
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.sampling.samplers import PatchSampler
from initbench.sampling.volumes import make_volume
from initbench.spec import Spec, parse
from initbench.training.loop import FitSettings, fit
from initbench.training.precision import Precision, autocast

STEPS = 20  # of each of the two trainings whose bits are compared
REPEATS = 5  # timings of each precision, of which the median counts
STEPS_PER_REPEAT = 2
SMALL: Grid = (16, 32, 32)
"""Patch for the bits: they differ at any size."""
USUAL: Grid = (32, 64, 64)
"""Patch for the speed: that of the tiny recipes. On small ones bf16 has nothing to gain."""
FASTER = 1.05
"""Ratio of step times from which one precision counts as faster; repeats differ by a few per cent."""
CONVOLUTION: dict[str, Grid] = {"cpu": (16, 16, 16), "cuda": (128, 128, 128)}
"""Volumes whose convolutions are compared, by the type of the device: wrong kernels of GPUs were wrong on large ones."""
_CHANNELS = 32
_ROUNDING = 0.02  # bf16 holds 8 bits: what sums of products of rounded numbers may differ by, as a share of the largest
_RULE = PatchRule((16, 16, 16))  # what networks without a declaration take, mostly
_NO_KERNEL = re.compile(r"(\S+) does not have a deterministic implementation")


@dataclass
class _Trail:
    """What a training leaves: digests of the state before every step and at the end, losses, where it diverged."""

    states: list[Mapping[str, str]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    diverged_at: int | None = None

    def note(self, module: nn.Module) -> None:
        self.states.append({name: tensor_digest(value) for name, value in module.state_dict().items()})


@dataclass(frozen=True)
class _Watched:
    """A task of the training loop that notes the network's state before every step."""

    task: Task
    trail: _Trail

    @property
    def module(self) -> nn.Module:
        return self.task.module

    def batch(self, step: int) -> Any:
        self.trail.note(self.module)
        return self.task.batch(step)

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return self.task.loss(batch)


def determinism(backbone: str, device: torch.device, threads: int) -> list[Finding]:
    """Trains the network twice from one seed with deterministic kernels, in the precision that runs choose, and compares bits.

    Args:
        backbone: a component; it is built at tiny size.
        device: where it is trained.
        threads: torch threads on the CPU.
    """
    spec = parse(backbone)
    chosen = resolve_precision("auto", device)
    about = f"{backbone} (tiny), {STEPS} steps on {device} in {chosen}"
    try:
        first = _trail(spec, device, threads, chosen, 0)
        second = _trail(spec, device, threads, chosen, 1)
    except RuntimeError as error:
        found = _NO_KERNEL.search(str(error))
        if not found:
            raise
        detail = (
            f"{about}: {found[1]} has no deterministic kernel on {device.type}, so runs of this network stop there; "
            "replace the operator in the network, or use another --device"
        )
        return [Finding("determinism", "kernels", "problem", detail)]
    lines = [_compared(about, first, second)]
    if first.diverged_at is not None:
        detail = f"{about}: the loss is not finite at step {first.diverged_at}; check with --precision float32, and report it"
        lines.append(Finding("determinism", "loss", "problem", detail))
    return lines


def _trail(spec: Spec, device: torch.device, threads: int, chosen: Precision, turn: int) -> _Trail:
    # Another process would have other numbers in the global generators, which a network may draw from although nobody seeds them.
    with kept():
        random.seed(turn)
        np.random.seed(turn)
        torch.manual_seed(turn)
        task, settings = _task(spec, device, SMALL)
    trail = _Trail()
    with seeding.deterministic(threads):
        done = fit(_Watched(task, trail), FitSettings(STEPS, settings.optimizer, chosen, device, 0, "train"))
        trail.note(task.module)
    trail.losses, trail.diverged_at = [row["loss"] for row in done.curve], done.diverged_at
    return trail


def _compared(about: str, first: _Trail, second: _Trail) -> Finding:
    pairs = zip(first.states, second.states, strict=False)
    for state, (one, other) in enumerate(pairs):
        changed = []
        for name, digest in one.items():
            if digest != other.get(name):
                changed.append(name)
        # An optimizer that divides a gradient by its size can take the same step from two different losses.
        if not changed and _loss_before(first, state) == _loss_before(second, state):
            continue
        tensors = f"{len(changed)} of {len(one)} tensors differ"
        if changed:
            tensors = f"{changed[0]} is the first of {len(changed)} of {len(one)} tensors that differ"
        detail = (
            f"{about}: the same seed gives other weights: {_where(first, second, state)}, {tensors}. Look for random numbers "
            "that no stream seeds, the time, or threads of its own in the network; where a built-in network differs, report it"
        )
        return Finding("determinism", "weights", "problem", detail)
    return Finding("determinism", "weights", "ok", f"{about}: twice the same bits")


def _loss_before(trail: _Trail, state: int) -> str:
    """Returns the bits of the loss whose step ended in a state, as text: NaN is like NaN.

    Empty for the state of construction, and for steps after a loss that was not finite: the curve ends with that one.
    """
    if state == 0 or state > len(trail.losses):
        return ""
    return trail.losses[state - 1].hex()


def _where(first: _Trail, second: _Trail, state: int) -> str:
    """Says at which step the state became another, and in which pass."""
    if state == 0:
        return "before the first step (construction)"
    if _loss_before(first, state) == _loss_before(second, state):
        return f"at step {state - 1} in the backward pass"
    return f"at step {state - 1} in the forward pass"


def precision(backbone: str, device: torch.device, threads: int) -> Iterator[Finding]:
    """Measures a step in float32 and in bf16 by turns, and compares with what ``--precision auto`` chooses.

    Args:
        backbone: a component; it is built at tiny size.
        device: where it is trained.
        threads: torch threads on the CPU.
    """
    task, settings = _task(parse(backbone), device, USUAL)
    seconds: dict[Precision, list[float]] = {"float32": [], "bf16": []}
    with seeding.deterministic(threads):
        for repeat in range(REPEATS + 1):  # the first one finds memory and kernels, and does not count
            for name, taken in seconds.items():
                stage = FitSettings(STEPS_PER_REPEAT, settings.optimizer, name, device, repeat, "train")
                taken.append(fit(task, stage).seconds / STEPS_PER_REPEAT)
    slow, fast = seconds["float32"][1:], seconds["bf16"][1:]
    ratio = statistics.median(one / other for one, other in zip(slow, fast, strict=True))
    times = f"{statistics.median(slow):.3g} s a step in float32, {statistics.median(fast):.3g} s in bf16"
    about = f"{times} ({backbone}, tiny, {device})"
    yield _speed(about, ratio, resolve_precision("auto", device))
    yield _convolution(device, threads)


def _convolution(device: torch.device, threads: int) -> Finding:
    """Compares a 3-D convolution in bf16 with float32: its output, and the gradients of input and weights."""
    grid = CONVOLUTION[device.type]
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, _CHANNELS, *grid, generator=generator)
    weight = torch.randn(_CHANNELS, _CHANNELS, 3, 3, 3, generator=generator)
    upstream = torch.randn(1, _CHANNELS, *grid, generator=generator).to(device)
    found: dict[Precision, list[Tensor]] = {}
    both: tuple[Precision, Precision] = ("float32", "bf16")
    with seeding.deterministic(threads):
        for name in both:
            here, kernel = image.to(device).requires_grad_(), weight.to(device).requires_grad_()
            with autocast(device, name):
                output = functional.conv3d(here, kernel, padding=1)
            found[name] = [output.detach().float(), *torch.autograd.grad(output, [here, kernel], upstream.to(output.dtype))]
    errors = [_relative(one, other) for one, other in zip(found["float32"], found["bf16"], strict=True)]
    parts = ("output", "gradient of the input", "gradient of the weights")
    largest = max(range(len(parts)), key=errors.__getitem__)
    if errors[largest] <= _ROUNDING:
        found_apart = f"a convolution in bf16 and float32 on {device}: {100 * errors[largest]:.2f} % apart"
        return Finding("precision", "numbers", "ok", found_apart)
    about = f"a convolution of {'×'.join(map(str, grid))} in bf16 and float32 on {device}: {parts[largest]}"
    detail = f"{about} {100 * errors[largest]:.0f} % apart; use --precision float32, and another version of torch or cuDNN"
    return Finding("precision", "numbers", "problem", detail)


def _relative(right: Tensor, found: Tensor) -> float:
    """Returns the largest difference, as a share of the largest value; infinite where something is not a number."""
    error = float((right - found).abs().max() / right.abs().max())
    if not math.isfinite(error):
        return math.inf
    return error


def _speed(about: str, ratio: float, chosen: Precision) -> Finding:
    text = f"{about}; float32 / bf16 = {ratio:.2f}; --precision auto chooses {chosen}"
    better = chosen
    if ratio > FASTER:
        better = "bf16"
    elif ratio < 1 / FASTER:
        better = "float32"
    if better == chosen:
        return Finding("precision", "bf16", "ok", f"{text}, as it should")
    detail = f"{text}, and {better} is faster here; use --precision {better}, in all runs of a study or in none"
    return Finding("precision", "bf16", "warning", detail)


def _task(spec: Spec, device: torch.device, patch: Grid) -> tuple[Task, Recipe]:
    """Makes the supervised stage of the network on one case of the phantom, with the settings of its tiny recipe."""
    settings = load_recipe("phantom-lung", size="tiny", backbone=spec.name, budget="smoke")
    component = registry.find("backbone", spec)
    variant = str(component.params["variant"] or settings.variant or component.info.variants[0])
    size = component.info.patches.get(variant, _RULE).at_least(patch)
    classes = len(PhantomLung.classes)
    model = construct(
        component, in_channels=1, num_classes=classes, patch_size=size, size="tiny", variant=variant, deep_supervision=False
    )
    case = PhantomLung().load("phantom_000")
    made = preprocess(case, resolve_parameters(settings.preprocess, "CT", [scan(case)]))
    volume = make_volume(made.image, made.label, device)
    sampler = PatchSampler([volume], settings.patch.model_copy(update={"size": size}), settings.augment, 0)
    return plain_task(model.to(device), sampler, settings.loss, device), settings
