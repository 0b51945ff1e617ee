"""UNETR: a plain ViT encoder with a convolutional decoder on its hidden states.

Paper: Hatamizadeh et al., "UNETR: Transformers for 3D Medical Image Segmentation", WACV 2022, arXiv:2103.10504.
Source: monai==1.6.1:monai.networks.nets.UNETR.
Licence: Apache-2.0 (MONAI Consortium); called, not copied.

What differs from the source:

- Nothing in the network. `perceptron` is the patch embedding of the original and of LWI, `conv` is MONAI's default; the
  key, the shape and the own initialization of that one layer differ, its function does not.
- The `-xyz` variants turn their input to (x, y, z), as MONAI's pipelines have it, and their output back: that is what
  published weights expect.
- Under deep supervision the result is a list of one: UNETR publishes no auxiliary outputs.
- `tiny` narrows the widths only; the 12 blocks and the 16^3 patch embedding are part of the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from initbench.backbones._monai import XYZ, adapt, parameters_ending
from initbench.protocols import (
    Axes,
    BackboneInfo,
    FileLayout,
    Grid,
    ImageWeights,
    Level,
    PatchRule,
    Published,
    Size,
    Structure,
    Tokens,
    backbone,
)

if TYPE_CHECKING:
    from torch import nn

VARIANTS = ("perceptron", "conv", "perceptron-xyz", "conv-xyz")
STRIDE = 16
BLOCKS = 12
TAPS = ("vit.blocks.3", "vit.blocks.6", "vit.blocks.9", "vit.norm")
"""What the decoder reads: the outputs of blocks 4, 7 and 10, and the normalized output of block 12."""
EXITS = (
    ".attn.out_proj.weight",
    ".attn.out_proj.bias",
    ".mlp.linear2.weight",
    ".mlp.linear2.bias",
    ".conv2.conv.weight",
)
"""Endings of the last layers of residual branches. After conv2 comes a norm without parameters, which leaves zero at zero."""


_CONV = "vit.patch_embedding.patch_embeddings."
_PERCEPTRON = f"{_CONV}1."
_EMBEDDING = r"vit\.patch_embedding\.patch_embeddings\."
LAYOUTS = (
    FileLayout(
        "MedContext's UNETR, its ViT without a prefix",
        r"(patch_embedding|blocks)\.",
        ((r"^(patch_embedding|blocks|norm)\.", r"vit.\1."), (r"^mask_token$", None)),
    ),
    FileLayout("LWI's order heads", r"vit\.temp_head", ((r"^vit\.temp_head\d\.", None),)),
    FileLayout(
        "MONAI 0.7",
        r"vit\.patch_embedding\.cls_token",
        ((r"\.cls_token$", None), (r"^encoder[23]\.blocks\.\d\.1\.conv3\.", None)),
    ),
    FileLayout("MONAI 1.4 to 1.5", r"vit\.blocks\.\d+\.cross_attn\.", ((r"\.cross_attn\.", None),)),
)
"""MONAI up to 0.8 built a class token and third convolutions that nothing used, 1.4 cross-attention that nothing used."""
OTHER_EMBEDDING = {
    "perceptron": FileLayout("patch embedding of conv", _EMBEDDING + "weight", ((f"^{_EMBEDDING}(?=[wb])", _PERCEPTRON),)),
    "conv": FileLayout("patch embedding of perceptron", _EMBEDDING + r"1\.", ((rf"^{_EMBEDDING}1\.", _CONV),)),
}
"""The same numbers under the other key, in the other shape."""
FROM_TIMM = (
    (r"^pos_embed$", "vit.patch_embedding.position_embeddings"),
    (r"^(blocks\.\d+\.norm[12]\.|blocks\.\d+\.attn\.qkv\.|norm\.)", r"vit.\1"),
    (r"^(blocks\.\d+\.attn\.)proj\.", r"vit.\1out_proj."),
    (r"^(blocks\.\d+\.mlp\.)fc([12])\.", r"vit.\1linear\2."),
)
"""timm's ViT computes what MONAI's does, but for a bias of queries, keys and values and the epsilon of its norms (1e-6)."""


@dataclass(frozen=True)
class Widths:
    """Widths of one size of the network.

    Attributes:
        feature_size: channels at full resolution.
        hidden: width of a token.
        mlp: hidden width of a block's MLP.
        heads: attention heads.
    """

    feature_size: int
    hidden: int
    mlp: int
    heads: int


WIDTHS: dict[Size, Widths] = {"paper": Widths(16, 768, 3072, 12), "tiny": Widths(8, 96, 192, 4)}


def build_unetr(
    in_channels: int,
    num_classes: int,
    patch: Grid,
    *,
    variant: str = VARIANTS[0],
    widths: Widths = WIDTHS["paper"],
    deep_supervision: bool = False,
) -> nn.Module:
    """Builds MONAI's UNETR of any width, with its structure.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch: (D, H, W) in voxels, each a multiple of 16.
        variant: one of `VARIANTS`: the patch embedding, and whether axes are turned to (x, y, z).
        widths: of all layers.
        deep_supervision: return a list, as networks with auxiliary outputs do; UNETR has none.

    Returns:
        A network ``(N, in_channels, D, H, W) -> (N, num_classes, D, H, W)``, or a list of that under deep supervision.
    """
    from monai.networks.nets import UNETR

    projection, xyz = variant.removesuffix(XYZ), variant.endswith(XYZ)
    grid = (patch[0] // STRIDE, patch[1] // STRIDE, patch[2] // STRIDE)
    axes: Axes = "DHW"
    positions, image = grid, patch
    if xyz:
        axes, positions, image = "WHD", grid[::-1], patch[::-1]
    model: nn.Module = UNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        img_size=image,
        feature_size=widths.feature_size,
        hidden_size=widths.hidden,
        mlp_dim=widths.mlp,
        num_heads=widths.heads,
        proj_type=projection,
        norm_name="instance",
        conv_block=True,
        res_block=True,
        dropout_rate=0.0,
    )
    adapt(model, xyz=xyz, deep_supervision=deep_supervision)
    # MONAI builds the norm of its cross-attention in every block, also where there is no cross-attention, as here.
    unused = []
    for block in range(BLOCKS):
        norm = f"vit.blocks.{block}.norm_cross_attn"
        unused += [f"{norm}.weight", f"{norm}.bias"]
    patch_stem = {"perceptron": _PERCEPTRON, "conv": _CONV}[projection]
    model.structure = Structure(  # type: ignore[assignment]
        patch_size=patch,
        levels=tuple(Level(name, grid, widths.hidden, "NLC", axes) for name in TAPS),
        heads=("out",),
        unused=tuple(unused),
        residual_exits=parameters_ending(model, EXITS),
        axes=axes,
        published=Published(
            axes="WHD",
            turned=f"{projection}{XYZ}",
            layouts=(*LAYOUTS, OTHER_EMBEDDING[projection]),
            positions={r"vit\.patch_embedding\.position_embeddings": positions},
            images=ImageWeights(
                stems=(patch_stem.removesuffix("."), "encoder1.layer.conv1.conv"),
                patch=(STRIDE, STRIDE, STRIDE),
                renames=FROM_TIMM,
                heads=widths.heads,
            ),
        ),
        tokens=Tokens("vit.patch_embedding", grid, widths.hidden, "NLC", axes),
    )
    return model


@backbone(
    BackboneInfo(
        paper="arXiv:2103.10504",
        source="monai==1.6.1:monai.networks.nets.UNETR",
        licence="Apache-2.0",
        variants=VARIANTS,
        patches=dict.fromkeys(VARIANTS, PatchRule((STRIDE, STRIDE, STRIDE))),
    )
)
def unetr(in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool) -> nn.Module:
    """Builds UNETR; see `initbench.protocols.Backbone`.

    The position embedding has one row per token, so the network takes patches of `patch_size` only.

    Raises:
        PatchError: a size of the patch is no multiple of 16.
    """
    return build_unetr(
        in_channels, num_classes, patch_size, variant=variant, widths=WIDTHS[size], deep_supervision=deep_supervision
    )
