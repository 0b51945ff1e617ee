"""MISSFormer: a hierarchical transformer with a bridge between its scales, for slices.

Paper: Huang et al., "MISSFormer: An effective medical image segmentation Transformer", arXiv:2109.07162.
Source: ZhifangDeng/MISSFormer@007424e8, networks. That code has no licence; the network is written anew from a description.
Licence: Apache-2.0.

What differs from the source:

- Nothing in the network at 224 x 224. The release writes the numbers of tokens as literals; here they follow the slice, whose
  edges are multiples of 32.
- It takes volumes and treats each slice along D by itself (`slice_by_slice`). A single channel is repeated to three, as there; of
  other images the first patch embedding takes all channels.
- Under deep supervision the result is a list of one: MISSFormer has no auxiliary outputs.
- `tiny` narrows the widths only.

As released, two of three norms in each feed-forward layer, and all of the deepest decoder stage but its expansion, are there and
unused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.backbones.slices import SliceNetwork, colours_of, exits_of, in_colours
from initbench.protocols import BackboneInfo, Grid, ImageWeights, Level, PatchRule, Published, Size, Structure, backbone

STRIDES = (4, 8, 16, 32)
WIDTHS_OF_STAGES = (1, 2, 5, 8)
"""In units of the first stage's width; also the heads of the attention."""
REDUCTIONS = (8, 4, 2, 1)
"""Edge of the squares of tokens that an attention reads as one key."""
BLOCKS = 2
BRIDGE_LAYERS = 4
EXPANSION = 4
RANDOM = "missformer starts from random weights: its release loads none, and no published encoder of images has its layers"
Plane = tuple[int, int]
WIDTHS: dict[Size, int] = {"paper": 64, "tiny": 16}
"""Of the first stage."""


@dataclass(frozen=True)
class Stage:
    """One scale: its grid of tokens, their width, the heads of the attention, and how it reduces keys."""

    plane: Plane
    width: int
    heads: int
    reduction: int


def stages_of(plane: Plane, width: int) -> list[Stage]:
    """Returns the four scales of a slice.

    Args:
        plane: (H, W) in pixels.
        width: of the first scale.
    """
    found = []
    for stride, factor, reduction in zip(STRIDES, WIDTHS_OF_STAGES, REDUCTIONS, strict=True):
        found.append(Stage((plane[0] // stride, plane[1] // stride), width * factor, factor, reduction))
    return found


def _image_of(tokens: Tensor, plane: Plane) -> Tensor:
    """Turns tokens ``(N, L, C)`` of a `plane` into ``(N, C, H, W)``."""
    image: Tensor = torch.unflatten(tokens.transpose(1, 2), 2, plane)
    return image


def _tokens_of(image: Tensor) -> Tensor:
    """The inverse of `_image_of`."""
    return image.flatten(2).transpose(1, 2)


class PatchEmbedding(nn.Module):
    """Overlapping patches as tokens."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to tokens ``(N, L, width)``."""
        tokens: Tensor = self.norm(_tokens_of(self.proj(image)))
        return tokens


def _attend(query: Tensor, keys_and_values: Tensor, heads: int) -> Tensor:
    """Multi-head attention.

    Args:
        query: ``(N, L, C)``.
        keys_and_values: ``(N, L', 2 C)``, the keys first.
        heads: equal parts of C.
    """
    keys, values = torch.unflatten(keys_and_values, 2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    queries = torch.unflatten(query, 2, (heads, -1)).transpose(1, 2)
    weights = torch.softmax(queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3]), dim=3)
    mixed: Tensor = (weights @ values).transpose(1, 2).flatten(2)
    return mixed


class Attention(nn.Module):
    """Self-attention. Keys and values are read from a coarser grid."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.plane, self.heads, self.reduction = stage.plane, stage.heads, stage.reduction
        width = stage.width
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if self.reduction > 1:
            self.sr = nn.Conv2d(width, width, self.reduction, self.reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens ``(N, L, C)`` to the same shape."""
        reduced = tokens
        if self.reduction > 1:
            reduced = self.norm(_tokens_of(self.sr(_image_of(tokens, self.plane))))
        mixed: Tensor = self.proj(_attend(self.q(tokens), self.kv(reduced), self.heads))
        return mixed


class DepthwiseConvolution(nn.Module):
    """A convolution of each channel by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, tokens: Tensor, plane: Plane) -> Tensor:
        """Maps tokens ``(N, L, C)`` to the same shape."""
        return _tokens_of(self.dwconv(_image_of(tokens, plane)))


class FeedForward(nn.Module):
    """Two linear layers around a depthwise convolution with a shortcut and a norm."""

    def __init__(self, width: int, plane: Plane) -> None:
        super().__init__()
        self.plane = plane
        inner = EXPANSION * width
        self.fc1 = nn.Linear(width, inner)
        self.dwconv = DepthwiseConvolution(inner)
        self.fc2 = nn.Linear(inner, width)
        self.norm1 = nn.LayerNorm(inner)
        self.norm2 = nn.LayerNorm(inner)  # this one and the next are unused, as released
        self.norm3 = nn.LayerNorm(inner)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens ``(N, L, C)`` to the same shape."""
        inner = self.fc1(tokens)
        mixed = functional.gelu(self.norm1(self.dwconv(inner, self.plane) + inner))
        outer: Tensor = self.fc2(mixed)
        return outer


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and beside a shortcut."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(stage.width)
        self.attn = Attention(stage)
        self.norm2 = nn.LayerNorm(stage.width)
        self.mlp = FeedForward(stage.width, stage.plane)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens ``(N, L, C)`` to the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        fed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return fed


class Backbone(nn.Module):
    """The encoder."""

    def __init__(self, in_channels: int, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.stages = stages
        inputs, kernel, stride = in_channels, 7, STRIDES[0]
        for number, stage in enumerate(stages, start=1):
            self.add_module(f"patch_embed{number}", PatchEmbedding(inputs, stage.width, kernel, stride))
            inputs, kernel, stride = stage.width, 3, 2
        for number, stage in enumerate(stages, start=1):
            self.add_module(f"block{number}", nn.ModuleList(Block(stage) for _ in range(BLOCKS)))
            self.add_module(f"norm{number}", nn.LayerNorm(stage.width))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns the tokens of every scale, fine to coarse."""
        outputs = []
        for number, stage in enumerate(self.stages, start=1):
            tokens = self.get_submodule(f"patch_embed{number}")(image)
            for block in self.get_submodule(f"block{number}").children():
                tokens = block(tokens)
            tokens = self.get_submodule(f"norm{number}")(tokens)
            outputs.append(tokens)
            image = _image_of(tokens, stage.plane)
        return outputs


def _cut(rows: Tensor, stages: Sequence[Stage]) -> list[Tensor]:
    """Cuts the rows ``(N, R, C)`` of all scales, one after the other, into the tokens ``(N, L, width)`` of each scale.

    A row is as wide as a token of the first scale, so a token of another scale is several rows.
    """
    counts = [math.prod(stage.plane) * stage.heads for stage in stages]
    parts = []
    for part, stage in zip(torch.split(rows, counts, dim=1), stages, strict=True):
        parts.append(part.reshape(len(rows), -1, stage.width))
    return parts


def _rows(parts: Sequence[Tensor], width: int) -> Tensor:
    """The inverse of `_cut`; `width` is C."""
    return torch.cat([part.reshape(len(part), -1, width) for part in parts], dim=1)


class ScaleReduction(nn.Module):
    """The keys of the bridge: every scale but the coarsest on a coarser grid."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.stages = stages
        self.width = stages[0].width
        for number, stage in enumerate(stages[:-1]):
            self.add_module(f"sr{number}", nn.Conv2d(stage.width, stage.width, stage.reduction, stage.reduction))
        self.norm = nn.LayerNorm(self.width)

    def forward(self, rows: Tensor) -> Tensor:
        """Maps ``(N, R, C)`` to ``(N, R', C)`` with fewer rows."""
        *finer, coarsest = _cut(rows, self.stages)
        reduced = []
        for number, tokens in enumerate(finer):
            image = self.get_submodule(f"sr{number}")(_image_of(tokens, self.stages[number].plane))
            # As released, (N, width, h, w) is read as (N, C, R'): a row of a wide scale mixes positions and channels.
            reduced.append(image.reshape(len(image), self.width, -1).transpose(1, 2))
        reduced.append(coarsest.reshape(len(rows), -1, self.width))
        keys: Tensor = self.norm(torch.cat(reduced, dim=1))
        return keys


class BridgeAttention(nn.Module):
    """Attention among the rows of all scales, with one head."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        width = stages[0].width
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.scale_reduce = ScaleReduction(stages)

    def forward(self, rows: Tensor) -> Tensor:
        """Maps rows ``(N, R, C)`` to the same shape."""
        mixed: Tensor = self.proj(_attend(self.q(rows), self.kv(self.scale_reduce(rows)), heads=1))
        return mixed


class BridgeLayer(nn.Module):
    """Attention among all scales, then a feed-forward layer for each scale."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.stages = stages
        self.width = stages[0].width
        self.norm1 = nn.LayerNorm(self.width)
        self.attn = BridgeAttention(stages)
        self.norm2 = nn.LayerNorm(self.width)
        for number, stage in enumerate(stages, start=1):
            self.add_module(f"mixffn{number}", FeedForward(stage.width, stage.plane))

    def forward(self, rows: Tensor) -> Tensor:
        """Maps rows ``(N, R, C)`` to the same shape."""
        rows = rows + self.attn(self.norm1(rows))
        parts = _cut(self.norm2(rows), self.stages)
        fed = [self.get_submodule(f"mixffn{number}")(part) for number, part in enumerate(parts, start=1)]
        return rows + _rows(fed, self.width)


class Bridge(nn.Module):
    """Four layers between encoder and decoder."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.stages = stages
        for number in range(1, BRIDGE_LAYERS + 1):
            self.add_module(f"bridge_layer{number}", BridgeLayer(stages))

    def forward(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Maps the tokens of every scale to the same shapes."""
        rows = _rows(scales, self.stages[0].width)
        for layer in self.children():
            rows = layer(rows)
        return _cut(rows, self.stages)


class Expanding(nn.Module):
    """Divides every token into `factor` times `factor` tokens of `width` channels each."""

    def __init__(self, stage: Stage, width: int, factor: int) -> None:
        super().__init__()
        self.plane, self.factor = stage.plane, factor
        self.expand = nn.Linear(stage.width, width * factor**2, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps ``(N, L, C)`` to ``(N, L factor², width)``."""
        grid = torch.unflatten(self.expand(tokens), 1, self.plane)
        grid = torch.unflatten(grid, 3, (self.factor, self.factor, -1))
        finer: Tensor = self.norm(grid.transpose(2, 3).flatten(3, 4).flatten(1, 2).flatten(1, 2))
        return finer


class DecoderStage(nn.Module):
    """Joins the tokens with a skip, applies two blocks and expands.

    The last one expands to the grid of the image and has the head, `last_layer`.
    """

    def __init__(self, stage: Stage, width: int, *, below: int, num_classes: int = 0) -> None:
        super().__init__()
        self.concat_linear = nn.Linear(below + stage.width, stage.width)
        factor = 2
        if num_classes:
            factor = STRIDES[0]
        self.layer_up = Expanding(stage, width, factor)
        self.plane = (stage.plane[0] * factor, stage.plane[1] * factor)
        self.last_layer: nn.Conv2d | None = None
        if num_classes:
            self.last_layer = nn.Conv2d(width, num_classes, 1)
        self.layer_former_1 = Block(stage)
        self.layer_former_2 = Block(stage)
        self.apply(_initialize)

    def forward(self, tokens: Tensor, skip: Tensor | None = None) -> Tensor:
        """Returns the tokens of the next finer scale, or logits ``(N, K, H, W)``; without a skip it only expands, as released."""
        if skip is not None:
            joined = self.concat_linear(torch.cat([tokens, skip], dim=2))
            tokens = self.layer_former_2(self.layer_former_1(joined))
        finer: Tensor = self.layer_up(tokens)
        if self.last_layer is None:
            return finer
        logits: Tensor = self.last_layer(_image_of(finer, self.plane))
        return logits


def _initialize(module: nn.Module) -> None:
    """Draws the layers of the decoder as the release does."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class MissFormer(SliceNetwork):
    """The network of one size, with its structure."""

    def __init__(self, in_channels: int, num_classes: int, patch: Grid, width: int, *, as_list: bool) -> None:
        super().__init__(as_list=as_list)
        stages = stages_of(patch[1:], width)
        first, second, third, fourth = stages
        self.backbone = Backbone(colours_of(in_channels), stages)
        self.bridge = Bridge(stages)
        self.decoder_3 = DecoderStage(fourth, fourth.width // 2, below=fourth.width)
        self.decoder_2 = DecoderStage(third, third.width // 2, below=fourth.width // 2)
        self.decoder_1 = DecoderStage(second, second.width // 2, below=third.width // 2)
        self.decoder_0 = DecoderStage(first, first.width, below=second.width // 2, num_classes=num_classes)
        unused = _unused(self)
        self.structure = Structure(
            patch_size=patch,
            levels=_levels(stages),
            heads=("decoder_0.last_layer",),
            unused=unused,
            residual_exits=exits_of(self, ("attn.proj", "fc2"), unused),
            published=Published(images=ImageWeights(reason=RANDOM)),
        )

    def of_slices(self, image: Tensor) -> Tensor:
        """Returns logits ``(N, K, H, W)`` of slices ``(N, C, H, W)``: the network as it was released."""
        first, second, third, fourth = self.bridge(self.backbone(in_colours(image)))
        tokens = self.decoder_3(fourth)
        tokens = self.decoder_2(tokens, third)
        tokens = self.decoder_1(tokens, second)
        logits: Tensor = self.decoder_0(tokens, first)
        return logits


def _levels(stages: Sequence[Stage]) -> tuple[Level, ...]:
    """Returns the levels of the encoder, one for each scale."""
    levels = []
    for number, stage in enumerate(stages, start=1):
        levels.append(Level(f"backbone.norm{number}", (1, *stage.plane), stage.width, "NLC"))
    return tuple(levels)


def _unused(model: nn.Module) -> tuple[str, ...]:
    """Returns what gets no gradient: two norms of each feed-forward layer, and the deepest decoder stage but its expansion."""
    norms = set()
    for name, module in model.named_modules():
        if isinstance(module, FeedForward):
            norms |= {f"{name}.norm2", f"{name}.norm3"}
    found = []
    for name, _ in model.named_parameters():
        owner = name.rpartition(".")[0]
        in_deepest = name.startswith("decoder_3.") and not name.startswith("decoder_3.layer_up.")
        if owner in norms or in_deepest:
            found.append(name)
    return tuple(found)


@backbone(
    BackboneInfo(
        paper="arXiv:2109.07162",
        source="ZhifangDeng/MISSFormer:networks@007424e8",
        licence="Apache-2.0",
        patches={"default": PatchRule((1, STRIDES[-1], STRIDES[-1]), depth=1)},
        dimension=2,
    )
)
def missformer(
    in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool
) -> nn.Module:
    """Builds MISSFormer; see `initbench.protocols.Backbone`.

    The bridge joins the scales of one grid, so the network takes slices of `patch_size` only.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: ``(1, H, W)``, H and W multiples of 32 in voxels.
        size: ``paper`` or ``tiny``.
        variant: the only one.
        deep_supervision: return a list of the one output.

    Raises:
        PatchError: more than one slice, or H or W is no multiple of 32.
    """
    return MissFormer(in_channels, num_classes, patch_size, WIDTHS[size], as_list=deep_supervision)
