"""UNETR++: a hierarchical network of efficient paired attention (EPA), in its four published forms.

Paper: Shaker et al., "UNETR++: Delving into Efficient and Accurate 3D Medical Image Segmentation", IEEE TMI 2024,
arXiv:2212.04497.
Source: Amshaker/unetr_plus_plus:unetr_pp/network_architecture/{synapse,lung,acdc,tumor}/unetr_pp_*.py@dcba1c6e.
Licence: Apache-2.0 (Copyright 2024 Abdelrahman Mohamed Shaker Youssief); written anew from a description in words.

The four published networks share one name and differ in what `Variant` lists. Keys, their order and the outputs are the
authors'.

What differs from the source:

- Token counts follow the patch; the source has them as literals for one crop per data set. `pos_embed` and the token
  projections have the count in their shapes, so weights still belong to one patch.
- The stem takes `in_channels` channels in as many norm groups, or as many as divide its width; the source builds it for
  1 channel (tumor: 4) whatever is asked.
- The deepest level is not flattened to tokens and back.
- `tiny` narrows widths, projections and depth of the same code.

What is the authors' and looks like a mistake: the spatial branch puts its heads together by reinterpreting memory (see
`EPA`); only the encoder's linear layers get an initialization of their own, as the decoder's method for it is never
called.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd, prod, sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, normalize

from initbench.protocols import (
    BackboneInfo,
    FileLayout,
    Grid,
    ImageWeights,
    KeySign,
    Level,
    PatchRule,
    Published,
    Size,
    Structure,
    Tokens,
    backbone,
)

STAGES = 4
HEADS = 4


@dataclass(frozen=True)
class Variant:
    """What one of the published networks does its own way.

    Attributes:
        name: of the variant.
        stem: kernel and stride ``(D, H, W)`` of the stem, and of the last transposed convolution.
        projection: how keys and values are projected along the tokens: one linear layer under two names (`tied`), one
            each (`two`), or one bare matrix without bias (`raw`).
        fusion: the branches, each halved by a linear layer, side by side (`concat`), or their plain `sum`.
        conv_blocks: residual blocks after the attention.
        dropout: of the attention maps in both branches.
    """

    name: str
    stem: Grid
    projection: Literal["tied", "two", "raw"]
    fusion: Literal["concat", "sum"]
    conv_blocks: Literal[1, 2]
    dropout: float

    @property
    def divisor(self) -> Grid:
        """What the patch must be a multiple of: the stem, then three halvings."""
        return (self.stem[0] * 8, self.stem[1] * 8, self.stem[2] * 8)


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("synapse", (2, 4, 4), "tied", "concat", 1, 0.15),
        Variant("lung", (1, 4, 4), "two", "concat", 2, 0.1),
        Variant("acdc", (1, 4, 4), "two", "concat", 2, 0.1),
        Variant("tumor", (4, 4, 4), "raw", "sum", 1, 0.1),
    )
}


def _signs(variant: Variant) -> tuple[KeySign, ...]:
    """Returns the keys that tell the variant of a file; lung and acdc are the same code, and no key tells them apart."""
    raw = KeySign(r"\.EF$", expected=False, otherwise="tumor")
    if variant.projection == "raw":
        raw = KeySign(r"\.EF$", expected=True, otherwise="synapse")
    double = KeySign(r"\.conv52\.", expected=False, otherwise="lung")
    if variant.conv_blocks == 2:
        double = KeySign(r"\.conv52\.", expected=True, otherwise="synapse")
    return raw, double


@dataclass(frozen=True)
class Widths:
    """Widths and depths of one size of the network.

    Attributes:
        dims: channels of the encoder stages; each doubles the one before.
        projections: length that keys and values are projected to, per encoder stage.
        decoder_projection: the same, in every decoder.
        encoder_blocks: transformer blocks per encoder stage.
        decoder_blocks: transformer blocks per decoder.
    """

    dims: tuple[int, int, int, int]
    projections: tuple[int, int, int, int]
    decoder_projection: int
    encoder_blocks: int
    decoder_blocks: int

    @property
    def feature_size(self) -> int:
        """Channels at full resolution."""
        return self.dims[0] // 2


WIDTHS: dict[Size, Widths] = {
    "paper": Widths((32, 64, 128, 256), (64, 64, 64, 32), 64, 3, 3),
    "tiny": Widths((16, 32, 64, 128), (32, 32, 32, 16), 32, 1, 1),
}


def _conv(layer: nn.Module) -> nn.Sequential:
    """Wraps a convolution so that its keys read ``conv.*``, as the keys of MONAI's blocks do."""
    return nn.Sequential(OrderedDict(conv=layer))


class ResBlock(nn.Module):
    """Two 3x3x3 convolutions with norms and a residual path, ``(N, in, D, H, W) -> (N, out, D, H, W)``.

    With `batch` the norms are affine batch norms; with `instance` they have no parameters and no statistics.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Literal["batch", "instance"]) -> None:
        super().__init__()
        norm_layer: type[nn.BatchNorm3d | nn.InstanceNorm3d] = nn.InstanceNorm3d
        if norm == "batch":
            norm_layer = nn.BatchNorm3d
        self.conv1 = _conv(nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False))
        self.conv2 = _conv(nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False))
        self.norm1 = norm_layer(out_channels)
        self.norm2 = norm_layer(out_channels)
        self.widens = in_channels != out_channels
        if self.widens:
            self.conv3 = _conv(nn.Conv3d(in_channels, out_channels, 1, bias=False))
            self.norm3 = norm_layer(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves and adds the input, itself projected where the width changes."""
        y = leaky_relu(self.norm1(self.conv1(x)), 0.01)
        y = self.norm2(self.conv2(y))
        if self.widens:
            x = self.norm3(self.conv3(x))
        return leaky_relu(y + x, 0.01)


class EPA(nn.Module):
    """Efficient paired attention over tokens, ``(B, N, C) -> (B, N, C)``.

    Two branches share queries and keys: one attends between the channels of a head, the other from every token to a few
    projected ones.
    """

    def __init__(self, tokens: int, dim: int, projection: int, variant: Variant) -> None:
        """Builds the attention for exactly `tokens` tokens, projected to `projection`."""
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.temperature2 = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.projection = variant.projection
        self.fusion = variant.fusion
        if variant.projection == "raw":
            bound = 1 / sqrt(projection)
            self.EF = nn.Parameter(torch.empty(tokens, projection).uniform_(-bound, bound))
        self.qkvv = nn.Linear(dim, 4 * dim, bias=False)
        if variant.projection != "raw":
            self.E = nn.Linear(tokens, projection)
            # Tied: one module under two names, in the state_dict twice and among the parameters once.
            self.F = self.E
            if variant.projection == "two":
                self.F = nn.Linear(tokens, projection)
        self.attn_drop = nn.Dropout(variant.dropout)
        self.attn_drop_2 = nn.Dropout(variant.dropout)
        if variant.fusion == "concat":
            self.out_proj = nn.Linear(dim, dim // 2)
            self.out_proj2 = nn.Linear(dim, dim // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Attends in both branches and fuses them."""
        B, N, C = x.shape
        # (4, B, heads, C/heads, N)
        q, k, v_channel, v_spatial = self.qkvv(x).reshape(B, N, 4, HEADS, C // HEADS).permute(2, 0, 3, 4, 1).unbind(0)
        if self.projection == "raw":
            k_projected, v_projected = k @ self.EF, v_spatial @ self.EF
        else:
            k_projected, v_projected = self.E(k), self.F(v_spatial)
        # Over the tokens, and after the projection: the projected keys are not normalized.
        q, k = normalize(q, dim=-1), normalize(k, dim=-1)

        channel = self.attn_drop((q @ k.transpose(-2, -1) * self.temperature).softmax(-1))
        x_channel: Tensor = (channel @ v_channel).permute(0, 3, 1, 2).reshape(B, N, C)

        spatial = self.attn_drop_2((q.transpose(-2, -1) @ k_projected * self.temperature2).softmax(-1))
        # (B, heads, N, d) is laid out as (B, d, heads, N) and cut into rows of C, which mixes tokens with channels. Not
        # a merge of heads, but what the published weights were trained with.
        x_spatial: Tensor = (spatial @ v_projected.transpose(-2, -1)).permute(0, 3, 1, 2).reshape(B, N, C)

        if self.fusion == "sum":
            return x_channel + x_spatial
        halves = (self.out_proj(x_spatial), self.out_proj2(x_channel))
        return torch.cat(halves, dim=-1)


class TransformerBlock(nn.Module):
    """EPA and convolutions on a grid, ``(N, C, D, H, W) -> (N, C, D, H, W)``."""

    def __init__(self, tokens: int, dim: int, projection: int, variant: Variant) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-6))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.epa_block = EPA(tokens, dim, projection, variant)
        self.conv51 = ResBlock(dim, dim, "batch")
        self.conv52: ResBlock | None = None
        if variant.conv_blocks == 2:
            self.conv52 = ResBlock(dim, dim, "batch")
        self.conv8 = nn.Sequential(nn.Dropout3d(0.1), nn.Conv3d(dim, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Adds the position embedding, which stays in the output, then the scaled attention, then the convolutions."""
        tokens = x.flatten(2).transpose(1, 2) + self.pos_embed
        tokens = tokens + self.gamma * self.epa_block(self.norm(tokens))
        grid = tokens.transpose(1, 2).reshape(x.shape)
        y = self.conv51(grid)
        if self.conv52 is not None:
            y = self.conv52(y)
        attended: Tensor = grid + self.conv8(y)
        return attended


def _blocks(count: int, tokens: int, dim: int, projection: int, variant: Variant) -> nn.Sequential:
    """Builds `count` transformer blocks, one after the other."""
    return nn.Sequential(*(TransformerBlock(tokens, dim, projection, variant) for _ in range(count)))


class Encoder(nn.Module):
    """The four stages, ``(N, in, D, H, W) -> 4 x (N, dims[i], *grids[i])``."""

    def __init__(self, in_channels: int, grids: tuple[Grid, ...], widths: Widths, variant: Variant) -> None:
        super().__init__()
        dims = widths.dims
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i in range(STAGES):
            source, stride = in_channels, variant.stem
            if i > 0:
                source, stride = dims[i - 1], (2, 2, 2)
            down = nn.Conv3d(source, dims[i], stride, stride, bias=False)
            self.downsample_layers.append(nn.Sequential(_conv(down), nn.GroupNorm(gcd(source, dims[i]), dims[i])))
        for i in range(STAGES):
            stage = _blocks(widths.encoder_blocks, prod(grids[i]), dims[i], widths.projections[i], variant)
            self.stages.append(stage)
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        """The authors' law; their convolutions and the bare projection matrix keep what they were built with."""
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the outputs of the stages, shallow to deep."""
        features = []
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(down(x))
            features.append(x)
        return features


class UpBlock(nn.Module):
    """Doubles the grid (or undoes the stem), adds the skip and runs `body`."""

    def __init__(self, in_channels: int, out_channels: int, stride: Grid, body: nn.Module) -> None:
        super().__init__()
        self.transp_conv = _conv(nn.ConvTranspose3d(in_channels, out_channels, stride, stride, bias=False))
        self.decoder_block = nn.ModuleList([body])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Maps ``(N, in, *grid)`` and a skip ``(N, out, *finer)`` to ``(N, out, *finer)``."""
        y: Tensor = self.decoder_block[0](self.transp_conv(x) + skip)
        return y


class OutBlock(nn.Module):
    """An output head: a 1x1x1 convolution under the authors' name for it."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = _conv(nn.Conv3d(in_channels, num_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits ``(N, num_classes, *grid)``."""
        logits: Tensor = self.conv(x)
        return logits


class UNETRPP(nn.Module):
    """The network ``(N, in_channels, D, H, W) -> (N, num_classes, D, H, W)``.

    Attributes:
        do_ds: whether it returns the list of outputs; may be switched off where the network was built with it.
        structure: see `initbench.protocols.Structure`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        patch: Grid,
        *,
        variant: Variant,
        widths: Widths = WIDTHS["paper"],
        deep_supervision: bool = False,
    ) -> None:
        """Builds the network for a patch that `variant.divisor` divides."""
        super().__init__()
        dims, small = widths.dims, widths.feature_size
        self.do_ds = deep_supervision
        d, h, w = variant.stem
        grids: list[Grid] = []
        for i in range(STAGES):
            grids.append((patch[0] // (d << i), patch[1] // (h << i), patch[2] // (w << i)))

        def decoder(level: int) -> UpBlock:
            body = _blocks(widths.decoder_blocks, prod(grids[level]), dims[level], widths.decoder_projection, variant)
            return UpBlock(dims[level + 1], dims[level], (2, 2, 2), body)

        self.unetr_pp_encoder = Encoder(in_channels, tuple(grids), widths, variant)
        self.encoder1 = ResBlock(in_channels, small, "instance")
        self.decoder5 = decoder(2)
        self.decoder4 = decoder(1)
        self.decoder3 = decoder(0)
        self.decoder2 = UpBlock(dims[0], small, variant.stem, ResBlock(small, small, "instance"))
        self.out1 = OutBlock(small, num_classes)
        heads: tuple[str, ...] = ("out1",)
        if deep_supervision:
            self.out2 = OutBlock(dims[0], num_classes)
            self.out3 = OutBlock(dims[1], num_classes)
            heads = ("out1", "out2", "out3")
        positions: dict[str, Grid] = {}
        tokens: dict[str, Grid] = {}
        for stage, grid in enumerate(grids):
            for blocks in (rf"unetr_pp_encoder\.stages\.{stage}\.\d+", rf"decoder{stage + 3}\.decoder_block\.0\.\d+"):
                positions[rf"{blocks}\.pos_embed"] = grid
                tokens[rf"{blocks}\.epa_block\.(E\.weight|F\.weight|EF)"] = grid
        self.structure = Structure(
            patch_size=patch,
            levels=tuple(Level(f"unetr_pp_encoder.stages.{i}", grids[i], dims[i]) for i in range(STAGES)),
            heads=heads,
            projections=tuple(name for name, _ in self.named_parameters() if name.endswith(".EF")),
            residual_exits=tuple(_residual_exits(self)),
            published=Published(
                positions=positions,
                tokens=tokens,
                layouts=(FileLayout("LWI's order heads", r"temp_head", ((r"^temp_head\d\.", None),)),),
                signs=_signs(variant),
                images=ImageWeights(stems=("unetr_pp_encoder.downsample_layers.0.0.conv", "encoder1.conv1.conv")),
            ),
            tokens=Tokens("unetr_pp_encoder.downsample_layers.0", grids[0], dims[0]),
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Returns logits; under deep supervision a list: at full resolution, on the stem's grid and on half of it."""
        skips = self.unetr_pp_encoder(x)
        d3 = self.decoder5(skips[3], skips[2])
        d2 = self.decoder4(d3, skips[1])
        d1 = self.decoder3(d2, skips[0])
        logits: Tensor = self.out1(self.decoder2(d1, self.encoder1(x)))
        if not self.do_ds:
            return logits
        return [logits, self.out2(d1), self.out3(d2)]


def _residual_exits(model: nn.Module) -> Iterator[str]:
    """Yields the parameters that end residual branches.

    They are the layer scale of an attention, and the last norm of a residual block, or its last layer where the norm has none.
    """
    for name, module in model.named_modules():
        if isinstance(module, TransformerBlock):
            yield from (f"{name}.gamma", f"{name}.conv8.1.weight", f"{name}.conv8.1.bias")
        elif isinstance(module, ResBlock):
            last = "conv2"
            if module.norm2.affine:
                last = "norm2"
            for parameter, _ in module.get_submodule(last).named_parameters():
                yield f"{name}.{last}.{parameter}"


@backbone(
    BackboneInfo(
        paper="arXiv:2212.04497",
        source="Amshaker/unetr_plus_plus:unetr_pp/network_architecture@dcba1c6e",
        licence="Apache-2.0",
        variants=tuple(VARIANTS),
        patches={name: PatchRule(variant.divisor) for name, variant in VARIANTS.items()},
    )
)
def unetrpp(in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool) -> nn.Module:
    """Builds UNETR++; see `initbench.protocols.Backbone`.

    The position embeddings and the token projections have one row per token, so the network takes patches of
    `patch_size` only.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: (D, H, W) in voxels, a multiple of the variant's `divisor`.
        size: ``paper`` or ``tiny``.
        variant: one of `VARIANTS`.
        deep_supervision: return a list of three outputs.

    Raises:
        PatchError: the stem and three halvings do not divide the patch.
    """
    return UNETRPP(
        in_channels,
        num_classes,
        patch_size,
        variant=VARIANTS[variant],
        widths=WIDTHS[size],
        deep_supervision=deep_supervision,
    )
