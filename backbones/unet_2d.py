"""U-Net for slices: the plain convolutional network of nnU-Net's 2D configuration.

Paper: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 2021, arXiv:1904.08128.
Source: dynamic-network-architectures==0.4.4:dynamic_network_architectures.architectures.unet.PlainConvUNet, with the settings
of MIC-DKFZ/nnUNet:nnunetv2/experiment_planning/experiment_planners (default_experiment_planner.py, network_topology.py)@04f3cfce.
Licence: Apache-2.0 (Division of Medical Image Computing, German Cancer Research Center); called, not copied.

It is `unet` in two dimensions: the same class, settings and differences from nnU-Net (`initbench.backbones.unet`), with the
widths of nnU-Net's 2D configuration (512 channels at most) and as many halvings as leave 4 voxels, seven at most. It takes
volumes and treats each slice along D by itself (`slice_by_slice`).
"""

from __future__ import annotations

from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from initbench.backbones import unet
from initbench.backbones.slices import Outputs, slice_by_slice
from initbench.protocols import BackboneInfo, Grid, Level, PatchRule, Size, Structure, backbone

HALVINGS = 7  # 512 voxels, the largest planes that nnU-Net trains on as a rule, become 4
WIDTHS: dict[Size, unet.Widths] = {"paper": unet.Widths(32, 512), "tiny": unet.Widths(16, 128)}


class SliceUNet(PlainConvUNet):  # type: ignore[misc]
    """nnU-Net's class for slices, on volumes."""

    def forward(self, volume: Tensor) -> Outputs:
        """Returns the logits ``(N, K, D, H, W)`` of a volume, slice by slice; under deep supervision a list of logits."""
        return slice_by_slice(super().forward, volume)


@backbone(
    BackboneInfo(
        paper="arXiv:1904.08128",
        source="dynamic-network-architectures==0.4.4:dynamic_network_architectures.architectures.unet.PlainConvUNet",
        licence="Apache-2.0",
        patches={"default": PatchRule((1, 4, 4), least=(1, 8, 8), depth=1)},
        dimension=2,
    )
)
def unet_2d(in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool) -> nn.Module:
    """Builds the U-Net of slices; see `initbench.protocols.Backbone`.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: ``(1, H, W)``; depth and strides of the network follow it in voxels.
        size: ``paper`` or ``tiny``.
        variant: the only one.
        deep_supervision: return the logits of every decoder resolution.

    Raises:
        PatchError: more than one slice, or H or W is no multiple of 4, or less than 8.
    """
    planned = unet.plan(patch_size, HALVINGS)
    channels = WIDTHS[size].of(len(planned.strides))
    model: nn.Module = SliceUNet(
        input_channels=in_channels,
        n_stages=len(channels),
        features_per_stage=channels,
        conv_op=nn.Conv2d,
        kernel_sizes=[list(kernel[1:]) for kernel in planned.kernels],
        strides=[list(stride[1:]) for stride in planned.strides],
        n_conv_per_stage=unet.CONVOLUTIONS,
        num_classes=num_classes,
        n_conv_per_stage_decoder=unet.CONVOLUTIONS,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    )
    model.apply(PlainConvUNet.initialize)
    levels = []
    for stage, (grid, width) in enumerate(zip(planned.grids(patch_size), channels, strict=True)):
        levels.append(Level(f"encoder.stages.{stage}", grid, width, "NCHW"))
    heads = tuple(f"decoder.seg_layers.{stage}" for stage in range(len(channels) - 1))
    model.structure = Structure(  # type: ignore[assignment]
        patch_size=patch_size,
        levels=tuple(levels),
        heads=heads,
        unused=unet.idle_parameters(heads, deep_supervision=deep_supervision),
    )
    return model
