"""``initbench.initialize``: any initializer on any segmentation network, without the harness around it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from initbench import registry, seeding
from initbench.choices import PrecisionChoice
from initbench.errors import UsageError
from initbench.harness import compose
from initbench.harness.build import redraw_heads
from initbench.harness.context import Context
from initbench.harness.coverage import Coverage
from initbench.harness.hardware import resolve_device, resolve_precision
from initbench.harness.levels import probe_levels
from initbench.harness.request import assign
from initbench.harness.sites import find_sites
from initbench.harness.snapshot import modes_kept
from initbench.protocols import Grid, Level, Progress, Structure
from initbench.recipes.load import load_recipe
from initbench.sampling.samplers import UnlabelledSampler
from initbench.sampling.volumes import make_volume
from initbench.spec import Spec, as_spec
from initbench.training.loop import FitSettings


def initialize(
    model: nn.Module,
    init: str | Spec,
    *,
    seed: int = 0,
    data: Sequence[NDArray[np.float32]] | None = None,
    patch_size: Grid | None = None,
    levels: Sequence[Level | str] | None = None,
    heads: Sequence[str] | None = None,
    steps: int | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    assignments: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Initializes `model` in place; the global torch generator and settings and the network's modes are left as they were.

    A network of `initbench.build` knows its patch, levels and heads; for another one, name what the initializer needs.

    Args:
        model: segmentation network on the CPU, giving logits ``(N, K, D, H, W)``.
        init: ``name``, ``name(key=value)`` or ``./file.py:function``.
        seed: root seed; the same seed gives the same bits.
        data: preprocessed training volumes ``(C, D, H, W)`` for initializers that look at patches, learned ones above all.
        patch_size: (D, H, W) of the network's input.
        levels: encoder levels that an order prediction taps, shallow to deep; for a name, what the module gives is measured.
        heads: dotted names of the output heads, redrawn after the initializer and not learned.
        steps: pretext steps of a learned initializer.
        device: where a learned initializer trains.
        precision: of the pretext.
        assignments: ``pretext.field=value`` over the base recipe's pretext settings, ``init.parameter=value``.
        progress: told of progress.

    Returns:
        Coverage: share of parameters changed, whole and per top-level module, and the names that stayed.

    Raises:
        UsageError: unknown initializer or parameter, or one without the data, patch, levels or steps that it needs.
    """
    [asked], settings = assign([as_spec(init)], assignments)
    component = registry.find("initializer", asked)
    component.check()
    info = compose.info(component)
    learned = info.learned
    channels = 1
    depths = []
    if data:
        channels = int(data[0].shape[0])
        depths = [int(item.shape[1]) for item in data]
    own = _structure(model, patch_size, levels, heads, channels)
    target = resolve_device(device)
    recipe = load_recipe("base", size="paper", backbone="", budget="paper", assignments=["preprocess.spacing=native", *settings])
    if learned and (not data or steps is None or not own.patch_size[0]):
        raise UsageError(f"{asked} learns from volumes: pass data=[...] (arrays C, D, H, W), steps=... and patch_size=(D, H, W)")

    @functools.cache
    def draw_from_data() -> UnlabelledSampler:
        volumes = [make_volume(np.asarray(item, np.float32), None, target) for item in data or ()]
        return UnlabelledSampler(volumes, own.patch_size, recipe.pretext.batch, recipe.augment, seed)

    sampler = None
    if data and own.patch_size[0]:
        sampler = draw_from_data
    ctx = Context(
        sites=find_sites(model, own.projections),
        structure=own,
        device=target,
        root=seed,
        identity=str(registry.canonical(component)),
        steps=steps or 0,
        mask_patch=recipe.pretext.mask_patch,
        taps=recipe.pretext.taps,
        depths=tuple(depths),
        sampler=sampler,
        fit_settings=FitSettings(
            steps or 0, recipe.pretext.optimizer, resolve_precision(precision, target), target, seed, "pretext"
        ),
        progress=progress,
    )
    before = Coverage(model)
    with modes_kept(model), seeding.deterministic(torch.get_num_threads()):
        compose.apply(component, model, ctx)
        coverage = before.compare(model, str(asked), learns=learned or info.external)
        if ctx.reported:
            coverage["report"] = ctx.reported
        redraw_heads(model, own.heads, seed)
    if learned:
        model.zero_grad(set_to_none=True)  # the pretext's last gradient would add to the user's first
    return coverage


def _structure(
    model: nn.Module, patch_size: Grid | None, levels: Sequence[Level | str] | None, heads: Sequence[str] | None, channels: int
) -> Structure:
    own = getattr(model, "structure", None)
    if not isinstance(own, Structure):
        own = Structure((0, 0, 0), (), ())
    _check_modules(model, levels or (), heads or ())
    own = replace(own, patch_size=patch_size or own.patch_size)
    if levels is not None:
        own = replace(own, levels=_levels(model, levels, own.patch_size, channels))
    if heads is not None:
        own = replace(own, heads=tuple(heads))
    return own


def _check_modules(model: nn.Module, levels: Sequence[Level | str], heads: Sequence[str]) -> None:
    """Refuses levels and heads that are no module of the network."""
    known = dict(model.named_modules())
    asked = []
    for level in levels:
        if isinstance(level, Level):
            asked.append(level.module)
        else:
            asked.append(level)
    strange = [name for name in (*asked, *heads) if name not in known]
    if strange:
        there = ", ".join(name for name, _ in model.named_children())
        raise UsageError(f"the network has no module {', '.join(strange)}; its top-level modules: {there}")


def _levels(model: nn.Module, levels: Sequence[Level | str], patch: Grid, channels: int) -> tuple[Level, ...]:
    """Returns the levels, with the measured one in place of each name."""
    named = [level for level in levels if isinstance(level, str)]
    if named and not patch[0]:
        raise UsageError("levels by name are measured on a patch: pass patch_size=(D, H, W)")
    measured = {}
    if named:
        for level in probe_levels(model, named, patch, channels):
            measured[level.module] = level
    found = []
    for asked in levels:
        if isinstance(asked, str):
            found.append(measured[asked])
        else:
            found.append(asked)
    return tuple(found)
