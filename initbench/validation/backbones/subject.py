"""What is checked: a backbone in one variant, at one size and patch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from initbench import registry, seeding
from initbench.errors import UsageError
from initbench.harness.build import construct
from initbench.protocols import BackboneInfo, Grid, PatchRule, Size, check_patch, check_variant
from initbench.registry import Component
from initbench.spec import Spec

CLASSES = 5
BATCH = 2
CHANNELS = (1, 2)
VOXELS = 2**18
"""Most voxels of the default patch, unless the rule allows no patch as small."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The backbone as it is checked.

    Attributes:
        component: the loaded backbone.
        variant: of the backbone.
        size: ``paper`` or ``tiny``.
        patch: (D, H, W) in voxels.
        channels: numbers of input channels to try; checks that need one number take the first.
    """

    component: Component[BackboneInfo]
    variant: str
    size: Size
    patch: Grid
    channels: tuple[int, ...] = CHANNELS

    @property
    def name(self) -> str:
        """Registered name, or ``./file.py:function``."""
        return self.component.spec.name

    @property
    def info(self) -> BackboneInfo:
        """What it declares."""
        return self.component.info

    @property
    def batch(self) -> int:
        """Number of patches in a batch: `BATCH`, or fewer where the backbone takes fewer at a time."""
        return min(BATCH, self.info.most_batch or BATCH)

    @property
    def is_declared(self) -> bool:
        """Whether its author declares anything."""
        return isinstance(self.component.declared, BackboneInfo)

    def build(self, *, channels: int | None = None, deep: bool = False, seed: int = 0) -> nn.Module:
        """Returns the network, constructed as a run does it.

        Args:
            channels: number of input channels; by default the first of the subject's.
            deep: whether it gives a list of logits for deep supervision.
            seed: root seed of the `construct` stream.
        """
        return construct(
            self.component,
            in_channels=channels or self.channels[0],
            num_classes=CLASSES,
            patch_size=self.patch,
            size=self.size,
            variant=self.variant,
            deep_supervision=deep,
            seed=seed,
        )

    def call(self, *, seed: int = 0, draw: str = "", **changes: Any) -> nn.Module:
        """Calls the function of the backbone itself, so that its own errors show.

        Args:
            seed: root seed of the `construct` stream.
            draw: name of another draw from that seed, as a placebo has it; "" for the first.
            changes: arguments that replace the subject's own.
        """
        arguments: dict[str, Any] = {
            "in_channels": self.channels[0],
            "num_classes": CLASSES,
            "patch_size": self.patch,
            "size": self.size,
            "variant": self.variant,
            "deep_supervision": False,
        }
        keys = []
        if draw:
            keys.append(draw)
        with seeding.forked(seed, "construct", *keys):
            model: nn.Module = self.component.target(**arguments | changes)
        return model

    def image(self, channels: int | None = None) -> Tensor:
        """Returns a batch of noise ``(N, C, D, H, W)``."""
        shape = (self.batch, channels or self.channels[0], *self.patch)
        return torch.randn(shape, generator=seeding.torch_generator(0, "augment", "image"))


def subjects(
    spec: Spec, *, size: Size = "tiny", patch: Grid | None = None, channels: Sequence[int] = CHANNELS
) -> tuple[Subject, ...]:
    """Returns what is to be checked: the variant that a component string names, or all of them.

    Args:
        spec: the backbone.
        size: ``paper`` or ``tiny``.
        patch: (D, H, W) in voxels; by default a small one that the variant takes.
        channels: numbers of input channels to try.

    Raises:
        UsageError: unknown name or variant, or a patch that the variant does not take.
    """
    component = registry.find("backbone", spec)
    asked, variants = component.params["variant"], component.info.variants
    try:
        if asked is not None:
            variants = (check_variant(spec.name, str(asked), component.info),)
        found = []
        for variant in variants:
            found.append(Subject(component, variant, size, _patch(component, variant, patch), tuple(channels)))
    except ValueError as error:
        raise UsageError(str(error).replace("--set patch.size=", "--patch ")) from None
    return tuple(found)


def _patch(component: Component[BackboneInfo], variant: str, asked: Grid | None) -> Grid:
    """Returns the patch that was asked for, once the rule of the variant allows it, or the default patch."""
    rule = component.info.patches.get(variant)
    if asked is None:
        return default_patch(rule or PatchRule((16, 16, 16)))  # what most networks take
    if rule is not None:
        return check_patch(f"{component.spec.name} ({variant})", asked, rule)
    return asked


def default_patch(rule: PatchRule) -> Grid:
    """Returns a small patch without two equal axes, so that swapped axes show.

    Where that stays small, each axis has at least twice the rule's multiple: with one multiple the deepest level may be one voxel
    across, and attention among one token has nothing to learn.
    """
    d, h, w = rule.multiple
    twice = _unequal(rule, (2 * d, 2 * h, 2 * w))
    if math.prod(twice) <= VOXELS:
        return twice
    return _unequal(rule, (1, 1, 1))


def _unequal(rule: PatchRule, least: Grid) -> Grid:
    """Returns the smallest patch with three different axes that the rule allows, with `least` or 16 voxels at least."""
    d, h, w = least
    sizes = list(rule.at_least((max(d, 16), max(h, 16), max(w, 16))))
    for axis in range(3):
        while sizes[axis] in sizes[:axis]:
            sizes[axis] += rule.multiple[axis]
    return sizes[0], sizes[1], sizes[2]
