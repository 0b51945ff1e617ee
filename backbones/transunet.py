"""TransUNet: a ResNet and a ViT as the encoder of a U-Net, for slices.

Paper: Chen et al., "TransUNet: Transformers make strong encoders for medical image segmentation", arXiv:2102.04306.
Source: Beckschen/TransUNet@02ef0010, networks (R50-ViT-B_16), written anew from a description.
Licence: Apache-2.0.

What differs from the source:

- Nothing in the network. It takes volumes and treats each slice along D by itself (`slice_by_slice`). A single channel is
  repeated to three, as there; of other images the first convolution takes all channels.
- Under deep supervision the result is a list of one: TransUNet has no auxiliary outputs.
- `tiny` is narrower, and has fewer units in the ResNet and fewer layers in the ViT.

timm's hybrid ViT (`vit_base_r50_s16_224`) has the same ResNet by names and shapes, and computes something else: it pads as
TensorFlow does, has other epsilons, and 32 groups in the norm of a shortcut. So the ResNet is written here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.backbones.slices import SliceNetwork, colours_of, exits_of, in_colours
from initbench.protocols import BackboneInfo, Grid, ImageWeights, Level, PatchRule, Published, Size, Structure, backbone

STRIDE = 16
GROUPS = 32
EPSILON = 1e-6
"""Of the group norms, except those of shortcuts, and of the layer norms."""
WEIGHT_EPSILON = 1e-5
DROPOUT = 0.1
POSITIONS = "transformer.embeddings.position_embeddings"
EXPANSION = 4
Features = tuple[Tensor, list[Tensor]]
"""Of the deepest grid, and the skips, deep to shallow."""


@dataclass(frozen=True)
class Widths:
    """Widths and depths of one size.

    Attributes:
        root: channels behind the first convolution, a multiple of 32; the blocks of the ResNet have 4, 8 and 16 times as many.
        units: of each block of the ResNet.
        hidden: width of a token.
        mlp: width inside a feed-forward layer.
        heads: of the attention.
        layers: of the ViT.
        bottleneck: channels between ViT and decoder.
        decoder: channels of the four decoder blocks, deep to shallow.
        skips: how many decoder blocks read a skip, the deepest first.
    """

    root: int
    units: tuple[int, int, int]
    hidden: int
    mlp: int
    heads: int
    layers: int
    bottleneck: int
    decoder: tuple[int, int, int, int]
    skips: int = 3

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Channels of the blocks of the ResNet."""
        first = EXPANSION * self.root
        return first, 2 * first, 4 * first

    @property
    def skip_channels(self) -> list[int]:
        """Channels of the skip of each decoder block, 0 where it reads none."""
        first, second, _ = self.blocks
        channels = [second, first, self.root, 0]
        for block in range(self.skips, len(channels)):
            channels[block] = 0
        return channels


WIDTHS: dict[Size, Widths] = {
    "paper": Widths(64, (3, 4, 9), 768, 3072, 12, 12, 512, (256, 128, 64, 16)),
    "tiny": Widths(32, (1, 1, 1), 48, 96, 4, 2, 64, (32, 24, 16, 8)),
}


class StdConv2d(nn.Conv2d):
    """A convolution whose kernels have mean 0 and variance 1, each output channel by itself."""

    def forward(self, image: Tensor) -> Tensor:
        """Standardizes the kernels and convolves."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        kernel = (self.weight - mean) / torch.sqrt(variance + WEIGHT_EPSILON)
        return functional.conv2d(image, kernel, self.bias, self.stride, self.padding, self.dilation, self.groups)


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> StdConv2d:
    return StdConv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Unit(nn.Module):
    """A bottleneck block of the ResNet, with its activation after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = outputs // EXPANSION
        self.gn1 = nn.GroupNorm(GROUPS, middle, EPSILON)
        self.conv1 = _convolution(inputs, middle, 1)
        self.gn2 = nn.GroupNorm(GROUPS, middle, EPSILON)
        self.conv2 = _convolution(middle, middle, 3, stride)
        self.gn3 = nn.GroupNorm(GROUPS, outputs, EPSILON)
        self.conv3 = _convolution(middle, outputs, 1)
        self.has_projection = stride != 1 or inputs != outputs
        if self.has_projection:
            self.downsample = _convolution(inputs, outputs, 1, stride)
            self.gn_proj = nn.GroupNorm(outputs, outputs)  # every channel by itself

    def forward(self, image: Tensor) -> Tensor:
        """Maps ``(N, inputs, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        shortcut = image
        if self.has_projection:
            shortcut = self.gn_proj(self.downsample(image))
        branch = functional.relu(self.gn1(self.conv1(image)))
        branch = functional.relu(self.gn2(self.conv2(branch)))
        return functional.relu(shortcut + self.gn3(self.conv3(branch)))


class ResNet(nn.Module):
    """The convolutional part of the encoder."""

    def __init__(self, in_channels: int, widths: Widths) -> None:
        super().__init__()
        self.root = nn.Sequential()
        self.root.add_module("conv", _convolution(in_channels, widths.root, 7, 2))
        self.root.add_module("gn", nn.GroupNorm(GROUPS, widths.root, EPSILON))
        self.root.add_module("relu", nn.ReLU(inplace=True))
        self.body = nn.Sequential()
        inputs, stride = widths.root, 1
        for number, (outputs, units) in enumerate(zip(widths.blocks, widths.units, strict=True), start=1):
            block = nn.Sequential()
            for unit in range(1, units + 1):
                block.add_module(f"unit{unit}", Unit(inputs, outputs, stride))
                inputs, stride = outputs, 1
            self.body.add_module(f"block{number}", block)
            stride = 2

    def forward(self, image: Tensor) -> Features:
        """Returns the features at stride 16, and the skips at strides 8, 4 and 2."""
        height, width = image.shape[2:]
        block1, block2, block3 = self.body.children()
        root = self.root(image)
        first = block1(functional.max_pool2d(root, 3, 2))
        second = block2(first)
        # The pooling has no padding, so the grid is one row and one column short of a quarter of the image. The skip is
        # filled up with zeros, and the way down goes on without. The release copies it into zeros of single precision, which
        # shows where all else is of double precision.
        short = (height // 4 - first.shape[2], width // 4 - first.shape[3])
        skip = functional.pad(first.float(), (0, short[1], 0, short[0]))
        return block3(second), [second, skip, root]


class Attention(nn.Module):
    """Multi-head self-attention with four linear layers."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens ``(N, L, C)`` to the same shape."""
        query, key = self._of_heads(self.query(tokens)), self._of_heads(self.key(tokens))
        value = self._of_heads(self.value(tokens))
        weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[3] ** 0.5, dim=3)
        mixed: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return mixed

    def _of_heads(self, tokens: Tensor) -> Tensor:
        """Divides ``(N, L, C)`` into heads, ``(N, heads, L, C / heads)``."""
        return torch.unflatten(tokens, 2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, inner)
        self.fc2 = nn.Linear(inner, hidden)
        self.dropout = nn.Dropout(DROPOUT)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens ``(N, L, C)`` to the same shape."""
        inner = self.dropout(functional.gelu(self.fc1(tokens)))
        outer: Tensor = self.dropout(self.fc2(inner))
        return outer


class Layer(nn.Module):
    """A layer of the ViT: attention and a feed-forward layer, each behind a norm and beside a shortcut."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(widths.hidden, EPSILON)
        self.ffn_norm = nn.LayerNorm(widths.hidden, EPSILON)
        self.ffn = FeedForward(widths.hidden, widths.mlp)
        self.attn = Attention(widths.hidden, widths.heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens ``(N, L, C)`` to the same shape."""
        tokens = tokens + self.attn(self.attention_norm(tokens))
        fed: Tensor = tokens + self.ffn(self.ffn_norm(tokens))
        return fed


class Embeddings(nn.Module):
    """Tokens of the deepest features of the ResNet, with their positions."""

    def __init__(self, in_channels: int, tokens: int, widths: Widths) -> None:
        super().__init__()
        self.position_embeddings = nn.Parameter(torch.zeros(1, tokens, widths.hidden))
        self.hybrid_model = ResNet(in_channels, widths)
        self.patch_embeddings = nn.Conv2d(widths.blocks[-1], widths.hidden, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, image: Tensor) -> Features:
        """Returns tokens ``(N, L, C)``, and the skips."""
        features, skips = self.hybrid_model(image)
        tokens = self.patch_embeddings(features).flatten(2).transpose(1, 2)
        return self.dropout(tokens + self.position_embeddings), skips


class Encoder(nn.Module):
    """The layers of the ViT and a last norm."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(widths) for _ in range(widths.layers))
        self.encoder_norm = nn.LayerNorm(widths.hidden, EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens ``(N, L, C)`` to the same shape."""
        for layer in self.layer:
            tokens = layer(tokens)
        normed: Tensor = self.encoder_norm(tokens)
        return normed


class Transformer(nn.Module):
    """The whole encoder: the ResNet inside the embeddings, and the ViT."""

    def __init__(self, in_channels: int, tokens: int, widths: Widths) -> None:
        super().__init__()
        self.embeddings = Embeddings(in_channels, tokens, widths)
        self.encoder = Encoder(widths)

    def forward(self, image: Tensor) -> Features:
        """Returns tokens ``(N, L, C)``, and the skips."""
        tokens, skips = self.embeddings(image)
        return self.encoder(tokens), skips


def _conv_norm_act(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class DecoderBlock(nn.Module):
    """Doubles the grid, appends a skip and convolves twice."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm_act(inputs + skip, outputs)
        self.conv2 = _conv_norm_act(outputs, outputs)

    def forward(self, features: Tensor, skip: Tensor | None) -> Tensor:
        """Maps ``(N, inputs, H, W)`` to ``(N, outputs, 2 H, 2 W)``."""
        features = functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
        if skip is not None:
            features = torch.cat([features, skip], dim=1)
        convolved: Tensor = self.conv2(self.conv1(features))
        return convolved


class Decoder(nn.Module):
    """From the tokens back to the grid of the image."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.skips = widths.skips
        self.conv_more = _conv_norm_act(widths.hidden, widths.bottleneck)
        self.blocks = nn.ModuleList()
        inputs = widths.bottleneck
        for outputs, skip in zip(widths.decoder, widths.skip_channels, strict=True):
            self.blocks.append(DecoderBlock(inputs, skip, outputs))
            inputs = outputs

    def forward(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Features ``(N, C, H / 16, W / 16)`` and the skips to ``(N, C', H, W)``."""
        features = self.conv_more(features)
        for number, block in enumerate(self.blocks):
            skip = None
            if number < self.skips:
                skip = skips[number]
            features = block(features, skip)
        return features


class TransUNet(SliceNetwork):
    """The network of one size, with its structure."""

    def __init__(self, in_channels: int, num_classes: int, patch: Grid, widths: Widths, *, as_list: bool) -> None:
        super().__init__(as_list=as_list)
        self.grid = (patch[1] // STRIDE, patch[2] // STRIDE)
        self.transformer = Transformer(colours_of(in_channels), self.grid[0] * self.grid[1], widths)
        self.decoder = Decoder(widths)
        self.segmentation_head = nn.Sequential(nn.Conv2d(widths.decoder[-1], num_classes, 3, padding=1))
        self.structure = Structure(
            patch_size=patch,
            levels=_levels(patch, widths),
            heads=("segmentation_head",),
            residual_exits=exits_of(self, ("gn3", "attn.out", "ffn.fc2")),
            published=_published(self.grid, widths),
        )

    def of_slices(self, image: Tensor) -> Tensor:
        """Returns logits ``(N, K, H, W)`` of slices ``(N, C, H, W)``: the network as it was released."""
        tokens, skips = self.transformer(in_colours(image))
        features = torch.unflatten(tokens.transpose(1, 2), 2, self.grid)
        logits: Tensor = self.segmentation_head(self.decoder(features, skips))
        return logits


def _published(plane: tuple[int, int], widths: Widths) -> Published:
    """Declares where weights of images belong: timm's hybrid of a ResNet and a ViT in the encoder, but for the class token.

    The authors' file is an archive that timm reads, too. They interpolate its positions linearly.
    """
    hybrid, layer = "transformer.embeddings.hybrid_model", r"transformer.encoder.layer.\1"
    renames: list[tuple[str, str | None]] = [
        (r"^patch_embed\.backbone\.stem\.conv\.", f"{hybrid}.root.conv."),
        (r"^patch_embed\.backbone\.stem\.norm\.", f"{hybrid}.root.gn."),
        (r"^patch_embed\.proj\.", "transformer.embeddings.patch_embeddings."),
        (r"^pos_embed$", POSITIONS),
        (r"^cls_token$", None),
        (r"^blocks\.(\d+)\.norm1\.", f"{layer}.attention_norm."),
        (r"^blocks\.(\d+)\.norm2\.", f"{layer}.ffn_norm."),
        (r"^blocks\.(\d+)\.attn\.proj\.", f"{layer}.attn.out."),
        (r"^blocks\.(\d+)\.mlp\.", f"{layer}.ffn."),
        (r"^norm\.", "transformer.encoder.encoder_norm."),
    ]
    # timm counts blocks and units from 0, the release from 1.
    for stage, units in enumerate(widths.units):
        for block in range(units):
            theirs = rf"^patch_embed\.backbone\.stages\.{stage}\.blocks\.{block}\."
            ours = f"{hybrid}.body.block{stage + 1}.unit{block + 1}."
            renames += [
                (rf"{theirs}conv(\d)\.", rf"{ours}conv\1."),
                (rf"{theirs}norm(\d)\.", rf"{ours}gn\1."),
                (rf"{theirs}downsample\.conv\.", f"{ours}downsample."),
                (rf"{theirs}downsample\.norm\.", f"{ours}gn_proj."),
            ]
    attention = tuple(rf"{layer}.attn.{name}.\2" for name in ("query", "key", "value"))
    images = ImageWeights(
        renames=tuple(renames),
        heads=widths.heads,
        source="vit_base_r50_s16_224",
        parts=("transformer",),
        stacked=((r"^blocks\.(\d+)\.attn\.qkv\.(weight|bias)$", attention),),
        linear_positions=True,
    )
    return Published(positions={re.escape(POSITIONS): (1, *plane)}, images=images)


def _levels(patch: Grid, widths: Widths) -> tuple[Level, ...]:
    """Returns the levels: the first convolution, two blocks of the ResNet, and the ViT."""
    _, height, width = patch
    hybrid = "transformer.embeddings.hybrid_model"
    first, second, _ = widths.blocks
    return (
        Level(f"{hybrid}.root", (1, height // 2, width // 2), widths.root, "NCHW"),
        Level(f"{hybrid}.body.block1", (1, height // 4 - 1, width // 4 - 1), first, "NCHW"),
        Level(f"{hybrid}.body.block2", (1, height // 8, width // 8), second, "NCHW"),
        Level("transformer.encoder", (1, height // STRIDE, width // STRIDE), widths.hidden, "NLC"),
    )


@backbone(
    BackboneInfo(
        paper="arXiv:2102.04306",
        source="Beckschen/TransUNet:networks@02ef0010",
        licence="Apache-2.0",
        patches={"default": PatchRule((1, STRIDE, STRIDE), least=(1, 2 * STRIDE, 2 * STRIDE), depth=1)},
        dimension=2,
    )
)
def transunet(
    in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool
) -> nn.Module:
    """Builds TransUNet; see `initbench.protocols.Backbone`.

    The position embedding has one row per token, so the network takes slices of `patch_size` only.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: ``(1, H, W)``, H and W multiples of 16 in voxels, 32 at least.
        size: ``paper`` or ``tiny``.
        variant: the only one.
        deep_supervision: return a list of the one output.

    Raises:
        PatchError: more than one slice, or H or W is no multiple of 16, or less than 32.
    """
    return TransUNet(in_channels, num_classes, patch_size, WIDTHS[size], as_list=deep_supervision)
