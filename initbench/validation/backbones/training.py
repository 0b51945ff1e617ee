"""Training steps: gradients, precision, determinism, time and memory."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.harness.memory import estimate_bytes
from initbench.harness.snapshot import tensor_digest
from initbench.protocols import (
    structure_of,
)
from initbench.training.precision import Precision, autocast
from initbench.validation.backbones.construction import global_generators
from initbench.validation.backbones.subject import Subject
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.wording import digests, listed, no

STEPS = 8
"""Training steps within which every used parameter must have got a gradient."""
SECONDS = 60.0
"""For one construction and one training step at tiny size."""


@dataclass(frozen=True)
class Reached:
    """Parameters that no training step reached: without a gradient, with one of zeros, with one that is not finite."""

    none: frozenset[str]
    zero: frozenset[str]
    infinite: frozenset[str]


def training_step(model: nn.Module, subject: Subject, seed: int, precision: Precision = "float32") -> Tensor:
    """Runs forward and backward of one training step, with a squared error to noise, which takes outputs of any shape.

    Args:
        model: gets the gradients; its weights stay.
        subject: gives the image.
        seed: root of the dropout numbers.
        precision: of the forward pass.

    Returns:
        The loss.
    """
    with seeding.forked(seed, "dropout"), autocast(torch.device("cpu"), precision):
        outputs = listed(model.train()(subject.image()))
    parts = []
    for place, output in enumerate(outputs):
        target = torch.randn(output.shape, generator=seeding.torch_generator(place, "augment", "target"))
        parts.append((output.float() - target).square().mean())
    loss = torch.stack(parts).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _train(subject: Subject, *, deep: bool) -> Reached:
    """Trains until every parameter that should get a gradient got one, for `STEPS` steps at most.

    In training mode, as runs do it, and over several steps: dropout and stochastic depth silence a parameter in one of them,
    and behind a head or a layer scale of zeros a gradient begins with the second. A tiny gradient is one.
    """
    model = subject.build(deep=deep)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    none = {name for name, _ in model.named_parameters()}
    silent, infinite = set(none), set[str]()
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        training_step(model, subject, step)
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        none -= gradients.keys()
        silent -= {name for name, gradient in gradients.items() if bool(gradient.any())}
        infinite |= {name for name, gradient in gradients.items() if not bool(gradient.isfinite().all())}
        if silent <= set(structure_of(model).unused):
            break
        optimizer.step()
    return Reached(frozenset(none), frozenset(silent - none), frozenset(infinite))


@functools.cache
def _reached_by(subject: Subject) -> dict[bool, Reached]:
    """What training reaches, without and with deep supervision."""
    return {deep: _train(subject, deep=deep) for deep in (False, True)}


def check_gradients(subject: Subject) -> str:
    """Every parameter that is not declared unused gets a gradient."""
    for deep, reached in _reached_by(subject).items():
        unused = set(structure_of(subject.build(deep=deep)).unused)
        where = "with deep supervision" if deep else "without deep supervision"
        no(reached.infinite, f"gradient not finite {where}")
        no(reached.none - unused, f"no gradient {where}, and not in Structure.unused")
        no(reached.zero - unused, f"gradient zero for {STEPS} steps {where}")
    return "every used parameter gets one"


def check_unused(subject: Subject) -> str:
    """Parameters declared unused exist and get no gradient."""
    count = 0
    for deep, reached in _reached_by(subject).items():
        model = subject.build(deep=deep)
        unused = set(structure_of(model).unused)
        no(unused - {name for name, _ in model.named_parameters()}, "Structure.unused names no parameter")
        where = "with deep supervision" if deep else "without deep supervision"
        no(unused - reached.none - reached.zero, f"declared unused, and gets a gradient {where}")
        count = max(count, len(unused))
    return f"{count} declared" if count else "none declared"


def check_bf16(subject: Subject) -> str:
    """A step under bf16 autocast has a finite loss and finite gradients."""
    model = subject.build(deep=True)
    loss = training_step(model, subject, 0, "bf16")
    if not bool(loss.isfinite()):
        raise BrokenPromiseError(f"the loss is {float(loss)}")
    broken = [name for name, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    no(broken, "gradient not finite")
    return f"loss {float(loss):.2f}, gradients finite"


def check_determinism(subject: Subject) -> str:
    """The same network, batch and seed give the same outputs and gradients."""
    model = subject.build(deep=True)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    for disturbance in range(2):
        model.load_state_dict(state)  # running statistics move with every step
        model.zero_grad(set_to_none=True)
        with global_generators(disturbance):
            loss = training_step(model, subject, 0)
            with torch.no_grad():
                outputs = digests(model.eval()(subject.image()))
        gradients = {name: tensor_digest(p.grad) for name, p in model.named_parameters() if p.grad is not None}
        seen.append((tensor_digest(loss), outputs, gradients))
    (_, outputs, gradients), (_, again, repeated) = seen
    if outputs != again:
        raise BrokenPromiseError("the same network gives two outputs for one image")
    no([name for name in gradients if gradients[name] != repeated.get(name)], "gradient differs from step to equal step")
    return "the same outputs and gradients twice"


def check_time(subject: Subject) -> str:
    """Construction and one training step in a time that tests can take."""
    started = time.perf_counter()
    model = subject.build(deep=True)
    built = time.perf_counter()
    training_step(model, subject, 0)
    stepped = time.perf_counter()
    said = f"construction {built - started:.1f} s, step {stepped - built:.1f} s"
    if subject.size == "tiny" and stepped - started > SECONDS:
        raise BrokenPromiseError(f"{said}: more than {SECONDS:.0f} s at tiny size")
    return said


def check_memory(subject: Subject) -> str:
    """A copy on the meta device runs: every run estimates its memory with one before it starts."""
    needed = estimate_bytes(subject.build(deep=True), subject.channels[0], subject.patch, subject.batch, "float32")
    return f"a step needs about {needed / 2**20:.0f} MiB"
