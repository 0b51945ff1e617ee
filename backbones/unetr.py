"""UNETR: a plain ViT encoder with a convolutional decoder on its hidden states.

Paper: Hatamizadeh et al., "UNETR: Transformers for 3D Medical Image Segmentation", WACV 2022, arXiv:2103.10504.
Source: monai==1.6.1:monai.networks.nets.UNETR.
Licence: Apache-2.0 (MONAI Consortium); called, not copied.

What differs from the source:

- Nothing in the network. `perceptron` is the patch embedding of the original and of LWI, `conv` is MONAI's default; the
  keys, the shapes and the own initialization of that one layer differ, so weights do not move between the two.
- Under deep supervision the result is a list of one: UNETR publishes no auxiliary outputs.
- `tiny` narrows the widths only; the 12 blocks and the 16^3 patch embedding are part of the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from initbench.protocols import BackboneInfo, Grid, Level, PatchRule, Published, Size, Structure, backbone

if TYPE_CHECKING:
    from torch import Tensor, nn

VARIANTS = ("perceptron", "conv")
STRIDE = 16
BLOCKS = 12
TAPS = ("vit.blocks.3", "vit.blocks.6", "vit.blocks.9", "vit.norm")
"""What the decoder reads: the outputs of blocks 4, 7 and 10, and the normalized output of block 12."""


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


def _as_list(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> list[Tensor]:
    """Forward hook that gives the one output as deep supervision wants it."""
    return [output]


def build_unetr(
    in_channels: int,
    num_classes: int,
    patch: Grid,
    *,
    variant: str = VARIANTS[0],
    widths: Widths = WIDTHS["paper"],
    deep_supervision: bool = False,
) -> nn.Module:
    """MONAI's UNETR of any width, with its structure.

    Returns:
        A network ``(N, in_channels, D, H, W) -> (N, num_classes, D, H, W)``, or a list of that under deep supervision.
    """
    from monai.networks.nets import UNETR

    model: nn.Module = UNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        img_size=patch,
        feature_size=widths.feature_size,
        hidden_size=widths.hidden,
        mlp_dim=widths.mlp,
        num_heads=widths.heads,
        proj_type=variant,
        norm_name="instance",
        conv_block=True,
        res_block=True,
        dropout_rate=0.0,
    )
    if deep_supervision:
        model.register_forward_hook(_as_list)
    grid = (patch[0] // STRIDE, patch[1] // STRIDE, patch[2] // STRIDE)
    model.structure = Structure(  # type: ignore[assignment]
        patch_size=patch,
        levels=tuple(Level(name, grid, widths.hidden, "NLC") for name in TAPS),
        heads=("out",),
        # MONAI builds the norm of its cross-attention in every block, also where there is none.
        unused=tuple(f"vit.blocks.{block}.norm_cross_attn.{kind}" for block in range(BLOCKS) for kind in ("weight", "bias")),
        variant=variant,
        published=Published(axes="WHD"),
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
