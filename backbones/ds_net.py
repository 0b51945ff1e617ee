"""DS-Net: a 3D encoder that strides along depth alone, a network of images in the middle, and a 3D decoder.

Paper: Messaoudi et al., "Cross-dimensional transfer learning in medical image segmentation with deep learning", Medical Image
Analysis 2023, arXiv:2307.15872.
Source: hic-messaoudi/Cross-dimensional-transfer-learning-in-medical-image-segmentation-with-deep-learning@f88f8cc,
Models/BraTS/DS-Net, written anew from a description; the encoder of images is timm's EfficientNet-B0 (called). The release loads
that encoder as a pickled module whose class it lacks; here it has the names of the encoder in Models/CAMUS.
Licence: Apache-2.0.

A patch is 128 slices deep, of which the encoder leaves three. Its four channels are then four images, whose red, green and blue
are these three slices. So the network takes one patch at a time.

What differs from the source:

- Nothing in the network. A batch of more than one patch is refused with a message; the release breaks.
- Under deep supervision the result is a list of one: DS-Net has no auxiliary outputs.
- `tiny` narrows the widths only, but for the four images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initbench.backbones import _efficient_unet as parts
from initbench.protocols import BackboneInfo, Grid, Level, PatchRule, Size, Structure, backbone

DEPTH = 128
"""Of 16 to 400 slices, 128 alone come out of the encoder as three and fit every skip."""
IMAGES, COLOURS = 4, 3
STRIDES = (3, 2, 2, 4)
"""Along depth: 128 slices become 43, 22, 11 and 3."""
LAYERS = parts.Layers(nn.Conv2d, nn.BatchNorm2d, nn.SiLU, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Widths:
    """Widths of one size: channels of the 3D encoder's levels but the last, and of the network of images."""

    encoder: tuple[int, int, int, int]
    images: parts.Widths


WIDTHS: dict[Size, Widths] = {
    "paper": Widths((16, 32, 48, 96), parts.WIDTHS["paper"]),
    "tiny": Widths((8, 8, 16, 24), parts.WIDTHS["tiny"]),
}


class ImageNet(nn.Module):
    """The network in the middle: an EfficientNet with a decoder that has no skip at full resolution."""

    def __init__(self, widths: parts.Widths) -> None:
        super().__init__()
        self.encoder = parts.Encoder(COLOURS, parts.B0, widths.encoder)
        stages = parts.decoder_stages(self.encoder.widths, 0, widths.decoder, LAYERS)
        self.decoder1, self.decoder2, self.decoder3, self.decoder4, self.decoder5 = stages
        self.last = nn.Conv2d(widths.decoder[-1], COLOURS, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images ``(N, 3, H, W)`` to the same shape."""
        output: Tensor = self.last(parts.decode(self, self.encoder(images), full=None))
        return output


class EncoderStage(nn.Module):
    """Two convolutions, each with an instance norm and an activation; the second one strides along depth."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm3d(outputs)
        self.act = nn.SiLU(inplace=True)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, (stride, 1, 1), 1, bias=False)
        self.norm2 = nn.InstanceNorm3d(outputs)
        self.act2 = nn.SiLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Divides the depth by the stride."""
        features = self.act(self.norm(self.conv(features)))
        strided: Tensor = self.act2(self.norm2(self.conv2(features)))
        return strided


class ConvNormAct(nn.Module):
    """A convolution with kernel 3 and no bias, an instance norm and an activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm3d(outputs)
        self.act = nn.SiLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Keeps the grid."""
        activated: Tensor = self.act(self.norm(self.conv(features)))
        return activated


class DecoderStage(nn.Module):
    """Raises the depth by a transposed convolution, appends a skip and convolves once."""

    def __init__(self, inputs: int, skip: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(inputs + skip, outputs)
        self.trans = nn.ConvTranspose3d(inputs, inputs, (kernel, 1, 1), (stride, 1, 1), (padding, 0, 0))

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """`skip` has the depth that `features` are raised to."""
        convolved: Tensor = self.conv1(torch.cat([self.trans(features), skip], dim=1))
        return convolved


class DSNet(nn.Module):
    """The network of one size, with its structure."""

    def __init__(self, in_channels: int, num_classes: int, patch: Grid, widths: Widths, *, as_list: bool) -> None:
        super().__init__()
        self.as_list = as_list
        first, second, third, fourth = widths.encoder
        self.conv1 = nn.Conv3d(in_channels, first, 3, padding=1, bias=False)
        self.norm1 = nn.InstanceNorm3d(first)
        self.act1 = nn.SiLU(inplace=True)
        self.conv2 = nn.Conv3d(first, second, 3, (STRIDES[0], 1, 1), 1, bias=False)
        self.norm2 = nn.InstanceNorm3d(second)
        self.act2 = nn.SiLU(inplace=True)
        self.enc3 = nn.Sequential(EncoderStage(second, third, STRIDES[1]))
        self.enc4 = nn.Sequential(EncoderStage(third, fourth, STRIDES[2]))
        self.enc5 = nn.Sequential(EncoderStage(fourth, IMAGES, STRIDES[3]))
        self.model2D = ImageNet(widths.images)
        self.dec1 = DecoderStage(IMAGES, fourth, fourth, kernel=5, stride=3, padding=0)
        self.dec2 = DecoderStage(fourth, third, third, kernel=2, stride=2, padding=0)
        self.dec3 = DecoderStage(third, second, second, kernel=3, stride=2, padding=1)
        self.dec4 = DecoderStage(second, first, first, kernel=4, stride=3, padding=1)
        self.last = nn.Conv3d(first, num_classes, 3, padding=1)
        self.structure = Structure(
            patch_size=patch,
            levels=_levels(patch, widths),
            heads=("last",),
            unused=parts.unused(self),
            residual_exits=parts.residual_exits(self),
            published=parts.published(parts.B0, "model2D.encoder", stems=("conv1",)),
        )

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Returns the logits ``(1, K, 128, H, W)`` of a single patch.

        Raises:
            ValueError: more than one patch, or another depth.
        """
        if len(image) != 1 or image.shape[2] != DEPTH:
            raise ValueError(
                f"ds-net takes one patch of {DEPTH} slices at a time, got {len(image)} of {image.shape[2]}: set patch.batch, "
                "pretext.batch and inference.batch to 1"
            )
        first = self.act1(self.norm1(self.conv1(image)))
        second = self.act2(self.norm2(self.conv2(first)))
        third = self.enc3(second)
        fourth = self.enc4(third)
        images = self.enc5(fourth)[0]
        features = self.model2D(images)[None]
        features = self.dec1(features, fourth)
        features = self.dec2(features, third)
        features = self.dec3(features, second)
        logits: Tensor = self.last(self.dec4(features, first))
        if self.as_list:
            return [logits]
        return logits


def _levels(patch: Grid, widths: Widths) -> tuple[Level, ...]:
    """Returns the levels of the 3D encoder."""
    depth = patch[0]
    found = [Level("act1", patch, widths.encoder[0])]
    for name, width, stride in zip(("act2", "enc3", "enc4", "enc5"), (*widths.encoder[1:], IMAGES), STRIDES, strict=True):
        depth = (depth - 1) // stride + 1
        found.append(Level(name, (depth, *patch[1:]), width))
    return tuple(found)


@backbone(
    BackboneInfo(
        paper="arXiv:2307.15872",
        source="hic-messaoudi/Cross-dimensional-transfer-learning-in-medical-image-segmentation-with-deep-learning"
        ":Models/BraTS/DS-Net@f88f8cc; timm:timm.models.efficientnet.EfficientNet",
        licence="Apache-2.0",
        patches={"default": PatchRule((1, parts.STRIDE, parts.STRIDE), depth=DEPTH)},
        most_batch=1,
    )
)
def ds_net(in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool) -> nn.Module:
    """Builds DS-Net; see `initbench.protocols.Backbone`.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: ``(128, H, W)``, H and W multiples of 32 in voxels.
        size: ``paper`` or ``tiny``.
        variant: the only one.
        deep_supervision: return a list of the one output.

    Raises:
        PatchError: the depth is not 128, or H or W is no multiple of 32.
    """
    return DSNet(in_channels, num_classes, patch_size, WIDTHS[size], as_list=deep_supervision)
