"""DX-Net: Omnia-Net b0 with every layer made for volumes, so that weights of images can be expanded into it.

Paper: Messaoudi et al., "Cross-dimensional transfer learning in medical image segmentation with deep learning", Medical Image
Analysis 2023, arXiv:2307.15872.
Source: hic-messaoudi/Cross-dimensional-transfer-learning-in-medical-image-segmentation-with-deep-learning@f88f8cc,
Models/BraTS/DX-Net, written anew from a description; the encoder is timm's EfficientNet (called) with layers for volumes.
Licence: Apache-2.0.

What differs from the source:

- The first convolution takes as many channels as the image has. In the release it takes one, whatever is asked for.
- Under deep supervision the result is a list of one: DX-Net has no auxiliary outputs.
- Variant `lite0`, which the release has not: EfficientNet-Lite0 as the encoder, for weights of images that are in a package.
- `tiny` narrows the widths only; of `lite0` it narrows the stem at full resolution and the decoder.
"""

from __future__ import annotations

from torch import Tensor, nn

from initbench.backbones import _efficient_unet as parts
from initbench.protocols import BackboneInfo, Grid, PatchRule, Size, Structure, backbone

VARIANTS = {"default": parts.B0, "lite0": parts.LITE0}
LAYERS = parts.Layers(nn.Conv3d, nn.BatchNorm3d, nn.SiLU, nn.ConvTranspose3d)


class DXNet(nn.Module):
    """The network of one variant and size, with its structure."""

    def __init__(
        self, in_channels: int, num_classes: int, patch: Grid, scaling: parts.Scaling, widths: parts.Widths, *, as_list: bool
    ) -> None:
        super().__init__()
        self.as_list = as_list
        self.conv = nn.Conv3d(in_channels, widths.stem, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(widths.stem)
        self.act = nn.SiLU(inplace=True)
        self.encoder = parts.Encoder(widths.stem, scaling, widths.encoder, dimension=3)
        stages = parts.decoder_stages(self.encoder.widths, widths.stem, widths.decoder, LAYERS)
        self.decoder1, self.decoder2, self.decoder3, self.decoder4, self.decoder5 = stages
        self.last = nn.Conv3d(widths.decoder[-1], num_classes, 3, padding=1)
        self.structure = Structure(
            patch_size=patch,
            levels=parts.levels(patch, widths.stem, self.encoder.widths, dimension=3),
            heads=("last",),
            unused=parts.unused(self),
            residual_exits=parts.residual_exits(self),
            published=parts.published(scaling, "encoder", stems=("conv",)),
        )

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Returns logits ``(N, K, D, H, W)``."""
        full = self.act(self.norm(self.conv(image)))
        logits: Tensor = self.last(parts.decode(self, self.encoder(full), full))
        if self.as_list:
            return [logits]
        return logits


@backbone(
    BackboneInfo(
        paper="arXiv:2307.15872",
        source="hic-messaoudi/Cross-dimensional-transfer-learning-in-medical-image-segmentation-with-deep-learning"
        ":Models/BraTS/DX-Net@f88f8cc",
        licence="Apache-2.0",
        variants=tuple(VARIANTS),
        patches=dict.fromkeys(VARIANTS, PatchRule((parts.STRIDE, parts.STRIDE, parts.STRIDE))),
        revision=2,
    )
)
def dx_net(in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool) -> nn.Module:
    """Builds DX-Net; see `initbench.protocols.Backbone`.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: (D, H, W), each a multiple of 32 in voxels.
        size: ``paper`` or ``tiny``.
        variant: ``default`` or ``lite0``, the EfficientNet.
        deep_supervision: return a list of the one output.

    Raises:
        PatchError: a size of the patch is no multiple of 32.
    """
    return DXNet(in_channels, num_classes, patch_size, VARIANTS[variant], parts.WIDTHS[size], as_list=deep_supervision)
