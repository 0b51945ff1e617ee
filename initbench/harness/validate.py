"""Whether a backbone keeps what `initbench.protocols.Backbone` asks of it: one small check per promise.

A check returns what it saw, or raises; it never stops the others. All of them run on the CPU, with deterministic kernels.
"""

from __future__ import annotations

import functools
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model
from torch import Tensor, nn

from initbench import registry, seeding
from initbench.errors import UsageError
from initbench.harness.build import build
from initbench.harness.coverage import state_digest, tensor_digest
from initbench.harness.memory import estimate_bytes
from initbench.harness.sites import find_sites
from initbench.harness.weights import save_weights
from initbench.pretext.objectives import to_channels_first
from initbench.protocols import (
    BackboneInfo,
    Grid,
    Level,
    PatchError,
    PatchRule,
    Size,
    Structure,
    check_patch,
    check_variant,
    structure_of,
)
from initbench.spec import Spec
from initbench.training.precision import Precision, autocast

CLASSES = 5
BATCH = 2
CHANNELS = (1, 2)
STEPS = 8
"""Training steps within which every used parameter must have got a gradient."""
SECONDS = 60.0
"""For one construction and one training step at tiny size."""
VOXELS = 2**18
"""Of the default patch, unless the rule leaves nothing so small."""
_NAMED = 6  # names that a message lists


@dataclass(frozen=True)
class Check:
    """One promise and whether it is kept.

    Attributes:
        name: what was checked.
        passed: whether it holds.
        detail: what was seen, or what is wrong; one line.
        seconds: how long it took.
    """

    name: str
    passed: bool
    detail: str
    seconds: float


class BrokenPromiseError(Exception):
    """What a check found wrong."""


@dataclass(frozen=True)
class Reached:
    """Parameters that no training step reached: without a gradient, with one of zeros, with one that is not finite."""

    none: frozenset[str]
    zero: frozenset[str]
    infinite: frozenset[str]


@dataclass(frozen=True)
class Subject:
    """The backbone as it is checked.

    Attributes:
        name: registered name, or ``./file.py:function``.
        target: the function itself.
        info: its declaration, None where it has none.
        channels: numbers of input channels; the first is used where one will do.
    """

    name: str
    target: Callable[..., Any]
    info: BackboneInfo | None
    variant: str
    size: Size
    patch: Grid
    channels: tuple[int, ...] = CHANNELS

    def build(self, *, channels: int | None = None, deep: bool = False, seed: int = 0) -> nn.Module:
        """The network, constructed as a run does it."""
        return build(
            self.name,
            in_channels=channels or self.channels[0],
            num_classes=CLASSES,
            patch_size=self.patch,
            size=self.size,
            variant=self.variant,
            deep_supervision=deep,
            seed=seed,
        )

    def call(self, **changes: Any) -> nn.Module:
        """The network from the function itself, so that its own errors show."""
        arguments = {"in_channels": self.channels[0], "num_classes": CLASSES, "patch_size": self.patch, "size": self.size}
        with seeding.forked(0, "construct"):
            model: nn.Module = self.target(**arguments | {"variant": self.variant, "deep_supervision": False} | changes)
        return model

    def image(self, channels: int | None = None) -> Tensor:
        """Noise ``(N, C, D, H, W)``."""
        shape = (BATCH, channels or self.channels[0], *self.patch)
        return torch.randn(shape, generator=seeding.torch_generator(0, "augment", "image"))

    @functools.cached_property
    def reached(self) -> dict[bool, Reached]:
        """What training reaches, without and with deep supervision."""
        return {deep: _train(self, deep=deep) for deep in (False, True)}


def subjects(
    spec: Spec, *, size: Size = "tiny", patch: Grid | None = None, channels: Sequence[int] = CHANNELS
) -> tuple[Subject, ...]:
    """What a component string asks to check: one variant, or all of them.

    Raises:
        UsageError: unknown name or variant, or a patch that the variant does not take.
    """
    component = registry.get("backbone", spec)
    if not callable(component.target):
        raise UsageError(f"backbone {spec.name!r} is {type(component.target).__name__} and no function")
    params = dict(spec.params)
    if params.keys() - {"variant"}:
        raise UsageError(f"{spec.name} takes variant alone, got {', '.join(sorted(params.keys() - {'variant'}))}")
    found = getattr(component.target, "info", None)
    info = found if isinstance(found, BackboneInfo) else None
    variants = info.variants if info else ("default",)
    try:
        if "variant" in params:
            variants = (check_variant(spec.name, str(params["variant"]), info),)
        return tuple(
            Subject(spec.name, component.target, info, variant, size, _patch(spec.name, variant, info, patch), tuple(channels))
            for variant in variants
        )
    except ValueError as error:
        raise UsageError(str(error).replace("--set patch.size=", "--patch ")) from None


def _patch(name: str, variant: str, info: BackboneInfo | None, asked: Grid | None) -> Grid:
    rule = _rule(info, variant)
    if asked:
        return check_patch(f"{name} ({variant})", asked, rule) if rule else asked
    return default_patch(rule or PatchRule((16, 16, 16)))  # what most networks take


def _rule(info: BackboneInfo | None, variant: str) -> PatchRule | None:
    return info.patches.get(variant) if info else None


def default_patch(rule: PatchRule) -> Grid:
    """A small patch without two equal axes, so that swapped axes show.

    Where that stays small, it holds twice what the rule divides by: at once that, the deepest level may be one voxel across,
    and attention among one token has nothing to learn.
    """
    twice = _unequal(rule, (rule.multiple[0] * 2, rule.multiple[1] * 2, rule.multiple[2] * 2))
    return twice if math.prod(twice) <= VOXELS else _unequal(rule, (1, 1, 1))


def _unequal(rule: PatchRule, least: Grid) -> Grid:
    smallest = rule.at_least([max(size, 16) for size in least])
    sizes: list[int] = []
    for size, step in zip(smallest, rule.multiple, strict=True):
        sizes.append(next(s for s in range(size, size + 3 * step, step) if s not in sizes))
    return sizes[0], sizes[1], sizes[2]


def validate(subject: Subject) -> list[Check]:
    """Every check of a backbone. Where it cannot be constructed, only those that need no network."""
    with seeding.deterministic(threads=1):  # as runs have it; small networks gain nothing from more
        checks = [_run(name, check, subject) for name, check in WITHOUT_NETWORK.items()]
        constructs = _run("constructs", check_constructs, subject)
        checks.insert(1, constructs)
        if constructs.passed:
            checks += [_run(name, check, subject) for name, check in WITH_NETWORK.items()]
    return checks


def _run(name: str, check: Callable[[Subject], str], subject: Subject) -> Check:
    started = time.perf_counter()
    try:
        passed, detail = True, check(subject)
    except BrokenPromiseError as broken:
        passed, detail = False, str(broken)
    except Exception as error:  # whatever a plug-in raises is the failure of this check
        passed, detail = False, f"{type(error).__name__}: {error}"
    return Check(name, passed, " ".join(detail.split()), time.perf_counter() - started)


# --- what needs no network --------------------------------------------------------------------------------------------


def check_declared(subject: Subject) -> str:
    """It says where it comes from, and which patches each variant takes."""
    if subject.info is None:
        raise BrokenPromiseError(
            "it has no BackboneInfo: put @backbone(BackboneInfo(paper=..., source=..., licence=..., patches=...)) of "
            "initbench.protocols over the function"
        )
    lacking = [variant for variant in subject.info.variants if variant not in subject.info.patches]
    _no(lacking, "BackboneInfo.patches has no PatchRule for variant")
    empty = [field for field in ("paper", "source", "licence") if not getattr(subject.info, field)]
    _no(empty, "BackboneInfo leaves empty")
    return f"{subject.info.licence}; patches: {subject.info.patches[subject.variant]}"


def check_wrong_patch(subject: Subject) -> str:
    """A patch that it cannot take is refused with the nearest that it can."""
    rule = _rule(subject.info, subject.variant)
    if rule is None:
        raise BrokenPromiseError("no PatchRule says which patches it takes")
    axis = next((a for a in range(3) if rule.multiple[a] > 1 or rule.least[a] > 1), None)
    if axis is None:
        return "every patch is valid"
    wrong = list(subject.patch)
    wrong[axis] = subject.patch[axis] + 1 if rule.multiple[axis] > 1 else rule.least[axis] - 1
    nearest = rule.at_least(wrong)
    try:
        subject.call(patch_size=tuple(wrong))
    except PatchError as error:
        if str(nearest) not in str(error):
            raise BrokenPromiseError(f"the error for patch {tuple(wrong)} does not name {nearest}: {error}") from None
        return f"{tuple(wrong)} refused, {nearest} named"
    except Exception as error:
        raise BrokenPromiseError(f"patch {tuple(wrong)} raised {type(error).__name__} and no PatchError: {error}") from None
    raise BrokenPromiseError(f"patch {tuple(wrong)} was taken; the rule says {rule}")


def check_unknown_variant(subject: Subject) -> str:
    """A variant that there is none of is refused with those there are."""
    variants = subject.info.variants if subject.info else ("default",)
    try:
        subject.call(variant="no-such-variant")
    except ValueError as error:
        _no([variant for variant in variants if variant not in str(error)], "the error does not name variant")
        return f"refused, {', '.join(variants)} named"
    except Exception as error:
        raise BrokenPromiseError(f"raised {type(error).__name__} and no ValueError: {error}") from None
    raise BrokenPromiseError("variant 'no-such-variant' was taken")


# --- construction -----------------------------------------------------------------------------------------------------


def check_constructs(subject: Subject) -> str:
    """It gives a module with a structure of what was asked for, with and without deep supervision."""
    for deep in (False, True):
        model = subject.build(deep=deep)
        structure = structure_of(model)
        if structure.patch_size != subject.patch:
            raise BrokenPromiseError(f"structure.patch_size is {structure.patch_size}, asked for {subject.patch}")
        if structure.variant != subject.variant:
            raise BrokenPromiseError(f"structure.variant is {structure.variant!r}, asked for {subject.variant!r}")
        elsewhere = [name for name, p in model.named_parameters() if p.device.type != "cpu" or p.dtype != torch.float32]
        _no(elsewhere, "not float32 on the CPU")
    return f"{sum(p.numel() for p in model.parameters()):,} parameters at patch {subject.patch}"


def check_construction(subject: Subject) -> str:
    """Its numbers come from torch's global generator: the same seed gives the same bits, another seed others."""
    digests = []
    for disturbance, seed in enumerate((0, 0, 1)):
        with _global_generators(disturbance):
            digests.append(state_digest(subject.build(seed=seed)))
    if digests[0] != digests[1]:
        raise BrokenPromiseError(
            "two constructions from one seed differ: something is drawn elsewhere than from torch's generator"
        )
    if digests[0] == digests[2]:
        raise BrokenPromiseError("another seed changes nothing: the numbers do not come from torch's global generator")
    return "the same seed gives the same bits"


@contextmanager
def _global_generators(seed: int) -> Iterator[None]:
    """The generators of Python and numpy in a state of their own, and put back."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def check_state(subject: Subject) -> str:
    """Weights that a run saves make another construction the same network, bit for bit."""
    source, target = _stirred(subject.build()), subject.build(seed=1).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_weights(source, file, {})
        load_model(target, file)
    if state_digest(source) != state_digest(target):
        raise BrokenPromiseError("the state dict read back is not the one that was saved")
    image = subject.image()
    with torch.no_grad():
        if _digests(source(image)) != _digests(target(image)):
            raise BrokenPromiseError("with the same state dict the output differs: something that counts is not in it")
    return f"{len(source.state_dict())} entries read back, the same output"


# --- outputs ----------------------------------------------------------------------------------------------------------


def check_output(subject: Subject) -> str:
    """Logits ``(N, K, D, H, W)`` for every number of input channels."""
    for channels in subject.channels:
        with torch.no_grad():
            output = subject.build(channels=channels).eval()(subject.image(channels))
        _logits(output, f"{channels} channels", subject.patch)
    return f"{(BATCH, CLASSES, *subject.patch)} from {' and '.join(map(str, subject.channels))} channels"


def check_deep_supervision(subject: Subject) -> str:
    """A list, finest first, whose first element is what the network gives without."""
    plain, deep = subject.build().eval(), subject.build(deep=True).eval()
    unknown = deep.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    _no(unknown, "without deep supervision there are keys that are not there with it")
    image = subject.image()
    with torch.no_grad():
        expected, outputs = plain(image), deep(image)
        in_training = deep.train()(image)
    if not isinstance(outputs, list) or not isinstance(in_training, list):
        raise BrokenPromiseError(
            f"gives {type(outputs).__name__} in evaluation, {type(in_training).__name__} in training, not list"
        )
    _logits(outputs[0], "the first output", subject.patch)
    grids = [tuple(output.shape[2:]) for output in outputs]
    for output, finer in zip(outputs[1:], grids, strict=False):
        _logits(output, "a coarser output")
        if any(size > before for size, before in zip(output.shape[2:], finer, strict=True)):
            raise BrokenPromiseError(f"outputs are not finest first: {grids}")
    if not torch.allclose(outputs[0], expected, rtol=1e-4, atol=1e-5):
        raise BrokenPromiseError("the first output is not the one without deep supervision")
    return f"{len(outputs)} of {', '.join(map(str, grids))}"


def _logits(output: Any, what: str, grid: Grid | None = None) -> None:
    """Raises: no finite logits, or not on `grid`."""
    if not isinstance(output, Tensor):
        raise BrokenPromiseError(f"{what}: gives {type(output).__name__}, not a tensor")
    expected = (BATCH, CLASSES, *(grid or output.shape[2:]))
    if tuple(output.shape) != expected or output.ndim != 5:
        raise BrokenPromiseError(f"{what}: gives {tuple(output.shape)}, not {expected}")
    if not bool(output.isfinite().all()):
        raise BrokenPromiseError(f"{what}: gives values that are not finite")


# --- training ---------------------------------------------------------------------------------------------------------


def _step(model: nn.Module, subject: Subject, seed: int, precision: Precision = "float32") -> Tensor:
    """Forward and backward of one training step; the loss, a squared error to noise, which takes outputs of any shape."""
    with seeding.forked(seed, "dropout"), autocast(torch.device("cpu"), precision):
        outputs = _listed(model.train()(subject.image()))
    targets = (torch.randn(o.shape, generator=seeding.torch_generator(i, "augment", "target")) for i, o in enumerate(outputs))
    loss = torch.stack([(o.float() - target).square().mean() for o, target in zip(outputs, targets, strict=True)]).sum()
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
        _step(model, subject, step)
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        none -= gradients.keys()
        silent -= {name for name, gradient in gradients.items() if bool(gradient.any())}
        infinite |= {name for name, gradient in gradients.items() if not bool(gradient.isfinite().all())}
        if silent <= set(structure_of(model).unused):
            break
        optimizer.step()
    return Reached(frozenset(none), frozenset(silent - none), frozenset(infinite))


def check_gradients(subject: Subject) -> str:
    """Every parameter that is not declared unused gets a gradient."""
    for deep, reached in subject.reached.items():
        unused = set(structure_of(subject.build(deep=deep)).unused)
        where = "with deep supervision" if deep else "without deep supervision"
        _no(reached.infinite, f"gradient not finite {where}")
        _no(reached.none - unused, f"no gradient {where}, and not in Structure.unused")
        _no(reached.zero - unused, f"gradient zero for {STEPS} steps {where}")
    return "every used parameter gets one"


def check_unused(subject: Subject) -> str:
    """Parameters declared unused exist and get no gradient."""
    count = 0
    for deep, reached in subject.reached.items():
        model = subject.build(deep=deep)
        unused = set(structure_of(model).unused)
        _no(unused - {name for name, _ in model.named_parameters()}, "Structure.unused names no parameter")
        where = "with deep supervision" if deep else "without deep supervision"
        _no(unused - reached.none - reached.zero, f"declared unused, and gets a gradient {where}")
        count = max(count, len(unused))
    return f"{count} declared" if count else "none declared"


def check_bf16(subject: Subject) -> str:
    """A step under bf16 autocast has a finite loss and finite gradients."""
    model = subject.build(deep=True)
    loss = _step(model, subject, 0, "bf16")
    if not bool(loss.isfinite()):
        raise BrokenPromiseError(f"the loss is {float(loss)}")
    broken = [name for name, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    _no(broken, "gradient not finite")
    return f"loss {float(loss):.2f}, gradients finite"


def check_determinism(subject: Subject) -> str:
    """The same network, batch and seed give the same outputs and gradients."""
    model = subject.build(deep=True)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    for disturbance in range(2):
        model.load_state_dict(state)  # running statistics move with every step
        model.zero_grad(set_to_none=True)
        with _global_generators(disturbance):
            loss = _step(model, subject, 0)
            with torch.no_grad():
                outputs = _digests(model.eval()(subject.image()))
        gradients = {name: tensor_digest(p.grad) for name, p in model.named_parameters() if p.grad is not None}
        seen.append((tensor_digest(loss), outputs, gradients))
    (_, outputs, gradients), (_, again, repeated) = seen
    if outputs != again:
        raise BrokenPromiseError("the same network gives two outputs for one image")
    _no([name for name in gradients if gradients[name] != repeated.get(name)], "gradient differs from step to equal step")
    return "the same outputs and gradients twice"


def check_time(subject: Subject) -> str:
    """Construction and one training step in a time that tests can take."""
    started = time.perf_counter()
    model = subject.build(deep=True)
    built = time.perf_counter()
    _step(model, subject, 0)
    stepped = time.perf_counter()
    said = f"construction {built - started:.1f} s, step {stepped - built:.1f} s"
    if subject.size == "tiny" and stepped - started > SECONDS:
        raise BrokenPromiseError(f"{said}: more than {SECONDS:.0f} s at tiny size")
    return said


def check_memory(subject: Subject) -> str:
    """A copy on the meta device runs: every run estimates its memory with one before it starts."""
    needed = estimate_bytes(subject.build(deep=True), subject.channels[0], subject.patch, BATCH, "float32")
    return f"a step needs about {needed / 2**20:.0f} MiB"


# --- structure --------------------------------------------------------------------------------------------------------


def check_levels(subject: Subject) -> str:
    """Every level is what a hook on its module sees, shallow to deep, and what follows reads it."""
    model = _stirred(subject.build())
    levels = structure_of(model).levels
    if not levels:
        raise BrokenPromiseError("Structure.levels is empty: order prediction and lwi have nothing to tap")
    modules = dict(model.named_modules())
    _no([level.module for level in levels if level.module not in modules], "there is no module")
    _no([name for name, count in Counter(level.module for level in levels).items() if count > 1], "declared twice")
    image = subject.image()
    with torch.no_grad():
        before = model(image)
        wrong = [said for level in levels if (said := _level(model, level, image, before))]
    if wrong:
        raise BrokenPromiseError("; ".join(wrong))
    cells = [level.grid[0] * level.grid[1] * level.grid[2] for level in levels]
    if cells != sorted(cells, reverse=True) or _calls(model, levels, image) != [level.module for level in levels]:
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
        return f"level {level.module} gives {', '.join(type(item).__name__ for item in seen) or 'nothing'}, not one tensor"
    try:
        to_channels_first(seen[0], level)
    except ValueError as error:
        return str(error)
    return f"nothing reads level {level.module}: the output is the same without it" if torch.equal(after, before) else ""


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
        _no([head for head in structure.heads if head not in dict(model.named_modules())], "there is no module")
        _no(list(_no_classes(model, structure)), f"does not end in a convolution with {CLASSES} channels")
        _no([level.module for level in structure.levels if _inside(level.module, structure.heads)], "a level lies in a head")
        _no(_shared(model, structure), "a head's parameter is also")
        with torch.no_grad():
            for head in structure.heads:
                for parameter in model.get_submodule(head).parameters():
                    parameter.zero_()
            outputs = model(subject.image())
        if any(bool((output.amax((0, 2, 3, 4)) != output.amin((0, 2, 3, 4))).any()) for output in _listed(outputs)):
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
    own = {id(p) for head in structure.heads for p in model.get_submodule(head).parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return [name for name, p in every if id(p) in own and not _inside(name, structure.heads)]


def check_sites(subject: Subject) -> str:
    """Every parameter has a role for the random laws; projections are matrices, residual exits parameters."""
    model = subject.build()
    projections, exits = structure_of(model).projections, structure_of(model).residual_exits
    parameters = dict(model.named_parameters())
    _no([name for name in projections if name not in parameters], "Structure.projections names no parameter")
    _no([name for name in projections if parameters[name].ndim != 2], "a projection is no matrix")
    _no([name for name in exits if name not in parameters], "Structure.residual_exits names no parameter")
    sites = find_sites(model, projections)
    if [site.name for site in sites] != list(parameters):
        raise BrokenPromiseError("not every parameter has a role")
    weights = ("linear", "conv", "transposed-conv", "projection")
    _no([site.name for site in sites if site.role in weights and not (site.fan_in and site.fan_out)], "no fans")
    counts = Counter(site.role for site in sites)
    leaves = sorted({site.name.rpartition(".")[2] for site in sites if site.role == "other"})
    said = ", ".join(f"{count} {role}" for role, count in counts.most_common())
    return said + (f" (no law draws: {_names(leaves)})" if leaves else "")


# --- helpers ----------------------------------------------------------------------------------------------------------


def _no(names: Iterable[str], what: str) -> None:
    """Raises: there are such names."""
    found = list(names) if isinstance(names, list) else sorted(names)
    if found:
        raise BrokenPromiseError(f"{what}: {_names(found)}")


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _stirred(model: nn.Module) -> nn.Module:
    """The network in evaluation with a little noise on every parameter: heads and layer scales of zeros hide what is before."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=seeding.torch_generator(0, "init", name))
            parameter.add_(0.05 * noise)
    return model.eval()


def _listed(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else outputs


def _digests(outputs: Tensor | Sequence[Tensor]) -> list[str]:
    return [tensor_digest(output) for output in _listed(outputs)]


WITHOUT_NETWORK: dict[str, Callable[[Subject], str]] = {
    "declared": check_declared,
    "wrong patch": check_wrong_patch,
    "unknown variant": check_unknown_variant,
}
WITH_NETWORK: dict[str, Callable[[Subject], str]] = {
    "output": check_output,
    "deep supervision": check_deep_supervision,
    "gradients": check_gradients,
    "unused": check_unused,
    "levels": check_levels,
    "heads": check_heads,
    "sites": check_sites,
    "construction": check_construction,
    "state": check_state,
    "determinism": check_determinism,
    "bf16": check_bf16,
    "memory": check_memory,
    "time": check_time,
}
