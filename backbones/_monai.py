"""Makes backbones of MONAI's networks: a list under deep supervision, and their own axis order where a variant asks for it."""

from __future__ import annotations

from torch import Tensor, nn

XYZ = "-xyz"
"""Ending of the variants that see (x, y, z) volumes, on which MONAI's published weights were trained."""


def _reverse_input(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Turns images from (N, C, D, H, W) to (N, C, W, H, D)."""
    return inputs[0].transpose(2, 4)


def _reverse_output(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """Turns logits back to (N, K, D, H, W)."""
    return output.transpose(2, 4)


def _as_list(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> list[Tensor]:
    """Puts the one output into a list, as deep supervision wants it."""
    return [output]


def parameters_ending(model: nn.Module, endings: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of the parameters that end in one of some `endings`."""
    return tuple(name for name, _ in model.named_parameters() if name.endswith(endings))


def adapt(model: nn.Module, *, xyz: bool, deep_supervision: bool) -> None:
    """Hangs hooks on a network of MONAI that turn its axes or make a list of its output.

    Args:
        model: the network; its weights stay as they are.
        xyz: turn input and output, so that the network sees (x, y, z) volumes.
        deep_supervision: return the one output in a list.

    Not every weight could be turned instead: an attention window clamped to a small grid reads its position table in the order
    of the axes.
    """
    if xyz:
        model.register_forward_pre_hook(_reverse_input)
        model.register_forward_hook(_reverse_output)
    if deep_supervision:
        model.register_forward_hook(_as_list)
