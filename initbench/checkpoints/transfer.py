"""What of an image encoder goes where in a network of volumes, as the network declares it (`Published.images`).

This is for networks with another encoder: they get a stem, or the blocks of a ViT. Networks that contain timm's encoder get it
whole (`initbench.checkpoints.whole_encoder`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from initbench.checkpoints.images import ImageEncoder
from initbench.checkpoints.inflation import Rule, inflate, positions, turned
from initbench.checkpoints.matching import sizes
from initbench.checkpoints.report import Report
from initbench.checkpoints.reshape import patch_embedding
from initbench.errors import UsageError
from initbench.protocols import Grid, ImageWeights, Structure

_NOWHERE = "the network has no such part"
_QKV_BIAS = (
    "the network's attention has none: its value part went into the bias of the projection, exactly; its key part changes "
    "nothing; its query part is lost"
)


@dataclass
class Taken:
    """What of an image encoder goes into the network.

    Attributes:
        values: by the network's keys.
        reshaped: the network's keys whose values were resampled or reshaped.
        used: keys of the encoder that gave a value.
        skipped: keys of the encoder that are not used, and why.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    reshaped: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: Tensor, source: str, *, reshaped: bool) -> None:
        """A value for the network's `key` from the encoder's `source`."""
        self.values[key] = value
        self.used.add(source)
        if reshaped:
            self.reshaped.append(key)


def transfer(model: nn.Module, encoder: ImageEncoder, structure: Structure, rule: Rule) -> Report:
    """Copies what fits of an image encoder into `model`, its stem inflated by `rule`.

    Raises:
        UsageError: nothing fits, or the two are ViTs of different shapes; nothing was changed.
    """
    declared, own = structure.published.images, dict(model.named_parameters(remove_duplicate=False))
    found = Taken()
    if declared.heads and encoder.heads:
        _check_vit(encoder, own, declared)
        _blocks(found, encoder, own, declared)
        take_positions(found, encoder, own, structure)
    try:
        _stem(found, model, encoder, structure, rule)
    except ValueError as error:  # of the rule
        raise UsageError(f"inflate-2d: {error}") from None
    with torch.no_grad():
        for key, value in found.values.items():
            own[key].copy_(value)
    return _report(model, encoder, found, structure)


def _check_vit(encoder: ImageEncoder, own: Mapping[str, Tensor], declared: ImageWeights) -> None:
    """Refuses a ViT of another shape.

    Raises:
        UsageError: names the width, the heads or the shape that is needed.
    """
    key = "blocks.0.norm1.weight"
    width, needed = len(encoder.tensors[key]), len(own[declared.places(key)[0]])
    if width != needed:
        raise UsageError(
            f"inflate-2d: {encoder.origin} is a ViT of width {width}, and the network's is {needed} wide: take one of width "
            f"{needed} (768 is vit_base_patch16_224, the network's paper size)"
        )
    if width == encoder.width and encoder.heads != declared.heads:
        raise UsageError(
            f"inflate-2d: {encoder.origin} has {encoder.heads} attention heads, and the network {declared.heads}: the same "
            f"weights mean something else in each. Take a ViT of width {needed} with {declared.heads} heads"
        )


def _blocks(found: Taken, encoder: ImageEncoder, own: Mapping[str, Tensor], declared: ImageWeights) -> None:
    """All of the ViT that stays as it is, and what timm's has beside.

    Raises:
        UsageError: a weight has another shape: half a ViT would be none.
    """
    for key, tensor in encoder.tensors.items():
        for name in declared.places(key):
            if name not in own or key == "pos_embed":
                continue
            value, folded = _folded(key, tensor, encoder.tensors)
            if value.shape != own[name].shape:
                raise UsageError(
                    f"inflate-2d: {key} of {encoder.origin} has shape {tuple(value.shape)}, and {name} of the network "
                    f"{tuple(own[name].shape)}: take a ViT of that shape"
                )
            found.put(name, value, key, reshaped=bool(folded))
            for source in folded:
                found.skipped[source] = f"part of {name}, exactly" if source.endswith("gamma") else _QKV_BIAS


def _folded(key: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, list[str]]:
    """A layer that ends a residual branch, with what timm has beside it and the network has not; everything else as it is.

    Attention weights sum to one, so a bias of the values adds the same to every token: the projection of that bias. Layer scale
    multiplies what leaves the branch.

    Returns:
        The tensor, and the keys that are in it beside its own.
    """
    match = re.fullmatch(r"(blocks\.\d+\.)(attn\.proj|mlp\.fc2)\.(weight|bias)", key)
    if match is None:
        return tensor, []
    block, layer, kind = match[1], match[2], match[3]
    value, folded = tensor, []
    bias = tensors.get(f"{block}attn.qkv.bias")
    if layer == "attn.proj" and kind == "bias" and bias is not None:
        value = value + tensors[f"{block}attn.proj.weight"] @ bias[-len(bias) // 3 :]
        folded.append(f"{block}attn.qkv.bias")
    scale = f"{block}{'ls1' if layer == 'attn.proj' else 'ls2'}.gamma"
    if scale in tensors:
        value = value * (tensors[scale][:, None] if kind == "weight" else tensors[scale])
        folded.append(scale)
    return value, folded


def take_positions(found: Taken, encoder: ImageEncoder, own: Mapping[str, Tensor], structure: Structure) -> None:
    """Puts the positions of a ViT into the network's tables that have a declared grid.

    Args:
        found: gets the values.
        encoder: may have no positions.
        own: the network's parameters.
        structure: declares where positions go (`Published.images`) and the grids of tables (`Published.positions`).
    """
    table = encoder.tensors.get("pos_embed")
    for name in structure.published.images.places("pos_embed"):
        own_grid = structure.published.grid_of(name)
        if table is None or name not in own or own_grid is None:
            continue
        linear = structure.published.images.linear_positions
        volume = positions(table, encoder.prefix, turned_grid(own_grid, structure), linear=linear)
        if volume is None:
            found.skipped["pos_embed"] = f"its {tuple(table.shape)} positions are no square"
        else:
            found.put(name, turned(volume, structure.axes, 1).flatten(1, 3), "pos_embed", reshaped=True)


def _stem(found: Taken, model: nn.Module, encoder: ImageEncoder, structure: Structure, rule: Rule) -> None:
    """The encoder's first convolution into the network's layer of the same kind: its first filters, as many as there are.

    A convolution that cuts the image into patches and one that slides over it see different things, so neither goes into the
    other. Filters have no order, so the first are as good as any.

    Raises:
        UsageError: the network has no layer of that kind, or a wider one. ValueError: the rule cannot make its kernel.
    """
    declared = structure.published.images
    name = next((name for name in declared.stems if _cuts(model.get_submodule(name)) == encoder.cuts), None)
    if name is None:
        kinds = ("slides over the image", "cuts the image into patches")
        raise UsageError(
            f"inflate-2d: the stem of {encoder.source} {kinds[encoder.cuts]}, and each stem of the network "
            f"({', '.join(declared.stems)}) {kinds[not encoder.cuts]}: take another source (resnet18 slides, convnext_tiny cuts)"
        )
    layer = model.get_submodule(name)
    target, kernel = layer.get_parameter("weight"), encoder.tensors[f"{encoder.stem}.weight"]
    filters = target.shape[0]
    if len(kernel) < filters:
        raise UsageError(
            f"inflate-2d: the stem of {encoder.origin} has {len(kernel)} filters, and {name} of the network {filters}: take a "
            f"source with {filters} or more"
        )
    value = _inflated(kernel[:filters], target, structure, rule)
    if value is None:
        raise UsageError(f"inflate-2d: {name} has shape {tuple(target.shape)}, which are no patches of {declared.patch}")
    found.put(f"{name}.weight", value, f"{encoder.stem}.weight", reshaped=True)
    bias, own_bias = encoder.tensors.get(f"{encoder.stem}.bias"), getattr(layer, "bias", None)
    if bias is not None and own_bias is not None:
        found.put(f"{name}.bias", bias[:filters], f"{encoder.stem}.bias", reshaped=len(bias) != filters)


def _inflated(kernel: Tensor, target: Tensor, structure: Structure, rule: Rule) -> Tensor | None:
    """A 2D kernel in the shape of a convolution over (D, H, W), or of a linear layer over patches; None where it has none."""
    if target.ndim == 5:
        channels, (a, b, c) = target.shape[1], target.shape[2:]
        size = turned_grid((a, b, c), structure)
    else:
        size = structure.published.images.patch
        channels = target.shape[1] // math.prod(size)
    volume = turned(inflate(kernel, channels, size, rule), structure.axes, 2)
    return volume if target.ndim == 5 else patch_embedding(volume, target.shape)


def _cuts(layer: nn.Module) -> bool:
    """Whether a layer cuts the image into patches: a linear layer on patches, or a convolution with its kernel as stride."""
    return layer.stride == layer.kernel_size if isinstance(layer, nn.Conv3d) else True


def turned_grid(grid: Grid, structure: Structure) -> Grid:
    """(D, H, W) in the network's order, and back."""
    return grid if structure.axes == "DHW" else (grid[2], grid[1], grid[0])


def _report(model: nn.Module, encoder: ImageEncoder, found: Taken, structure: Structure) -> Report:
    wanted = sizes(model, structure)
    rest = {key: _NOWHERE for key in encoder.tensors if key not in found.used and key not in found.skipped}
    return Report(
        file=encoder.origin,
        layout=f"timm's {encoder.source}",
        part="",
        wanted=wanted,
        loaded={key: size for key, size in wanted.items() if key in found.values},
        reshaped=tuple(found.reshaped),
        skipped=found.skipped | rest,
        missing=tuple(key for key in wanted if key not in found.values),
    )
