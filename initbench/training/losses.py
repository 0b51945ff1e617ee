"""Dice + cross-entropy (eq. 11 of LWI, as MONAI's DiceCELoss computes it, and nnU-Net's variant), with deterministic kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from initbench.recipes.settings import Loss

_IN_A_BYTE = 256  # classes that a byte tells apart: comparing bytes with class numbers moves an eighth of the memory


def dice_ce(logits: Tensor, label: Tensor, settings: Loss) -> tuple[Tensor, dict[str, Tensor]]:
    """Computes soft Dice loss plus cross-entropy.

    Args:
        logits: ``(N, K, D, H, W)``.
        label: ``(N, D, H, W)`` of any integer type.
        settings: smoothing, which classes count, and the weights of both terms.

    Returns:
        The weighted sum, and its detached parts ``dice`` and ``ce``.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # Products with a mask instead of indexed cross-entropy: its 5-D kernel is not deterministic on CUDA. The mask takes a byte a
    # voxel and class; `one_hot` would write eight, and four more in floating point.
    classes = torch.arange(logits.shape[1], dtype=label.dtype, device=label.device)
    target = label[:, None] == classes.view(1, -1, 1, 1, 1)
    log_probability = functional.log_softmax(logits, dim=1)
    ce = -(target * log_probability).sum(1).mean()
    dice = _soft_dice(log_probability.exp(), target, settings)
    return settings.dice_weight * dice + settings.ce_weight * ce, {"dice": dice.detach(), "ce": ce.detach()}


def _soft_dice(probability: Tensor, target: Tensor, settings: Loss) -> Tensor:
    if not settings.background:
        probability, target = probability[:, 1:], target[:, 1:]
    axes: tuple[int, ...] = (2, 3, 4)
    if settings.batch_dice:
        axes = (0, *axes)
    overlap = (probability * target).sum(axes)
    if settings.squared:
        probability = probability.square()
    total = target.sum(axes) + probability.sum(axes)
    return (1 - (2 * overlap + settings.smooth_nr) / (total + settings.smooth_dr)).mean()


def deep_supervision_weights(count: int, *, coarsest: bool = True) -> list[float]:
    """Returns 1, 1/2, 1/4 ... normalized: 4/7, 2/7, 1/7 for three outputs; 2/3, 1/3, 0 where the `coarsest` does not count."""
    raw = [0.5**i for i in range(count)]
    if not coarsest and count > 1:
        raw[-1] = 0.0
    return [value / sum(raw) for value in raw]


def supervised_loss(outputs: Tensor | Sequence[Tensor], label: Tensor, settings: Loss) -> tuple[Tensor, dict[str, Tensor]]:
    """Computes the loss over one output, or weighted over all outputs of deep supervision; targets take each output's own grid.

    Args:
        outputs: logits ``(N, K, D, H, W)``, or a list of them, finest first.
        label: ``(N, D, H, W)`` of any integer type.
        settings: of the Dice and the cross-entropy, and whether the coarsest output counts.
    """
    if isinstance(outputs, Tensor):
        return dice_ce(outputs, _compact(label, outputs.shape[1]), settings)
    label = _compact(label, outputs[0].shape[1])
    total = torch.zeros((), device=label.device)
    parts: dict[str, Tensor] = {}
    weights = deep_supervision_weights(len(outputs), coarsest=settings.coarsest)
    for level, (output, weight) in enumerate(zip(outputs, weights, strict=True)):
        if not weight:
            continue  # not times 0: its head gets no gradient at all
        loss, named = dice_ce(output, _shrink(label, output.shape[2:]), settings)
        total = total + weight * loss
        if level == 0:
            parts = named
    return total, parts


def _compact(label: Tensor, classes: int) -> Tensor:
    """Returns a label map in bytes where its classes fit into one."""
    if classes > _IN_A_BYTE:
        return label
    return label.to(torch.uint8)


def _shrink(label: Tensor, grid: Sequence[int]) -> Tensor:
    if tuple(label.shape[1:]) == tuple(grid):
        return label
    values = label
    if label.dtype != torch.uint8:  # of the integers torch resamples only bytes
        values = label.float()
    return functional.interpolate(values[:, None], size=tuple(grid), mode="nearest")[:, 0].to(label.dtype)
