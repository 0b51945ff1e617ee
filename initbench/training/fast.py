"""Compiled steps, for ``--fast``: they take less time and round otherwise.

Before training begins, a compiled network is tried on the first batch, and its gradients are compared with the gradients of plain
steps. Where it fails or its gradients are wrong, the run trains with plain steps, and its notes say why.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.protocols import Task
from initbench.training.loop import FitSettings, backward
from initbench.training.precision import Precision

Steps = Literal["compiled", "eager"]
Gradients = dict[str, Tensor]
"""Gradients of parameters by name; those without one are left out."""

# CUDA graphs warm up in the first call, are recorded in the second and replayed in the third.
_TRIALS = 3
# The distance that gradients of compiled and plain steps may have, as a share of the norm of the latter. In bf16 a plain step
# rounds after every operator, and a compiled one after several. docs/how-to/performance.md says what was measured.
TOLERANCE: dict[Precision, float] = {"float32": 1e-3, "bf16": 0.1}
_LONGEST = 200  # characters of a reason


@functools.cache  # it takes seconds, and a process asks for each of its runs
def why_eager(kind: str) -> str:
    """Returns why nothing can be compiled here for a kind of device, in one line; empty where something can.

    Args:
        kind: of the device, as torch calls it: cpu or cuda.
    """
    try:
        with _quietly():
            found = torch.compile(_probe, dynamic=False)(torch.ones(8, device=kind))
    except Exception as error:  # a compiler that is missing or broken may raise anything
        return _in_a_line(error)
    finally:
        torch.compiler.reset()
    if not torch.isfinite(found):
        return "the compiler makes wrong numbers"
    return ""


def _probe(values: Tensor) -> Tensor:
    return (values * 2 + 1).sin().sum()


def steps_here(kind: str) -> Steps:
    """Returns how the steps of a run with ``--fast`` are computed on a kind of device."""
    if why_eager(kind):
        return "eager"
    return "compiled"


@contextlib.contextmanager
def autotuned() -> Iterator[None]:
    """Inside the block cuDNN times its deterministic kernels and takes the fastest. Another process may find another one."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextlib.contextmanager
def compiled(network: nn.Module, task: Task, settings: FitSettings, say: Callable[[str], object]) -> Iterator[None]:
    """Compiles the forward and the backward pass of a network inside the block, where that can be done.

    Args:
        network: what is compiled; the task calls it.
        task: what will be trained.
        settings: of the stage.
        say: told, for people, why the network stays as it is.
    """
    with contextlib.ExitStack() as stack:
        reason = why_eager(settings.device.type)
        if not reason:
            from torch._dynamo import config  # it takes a second

            stack.callback(_undo, network)
            # Otherwise a hook that comes and goes, as that which hides tokens from MedContext's student, would be passed over.
            stack.enter_context(config.patch(skip_nnmodule_hook_guards=False))
            reason = _compile(network, task, settings)
        if reason:
            say(f"--fast: steps were not compiled: {reason}")
        yield


def _compile(network: nn.Module, task: Task, settings: FitSettings) -> str:
    """Compiles a network in place and tries it; returns why it was left as it is, empty where it was not.

    Only `forward` is replaced: hooks of the network itself, which count its passes, go on as plain Python.
    """
    trial = _Trial(task, settings)
    expected = trial.step()
    options: dict[str, Any] = {"fallback_random": True}  # dropout draws the same numbers as in a plain step
    if settings.device.type == "cuda":
        options["triton.cudagraphs"] = True  # small kernels wait for their launches, not for the arithmetic
    try:
        with _quietly():
            network.forward = torch.compile(network.forward, dynamic=False, options=options)
            apart = [_distance(trial.step(), expected) for _ in range(_TRIALS)]
    except Exception as error:  # a compiler that cannot do with a network may raise anything
        _undo(network)
        return _in_a_line(error)
    most = TOLERANCE[settings.precision]
    for distance in apart:
        if not distance <= most:  # NaN is wrong, too
            _undo(network)
            return f"their gradients are {distance:.1%} off those of a plain step, more than {most:.1%}"
    return ""


def _undo(network: nn.Module) -> None:
    """Takes off what was compiled, and gives back its memory."""
    if network.__dict__.pop("forward", None) is not None:
        torch.compiler.reset()


def _distance(found: Gradients, expected: Gradients) -> float:
    """Returns the norm of the difference of gradients, as a share of the norm of the second; NaN where one has more of them."""
    if found.keys() != expected.keys():
        return math.nan
    apart = norm = 0.0
    for name, gradient in expected.items():
        apart += float((found[name] - gradient).double().square().sum())
        norm += float(gradient.double().square().sum())
    if not norm:
        return math.nan
    return math.sqrt(apart / norm)


class _Trial:
    """Steps on the first batch that leave nothing behind: no gradient, and buffers as they were."""

    def __init__(self, task: Task, settings: FitSettings) -> None:
        self._task = task
        self._settings = settings
        self._batch = task.batch(0)

    def step(self) -> Gradients:
        """Returns the gradients of a step."""
        settings, module = self._settings, self._task.module
        module.train()
        kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
        seeding.seed_step(settings.root, "dropout", settings.stage, 0)
        try:
            with seeding.memory_of(settings.device):  # as the loop has it
                backward(self._task, self._batch, settings.device, settings.precision)
            gradients = {}
            for name, value in module.named_parameters():
                if value.grad is not None:
                    gradients[name] = value.grad.clone()
            return gradients
        finally:
            module.zero_grad(set_to_none=True)
            with torch.no_grad():
                for buffer, before in kept:
                    buffer.copy_(before)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Inside the block nobody sees the warnings of a compiler; they speak to those who work on it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _in_a_line(error: BaseException) -> str:
    """Returns what an error of the compiler says, in one line without its advice."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line and not line.endswith("raised:")), "")
    if ":" not in text.partition(" ")[0]:
        text = f"{type(error).__name__}: {text}"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return text
