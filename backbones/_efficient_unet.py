"""An EfficientNet as the encoder of a U-Net, in two or three dimensions: the parts that Omnia-Net, DS-Net and DX-Net share.

The encoder is timm's EfficientNet under the key names of the release. In three dimensions every layer of timm's is replaced by
its counterpart for volumes, with kernels and strides that are the same along all axes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.protocols import Dimension, Grid, ImageWeights, Level, Published, Size

STRIDE = 32
STAGES = 7
TAPS = (1, 2, 4, 6)
"""Stages whose outputs the decoder reads, besides the stem's: the last ones at strides 4, 8, 16 and 32."""
DROP_PATH = 0.4
LITE_EPSILON = 1e-3
BLOCKS = [
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e6_c24_se0.25"],
    ["ir_r2_k5_s2_e6_c40_se0.25"],
    ["ir_r3_k3_s2_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s2_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
]
"""EfficientNet's stages in timm's notation: kind, repeats, kernel, stride, expansion, channels, squeeze and excitation."""


@dataclass(frozen=True)
class Scaling:
    """Which EfficientNet it is.

    Attributes:
        width: factor on the widths of B0.
        depth: factor on the numbers of blocks of B0.
        source: timm's name of it.
        lite: EfficientNet-Lite as TensorFlow trained it: no squeeze and excitation, ReLU6, an epsilon of 1e-3 in batch norms, and
            TensorFlow's padding, which puts an odd voxel at the far end. It has its full widths at every size of the networks,
            since weights of images have no other.
    """

    width: float
    depth: float
    source: str
    lite: bool = False


B0 = Scaling(1.0, 1.0, "efficientnet_b0")
LITE0 = Scaling(1.0, 1.0, "tf_efficientnet_lite0", lite=True)
SCALINGS = {"b0": B0, "b4": Scaling(1.4, 1.8, "efficientnet_b4"), "lite0": LITE0}


@dataclass(frozen=True)
class Widths:
    """Widths of one size of the networks.

    Attributes:
        encoder: factor on the channels of the EfficientNet, unless it is lite.
        stem: channels at full resolution, in front of the encoder.
        decoder: channels of the five decoder stages, deep to shallow.
    """

    encoder: float
    stem: int
    decoder: tuple[int, int, int, int, int]


WIDTHS: dict[Size, Widths] = {
    "paper": Widths(1.0, 16, (256, 128, 64, 32, 16)),
    "tiny": Widths(0.25, 8, (64, 32, 16, 8, 8)),
}


class Encoder(nn.Module):
    """An EfficientNet without its classifier, under the release's names, with torch's own initialization.

    It keeps the last two layers in front of the classifier, as the release does, and never uses them.
    """

    def __init__(self, in_channels: int, scaling: Scaling, factor: float, dimension: Dimension = 2) -> None:
        super().__init__()
        network = _efficientnet(in_channels, scaling, factor)
        if dimension == 3:
            _deepen(network)
        self.conv1 = network.conv_stem
        self.bnorm1 = network.bn1
        for stage in range(STAGES):
            setattr(self, f"enc{stage}", network.blocks[stage])
        self.conv_head = network.conv_head
        self.norm_head = network.bn2
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the tensors that the forward pass returns."""
        channels = [self.conv1.out_channels]
        for stage in TAPS:
            channels.append(self._last_norm(stage).num_features)
        return tuple(channels)

    def _last_norm(self, stage: int) -> nn.BatchNorm2d | nn.BatchNorm3d:
        norm: nn.BatchNorm2d | nn.BatchNorm3d = self.get_submodule(f"enc{stage}")[-1].bn3  # type: ignore[index]
        return norm

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns the activation of the stem and the outputs of the stages in `TAPS`, at strides 2 to 32."""
        features = self.bnorm1(self.conv1(image))  # timm's norm applies the activation, too
        found = [features]
        for stage in range(STAGES):
            features = self.get_submodule(f"enc{stage}")(features)
            if stage in TAPS:
                found.append(features)
        return found


def _efficientnet(in_channels: int, scaling: Scaling, factor: float) -> Any:
    """Builds an EfficientNet of timm's.

    Unless it is lite, its batch norms have epsilon 1e-5 and its padding is symmetric, as in weights that timm trained.

    Args:
        in_channels: of the image.
        scaling: which EfficientNet it is.
        factor: on its channels, unless it is lite.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of something that timm imports
        from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels
    blocks = BLOCKS
    settings: dict[str, Any] = {"act_layer": nn.SiLU}
    if scaling.lite:
        factor = 1.0
        blocks = []
        for [stage] in BLOCKS:
            blocks.append([stage.removesuffix("_se0.25")])
        settings = {"act_layer": nn.ReLU6, "norm_layer": partial(nn.BatchNorm2d, eps=LITE_EPSILON), "pad_type": "same"}
    rounded = partial(round_channels, multiplier=scaling.width * factor)
    return EfficientNet(
        block_args=decode_arch_def(blocks, scaling.depth),
        num_features=rounded(1280),
        in_chans=in_channels,
        round_chs_fn=rounded,
        drop_path_rate=DROP_PATH,
        **settings,
    )


class _NormAct(nn.BatchNorm3d):
    """timm's batch norm with its activation, for volumes."""

    def __init__(self, channels: int, eps: float, act: nn.Module) -> None:
        super().__init__(channels, eps)
        self.act = act

    def forward(self, input: Tensor) -> Tensor:
        """Normalizes, then activates."""
        activated: Tensor = self.act(super().forward(input))
        return activated


class _SqueezeExcite(nn.Module):
    """timm's squeeze and excitation, for volumes: the mean is over D, H and W."""

    def __init__(self, reduce: nn.Module, expand: nn.Module) -> None:
        super().__init__()
        self.conv_reduce = reduce
        self.act1 = nn.SiLU()
        self.conv_expand = expand

    def forward(self, features: Tensor) -> Tensor:
        """Weighs the channels by what the whole volume holds."""
        pooled = features.mean((2, 3, 4), keepdim=True)
        gate: Tensor = self.conv_expand(self.act1(self.conv_reduce(pooled)))
        return features * gate.sigmoid()


def _deepen(module: nn.Module) -> None:
    """Replaces the 2D layers inside a module of timm's by layers for volumes, in place."""
    from timm.layers import BatchNormAct2d
    from timm.models._efficientnet_blocks import SqueezeExcite

    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(module, name, _convolution_3d(child))
        elif isinstance(child, BatchNormAct2d):
            setattr(module, name, _NormAct(child.num_features, child.eps, child.act))
        elif isinstance(child, SqueezeExcite):
            setattr(module, name, _SqueezeExcite(_convolution_3d(child.conv_reduce), _convolution_3d(child.conv_expand)))
        else:
            _deepen(child)


class _SamePaddedConv3d(nn.Conv3d):
    """A convolution with TensorFlow's padding: as little as gives every stride an output, the odd voxel at the far end."""

    def forward(self, input: Tensor) -> Tensor:
        """Pads, then convolves."""
        pads: list[int] = []
        for size, kernel, stride in zip(reversed(input.shape[2:]), self.kernel_size, self.stride, strict=True):
            lacking = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [lacking // 2, lacking - lacking // 2]
        return super().forward(functional.pad(input, pads))


def _convolution_3d(flat: nn.Conv2d) -> nn.Conv3d:
    """Builds a convolution with a cube as kernel, with the edge, stride and padding that `flat` has along both axes."""
    from timm.layers import Conv2dSame

    kind: type[nn.Conv3d] = nn.Conv3d
    if isinstance(flat, Conv2dSame):
        kind = _SamePaddedConv3d
    return kind(
        flat.in_channels,
        flat.out_channels,
        flat.kernel_size[0],
        flat.stride[0],
        int(flat.padding[0]),
        groups=flat.groups,
        bias=flat.bias is not None,
    )


@dataclass(frozen=True)
class Layers:
    """The layers of a decoder in two or three dimensions.

    Attributes:
        conv: kind of its convolutions.
        norm: kind of its norms.
        act: kind of its activations.
        transposed: kind of the convolution that doubles the grid in front of a skip; None to upsample instead.
    """

    conv: type[nn.Conv2d] | type[nn.Conv3d]
    norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d]
    act: type[nn.ReLU] | type[nn.SiLU]
    transposed: type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d] | None


class ConvNormAct(nn.Module):
    """A convolution with kernel 3 and no bias, a batch norm and an activation."""

    def __init__(self, inputs: int, outputs: int, layers: Layers) -> None:
        super().__init__()
        self.conv = layers.conv(inputs, outputs, 3, padding=1, bias=False)
        self.norm = layers.norm(outputs)
        self.act = layers.act(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Keeps the grid."""
        activated: Tensor = self.act(self.norm(self.conv(features)))
        return activated


class DecoderStage(nn.Module):
    """Doubles the grid, appends a skip and convolves twice."""

    def __init__(self, inputs: int, skip: int, outputs: int, layers: Layers) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(inputs + skip, outputs, layers)
        self.conv2 = ConvNormAct(outputs, outputs, layers)
        # Last of the three, as in the state dict of the release.
        self.trans: nn.Module = nn.Upsample(scale_factor=2)
        if layers.transposed is not None:
            self.trans = layers.transposed(inputs, inputs, 2, 2)

    def forward(self, features: Tensor, skip: Tensor | None = None) -> Tensor:
        """Doubles the grid of `features`, which is then the grid of `skip`."""
        raised = self.trans(features)
        if skip is not None:
            raised = torch.cat([raised, skip], dim=1)
        convolved: Tensor = self.conv2(self.conv1(raised))
        return convolved


def decoder_stages(encoder: Sequence[int], stem: int, decoder: Sequence[int], layers: Layers) -> list[DecoderStage]:
    """Builds the five stages, deep to shallow.

    Args:
        encoder: channels of the encoder's outputs, shallow to deep.
        stem: channels of the skip at full resolution, 0 for none.
        decoder: channels of the stages.
        layers: of which they are made.
    """
    inputs = (encoder[-1], *decoder)
    skips = (*reversed(encoder[:-1]), stem)
    return [DecoderStage(*widths, layers) for widths in zip(inputs[:-1], skips, decoder, strict=True)]


def decode(network: nn.Module, features: Sequence[Tensor], full: Tensor | None) -> Tensor:
    """Takes the deepest features through the stages ``decoder1`` to ``decoder5`` of a network, up to full resolution.

    Args:
        network: it has these stages.
        features: what the encoder returned.
        full: the skip at full resolution, None for none.
    """
    decoded = features[-1]
    for number, skip in enumerate((*reversed(features[:-1]), full), start=1):
        decoded = network.get_submodule(f"decoder{number}")(decoded, skip)
    return decoded


def levels(patch: Grid, stem: int, encoder: Sequence[int], dimension: Dimension) -> tuple[Level, ...]:
    """Returns the levels of a stem at full resolution and of the encoder behind it.

    Args:
        patch: (D, H, W) in voxels.
        stem: channels at full resolution.
        encoder: channels of the encoder's outputs, shallow to deep.
        dimension: of the layers; layers for slices keep the depth.
    """
    names = ["act", "encoder.bnorm1"]
    for stage in TAPS:
        names.append(f"encoder.enc{stage}")
    found = []
    for order, (name, width) in enumerate(zip(names, (stem, *encoder), strict=True)):
        stride = 2**order
        height, length = patch[1] // stride, patch[2] // stride
        if dimension == 2:
            found.append(Level(name, (patch[0], height, length), width, "NCHW"))
        else:
            found.append(Level(name, (patch[0] // stride, height, length), width))
    return tuple(found)


def unused(model: nn.Module) -> tuple[str, ...]:
    """Returns the parameters in front of the classifier that the release builds and does not use."""
    idle = ("conv_head", "norm_head")
    return tuple(name for name, _ in model.named_parameters() if name.split(".")[-2] in idle)


def residual_exits(model: nn.Module) -> tuple[str, ...]:
    """Returns scale and shift of the norms that end the branches of the encoder's residual blocks."""
    exits: list[str] = []
    for name, module in model.named_modules():
        if getattr(module, "has_skip", False):
            last = "bn2"
            if hasattr(module, "bn3"):
                last = "bn3"
            exits += [f"{name}.{last}.weight", f"{name}.{last}.bias"]
    return tuple(exits)


def published(scaling: Scaling, part: str, stems: tuple[str, ...] = ()) -> Published:
    """Declares where weights of images belong: timm's EfficientNet in the encoder.

    Args:
        scaling: which EfficientNet it is.
        part: dotted name of the encoder in the network.
        stems: layers of volumes that take the stem of any other encoder.
    """
    renames = (
        (r"^conv_stem\.", rf"{part}.conv1."),
        (r"^bn1\.", rf"{part}.bnorm1."),
        (r"^blocks\.(\d+)\.", rf"{part}.enc\1."),
        (r"^conv_head\.", rf"{part}.conv_head."),
        (r"^bn2\.", rf"{part}.norm_head."),
    )
    return Published(images=ImageWeights(stems=stems, renames=renames, source=scaling.source, parts=(part,)))
