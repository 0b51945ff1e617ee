"""Checks training steps of a backbone: gradients, precision, determinism, time and memory."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.harness.memory import estimate_bytes
from initbench.harness.snapshot import tensor_digest
from initbench.protocols import structure_of
from initbench.training.precision import Precision, autocast
from initbench.validation.backbones.construction import global_generators
from initbench.validation.backbones.subject import Subject
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.wording import digests, listed, no

STEPS = 8
"""Training steps within which every used parameter must have got a gradient."""
SECONDS = 60.0
"""Seconds that one construction and one training step at tiny size may take."""
DEEP_SUPERVISION = {False: "without deep supervision", True: "with deep supervision"}
"""Whether it is on, and how messages say so."""


@dataclass(frozen=True)
class Reached:
    """Names of parameters that training does not reach as it should.

    Attributes:
        none: never had a gradient.
        zero: had nothing but gradients of zeros.
        infinite: had a gradient that is not finite.
    """

    none: frozenset[str]
    zero: frozenset[str]
    infinite: frozenset[str]


def training_step(model: nn.Module, subject: Subject, seed: int, precision: Precision = "float32") -> Tensor:
    """Runs forward and backward of one training step, with a squared error to noise, which takes outputs of any shape.

    Args:
        model: gets the gradients; its weights stay.
        subject: gives the image.
        seed: root of the dropout numbers.
        precision: precision of the forward pass.

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


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """Returns the gradients that parameters have, by name."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad
    return found


def nonzero(gradients: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of gradients in which something is not zero, however small it is."""
    return [name for name, gradient in gradients.items() if bool(gradient.any())]


def infinite(gradients: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of gradients that hold NaN or infinity."""
    return [name for name, gradient in gradients.items() if not bool(gradient.isfinite().all())]


@functools.cache
def _train(subject: Subject, *, deep: bool) -> Reached:
    """Trains until every parameter that should get a gradient got one, for `STEPS` steps at most.

    It trains in training mode, as runs do, and over several steps: dropout and stochastic depth silence a parameter in one step,
    and behind a head or a layer scale of zeros a gradient begins with the second.

    Args:
        subject: the backbone.
        deep: whether the network is built for deep supervision.
    """
    model = subject.build(deep=deep)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    without = set(dict(model.named_parameters()))
    silent, broken = set(without), set[str]()
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        training_step(model, subject, step)
        gradients = gradients_of(model)
        without -= gradients.keys()
        silent.difference_update(nonzero(gradients))
        broken.update(infinite(gradients))
        if silent <= set(structure_of(model).unused):
            break
        optimizer.step()
    return Reached(frozenset(without), frozenset(silent - without), frozenset(broken))


def check_gradients(subject: Subject) -> str:
    """Checks that every parameter which is not declared unused gets a gradient."""
    for deep, where in DEEP_SUPERVISION.items():
        reached = _train(subject, deep=deep)
        unused = set(structure_of(subject.build(deep=deep)).unused)
        no(reached.infinite, f"gradient not finite {where}")
        no(reached.none - unused, f"no gradient {where}, and not in Structure.unused")
        no(reached.zero - unused, f"gradient zero for {STEPS} steps {where}")
    return "every used parameter gets one"


def check_unused(subject: Subject) -> str:
    """Checks that the parameters which are declared unused exist and get no gradient."""
    count = 0
    for deep, where in DEEP_SUPERVISION.items():
        reached = _train(subject, deep=deep)
        model = subject.build(deep=deep)
        unused = set(structure_of(model).unused)
        no(unused - dict(model.named_parameters()).keys(), "Structure.unused names no parameter")
        no(unused - reached.none - reached.zero, f"declared unused, and gets a gradient {where}")
        count = max(count, len(unused))
    if not count:
        return "none declared"
    return f"{count} declared"


def check_bf16(subject: Subject) -> str:
    """Checks that a step under bf16 autocast has a finite loss and finite gradients."""
    model = subject.build(deep=True)
    loss = training_step(model, subject, 0, "bf16")
    if not bool(loss.isfinite()):
        raise BrokenPromiseError(f"the loss is {float(loss)}")
    no(infinite(gradients_of(model)), "gradient not finite")
    return f"loss {float(loss):.2f}, gradients finite"


def check_determinism(subject: Subject) -> str:
    """Checks that the same network, batch and seed give the same outputs and gradients."""
    model = subject.build(deep=True)
    state = copy.deepcopy(model.state_dict())
    seen = []
    for disturbance in range(2):
        model.load_state_dict(state)  # running statistics move with every step
        model.zero_grad(set_to_none=True)
        with global_generators(disturbance):
            loss = training_step(model, subject, 0)
            with torch.no_grad():
                outputs = digests(model.eval()(subject.image()))
        gradients = {name: tensor_digest(gradient) for name, gradient in gradients_of(model).items()}
        seen.append((tensor_digest(loss), outputs, gradients))
    (_, outputs, gradients), (_, again, repeated) = seen
    if outputs != again:
        raise BrokenPromiseError("the same network gives two outputs for one image")
    no([name for name in gradients if gradients[name] != repeated.get(name)], "gradient differs from step to equal step")
    return "the same outputs and gradients twice"


def check_time(subject: Subject) -> str:
    """Checks that construction and one training step take no longer than tests can wait."""
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
    """Checks that a copy on the meta device runs: with one every run estimates its memory before it starts."""
    needed = estimate_bytes(subject.build(deep=True), subject.channels[0], subject.patch, subject.batch, "float32")
    return f"a step needs about {needed / 2**20:.0f} MiB"
