"""Swin UNETR: a shifted-window encoder with a convolutional decoder.

Paper: Hatamizadeh et al., "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI Images",
2022, arXiv:2201.01266.
Source: monai==1.6.1:monai.networks.nets.SwinUNETR; `legacy-merge` merges in the order of monai<=1.4.
Licence: Apache-2.0 (MONAI Consortium); called, not copied.

What differs from the source:

- `legacy-merge` passes its own patch merging. MONAI up to 1.4 concatenated the eight neighbours in another order, with
  two of them twice and two never. The published weights were trained with it. Their keys and shapes fit `default` too,
  so they would load into it silently and give wrong outputs.
- The `v2` variants put a residual block of convolutions before every stage (Swin UNETR V2, He et al., MICCAI 2023).
- The `-xyz` variants turn their input to (x, y, z), as MONAI's pipelines have it, and their output back: that is what
  published weights expect. For the weights that NVIDIA and Tang et al. published use `legacy-merge-xyz`.
- Under deep supervision the result is a list of one: Swin UNETR publishes no auxiliary outputs.
- `tiny` narrows the widths and the window only.

The levels are the outputs of the patch embedding and of the four stages. The decoder reads them after a layer norm that
has no parameters and is no module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from initbench.backbones._monai import XYZ, adapt, parameters_ending
from initbench.protocols import (
    Axes,
    BackboneInfo,
    FileLayout,
    Grid,
    ImageWeights,
    KeySign,
    Level,
    PatchError,
    PatchRule,
    Published,
    Size,
    Structure,
    Tokens,
    backbone,
)

if TYPE_CHECKING:
    from torch import Tensor

VARIANTS = (
    "default",
    "legacy-merge",
    "default-xyz",
    "legacy-merge-xyz",
    "v2",
    "v2-legacy-merge",
    "v2-xyz",
    "v2-legacy-merge-xyz",
)
STRIDE = 32
HIDDEN_CELL = 8
"""Edge in tokens of a square that a mask hides: 16 voxels, as one token of UNETR. No paper has masked this network so."""
LEVELS = (
    "swinViT.patch_embed",
    "swinViT.layers1.0",
    "swinViT.layers2.0",
    "swinViT.layers3.0",
    "swinViT.layers4.0",
)
EXITS = (".attn.proj.weight", ".attn.proj.bias", ".mlp.linear2.weight", ".mlp.linear2.bias", ".conv2.conv.weight")
"""Endings of the last layers of residual branches. After conv2 comes a norm without parameters, which leaves zero at zero."""
LEGACY_ORDER: tuple[Grid, ...] = (
    (0, 0, 0),
    (1, 0, 0),
    (0, 1, 0),
    (0, 0, 1),
    (1, 0, 1),
    (0, 1, 0),
    (0, 0, 1),
    (1, 1, 1),
)
"""Offsets (D, H, W) of the neighbours that MONAI <= 1.4 concatenates: 010 and 001 twice, 110 and 011 never."""


_LEGACY = ("legacy-merge-xyz", "legacy-merge")
LAYOUTS = (
    FileLayout(
        "the encoder of Tang et al. (model_swinvit.pt)",
        r"(swin_vit\.|swinViT\.)?layers1\.0\.blocks\.0\.mlp\.fc1\.",
        (
            (r"^(swin_vit\.|swinViT\.)?(patch_embed|layers[1-4])\.", r"swinViT.\2."),
            (r"\.mlp\.fc([12])\.", r".mlp.linear\1."),
            (r"^(rotation|contrastive|convTrans3d|conv|norm|head)\w*\.", None),
        ),
        part="swinViT",
        variants=_LEGACY,
    ),
    FileLayout(
        "the encoder of a disruptive autoencoder (ssl_pretrained_weights.pth)",
        r"encoder\.layers1\.0\.0\.",
        (
            (r"^encoder\.(layers[1-4]\.0\.)0\.", r"swinViT.\1"),
            (r"^encoder\.patch_embed\.", "swinViT.patch_embed."),
            (r"^(encoder\.|decoder|out\.)", None),
        ),
        part="swinViT",
        variants=_LEGACY,
    ),
)
"""Encoders alone, both trained with MONAI <= 1.4. The second as monai==1.6.1:monai.networks.nets.swin_unetr.filter_swinunetr."""


@dataclass(frozen=True)
class Widths:
    """Widths of one size of the network.

    Attributes:
        feature_size: channels after the patch embedding, a multiple of 12.
        window: edge of an attention window in tokens.
    """

    feature_size: int
    window: int


WIDTHS: dict[Size, Widths] = {"paper": Widths(48, 7), "tiny": Widths(12, 4)}


class LegacyMerging(nn.Module):
    """Patch merging ``(N, D, H, W, C) -> (N, D/2, H/2, W/2, 2C)`` in the order of MONAI <= 1.4.

    The order of the attributes is the order of the keys.
    """

    def __init__(self, dim: int, norm_layer: type[nn.LayerNorm] = nn.LayerNorm, spatial_dims: int = 3) -> None:
        """Takes the arguments that MONAI passes to a merging.

        Raises:
            ValueError: not volumetric.
        """
        super().__init__()
        if spatial_dims != 3:
            raise ValueError(f"LegacyMerging: three spatial axes only, got {spatial_dims}")
        self.reduction = nn.Linear(8 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(8 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Halves the grid and doubles the width; an even grid is the patch check's business."""
        neighbours = torch.cat([x[:, d::2, h::2, w::2] for d, h, w in LEGACY_ORDER], dim=-1)
        merged: Tensor = self.reduction(self.norm(neighbours))
        return merged


def build_swin_unetr(
    in_channels: int,
    num_classes: int,
    patch: Grid,
    *,
    variant: str = VARIANTS[0],
    widths: Widths = WIDTHS["paper"],
    deep_supervision: bool = False,
) -> nn.Module:
    """Builds MONAI's Swin UNETR of any width, with its structure.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch: (D, H, W) in voxels, each a multiple of 32.
        variant: one of `VARIANTS`: the order of merging, and whether axes are turned to (x, y, z).
        widths: of the layers and of the attention's window.
        deep_supervision: return a list, as networks with auxiliary outputs do; Swin UNETR has none.

    Returns:
        A network ``(N, in_channels, D, H, W) -> (N, num_classes, D, H, W)``, or a list of that under deep supervision.
    """
    from monai.networks.nets import SwinUNETR

    merging, xyz = variant.removesuffix(XYZ), variant.endswith(XYZ)
    version_2 = variant.startswith("v2")
    downsample: str | type[nn.Module] = "merging"
    if merging.endswith("legacy-merge"):
        downsample = LegacyMerging
    model: nn.Module = SwinUNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        feature_size=widths.feature_size,
        window_size=widths.window,
        downsample=downsample,
        use_v2=version_2,
    )
    adapt(model, xyz=xyz, deep_supervision=deep_supervision)
    axes: Axes = "DHW"
    if xyz:
        axes = "WHD"
    other_version = "v2-xyz"
    if version_2:
        other_version = "default-xyz"
    lookalikes = []
    for other in VARIANTS:
        if other.startswith("v2") == version_2 and other != variant:
            lookalikes.append(other)
    levels = []
    for depth, name in enumerate(LEVELS, start=1):
        grid = (patch[0] >> depth, patch[1] >> depth, patch[2] >> depth)
        levels.append(Level(name, grid, widths.feature_size * 2 ** (depth - 1), axes=axes))
    model.structure = Structure(  # type: ignore[assignment]
        patch_size=patch,
        levels=tuple(levels),
        heads=("out",),
        residual_exits=parameters_ending(model, EXITS),
        axes=axes,
        published=Published(
            axes="WHD",
            turned=f"{merging}{XYZ}",
            layouts=LAYOUTS,
            lookalikes=tuple(lookalikes),
            signs=(KeySign(r"\.layers\dc\.", version_2, other_version),),
            images=ImageWeights(stems=("swinViT.patch_embed.proj", "encoder1.layer.conv1.conv")),
        ),
        tokens=Tokens(LEVELS[0], (patch[0] // 2, patch[1] // 2, patch[2] // 2), widths.feature_size, axes=axes, cell=HIDDEN_CELL),
    )
    return model


@backbone(
    BackboneInfo(
        paper="arXiv:2201.01266",
        source="monai==1.6.1:monai.networks.nets.SwinUNETR",
        licence="Apache-2.0",
        variants=VARIANTS,
        patches=dict.fromkeys(VARIANTS, PatchRule((STRIDE, STRIDE, STRIDE))),
    )
)
def swin_unetr(
    in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool
) -> nn.Module:
    """Builds Swin UNETR; see `initbench.protocols.Backbone`.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: (D, H, W) in voxels, multiples of 32.
        size: ``paper`` or ``tiny``.
        variant: one of `VARIANTS`.
        deep_supervision: return a list of the one output.

    Raises:
        PatchError: a size of the patch is no multiple of 32, or the deepest grid is a single voxel.
    """
    if patch_size == (STRIDE, STRIDE, STRIDE):
        # Its instance norm has no variance over one voxel; torch would refuse it in the middle of the first step.
        raise PatchError(
            f"swin-unetr ({variant}): patch {patch_size} leaves one voxel at the deepest level, too few for its instance "
            f"norm; nearest valid: {(STRIDE, STRIDE, 2 * STRIDE)}"
        )
    return build_swin_unetr(
        in_channels, num_classes, patch_size, variant=variant, widths=WIDTHS[size], deep_supervision=deep_supervision
    )
