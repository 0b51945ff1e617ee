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
from initbench.protocols import (
    BackboneInfo,
    Grid,
    PatchRule,
    Size,
    check_patch,
    check_variant,
)
from initbench.registry import Component
from initbench.spec import Spec

CLASSES = 5
BATCH = 2
CHANNELS = (1, 2)
VOXELS = 2**18
"""Of the default patch, unless the rule leaves nothing so small."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The backbone as it is checked.

    Attributes:
        component: the loaded backbone.
        channels: numbers of input channels; the first is used where one will do.
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
        """Patches of a batch: `BATCH`, or as many as it takes at a time."""
        return min(BATCH, self.info.most_batch or BATCH)

    @property
    def is_declared(self) -> bool:
        """Whether its author declares anything."""
        return isinstance(self.component.declared, BackboneInfo)

    def build(self, *, channels: int | None = None, deep: bool = False, seed: int = 0) -> nn.Module:
        """Returns the network, constructed as a run does it.

        Args:
            channels: of the image; by default the first of the subject's.
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
        """The network from the function itself, so that its own errors show. `draw` names another draw, as for a placebo."""
        arguments = {"in_channels": self.channels[0], "num_classes": CLASSES, "patch_size": self.patch, "size": self.size}
        with seeding.forked(seed, "construct", *([draw] if draw else [])):
            model: nn.Module = self.component.target(**arguments | {"variant": self.variant, "deep_supervision": False} | changes)
        return model

    def image(self, channels: int | None = None) -> Tensor:
        """Noise ``(N, C, D, H, W)``."""
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
        return tuple(
            Subject(component, variant, size, _patch(component, variant, patch), tuple(channels)) for variant in variants
        )
    except ValueError as error:
        raise UsageError(str(error).replace("--set patch.size=", "--patch ")) from None


def _patch(component: Component[BackboneInfo], variant: str, asked: Grid | None) -> Grid:
    rule = component.info.patches.get(variant)
    if asked:
        return check_patch(f"{component.spec.name} ({variant})", asked, rule) if rule else asked
    return default_patch(rule or PatchRule((16, 16, 16)))  # what most networks take


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
