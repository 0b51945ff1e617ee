"""What the checks of initializers and regimens work on: small networks, volumes of noise, and the recipe of all recipes."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import torch

from initbench import seeding
from initbench.protocols import BackboneInfo, Grid, PatchRule
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.registry import Component
from initbench.sampling.volumes import Volume, make_volume
from initbench.spec import Spec, parse
from initbench.validation import probe
from initbench.validation.backbones.subject import Subject, subjects

PROBE = "probe"
CHANNELS = 1


def network(text: str) -> Subject:
    """Returns a backbone at tiny size and at its smallest useful patch, in its first variant where `text` names none.

    Args:
        text: component string of the backbone; ``probe`` is a network made for these checks.

    Raises:
        UsageError: unknown name or variant.
    """
    if text == PROBE:
        component: Component[BackboneInfo] = Component(Spec(PROBE), "backbone", probe.probe, "initbench", None, inner={})
        found = Subject(component, "default", "tiny", patch=(1, 1, 1))
    else:
        found = subjects(parse(text))[0]
    patch = found.patch
    rule = found.info.patches.get(found.variant)
    if rule is not None:
        patch = small_patch(rule)
    return replace(found, channels=(CHANNELS,), patch=patch)


def small_patch(rule: PatchRule) -> Grid:
    """Returns the smallest patch (D, H, W) whose deepest level may be two voxels deep and wide, so that slabs have an order."""
    d, h, w = rule.multiple
    return rule.at_least((max(16, 2 * d), max(16, h), max(16, 2 * w)))


def training_volumes(patch: Grid) -> list[Volume]:
    """Returns two volumes of noise around a bright box, which is the label: one is larger than the patch, one is narrower."""
    d, h, w = patch
    larger = (d + 4, h + 6, w + 8)
    narrower = (d, h + 4, max(1, w - 2))
    return [_volume(0, larger), _volume(1, narrower)]


def _volume(number: int, shape: Grid) -> Volume:
    rng = seeding.rng(0, "augment", "volume", number)
    image = rng.random((CHANNELS, *shape), np.float32)
    label = np.zeros(shape, np.uint8)
    box = tuple(slice(size // 4, size // 2) for size in shape)
    label[box] = 1
    image[0][box] += 1
    return make_volume(image, label, torch.device("cpu"))


@functools.cache
def base_recipe() -> Recipe:
    """Returns the recipe that all others start from. It clips no gradients: their norm is summed in the order of parameters."""
    return load_recipe("base", size="paper", backbone="", budget="smoke", assignments=["preprocess.spacing=native"])
