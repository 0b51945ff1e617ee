"""Puts the weights of an image encoder into a network of volumes, where the network declares places (`Published.images`).

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
from initbench.checkpoints.report import Report, divide
from initbench.checkpoints.reshape import patch_embedding
from initbench.errors import UsageError
from initbench.protocols import Grid, ImageWeights, Structure

_NOWHERE = "the network has no such part"
_QKV_BIAS = (
    "the network's attention has none: its value part went into the bias of the projection, exactly; its key part changes "
    "nothing; its query part is lost"
)
# Timm's layer scale behind the layer that ends a branch.
_LAYER_SCALES = {"attn.proj": "ls1.gamma", "mlp.fc2": "ls2.gamma"}


@dataclass
class Taken:
    """What of an image encoder goes into the network.

    Attributes:
        values: values by the network's keys.
        reshaped: the network's keys whose values were resampled or reshaped.
        used: keys of the encoder that gave a value.
        skipped: keys of the encoder that are not used, and why.
    """

    values: dict[str, Tensor] = field(default_factory=dict)
    reshaped: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: Tensor, source: str, *, reshaped: bool) -> None:
        """Notes a value for the network.

        Args:
            key: of the network.
            value: what it gets.
            source: key of the encoder that the value comes from.
            reshaped: whether the value was resampled or reshaped.
        """
        self.values[key] = value
        self.used.add(source)
        if reshaped:
            self.reshaped.append(key)

    def passed_over(self, encoder: ImageEncoder) -> dict[str, str]:
        """Returns the keys of the encoder that gave no value, and why."""
        found = dict(self.skipped)
        for key in encoder.tensors:
            if key not in self.used:
                found.setdefault(key, _NOWHERE)
        return found


def transfer(model: nn.Module, encoder: ImageEncoder, structure: Structure, rule: Rule) -> Report:
    """Copies what fits of an image encoder into a network, its stem inflated.

    Args:
        model: gets the weights.
        encoder: gives them.
        structure: what the network declares.
        rule: makes a 2D kernel a 3D one.

    Returns:
        Where the weights went.

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
    """Refuses a ViT of another width, or with other attention heads.

    Args:
        encoder: the ViT.
        own: the network's parameters.
        declared: where the network has the ViT's blocks.

    Raises:
        UsageError: names the width or the heads that the network needs.
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
    """Takes all layers of a ViT's blocks, with timm's additions folded into them.

    Args:
        found: gets the values.
        encoder: the ViT.
        own: the network's parameters.
        declared: where the network has the ViT's blocks.

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
                if source.endswith("gamma"):
                    found.skipped[source] = f"part of {name}, exactly"
                else:
                    found.skipped[source] = _QKV_BIAS


def _folded(key: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> tuple[Tensor, list[str]]:
    """Folds timm's bias of the values and its layer scale into the layer that ends a residual branch.

    Attention weights sum to one, so a bias of the values adds the same to every token: the projection of that bias. Layer scale
    multiplies what leaves the branch.

    Args:
        key: of the encoder.
        tensor: its weight; of any layer that ends no branch it is returned as it is.
        tensors: all weights of the encoder.

    Returns:
        The tensor, and the keys of the weights that were folded into it.
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
    scale_key = block + _LAYER_SCALES[layer]
    if scale_key in tensors:
        scale = tensors[scale_key]
        if kind == "weight":
            scale = scale[:, None]
        value = value * scale
        folded.append(scale_key)
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
    """Takes the first filters of the encoder's first convolution, for the network's layer of the same kind.

    A convolution that cuts the image into patches and one that slides over it see different things, so neither goes into the
    other. Filters have no order, so the first are as good as any.

    Args:
        found: gets the values.
        model: the network.
        encoder: gives its first convolution.
        structure: what the network declares.
        rule: makes a 2D kernel a 3D one.

    Raises:
        UsageError: the network has no layer of that kind, or a wider one. ValueError: the rule cannot make its kernel.
    """
    declared = structure.published.images
    alike = [name for name in declared.stems if _cuts(model.get_submodule(name)) == encoder.cuts]
    if not alike:
        kinds = ("slides over the image", "cuts the image into patches")
        raise UsageError(
            f"inflate-2d: the stem of {encoder.source} {kinds[encoder.cuts]}, and each stem of the network "
            f"({', '.join(declared.stems)}) {kinds[not encoder.cuts]}: take another source (resnet18 slides, convnext_tiny cuts)"
        )
    name = alike[0]
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
    """Inflates a 2D kernel into the shape of a convolution over (D, H, W), or of a linear layer over patches.

    Args:
        kernel: ``(out, in, kh, kw)``.
        target: the network's weight.
        structure: what the network declares.
        rule: makes a 2D kernel a 3D one.

    Returns:
        The weight; None where the linear layer is not one over such patches.
    """
    if target.ndim == 5:
        channels, (a, b, c) = target.shape[1], target.shape[2:]
        size = turned_grid((a, b, c), structure)
    else:
        size = structure.published.images.patch
        channels = target.shape[1] // math.prod(size)
    volume = turned(inflate(kernel, channels, size, rule), structure.axes, 2)
    if target.ndim == 5:
        return volume
    return patch_embedding(volume, target.shape)


def _cuts(layer: nn.Module) -> bool:
    """Returns whether a layer cuts the image into patches: a linear layer, or a convolution with its kernel as stride."""
    if not isinstance(layer, nn.Conv3d):
        return True
    return layer.stride == layer.kernel_size


def turned_grid(grid: Grid, structure: Structure) -> Grid:
    """Turns a grid from (D, H, W) into the network's order, or back."""
    if structure.axes == "DHW":
        return grid
    return grid[2], grid[1], grid[0]


def _report(model: nn.Module, encoder: ImageEncoder, found: Taken, structure: Structure) -> Report:
    """Reports where the weights of an encoder went.

    Args:
        model: the network.
        encoder: gave the weights.
        found: what of the encoder went into the network.
        structure: what the network declares.
    """
    wanted = sizes(model, structure)
    loaded, missing = divide(wanted, found.values)
    return Report(
        file=encoder.origin,
        layout=f"timm's {encoder.source}",
        part="",
        wanted=wanted,
        loaded=loaded,
        reshaped=tuple(found.reshaped),
        skipped=found.passed_over(encoder),
        missing=missing,
    )
