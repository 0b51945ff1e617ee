"""U-Net: the plain convolutional network of nnU-Net, the control among the transformers.

Paper: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 2021, arXiv:1904.08128.
Source: dynamic-network-architectures==0.4.4:dynamic_network_architectures.architectures.unet.PlainConvUNet, with the settings
of MIC-DKFZ/nnUNet:nnunetv2/experiment_planning/experiment_planners (default_experiment_planner.py, network_topology.py)@04f3cfce.
Licence: Apache-2.0 (Division of Medical Image Computing, German Cancer Research Center); called, not copied.

What differs from the source:

- nnU-Net plans strides and kernels from the voxel spacing and then pads the patch to fit. A backbone knows the patch alone, so
  here every axis is taken to show the same length in mm (see `plan`), and an axis is halved only while that comes out even.
- An axis is halved five times at most: 320 channels, the widest there are, are reached by then.
- Under deep supervision the list has an output per resolution of the decoder, as in nnU-Net; what each weighs in the loss is
  the recipe's business (`loss.coarsest`; nnU-Net leaves the coarsest out).
- `tiny` narrows the widths only.

Without deep supervision the coarser heads are there, as in nnU-Net, and get no gradient. The state dict has every weight of the
encoder under several names (`encoder.` and `decoder.encoder.`, `conv` and `all_modules.0`): they are the same tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from initbench.protocols import BackboneInfo, Grid, ImageWeights, Level, PatchRule, Published, Size, Structure, backbone

if TYPE_CHECKING:
    from torch import nn

LEAST = 4
"""Fewest voxels per axis of the deepest level (nnU-Net: `UNet_featuremap_min_edge_length`)."""
HALVINGS = 5
CONVOLUTIONS = 2
"""Number of convolutions per stage, in the encoder and in the decoder."""


@dataclass(frozen=True)
class Widths:
    """Widths of one size of the network.

    Attributes:
        base: channels at full resolution; every stage doubles them.
        most: channels of the widest stages.
    """

    base: int
    most: int

    def of(self, stages: int) -> list[int]:
        """Returns the channels of each stage, shallow to deep."""
        return [min(self.base << stage, self.most) for stage in range(stages)]


# 8 channels at full resolution take half the time of 16, and after 150 steps one of two seeds had not begun to learn.
WIDTHS: dict[Size, Widths] = {"paper": Widths(32, 320), "tiny": Widths(16, 128)}


@dataclass(frozen=True)
class Strides:
    """Strides and kernels ``(D, H, W)`` of each stage, shallow to deep; the first stride is 1."""

    strides: tuple[Grid, ...]
    kernels: tuple[Grid, ...]

    def grids(self, patch: Grid) -> tuple[Grid, ...]:
        """Returns ``(D, H, W)`` of each stage's output."""
        found = []
        for stride in self.strides:
            patch = (patch[0] // stride[0], patch[1] // stride[1], patch[2] // stride[2])
            found.append(patch)
        return tuple(found)


def plan(patch: Grid, most: int = HALVINGS) -> Strides:
    """Plans strides and kernels by nnU-Net's rule, as if all axes of a patch showed the same length: fewer voxels are longer.

    An axis can be halved while its size is even, at least `LEAST` voxels remain and it was halved less than `most` times. An axis
    with half the voxels of the largest of these, or fewer, waits, because its voxels are too long; its kernel is 1 along itself
    until it catches up. The deepest stage has kernel 3 everywhere. A single axis is not halved below 6 voxels.

    Args:
        patch: (D, H, W) in voxels.
        most: how often an axis may be halved.
    """
    size, halvings, kernel = list(patch), [0, 0, 0], [1, 1, 1]
    strides: list[Grid] = [(1, 1, 1)]
    kernels: list[Grid] = []
    while True:
        able = [axis for axis in range(3) if size[axis] % 2 == 0 and size[axis] >= 2 * LEAST and halvings[axis] < most]
        if not able:
            break
        largest = max(size[axis] for axis in able)
        halved, stride = [], [1, 1, 1]
        for axis in able:
            if 2 * size[axis] > largest:
                halved.append(axis)
                stride[axis] = 2
        if len(halved) == 1 and size[halved[0]] < 3 * LEAST:
            break
        for axis in range(3):
            if 2 * size[axis] > largest:
                kernel[axis] = 3
        for axis in halved:
            size[axis] //= 2
            halvings[axis] += 1
        kernels.append((kernel[0], kernel[1], kernel[2]))
        strides.append((stride[0], stride[1], stride[2]))
    kernels.append((3, 3, 3))
    return Strides(tuple(strides), tuple(kernels))


def idle_parameters(heads: Sequence[str], *, deep_supervision: bool) -> tuple[str, ...]:
    """Returns the parameters of heads that get no gradient: without deep supervision all heads but the last, at full resolution.

    Args:
        heads: names of the output heads, coarse to fine.
        deep_supervision: whether the network returns the logits of all heads.
    """
    if deep_supervision:
        return ()
    found = []
    for head in heads[:-1]:
        found += [f"{head}.weight", f"{head}.bias"]
    return tuple(found)


def build_unet(
    in_channels: int,
    num_classes: int,
    patch: Grid,
    *,
    widths: Widths = WIDTHS["paper"],
    deep_supervision: bool = False,
) -> nn.Module:
    """Builds nnU-Net's plain U-Net of any width, initialized as nnU-Net does, with its structure.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch: (D, H, W) in voxels; depth, strides and kernels follow it.
        widths: channels by depth.
        deep_supervision: return the logits of every decoder resolution.

    Returns:
        A network ``(N, in_channels, D, H, W) -> (N, num_classes, D, H, W)``, or under deep supervision a list of the logits of
        every decoder resolution, finest first.
    """
    from dynamic_network_architectures.architectures.unet import PlainConvUNet  # a second of imports
    from torch import nn

    own = plan(patch)
    channels = widths.of(len(own.strides))
    model: nn.Module = PlainConvUNet(
        input_channels=in_channels,
        n_stages=len(channels),
        features_per_stage=channels,
        conv_op=nn.Conv3d,
        kernel_sizes=[list(kernel) for kernel in own.kernels],
        strides=[list(stride) for stride in own.strides],
        n_conv_per_stage=CONVOLUTIONS,
        num_classes=num_classes,
        n_conv_per_stage_decoder=CONVOLUTIONS,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    )
    model.apply(PlainConvUNet.initialize)
    levels = []
    for stage, (grid, width) in enumerate(zip(own.grids(patch), channels, strict=True)):
        levels.append(Level(f"encoder.stages.{stage}", grid, width))
    heads = tuple(f"decoder.seg_layers.{stage}" for stage in range(len(channels) - 1))
    model.structure = Structure(  # type: ignore[assignment]
        patch_size=patch,
        levels=tuple(levels),
        heads=heads,
        unused=idle_parameters(heads, deep_supervision=deep_supervision),
        published=Published(axes="DHW", images=ImageWeights(stems=("encoder.stages.0.0.convs.0.conv",))),
    )
    return model


@backbone(
    BackboneInfo(
        paper="arXiv:1904.08128",
        source="dynamic-network-architectures==0.4.4:dynamic_network_architectures.architectures.unet.PlainConvUNet",
        licence="Apache-2.0",
        # From 8 voxels there is something to halve; multiples of 4 leave out patches that stop at full resolution.
        patches={"default": PatchRule((4, 4, 4), least=(8, 8, 8))},
    )
)
def unet(in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool) -> nn.Module:
    """Builds the U-Net; see `initbench.protocols.Backbone`.

    Depth, strides and kernels follow the patch; the network itself takes every size that its strides divide.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: (D, H, W) in voxels, multiples of 4 from 8.
        size: ``paper`` or ``tiny``.
        variant: the only one.
        deep_supervision: return the logits of every decoder resolution.

    Raises:
        PatchError: a size of the patch is no multiple of 4, or less than 8.
    """
    return build_unet(in_channels, num_classes, patch_size, widths=WIDTHS[size], deep_supervision=deep_supervision)
