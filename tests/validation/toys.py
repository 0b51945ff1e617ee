"""Initializers that keep every promise, and the same with one promise broken."""

from __future__ import annotations

from pathlib import Path

from initbench.spec import parse
from initbench.validation.checks import Check
from initbench.validation.inits import suite
from initbench.validation.inits.subject import InitSubject, init_subjects
from initbench.validation.material import PROBE
from tests.checks import failed
from tests.inits import runnable

EVERYTHING = [*suite.FIRST_OF_ALL, *suite.NETWORK_KEPT, *suite.THE_REST]
NESTED = ["shuffled(lwi)", "shuffled(kaiming-normal)", "transfer(lwi, part=encoder)", "default(construct=other)", "zero-residual"]
INITS = [*runnable(), *NESTED]
PLAIN = '''
"""An initializer of one's own."""

import os
import random

import numpy as np
import torch
from torch import nn

from initbench.protocols import initializer

CALLS = []


def drawn(model, ctx, *, std=0.1):
    for site in ctx.sites:
        if site.role in ("linear", "conv", "transposed-conv", "projection"):
            model.get_parameter(site.name).data.normal_(0, 0.1, generator=ctx.generator(site.name))
    layer = model.attention.keys
    # here
'''
LEARNED = '''
"""A learned one."""

import torch
from torch import nn

from initbench.protocols import initializer


class Same:
    """The mean of the outputs of a batch."""

    def __init__(self, model, ctx):
        self.module, self.ctx = model, ctx

    def batch(self, step):
        return self.ctx.patches(step)

    def loss(self, batch):
        return self.module(batch.image).square().mean(), {}


@initializer(learned=True)
def drawn(model, ctx):
    ctx.fit(Same(model, ctx))
    # here
'''
# What is added to a sound initializer, the check that fails for it, and what it says.
BROKEN: dict[str, tuple[str, str, str, str]] = {
    "reads torch's generator": (
        PLAIN,
        "with torch.random.fork_rng(devices=[]): layer.weight.data.normal_()",
        "generators",
        "it reads a global generator.*: attention.keys.weight, attention.values.weight",
    ),
    "reads numpy's": (
        PLAIN,
        "state = np.random.get_state(); layer.weight.data.fill_(np.random.rand()); np.random.set_state(state)",
        "generators",
        "it reads a global generator",
    ),
    "moves torch's generator": (PLAIN, "torch.rand(1)", "generators", "it moves the global generator of: torch"),
    "moves numpy's and Python's": (
        PLAIN,
        "np.random.seed(0); random.random()",
        "generators",
        "it moves the global generator of: numpy, random",
    ),
    "a generator for all": (
        PLAIN,
        "g = ctx.generator('all'); [model.get_parameter(s.name).data.normal_(0, 0.1, generator=g) for s in ctx.sites]",
        "order",
        r"the order of visits decides .*: attention\.EF, ",
    ),
    "a generator for all modules": (
        PLAIN,
        "g = ctx.generator('all'); [m.weight.data.normal_(generator=g) for m in model.modules() if isinstance(m, nn.Conv3d)]",
        "order",
        "the order of visits decides .*: down.weight, grouped.weight, stem.weight",
    ),
    "numbers of the system": (
        PLAIN,
        "layer.weight.data.fill_(int.from_bytes(os.urandom(3)) / 2**24)",
        "same bits",
        "two calls with one seed differ.*: attention.keys.weight",
    ),
    "remembers calls": (PLAIN, "CALLS.append(1); layer.bias.data.fill_(len(CALLS))", "same bits", ": attention.keys.bias"),
    "unties": (
        PLAIN,
        "layer.weight = nn.Parameter(layer.weight.detach().clone())",
        "ties",
        "it unties: attention.keys.weight = attention.values.weight",
    ),
    "ties": (PLAIN, "layer.bias = model.attention.queries.bias", "ties", "it ties: .*keys.bias = attention.queries.bias"),
    "freezes": (PLAIN, "layer.bias.requires_grad_(False)", "requires_grad", "it freezes: attention.keys.bias"),
    "unfreezes": (PLAIN, "model.requires_grad_(True)", "requires_grad", "it unfreezes: frozen"),
    "changes a shape": (
        PLAIN,
        "model.scale = nn.Parameter(torch.ones(1))",
        "shapes",
        r"it changes: scale \(8,\) float32 to \(1,\) float32",
    ),
    "changes a dtype": (
        PLAIN,
        "layer.bias.data = layer.bias.data.double()",
        "shapes",
        r"keys.bias \(8,\) float32 to \(8,\) float64",
    ),
    "leaves a parameter elsewhere": (
        PLAIN,
        "model.scale = nn.Parameter(model.scale.to('meta'))",
        "device",
        r"not on the CPU: scale \(meta\)",
    ),
    "leaves a buffer elsewhere": (PLAIN, "model.order = model.order.to('meta')", "device", r"not on the CPU: order \(meta\)"),
    "leaves a hook": (
        PLAIN,
        "layer.register_forward_hook(lambda module, inputs, output: None)",
        "hooks",
        "left on, or taken off: attention.keys",
    ),
    "leaves a hook on a parameter": (PLAIN, "layer.bias.register_hook(lambda g: g)", "hooks", "taken off: attention.keys.bias"),
    "replaces a forward": (PLAIN, "layer.forward = layer.forward", "hooks", "taken off: attention.keys"),
    "adds a module": (PLAIN, "model.extra = nn.Identity()", "modules", "it adds module: extra"),
    "removes a module": (PLAIN, "del model.aux", "modules", "it removes module: aux"),
    "replaces a module": (PLAIN, "model.drop = nn.Identity()", "modules", "of another class in the place of: drop"),
    "adds a parameter": (PLAIN, "model.gain = nn.Parameter(torch.ones(1))", "modules", "it adds parameter or buffer: gain"),
    "leaves NaN": (PLAIN, "layer.weight.data[0, 0] = float('nan')", "finite", "not finite: attention.keys.weight"),
    "leaves infinity in a buffer": (PLAIN, "model.norm.running_var.fill_(torch.inf)", "finite", "not finite: norm.running_var"),
    "leaves evaluation mode": (PLAIN, "layer.eval()", "modes", "left in evaluation mode: attention.keys"),
    "changes statistics": (PLAIN, "model.norm.running_mean.add_(1)", "buffers", "without learning it changes: norm.running_mean"),
    "changes another buffer": (LEARNED, "model.order.copy_(model.order.flip(0))", "buffers", "no statistic of a norm: order"),
    "trains twice": (LEARNED, "ctx.fit(Same(model, ctx))", "budget", "8 steps in 2 calls of ctx.fit; its budget is 4"),
    "trains outside": (
        LEARNED,
        "o = torch.optim.SGD(model.parameters(), lr=0.1); [o.step() for _ in range(3)]",
        "budget",
        "3 optimizer steps outside ctx.fit",
    ),
    "explodes": (PLAIN, "layer.weight.data.fill_(1e30); model.up.weight.data.fill_(1e30)", "signal", "the loss is|gradient not"),
    "fails": (PLAIN, "raise KeyError('stem.kernel')", "runs", "KeyError: 'stem.kernel'"),
}


def broken(case: str) -> str:
    """The source of the toy that breaks a promise, by its name in `BROKEN`."""
    source, line, _, _ = BROKEN[case]
    return source.replace("# here", line)


def subject(folder: Path, source: str, backbone: str = PROBE) -> InitSubject:
    """Writes an initializer to a file and returns it as what the checks look at, on one network."""
    file = folder / "mine.py"
    file.write_text(source)
    return init_subjects(parse(f"{file}:drawn"), [backbone])[0]


def said(checks: list[Check]) -> dict[str, str]:
    """Asserts that every check was made and passed, and returns what each says, by name."""
    assert failed(checks) == {}
    assert [check.name for check in checks] == EVERYTHING
    return {check.name: check.detail for check in checks}
