"""Backbones: what builds a network, and which patches and variants it takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from initbench.protocols.basics import SIZES, Dimension, Grid, Size
from initbench.protocols.structure import structure_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PatchRule:
    """Patches that an architecture takes: per axis ``multiple * k + remainder``, and at least `least` ``(D, H, W)``.

    `depth` is the one depth that it takes, where there is only one: 1 for a network of slices.
    """

    multiple: Grid
    remainder: Grid = (0, 0, 0)
    least: Grid = (1, 1, 1)
    depth: int | None = None

    def at_least(self, patch: Sequence[int]) -> Grid:
        """Returns the smallest valid patch that holds `patch`; it has the one depth where there is only one."""
        d, h, w = (self._up(axis, max(size, self.least[axis])) for axis, size in enumerate(patch))
        return self.depth or d, h, w

    def at_most(self, patch: Sequence[int]) -> Grid:
        """Returns the largest valid patch inside `patch`, or the smallest there is."""
        found = list(self.at_least((1, 1, 1)))
        for axis, size in enumerate(patch):
            found[axis] = max(found[axis], size - (size - self.remainder[axis]) % self.multiple[axis])
        d, h, w = found
        return self.depth or d, h, w

    def _up(self, axis: int, size: int) -> int:
        return size + (self.remainder[axis] - size) % self.multiple[axis]

    def __str__(self) -> str:
        said = f"a multiple of {self.multiple}"
        if any(self.remainder):
            said += f" plus {self.remainder}"
        said += " (D, H, W)"
        if max(self.least) > 1:
            said += f", at least {self.at_least((1, 1, 1))}"
        if self.depth:
            said += f" with D = {self.depth}"
        return said


@dataclass(frozen=True)
class BackboneInfo:
    """Where a backbone comes from.

    Attributes:
        source: ``owner/repo:path@commit`` or ``package==version:object`` of the code it equals.
        variants: published variants; the first is the default.
        patches: per variant, the patches it takes.
        summary: one line for `describe`; a built-in has its line in the catalog.
        dimension: 3 for a network of volumes, 2 for one that sees one slice at a time. The slices of a volume lie along D, and
            the unit of a batch is then a slice: the patches have depth 1.
        most_batch: patches that it takes at a time, None for any number.
    """

    paper: str
    source: str
    licence: str
    variants: tuple[str, ...] = ("default",)
    patches: Mapping[str, PatchRule] = field(default_factory=dict)
    revision: int = 1
    summary: str = ""
    dimension: Dimension = 3
    most_batch: int | None = None


class Backbone(Protocol):
    """Builds a network whose ``structure`` attribute is a `Structure`.

    The network returns logits ``(N, num_classes, D, H, W)``, or under deep supervision, in training and evaluation alike, a
    list of them, finest first. It does not keep their memory, as sliding windows write into it. A network of slices takes and
    returns volumes, too, and treats each slice along D by itself.
    """

    def __call__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        patch_size: Grid,
        size: Size = "paper",
        variant: str | None = None,
        deep_supervision: bool = False,
    ) -> nn.Module:
        """Builds the network on the CPU with the authors' own initialization.

        Raises:
            PatchError: the patch does not suit the architecture; names the nearest valid ones.
            ValueError: unknown variant or size.
        """


class PatchError(ValueError):
    """A patch that an architecture cannot take."""


def check_variant(name: str, variant: str, info: BackboneInfo) -> str:
    """Returns the variant, or refuses it and names the variants that the backbone has.

    Args:
        name: of the backbone, for the message.
        variant: as it was asked for.
        info: what the backbone declares.

    Raises:
        ValueError: the backbone has no such variant.
    """
    if variant not in info.variants:
        raise ValueError(f"{name} has no variant {variant!r}; it has {', '.join(info.variants)}")
    return variant


def check_patch(name: str, patch_size: Sequence[int], rule: PatchRule) -> Grid:
    """Returns the patch as a tuple of ints, or refuses it and names the nearest valid ones.

    Raises:
        PatchError: not three sizes that `rule` takes.
    """
    if len(patch_size) != 3:
        raise PatchError(f"{name}: a patch has three sizes (D, H, W), got {tuple(patch_size)}")
    patch = (int(patch_size[0]), int(patch_size[1]), int(patch_size[2]))
    lower, upper = rule.at_most(patch), rule.at_least(patch)
    if patch == upper:
        return patch
    nearest = " or ".join(str(p) for p in dict.fromkeys((lower, upper)))
    raise PatchError(
        f"{name}: patch {patch} must be {rule}; nearest valid: {nearest}. "
        f"Set it with --set patch.size={','.join(map(str, upper))}"
    )


def backbone(info: BackboneInfo) -> Callable[[Callable[..., nn.Module]], Backbone]:
    """Makes a backbone of a function ``(in_channels, num_classes, patch_size, size, variant, deep_supervision)``.

    Size, variant and patch are checked here, once for all backbones: the function sees valid ones.
    """

    def mark(function: Callable[..., nn.Module]) -> Backbone:
        name = function.__name__.replace("_", "-")

        def build(
            *,
            in_channels: int,
            num_classes: int,
            patch_size: Grid,
            size: Size = "paper",
            variant: str | None = None,
            deep_supervision: bool = False,
        ) -> nn.Module:
            """Checks `size`, `variant` and `patch_size`, and builds the network; the arguments are as for `Backbone`."""
            if variant is None:
                variant = info.variants[0]
            chosen = check_variant(name, variant, info)
            if size not in SIZES:
                raise ValueError(f"{name} has no size {size!r}; it has {', '.join(SIZES)}")
            patch = check_patch(f"{name} ({chosen})", patch_size, info.patches.get(chosen, PatchRule((1, 1, 1))))
            model = function(in_channels, num_classes, patch, size, chosen, deep_supervision)
            model.structure = replace(structure_of(model), name=name, variant=chosen, dimension=info.dimension)  # type: ignore[assignment]
            return model

        functools.update_wrapper(build, function)
        build.info = info  # type: ignore[attr-defined]
        return build

    return mark
