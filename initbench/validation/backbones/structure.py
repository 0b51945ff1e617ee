"""Checks what a network says of itself: levels, tokens, heads and sites."""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.harness.kept import few
from initbench.harness.sites import find_sites
from initbench.pretext.objectives import to_channels_first
from initbench.protocols import Level, Structure, structure_of
from initbench.validation.backbones.subject import CLASSES, Subject
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.wording import listed, no, stirred

WEIGHTS = ("linear", "conv", "transposed-conv", "projection")
"""Roles whose parameters have a fan-in and a fan-out."""


def check_levels(subject: Subject) -> str:
    """Checks that every level is what a hook on its module sees, from shallow to deep, and that later modules read it."""
    model = stirred(subject.build())
    levels = structure_of(model).levels
    if not levels:
        raise BrokenPromiseError("Structure.levels is empty: order prediction and lwi have nothing to tap")
    names = [level.module for level in levels]
    no(set(names) - dict(model.named_modules()).keys(), "there is no module")
    no([name for name, count in Counter(names).items() if count > 1], "declared twice")
    image = subject.image()
    wrong = []
    with torch.no_grad():
        before = model(image)
        for level in levels:
            fault = _fault(model, level, image, before)
            if fault:
                wrong.append(fault)
    if wrong:
        raise BrokenPromiseError("; ".join(wrong))
    cells = [math.prod(level.grid) for level in levels]
    shrinking = cells == sorted(cells, reverse=True)
    if not shrinking or _order_of_calls(model, names, image) != names:
        raise BrokenPromiseError("levels are not listed shallow to deep, in the order in which they are computed")
    return ", ".join(f"{level.grid} × {level.channels}" for level in levels)


def _fault(model: nn.Module, level: Level, image: Tensor, before: Tensor) -> str:
    """Returns what is wrong with a level, "" for nothing. It adds noise to the level and looks for it in the output.

    Args:
        model: the network.
        level: what the network declares.
        image: the input ``(N, C, D, H, W)``.
        before: the output without the noise.
    """
    seen: list[Any] = []

    def with_noise(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        """Notes the `output` of the level and returns it with noise of its own spread."""
        seen.append(output)
        if not isinstance(output, Tensor):
            return output
        noise = torch.randn(output.shape, generator=seeding.torch_generator(0, "augment", level.module))
        return output + noise * output.std().clamp(min=1e-3)

    handle = model.get_submodule(level.module).register_forward_hook(with_noise)
    try:
        after = model(image)
    finally:
        handle.remove()
    if len(seen) != 1 or not isinstance(seen[0], Tensor):
        kinds = ", ".join(type(item).__name__ for item in seen)
        return f"level {level.module} gives {kinds or 'nothing'}, not one tensor"
    try:
        to_channels_first(seen[0], level)
    except ValueError as error:
        return str(error)
    if torch.equal(after, before):
        return f"nothing reads level {level.module}: the output is the same without it"
    return ""


def check_tokens(subject: Subject) -> str:
    """Checks that the tokens are what a hook on their module sees, that later modules read them, and that cells divide them."""
    model = stirred(subject.build())
    tokens = structure_of(model).tokens
    if tokens is None:
        return "none declared: regimens hide parts of the image instead"
    no({tokens.module} - dict(model.named_modules()).keys(), "there is no module")
    image = subject.image()
    with torch.no_grad():
        fault = _fault(model, tokens, image, model(image))
    if fault:
        raise BrokenPromiseError(fault.replace("level", "tokens of", 1))
    no([str(size) for size in tokens.grid[1:] if size % tokens.cell], f"cells of {tokens.cell} tokens do not divide")
    return f"{tokens.module}: {tokens.grid} × {tokens.channels}"


def _order_of_calls(model: nn.Module, names: Sequence[str], image: Tensor) -> list[str]:
    """Returns the names of modules in the order in which they give their outputs."""
    called: list[str] = []

    def note(name: str, *_: Any) -> None:
        called.append(name)

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for name in names:
            handle = model.get_submodule(name).register_forward_hook(functools.partial(note, name))
            hooks.callback(handle.remove)
        model(image)
    return called


def check_heads(subject: Subject) -> str:
    """Checks that heads end in a convolution to the classes, that all outputs come from them, and that they share nothing."""
    for deep in (False, True):
        model = subject.build(deep=deep).eval()
        structure = structure_of(model)
        if not structure.heads:
            raise BrokenPromiseError("Structure.heads is empty: nothing could be redrawn, or swapped for a reconstruction")
        no(set(structure.heads) - dict(model.named_modules()).keys(), "there is no module")
        no(_without_classes(model, structure.heads), f"does not end in a convolution with {CLASSES} channels")
        no([level.module for level in structure.levels if _inside(level.module, structure.heads)], "a level lies in a head")
        no(_shared(model, structure), "a head's parameter is also")
        with torch.no_grad():
            for head in structure.heads:
                for parameter in model.get_submodule(head).parameters():
                    parameter.zero_()
            outputs = model(subject.image())
        for output in listed(outputs):
            if not torch.equal(output.amax((0, 2, 3, 4)), output.amin((0, 2, 3, 4))):
                raise BrokenPromiseError("with zeros in all heads an output still varies: it does not come from a declared head")
    return ", ".join(structure.heads)


def _inside(name: str, modules: Iterable[str]) -> bool:
    """Returns whether a module or parameter lies in one of some modules, or is one of them."""
    for module in modules:
        if name == module or name.startswith(f"{module}."):
            return True
    return False


def _without_classes(model: nn.Module, heads: Sequence[str]) -> list[str]:
    """Returns the heads whose last convolution does not give the classes."""
    found = []
    for head in heads:
        channels = 0
        for module in model.get_submodule(head).modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                channels = module.out_channels
        if channels != CLASSES:
            found.append(head)
    return found


def _shared(model: nn.Module, structure: Structure) -> list[str]:
    """Returns the names outside the heads under which a parameter of a head is found too."""
    of_heads: set[nn.Parameter] = set()
    for head in structure.heads:
        of_heads.update(model.get_submodule(head).parameters())
    found = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter in of_heads and not _inside(name, structure.heads):
            found.append(name)
    return found


def check_sites(subject: Subject) -> str:
    """Checks that every parameter has a role for the random laws, that projections are matrices, and that exits exist."""
    model = subject.build()
    projections, exits = structure_of(model).projections, structure_of(model).residual_exits
    parameters = dict(model.named_parameters())
    no(set(projections) - parameters.keys(), "Structure.projections names no parameter")
    no([name for name in projections if parameters[name].ndim != 2], "a projection is no matrix")
    no(set(exits) - parameters.keys(), "Structure.residual_exits names no parameter")
    sites = find_sites(model, projections)
    if [site.name for site in sites] != list(parameters):
        raise BrokenPromiseError("not every parameter has a role")
    roles: Counter[str] = Counter()
    without_fans, without_law = [], set()
    for site in sites:
        roles[site.role] += 1
        has_fans = bool(site.fan_in and site.fan_out)
        if site.role in WEIGHTS and not has_fans:
            without_fans.append(site.name)
        if site.role == "other":
            without_law.add(site.name.rpartition(".")[2])
    no(without_fans, "no fans")
    said = ", ".join(f"{count} {role}" for role, count in roles.most_common())
    if without_law:
        said += f" (no law draws: {few(sorted(without_law))})"
    return said
