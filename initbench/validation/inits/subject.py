"""What is checked: an initializer with its parameters, on one network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from initbench import registry, seeding
from initbench.harness import compose
from initbench.protocols import BackboneInfo, Grid, InitializerInfo, PatchRule
from initbench.registry import Component
from initbench.sampling.volumes import Volume, make_volume
from initbench.spec import Spec, parse
from initbench.validation.backbones.subject import Subject, subjects
from initbench.validation.inits import probe

PROBE = "probe"
BACKBONES = (PROBE, "unetr", "unetrpp")
"""Networks of the default: all kinds of parameters in little space, then the two of the literature, which are quick."""
STEPS = 4
CHANNELS = 1


@dataclass(frozen=True, eq=False)
class InitSubject:
    """The initializer as it is checked.

    Attributes:
        component: it, and those inside it.
        network: what it initializes.
        steps: budget of a learned one.
    """

    component: Component[InitializerInfo]
    network: Subject
    steps: int = STEPS

    @property
    def info(self) -> InitializerInfo:
        """What the initializer declares, joined with what the initializers inside it declare."""
        return compose.info(self.component)

    def volumes(self) -> list[Volume]:
        """Training volumes of noise around a bright box, which is the label; one larger than the patch, one narrower."""
        d, h, w = self.network.patch
        return [_volume(number, shape) for number, shape in enumerate(((d + 4, h + 6, w + 8), (d, h + 4, max(1, w - 2))))]


def _volume(number: int, shape: Grid) -> Volume:
    rng = seeding.rng(0, "augment", "volume", number)
    image = rng.random((CHANNELS, *shape), np.float32)
    label = np.zeros(shape, np.uint8)
    box = tuple(slice(size // 4, size // 2) for size in shape)
    label[box] = 1
    image[0][box] += 1
    return make_volume(image, label, torch.device("cpu"))


def init_subjects(spec: Spec, backbones: Sequence[str] = BACKBONES, *, steps: int = STEPS) -> tuple[InitSubject, ...]:
    """Returns an initializer on each of some networks at tiny size.

    Args:
        spec: the initializer.
        backbones: component strings of the networks; ``probe`` is a network made for these checks.
        steps: budget of a learned initializer.

    Raises:
        UsageError: unknown name, parameter or backbone, or a parameter that it needs is not given.
    """
    component = registry.find("initializer", spec)
    component.check()
    return tuple(InitSubject(component, network(name), steps) for name in backbones)


def network(text: str) -> Subject:
    """A backbone at tiny size, in its first variant where none is named."""
    if text == PROBE:
        component: Component[BackboneInfo] = Component(Spec(PROBE), "backbone", probe.probe, "initbench", None, inner={})
        found = Subject(component, "default", "tiny", patch=(1, 1, 1))
    else:
        found = subjects(parse(text))[0]
    rule = found.info.patches.get(found.variant)
    return replace(found, channels=(CHANNELS,), patch=small_patch(rule) if rule else found.patch)


def small_patch(rule: PatchRule) -> Grid:
    """The smallest patch whose deepest level may be two voxels deep and wide: so that slabs have an order, along each axis."""
    d, h, w = rule.multiple
    return rule.at_least((max(16, 2 * d), max(16, h), max(16, 2 * w)))
