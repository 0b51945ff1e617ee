"""Swin-Unet: a U-Net of shifted-window attention alone, for slices.

Paper: Cao et al., "Swin-Unet: Unet-like pure Transformer for medical image segmentation", arXiv:2105.05537.
Source: HuCaoFighting/Swin-Unet@f48f623e, networks. That code has no licence; the network is written anew from a description, with
timm's blocks and patch merging (called).
Licence: Apache-2.0.

What differs from the source:

- Nothing in the network. It takes volumes and treats each slice along D by itself (`slice_by_slice`). A single channel is
  repeated to three, as there; of other images the patch embedding takes all channels.
- Grids that windows of 7 do not divide are padded as timm pads them; the release takes 224 x 224 alone.
- Under deep supervision the result is a list of one: Swin-Unet has no auxiliary outputs.
- `tiny` narrows the widths, and the windows to 4.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initbench.backbones.slices import SliceNetwork, colours_of, exits_of, in_colours
from initbench.protocols import BackboneInfo, Grid, ImageWeights, Level, PatchRule, Published, Size, Structure, backbone

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch warns of something that timm imports
    from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock

CELL = 4
"""Edge of a first token in pixels."""
STAGES = 4
BLOCKS = 2
STRIDE = CELL * 2 ** (STAGES - 1)
DROP_PATH = 0.2
"""Rate of the last block of the encoder; the blocks before it drop less, in equal steps from 0."""
Plane = tuple[int, int]


@dataclass(frozen=True)
class Widths:
    """Widths of one size: of the first tokens, heads of the attention in each stage, and the edge of a window in tokens."""

    embedding: int
    heads: tuple[int, int, int, int]
    window: int

    @property
    def stages(self) -> list[int]:
        """Widths of the tokens in the stages."""
        return [self.embedding * 2**stage for stage in range(STAGES)]


WIDTHS: dict[Size, Widths] = {"paper": Widths(96, (3, 6, 12, 24), 7), "tiny": Widths(24, (3, 6, 12, 24), 4)}


def _images() -> ImageWeights:
    """Declares where weights of images belong: Swin-T in the encoder, and its stages once more in the decoder, as released.

    Swin-T has six blocks in its third stage, of which the first two have a place. timm merges patches at the beginning of a
    stage, the release and Microsoft's file at the end of the one before.
    """
    renames: list[tuple[str, str | None]] = [
        (r"^patch_embed\.", "swin_unet.patch_embed."),
        (r"^norm\.", "swin_unet.norm."),
        (r"^layers\.(\d)\.blocks\.([01])\.", r"swin_unet.layers.\1.blocks.\2."),
        (r"^layers\.\d\.blocks\.(?![01]\.)", None),
    ]
    released = []
    for stage in range(STAGES - 1):
        renames.append((rf"^layers\.{stage + 1}\.downsample\.", f"swin_unet.layers.{stage}.downsample."))
        renames.append((rf"^layers\.{stage}\.blocks\.([01])\.", rf"swin_unet.layers_up.{STAGES - 1 - stage}.blocks.\1."))
        released.append((rf"^layers\.{stage + 1}\.downsample\.", f"layers.{stage}.downsample."))
    return ImageWeights(
        renames=tuple(renames),
        source="swin_tiny_patch4_window7_224",
        parts=("swin_unet.patch_embed", "swin_unet.layers", "swin_unet.norm"),
        constants=(r"\.attn_mask$", r"\.relative_position_index$"),
        released=tuple(released),
    )


IMAGES = _images()


class Block(SwinTransformerBlock):  # type: ignore[misc]
    """timm's block, with its tables in the state dict, as published weights have them."""

    def __init__(self, width: int, plane: Plane, heads: int, window: int, *, shifted: bool, drop_path: float) -> None:
        # As released, a stage whose shorter edge fits into a window does not shift along either axis.
        edge = min(window, *plane)
        shift = 0
        if shifted and min(plane) > window:
            shift = window // 2
        super().__init__(width, plane, heads, window_size=edge, shift_size=shift, drop_path=drop_path)
        self.register_buffer("attn_mask", self.attn_mask)
        self.attn.register_buffer("relative_position_index", self.attn.relative_position_index)


class Merging(PatchMerging):  # type: ignore[misc]
    """timm's patch merging, with its layers in the order of the release."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = self._modules.pop("norm")


class Expanding(nn.Module):
    """Divides every token into `factor` times `factor` tokens of `width` channels each."""

    def __init__(self, inputs: int, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.expand = nn.Linear(inputs, width * factor**2, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, grid: Tensor) -> Tensor:
        """Maps ``(N, H, W, inputs)`` to ``(N, factor H, factor W, width)``."""
        expanded = torch.unflatten(self.expand(grid), 3, (self.factor, self.factor, -1))
        normed: Tensor = self.norm(expanded.transpose(2, 3).flatten(3, 4).flatten(1, 2))
        return normed


class PatchEmbedding(nn.Module):
    """The first tokens."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, CELL, CELL)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to tokens ``(N, L, width)``."""
        tokens: Tensor = self.norm(self.proj(image).flatten(2).transpose(1, 2))
        return tokens


class Stage(nn.Module):
    """Two blocks, and what changes the grid behind them: merging in the encoder, expanding in the decoder, or nothing.

    Tokens come and go as ``(N, L, C)``, so that what a hook on a stage sees is as in the release.
    """

    def __init__(self, width: int, plane: Plane, heads: int, window: int, drop_paths: list[float]) -> None:
        super().__init__()
        self.plane = plane
        self.blocks = nn.ModuleList()
        for number, drop_path in enumerate(drop_paths):
            shifted = number % 2 == 1
            self.blocks.append(Block(width, plane, heads, window, shifted=shifted, drop_path=drop_path))
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps ``(N, L, C)`` to the tokens of the next grid."""
        grid = torch.unflatten(tokens, 1, self.plane)
        for block in self.blocks:
            grid = block(grid)
        for change in (self.downsample, self.upsample):
            if change is not None:
                grid = change(grid)
        return grid.flatten(1, 2)


class SwinTransformerSys(nn.Module):
    """The network as it was released."""

    def __init__(self, in_channels: int, num_classes: int, plane: Plane, widths: Widths) -> None:
        super().__init__()
        planes = [(plane[0] // CELL >> stage, plane[1] // CELL >> stage) for stage in range(STAGES)]
        self.planes = planes
        self.patch_embed = PatchEmbedding(in_channels, widths.embedding)
        self.layers = nn.ModuleList()
        self.layers_up = nn.ModuleList([Expanding(widths.stages[-1], widths.stages[-2], 2)])
        self.concat_back_dim = nn.ModuleList([nn.Identity()])
        drop_paths = torch.linspace(0, DROP_PATH, STAGES * BLOCKS, device="cpu").tolist()
        for number, width in enumerate(widths.stages):
            stage = self._stage(number, widths, drop_paths)
            if number < STAGES - 1:
                stage.downsample = Merging(width)
            self.layers.append(stage)
        for number in reversed(range(STAGES - 1)):
            width = widths.stages[number]
            stage = self._stage(number, widths, drop_paths)
            if number > 0:
                stage.upsample = Expanding(width, width // 2, 2)
            self.layers_up.append(stage)
            self.concat_back_dim.append(nn.Linear(2 * width, width))
        self.norm = nn.LayerNorm(widths.stages[-1])
        self.norm_up = nn.LayerNorm(widths.embedding)
        self.up = Expanding(widths.embedding, widths.embedding, CELL)
        self.output = nn.Conv2d(widths.embedding, num_classes, 1, bias=False)
        self.apply(_initialize)

    def _stage(self, number: int, widths: Widths, drop_paths: list[float]) -> Stage:
        own = drop_paths[number * BLOCKS : (number + 1) * BLOCKS]
        return Stage(widths.stages[number], self.planes[number], widths.heads[number], widths.window, own)

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits ``(N, K, H, W)`` of slices ``(N, C, H, W)``."""
        tokens = self.patch_embed(image)
        skips = []
        for stage in self.layers:
            skips.append(tokens)
            tokens = stage(tokens)
        deepest = torch.unflatten(self.norm(tokens), 1, self.planes[-1])
        tokens = self.layers_up[0](deepest).flatten(1, 2)
        for number in range(1, STAGES):
            joined = torch.cat([tokens, skips[STAGES - 1 - number]], dim=2)
            tokens = self.layers_up[number](self.concat_back_dim[number](joined))
        pixels = self.up(torch.unflatten(self.norm_up(tokens), 1, self.planes[0]))
        logits: Tensor = self.output(pixels.permute(0, 3, 1, 2))
        return logits


def _initialize(module: nn.Module) -> None:
    """Draws linear layers as the release does; timm draws the position tables itself."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class SwinUnet(SliceNetwork):
    """The network of one size, with its structure."""

    def __init__(self, in_channels: int, num_classes: int, patch: Grid, widths: Widths, *, as_list: bool) -> None:
        super().__init__(as_list=as_list)
        self.swin_unet = SwinTransformerSys(colours_of(in_channels), num_classes, patch[1:], widths)
        self.structure = Structure(
            patch_size=patch,
            levels=_levels(self.swin_unet.planes, widths),
            heads=("swin_unet.output",),
            residual_exits=exits_of(self, ("attn.proj", "mlp.fc2")),
            published=Published(images=IMAGES),
        )

    def of_slices(self, image: Tensor) -> Tensor:
        """Returns logits ``(N, K, H, W)`` of slices ``(N, C, H, W)``: the network as it was released."""
        logits: Tensor = self.swin_unet(in_colours(image))
        return logits


def _levels(planes: list[Plane], widths: Widths) -> tuple[Level, ...]:
    """Returns as levels the inputs of the first three stages, which the decoder reads, and the output of the last one."""
    modules = ("patch_embed", "layers.0", "layers.1", "norm")
    levels = []
    for module, plane, width in zip(modules, planes, widths.stages, strict=True):
        levels.append(Level(f"swin_unet.{module}", (1, *plane), width, "NLC"))
    return tuple(levels)


@backbone(
    BackboneInfo(
        paper="arXiv:2105.05537",
        source="HuCaoFighting/Swin-Unet:networks@f48f623e; timm:timm.models.swin_transformer.SwinTransformerBlock",
        licence="Apache-2.0",
        patches={"default": PatchRule((1, STRIDE, STRIDE), depth=1)},
        dimension=2,
    )
)
def swin_unet(
    in_channels: int, num_classes: int, patch_size: Grid, size: Size, variant: str, deep_supervision: bool
) -> nn.Module:
    """Builds Swin-Unet; see `initbench.protocols.Backbone`.

    The windows follow the grid, so the network takes slices of `patch_size` only.

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
    return SwinUnet(in_channels, num_classes, patch_size, WIDTHS[size], as_list=deep_supervision)
