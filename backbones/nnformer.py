"""nnFormer: a network of local, global and skip attention in windows, in its three published forms.

Paper: Zhou et al., "nnFormer: Volumetric Medical Image Segmentation via a 3D Transformer", IEEE TIP 2023,
arXiv:2109.03201.
Source: 282857341/nnFormer:nnformer/network_architecture/nnFormer_{synapse,acdc,tumor}.py@d48aaeb0.
Licence: Apache-2.0; written anew from a description in words.

The three published networks share one name and differ in what `Variant` lists. Keys, their order and the outputs are the
authors'.

What differs from the source:

- Grids follow the patch; the source writes the grids of acdc as literals. The windows follow the patch too, by the authors' rule,
  and with them the shapes of the bias tables, so weights belong to the patches that give the same windows.
- The mask of a shifted stage is built once; the source builds it in every pass.
- No zero padding of the image, as a valid patch needs none.
- `tiny` narrows the widths of the same code, and the windows of acdc.

What is the authors' and looks like a mistake: the index into the bias tables collides (see `bias_index`); acdc shifts its
windows without a mask, so tokens of opposite borders see each other; the tokens that fill up a window take part in its
attention; tumor has twice the heads in its decoder.

The authors train synapse with deep supervision and the other two without. A recipe does not know the variant, so that is
`--set loss.deep_supervision=false` for those. Masking cells of acdc needs `--set pretext.mask_patch=2`, as 4 divides none
of its depths.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from initbench.protocols import (
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

STAGES = 4
DEPTH = 2  # blocks per stage; the second is the one with shifted windows
MASKED = -100.0  # added to the attention between regions that are no neighbours
DROP_PATH = 0.2  # of the last block, of the encoder and of the decoder
_KERNELS = {1: 1, 2: 3}  # edge of a reduction's kernel, by its stride


@dataclass(frozen=True)
class Reduction:
    """A convolution between two stages; its kernel is three where it strides and one elsewhere."""

    stride: Grid = (2, 2, 2)
    padding: Grid = (1, 1, 1)

    @property
    def kernel(self) -> Grid:
        """Size of the kernel, ``(D, H, W)``."""
        d, h, w = self.stride
        return _KERNELS[d], _KERNELS[h], _KERNELS[w]

    def grid(self, fine: Grid) -> Grid:
        """Returns the grid that the convolution makes of the grid `fine`."""
        sizes = []
        for size, padding, kernel, stride in zip(fine, self.padding, self.kernel, self.stride, strict=True):
            sizes.append((size + 2 * padding - kernel) // stride + 1)
        return sizes[0], sizes[1], sizes[2]


@dataclass(frozen=True)
class Variant:
    """What tells one of the published networks from the others.

    Attributes:
        stem: stride of the patch embedding ``(D, H, W)``, and kernel and stride of the heads.
        bounded: whether a grid no larger than its window is one window, a cube that is not shifted, and the attention of
            shifted windows is masked. Otherwise the windows stay as they are, and nothing is masked.
        decoder_heads: the encoder stage whose number of heads each decoder stage takes.
        reductions: between the encoder stages; the decoder undoes their strides.
        patches: the patches whose grids the decoder meets again on its way up.
    """

    stem: Grid
    bounded: bool
    decoder_heads: tuple[int, int, int]
    reductions: tuple[Reduction, Reduction, Reduction]
    patches: PatchRule

    def grids(self, patch: Grid) -> tuple[Grid, ...]:
        """Returns the grids of the four stages, fine to coarse."""
        grids: list[Grid] = [(patch[0] // self.stem[0], patch[1] // self.stem[1], patch[2] // self.stem[2])]
        for reduction in self.reductions:
            grids.append(reduction.grid(grids[-1]))
        return tuple(grids)


@dataclass(frozen=True)
class Widths:
    """Sizes of the network; the first two double from stage to stage.

    Attributes:
        embedding: channels of the first stage.
        heads: of its attention.
        windows: of the encoder stages; a decoder stage takes the window of the encoder stage on its grid.
    """

    embedding: int
    heads: int
    windows: tuple[Grid, Grid, Grid, Grid]


_HALVINGS = (Reduction(), Reduction(), Reduction())
# Slices: kept, halved to an odd number, then the borders cut off, 14 -> 14 -> 7 -> 3.
_FLAT_REDUCTIONS = (Reduction((1, 2, 2), (0, 1, 1)), Reduction(), Reduction(padding=(0, 1, 1)))

VARIANTS: dict[str, Variant] = {
    # At least two tokens per axis at the deepest stage: a window of one token has no attention to learn.
    "synapse": Variant((2, 4, 4), True, (0, 1, 2), _HALVINGS, PatchRule((16, 32, 32), least=(32, 64, 64))),
    # Going up, the deepest stage makes 2d + 1 slices of d. The skip has as many where its number is odd and at least three. The
    # stage above doubles them.
    "acdc": Variant((1, 4, 4), False, (0, 1, 2), _FLAT_REDUCTIONS, PatchRule((4, 32, 32), (2, 0, 0), (6, 1, 1))),
    "tumor": Variant((4, 4, 4), True, (1, 2, 3), _HALVINGS, PatchRule((32, 32, 32), least=(64, 64, 64))),
}

_CUBES: tuple[Grid, Grid, Grid, Grid] = ((4, 4, 4), (4, 4, 4), (8, 8, 8), (4, 4, 4))
_FLAT: tuple[Grid, Grid, Grid, Grid] = ((3, 5, 5), (3, 5, 5), (7, 10, 10), (3, 5, 5))

WIDTHS: dict[Size, dict[str, Widths]] = {
    "paper": {"synapse": Widths(192, 6, _CUBES), "acdc": Widths(96, 3, _FLAT), "tumor": Widths(96, 3, _CUBES)},
    # A head draws all voxels of a token from its channels alone: 240 steps on hippocampus gave Dice 71, and 64 with 24 channels
    # (one seed). The 700 tokens of acdc's widest window, mostly filling at small patches, would take longer than all the rest.
    "tiny": {
        "synapse": Widths(48, 3, _CUBES),
        "acdc": Widths(48, 3, ((3, 5, 5), (3, 5, 5), (3, 5, 5), (3, 5, 5))),
        "tumor": Widths(48, 3, _CUBES),
    },
}


@dataclass(frozen=True)
class Partition:
    """Tokens on a grid, row-major, and the same in windows. The grid is filled up to whole windows at its far sides."""

    grid: Grid
    window: Grid
    shift: Grid = (0, 0, 0)

    @property
    def counts(self) -> Grid:
        """Number of windows along each axis."""
        (depth, height, width), (d, h, w) = self.grid, self.window
        return ceil(depth / d), ceil(height / h), ceil(width / w)

    @property
    def padded(self) -> Grid:
        """The grid of whole windows."""
        (a, b, c), (d, h, w) = self.counts, self.window
        return a * d, b * h, c * w

    @property
    def shifted(self) -> bool:
        """Whether the grid is rolled before it is cut into windows."""
        return any(self.shift)

    def cut(self, tokens: Tensor) -> Tensor:
        """Cuts tokens ``(N, D·H·W, C)`` into ``(N · windows, tokens of a window, C)``; fills up with zeros."""
        x = tokens.reshape(-1, *self.grid, tokens.shape[-1])
        if self.padded != self.grid:
            (depth, height, width), (d, h, w) = self.padded, self.grid
            x = pad(x, (0, 0, 0, width - w, 0, height - h, 0, depth - d))
        if self.shifted:
            d, h, w = self.shift
            x = x.roll((-d, -h, -w), (1, 2, 3))
        return self.split(x)

    def split(self, x: Tensor) -> Tensor:
        """Splits ``(N, *padded, C)`` into ``(N · windows, tokens of a window, C)``; the windows of a sample are row-major."""
        (a, b, c), (d, h, w) = self.counts, self.window
        return x.reshape(-1, a, d, b, h, c, w, x.shape[-1]).permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, d * h * w, x.shape[-1])

    def join(self, windows: Tensor) -> Tensor:
        """Undoes `cut`."""
        channels = windows.shape[-1]
        x = windows.reshape(-1, *self.counts, *self.window, channels).permute(0, 1, 4, 2, 5, 3, 6, 7)
        x = x.reshape(-1, *self.padded, channels)
        if self.shifted:
            x = x.roll(self.shift, (1, 2, 3))
        d, h, w = self.grid
        return x[:, :d, :h, :w].flatten(1, 3)

    def mask(self) -> Tensor:
        """Returns ``(windows, tokens, tokens)``: `MASKED` between tokens that the roll brought together, 0 elsewhere.

        Per axis the rolled grid has three regions: all but the last window, what was beside it, and what came around.
        """
        regions = torch.zeros(self.padded, dtype=torch.int64)
        for axis, (size, edge, shift) in enumerate(zip(self.padded, self.window, self.shift, strict=True)):
            i = torch.arange(size)
            region = (i >= size - edge).long() + (i >= size - shift).long()
            shape = [1, 1, 1]
            shape[axis] = -1
            regions = 3 * regions + region.reshape(shape)
        labels = self.split(regions[None, ..., None]).squeeze(-1)
        return torch.where(labels[:, None, :] != labels[:, :, None], MASKED, 0.0)


def partitions(grid: Grid, window: Grid, *, bounded: bool) -> tuple[Partition, Partition]:
    """Returns how the first and the second block of a stage cut its grid.

    Args:
        grid: of the stage.
        window: in tokens.
        bounded: as in `Variant`.
    """
    if bounded and min(grid) <= min(window):
        # By the smallest axis alone: a longer one has several of these windows, still not shifted.
        window = (min(grid), min(grid), min(grid))
        return Partition(grid, window), Partition(grid, window)
    plain = Partition(grid, window)
    if grid == window:
        return plain, plain
    shift = (window[0] // 2, window[1] // 2, window[2] // 2)
    return plain, Partition(grid, window, shift)


def bias_index(window: Grid) -> Tensor:
    """Returns which row of the bias table a pair of tokens of a window takes, ``(tokens, tokens)`` int64.

    The factors are the authors'. Swin's are ``(2 w1 - 1)(2 w2 - 1)`` and ``2 w2 - 1``. With the authors' factors, pairs of
    different offsets share a row, and most rows are never read: a window of 4 x 4 x 4 reads 115 of 343.
    """
    tokens = torch.stack(torch.meshgrid(*(torch.arange(edge) for edge in window), indexing="ij")).flatten(1)
    d, h, w = (tokens[:, :, None] - tokens[:, None, :]).unbind()
    edge = window[1]
    return (d + window[0] - 1) * (3 * edge - 1) + (h + edge - 1) * (2 * edge - 1) + w + window[2] - 1


class WindowAttention(nn.Module):
    """Multi-head attention inside windows ``(N · windows, tokens, C)``, of their own tokens or of a skip's.

    Attributes:
        relative_position_index: in the state dict, as the authors' is.
        mask: added to the attention maps, ``(windows, tokens, tokens)``; not in the state dict.
    """

    mask: Tensor | None
    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: Grid, *, mask: Tensor | None = None, of_skip: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        table = torch.empty(prod(2 * edge - 1 for edge in window), heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", bias_index(window))
        self.register_buffer("mask", mask, persistent=False)
        if of_skip:
            self.kv = nn.Linear(dim, 2 * dim)
        else:
            self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Attends from `x` to itself, or to `skip`; with a skip, `x` holds the queries."""
        if skip is None:
            q, k, v = self._by_head(self.qkv(x), 3)
        else:
            (q,), (k, v) = self._by_head(x, 1), self._by_head(self.kv(skip), 2)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        logits = (q * self.scale) @ k.transpose(-2, -1) + bias
        if self.mask is not None:
            # The windows of a sample, which all share a mask, lie together.
            logits = (logits.reshape(-1, *self.mask.shape[:1], *logits.shape[1:]) + self.mask[:, None]).flatten(0, 1)
        y = logits.softmax(-1) @ v
        attended: Tensor = self.proj(y.transpose(1, 2).flatten(2))
        return attended

    def _by_head(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Divides ``(B, tokens, parts · C)`` into `parts` times ``(B, heads, tokens, C / heads)``."""
        return tuple(x.reshape(*x.shape[:2], parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0))


class DropPath(nn.Module):
    """In training, leaves a residual branch out of a sample with probability `rate`, and scales it up elsewhere."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Draws one number per sample from torch's global generator."""
        if not self.training or not self.rate:
            return x
        keep = 1 - self.rate
        one_per_sample = (len(x), *[1] * (x.ndim - 1))
        kept = torch.rand(one_per_sample, device=x.device) < keep
        return x * (kept / keep)


class Mlp(nn.Module):
    """Two linear layers, four times as wide in between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(..., C)`` to the same shape."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class Block(nn.Module):
    """A transformer block on tokens ``(N, D·H·W, C)``; with `of_skip` it attends to a skip of the same shape."""

    def __init__(
        self, dim: int, heads: int, partition: Partition, drop_path: float, *, masked: bool, of_skip: bool = False
    ) -> None:
        super().__init__()
        self.partition = partition
        mask = None
        if masked and partition.shifted:
            mask = partition.mask()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, partition.window, mask=mask, of_skip=of_skip)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Adds attention and perceptron to the identity, and the skip where there is one."""
        # The filling is zero after the norm, so that its keys and values are the biases of their layer.
        source = None
        if skip is not None:
            source = self.partition.cut(self.norm1(skip))
        attended = self.attn(self.partition.cut(self.norm1(x)), source)
        if skip is not None:
            x = x + skip
        x = x + self.drop_path(self.partition.join(attended))
        y: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return y


def _blocks(
    dim: int, heads: int, cuts: tuple[Partition, Partition], rates: list[float], *, masked: bool, of_skip: bool = False
) -> nn.ModuleList:
    """Builds the blocks of a stage.

    Args:
        dim: width of a token.
        heads: of the attention.
        cuts: how each block cuts the grid.
        rates: probability of leaving out each block.
        masked: whether the attention of shifted windows is masked.
        of_skip: whether the first block attends to the skip.
    """
    blocks = nn.ModuleList()
    for number, (partition, rate) in enumerate(zip(cuts, rates, strict=True)):
        blocks.append(Block(dim, heads, partition, rate, masked=masked, of_skip=of_skip and number == 0))
    return blocks


def _rates(blocks: int) -> list[float]:
    """Returns the probability of leaving out each of `blocks`, in the order of their execution: from 0 to `DROP_PATH`, evenly."""
    return [DROP_PATH * i / (blocks - 1) for i in range(blocks)]


def _channels_first(tokens: Tensor, grid: Grid) -> Tensor:
    """Turns tokens ``(N, D·H·W, C)`` of a `grid` into ``(N, C, D, H, W)``, a view."""
    return tokens.reshape(-1, *grid, tokens.shape[-1]).movedim(-1, 1)


def _tokens(x: Tensor) -> Tensor:
    """Turns ``(N, C, D, H, W)`` into tokens ``(N, D·H·W, C)``."""
    return x.flatten(2).transpose(1, 2)


class Projection(nn.Module):
    """Half of the patch embedding: two 3x3x3 convolutions, ``(N, in, D, H, W) -> (N, out, D/s, H/s, W/s)``.

    The last of the embedding ends in its convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Grid, *, last: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, stride, padding=1)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        self.act = nn.GELU()
        self.norm1 = nn.LayerNorm(out_channels)
        self.norm2: nn.LayerNorm | None = None
        if not last:
            self.norm2 = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves, activates and normalizes, in this order, twice."""
        y = self._normed(self.norm1, self.conv1(x))
        y = self.conv2(y)
        if self.norm2 is not None:
            y = self._normed(self.norm2, y)
        return y

    def _normed(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        y: Tensor = norm(self.act(x).movedim(1, -1))
        return y.movedim(-1, 1)


class PatchEmbed(nn.Module):
    """Image to tokens, ``(N, in, D, H, W) -> (N, tokens, dim)``."""

    def __init__(self, in_channels: int, dim: int, stem: Grid) -> None:
        super().__init__()
        first = (min(stem[0], 2), min(stem[1], 2), min(stem[2], 2))
        second = (stem[0] // first[0], stem[1] // first[1], stem[2] // first[2])
        self.proj1 = Projection(in_channels, dim // 2, first, last=False)
        self.proj2 = Projection(dim // 2, dim, second, last=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Embeds an image."""
        tokens: Tensor = self.norm(_tokens(self.proj2(self.proj1(x))))
        return tokens


class Merging(nn.Module):
    """From a stage of the encoder to the next, ``(N, tokens, C) -> (N, fewer, 2C)``."""

    def __init__(self, dim: int, grid: Grid, reduction: Reduction) -> None:
        super().__init__()
        self.grid = grid
        self.act = nn.GELU()
        self.reduction = nn.Conv3d(dim, 2 * dim, reduction.kernel, reduction.stride, reduction.padding)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Activates, normalizes and convolves."""
        return _tokens(self.reduction(_channels_first(self.norm(self.act(x)), self.grid)))


class Expanding(nn.Module):
    """From a stage of the decoder to the one above, ``(N, tokens, 2C) -> (N, more, C)``."""

    def __init__(self, dim: int, grid: Grid, fine: Grid, stride: Grid) -> None:
        super().__init__()
        self.grid = grid
        beyond = (fine[0] - stride[0] * grid[0], fine[1] - stride[1] * grid[1], fine[2] - stride[2] * grid[2])
        self.norm = nn.LayerNorm(2 * dim)
        self.up = nn.ConvTranspose3d(2 * dim, dim, stride, stride, output_padding=beyond)

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes and applies a transposed convolution."""
        return _tokens(self.up(_channels_first(self.norm(x), self.grid)))


class EncoderStage(nn.Module):
    """Two blocks, and what leads to the next stage."""

    def __init__(self, blocks: nn.ModuleList, downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks
        self.downsample = downsample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the output of the blocks, which becomes the skip, and the input of the next stage."""
        for block in self.blocks:
            x = block(x)
        return x, self.downsample(x)


class Encoder(nn.Module):
    """The four stages, ``(N, in, D, H, W) -> 4 x (N, tokens, dims[i])``; ``norm0`` to ``norm3`` give the outputs."""

    def __init__(self, in_channels: int, grids: tuple[Grid, ...], widths: Widths, variant: Variant) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(in_channels, widths.embedding, variant.stem)
        self.layers = nn.ModuleList()
        rates = _rates(DEPTH * STAGES)
        for i, grid in enumerate(grids):
            dim, heads = widths.embedding << i, widths.heads << i
            mine = rates[DEPTH * i : DEPTH * (i + 1)]
            cuts = partitions(grid, widths.windows[i], bounded=variant.bounded)
            blocks = _blocks(dim, heads, cuts, mine, masked=variant.bounded)
            down: nn.Module = nn.Identity()
            if i + 1 < STAGES:
                down = Merging(dim, grid, variant.reductions[i])
            self.layers.append(EncoderStage(blocks, down))
        for i in range(STAGES):
            self.add_module(f"norm{i}", nn.LayerNorm(widths.embedding << i))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the normalized outputs of the stages, shallow to deep."""
        x = self.patch_embed(x)
        features = []
        for i, stage in enumerate(self.layers):
            skip, x = stage(x)
            features.append(self.get_submodule(f"norm{i}")(skip))
        return features


class DecoderStage(nn.Module):
    """What leads up from the stage below, and two blocks of which the first attends to the skip."""

    def __init__(self, blocks: nn.ModuleList, upsample: Expanding) -> None:
        super().__init__()
        self.blocks = blocks
        self.Upsample = upsample

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Maps ``(N, coarse tokens, 2C)`` and a skip ``(N, tokens, C)`` to ``(N, tokens, C)``."""
        y: Tensor = self.blocks[1](self.blocks[0](self.Upsample(x), skip))
        return y


class Decoder(nn.Module):
    """The three stages; ``layers.k`` works on the grid of encoder stage k, so the last comes first."""

    def __init__(self, grids: tuple[Grid, ...], widths: Widths, variant: Variant) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        rates = _rates(DEPTH * (STAGES - 1))
        for i in range(STAGES - 1):
            dim, heads = widths.embedding << i, widths.heads << variant.decoder_heads[i]
            done = DEPTH * (STAGES - 2 - i)
            mine = rates[done : done + DEPTH]
            cuts = partitions(grids[i], widths.windows[i], bounded=variant.bounded)
            blocks = _blocks(dim, heads, cuts, mine, masked=variant.bounded, of_skip=True)
            up = Expanding(dim, grids[i + 1], grids[i], variant.reductions[i].stride)
            self.layers.append(DecoderStage(blocks, up))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Returns the outputs of the stages, fine to coarse."""
        outputs: list[Tensor] = []
        x = features[-1]
        for i in reversed(range(STAGES - 1)):
            x = self.layers[i](x, features[i])
            outputs.insert(0, x)
        return outputs


class Head(nn.Module):
    """An output head: a transposed convolution as wide as the stem, ``(N, tokens, C) -> (N, classes, D, H, W)``."""

    def __init__(self, dim: int, num_classes: int, grid: Grid, stem: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.up = nn.ConvTranspose3d(dim, num_classes, stem, stem)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits on the grid times the stem."""
        logits: Tensor = self.up(_channels_first(x, self.grid))
        return logits


class NNFormer(nn.Module):
    """The network ``(N, in_channels, D, H, W) -> (N, num_classes, D, H, W)``.

    Attributes:
        do_ds: whether it returns the list of outputs; may be switched off where the network was built with it.
        structure: see `initbench.protocols.Structure`.
    """

    def __init__(
        self, in_channels: int, num_classes: int, patch: Grid, *, variant: str, widths: Widths, deep_supervision: bool = False
    ) -> None:
        """Builds the network for a patch that ``VARIANTS[variant].patches`` takes."""
        super().__init__()
        chosen = VARIANTS[variant]
        grids = chosen.grids(patch)
        self.do_ds = deep_supervision
        self.model_down = Encoder(in_channels, grids, widths, chosen)
        self.decoder = Decoder(grids, widths, chosen)
        self.final = nn.ModuleList()
        heads = 1
        if deep_supervision:
            heads = STAGES - 1
        for i in range(heads):
            self.final.append(Head(widths.embedding << i, num_classes, grids[i], chosen.stem))
        levels = []
        for i, grid in enumerate(grids):
            levels.append(Level(f"model_down.norm{i}", grid, widths.embedding << i, "NLC"))
        self.structure = Structure(
            patch_size=patch,
            levels=tuple(levels),
            heads=tuple(f"final.{i}" for i in range(heads)),
            residual_exits=_residual_exits(self),
            variant=variant,
            published=Published(
                # Its `_2` networks have one parameter more, for masked tokens of a pretext.
                layouts=(FileLayout("medcontext", r"model_down\.mask_token$", ((r"model_down\.mask_token$", None),)),),
                images=ImageWeights(stems=("model_down.patch_embed.proj1.conv1",)),
            ),
            tokens=Tokens("model_down.patch_embed", grids[0], widths.embedding, "NLC"),
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Returns logits; under deep supervision a list, one for each of the first three stages, on its grid times the stem."""
        stages = self.decoder(self.model_down(x))
        if self.do_ds:
            return [head(stage) for head, stage in zip(self.final, stages, strict=True)]
        return cast("Tensor", self.final[0](stages[0]))


def _residual_exits(model: nn.Module) -> tuple[str, ...]:
    """Returns the parameters of the last layers of attention and perceptron in all blocks."""
    found = []
    for block, module in model.named_modules():
        if isinstance(module, Block):
            for layer in ("attn.proj", "mlp.fc2"):
                found += [f"{block}.{layer}.weight", f"{block}.{layer}.bias"]
    return tuple(found)


@backbone(
    BackboneInfo(
        paper="arXiv:2109.03201",
        source="282857341/nnFormer:nnformer/network_architecture@d48aaeb0",
        licence="Apache-2.0",
        variants=tuple(VARIANTS),
        patches={name: variant.patches for name, variant in VARIANTS.items()},
    )
)
def nnformer(in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool) -> nn.Module:
    """Builds nnFormer; see `initbench.protocols.Backbone`.

    Args:
        in_channels: channels of the image.
        num_classes: channels of the output, the background among them.
        patch_size: (D, H, W) in voxels; ``VARIANTS[variant].patches`` says which.
        size: ``paper`` or ``tiny``.
        variant: ``synapse``, ``acdc`` or ``tumor``.
        deep_supervision: return the logits of three stages.

    Raises:
        PatchError: the decoder would not meet the encoder's grids.
    """
    return NNFormer(
        in_channels,
        num_classes,
        patch_size,
        variant=variant,
        widths=WIDTHS[size][variant],
        deep_supervision=deep_supervision,
    )
