"""What a network says of itself: levels, heads, sites."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.harness.kept import few
from initbench.harness.sites import find_sites
from initbench.pretext.objectives import to_channels_first
from initbench.protocols import (
    Level,
    Structure,
    structure_of,
)
from initbench.validation.backbones.subject import CLASSES, Subject
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.wording import listed, no, stirred


def check_levels(subject: Subject) -> str:
    """Every level is what a hook on its module sees, shallow to deep, and what follows reads it."""
    model = stirred(subject.build())
    levels = structure_of(model).levels
    if not levels:
        raise BrokenPromiseError("Structure.levels is empty: order prediction and lwi have nothing to tap")
    modules = dict(model.named_modules())
    no([level.module for level in levels if level.module not in modules], "there is no module")
    no([name for name, count in Counter(level.module for level in levels).items() if count > 1], "declared twice")
    image = subject.image()
    with torch.no_grad():
        before = model(image)
        wrong = [_level(model, level, image, before) for level in levels]
    if any(wrong):
        raise BrokenPromiseError("; ".join(filter(None, wrong)))
    cells = [math.prod(level.grid) for level in levels]
    shrinking = cells == sorted(cells, reverse=True)
    if not shrinking or _calls(model, levels, image) != [level.module for level in levels]:
        raise BrokenPromiseError("levels are not listed shallow to deep, in the order in which they are computed")
    return ", ".join(f"{level.grid} × {level.channels}" for level in levels)


def _level(model: nn.Module, level: Level, image: Tensor, before: Tensor) -> str:
    """What is wrong with a level, "" for nothing. Its output is replaced by noise of its own spread."""
    seen: list[Any] = []

    def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
        seen.append(output)
        if not isinstance(output, Tensor):
            return output
        noise = torch.randn(output.shape, generator=seeding.torch_generator(0, "augment", level.module))
        return output + noise * output.std().clamp(min=1e-3)

    handle = model.get_submodule(level.module).register_forward_hook(replace)
    try:
        after = model(image)
    finally:
        handle.remove()
    if len(seen) != 1 or not isinstance(seen[0], Tensor):
        kinds = [type(item).__name__ for item in seen]
        return f"level {level.module} gives {', '.join(kinds) or 'nothing'}, not one tensor"
    try:
        to_channels_first(seen[0], level)
    except ValueError as error:
        return str(error)
    if torch.equal(after, before):
        return f"nothing reads level {level.module}: the output is the same without it"
    return ""


def check_tokens(subject: Subject) -> str:
    """The tokens are what a hook on their module sees, what follows reads them, and their cells divide their plane."""
    model = stirred(subject.build())
    tokens = structure_of(model).tokens
    if tokens is None:
        return "none declared: regimens hide parts of the image instead"
    no([tokens.module] if tokens.module not in dict(model.named_modules()) else [], "there is no module")
    image = subject.image()
    with torch.no_grad():
        wrong = _level(model, tokens, image, model(image))
    if wrong:
        raise BrokenPromiseError(wrong.replace("level", "tokens of", 1))
    no([str(size) for size in tokens.grid[1:] if size % tokens.cell], f"cells of {tokens.cell} tokens do not divide")
    return f"{tokens.module}: {tokens.grid} × {tokens.channels}"


def _calls(model: nn.Module, levels: Sequence[Level], image: Tensor) -> list[str]:
    """The levels' modules in the order in which they give their outputs."""
    called: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: called.append(name)

    handles = [model.get_submodule(level.module).register_forward_hook(note(level.module)) for level in levels]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return called


def check_heads(subject: Subject) -> str:
    """Heads end in a convolution to the classes, all outputs come from them, and they share nothing with the rest."""
    for deep in (False, True):
        model = subject.build(deep=deep).eval()
        structure = structure_of(model)
        if not structure.heads:
            raise BrokenPromiseError("Structure.heads is empty: nothing could be redrawn, or swapped for a reconstruction")
        no([head for head in structure.heads if head not in dict(model.named_modules())], "there is no module")
        no(list(_no_classes(model, structure)), f"does not end in a convolution with {CLASSES} channels")
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
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _no_classes(model: nn.Module, structure: Structure) -> Iterator[str]:
    for head in structure.heads:
        layers = [module for module in model.get_submodule(head).modules() if isinstance(module, nn.modules.conv._ConvNd)]
        if not layers or layers[-1].out_channels != CLASSES:
            yield head


def _shared(model: nn.Module, structure: Structure) -> list[str]:
    """Names outside the heads under which a parameter of a head is found too."""
    own = set()
    for head in structure.heads:
        own |= {id(parameter) for parameter in model.get_submodule(head).parameters()}
    found = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in own and not _inside(name, structure.heads):
            found.append(name)
    return found


def check_sites(subject: Subject) -> str:
    """Every parameter has a role for the random laws; projections are matrices, residual exits parameters."""
    model = subject.build()
    projections, exits = structure_of(model).projections, structure_of(model).residual_exits
    parameters = dict(model.named_parameters())
    no([name for name in projections if name not in parameters], "Structure.projections names no parameter")
    no([name for name in projections if parameters[name].ndim != 2], "a projection is no matrix")
    no([name for name in exits if name not in parameters], "Structure.residual_exits names no parameter")
    sites = find_sites(model, projections)
    if [site.name for site in sites] != list(parameters):
        raise BrokenPromiseError("not every parameter has a role")
    weights = ("linear", "conv", "transposed-conv", "projection")
    no([site.name for site in sites if site.role in weights and not (site.fan_in and site.fan_out)], "no fans")
    counts = Counter(site.role for site in sites)
    leaves = sorted({site.name.rpartition(".")[2] for site in sites if site.role == "other"})
    said = ", ".join(f"{count} {role}" for role, count in counts.most_common())
    return said + (f" (no law draws: {few(leaves)})" if leaves else "")
