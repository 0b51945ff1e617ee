"""Omnia-Net: a full-resolution stem, an EfficientNet and a convolutional decoder, for slices.

Paper: Messaoudi et al., "Cross-dimensional transfer learning in medical image segmentation with deep learning", Medical Image
Analysis 2023, arXiv:2307.15872.
Source: hic-messaoudi/Cross-dimensional-transfer-learning-in-medical-image-segmentation-with-deep-learning@f88f8cc, Models/CAMUS
(b0) and Models/CHAOS (b4); the encoder is timm's EfficientNet (called), the rest is written anew from a description.
Licence: Apache-2.0.

What differs from the source:

- Nothing in the network. It takes volumes and treats each slice along D by itself (`slice_by_slice`).
- Under deep supervision the result is a list of one: Omnia-Net has no auxiliary outputs.
- Variant `lite0`, which the release has not: EfficientNet-Lite0 as the encoder, for weights of images that are in a package.
- `tiny` narrows the widths only; of `lite0` it narrows the stem at full resolution and the decoder.
"""

from __future__ import annotations

from torch import Tensor, nn

from initbench.backbones import _efficient_unet as parts
from initbench.backbones.slices import SliceNetwork
from initbench.protocols import BackboneInfo, Grid, PatchRule, Size, Structure, backbone

LAYERS = parts.Layers(nn.Conv2d, nn.BatchNorm2d, nn.ReLU, None)


class OmniaNet(SliceNetwork):
    """The network of one variant and size, with its structure."""

    def __init__(
        self, in_channels: int, num_classes: int, patch: Grid, scaling: parts.Scaling, widths: parts.Widths, *, as_list: bool
    ) -> None:
        super().__init__(as_list=as_list)
        self.conv = nn.Conv2d(in_channels, widths.stem, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths.stem)
        self.act = nn.ReLU(inplace=True)
        self.encoder = parts.Encoder(widths.stem, scaling, widths.encoder)
        stages = parts.decoder_stages(self.encoder.widths, widths.stem, widths.decoder, LAYERS)
        self.decoder1, self.decoder2, self.decoder3, self.decoder4, self.decoder5 = stages
        self.last = nn.Conv2d(widths.decoder[-1], num_classes, 3, padding=1)
        self.structure = Structure(
            patch_size=patch,
            levels=parts.levels(patch, widths.stem, self.encoder.widths, dimension=2),
            heads=("last",),
            unused=parts.unused(self),
            residual_exits=parts.residual_exits(self),
            published=parts.published(scaling, "encoder"),
        )

    def of_slices(self, image: Tensor) -> Tensor:
        """Returns logits ``(N, K, H, W)`` of slices ``(N, C, H, W)``: the network as it was released."""
        full = self.act(self.norm(self.conv(image)))
        logits: Tensor = self.last(parts.decode(self, self.encoder(full), full))
        return logits


@backbone(
    BackboneInfo(
        paper="arXiv:2307.15872",
        source="hic-messaoudi/Cross-dimensional-transfer-learning-in-medical-image-segmentation-with-deep-learning"
        ":Models@f88f8cc; timm:timm.models.efficientnet.EfficientNet",
        licence="Apache-2.0",
        variants=tuple(parts.SCALINGS),
        patches=dict.fromkeys(parts.SCALINGS, PatchRule((1, parts.STRIDE, parts.STRIDE), depth=1)),
        dimension=2,
    )
)
def omnia_net(
    in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool
) -> nn.Module:
    """Builds Omnia-Net; see `initbench.protocols.Backbone`.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: ``(1, H, W)``, H and W multiples of 32 in voxels.
        size: ``paper`` or ``tiny``.
        variant: ``b0``, ``b4`` or ``lite0``, the EfficientNet.
        deep_supervision: return a list of the one output.

    Raises:
        PatchError: more than one slice, or H or W is no multiple of 32.
    """
    scaling, widths = parts.SCALINGS[variant], parts.WIDTHS[size]
    return OmniaNet(in_channels, num_classes, patch_size, scaling, widths, as_list=deep_supervision)
