"""How much arithmetic a network does, counted while it runs on tensors without data."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from initbench.harness.memory import on_meta
from initbench.protocols import Grid


def multiply_adds(model: nn.Module, in_channels: int, patch: Grid) -> int:
    """Counts the multiply-adds (MACs) of one forward pass of one patch, in evaluation.

    Convolutions, transposed convolutions and matrix products (linear layers, attention), as fvcore counts them; norms,
    activations, softmax and sums are left out. The network is copied to the meta device, so this takes neither its memory
    nor its time.

    Args:
        model: the network; stays as it is.
        in_channels: channels of the image.
        patch: ``(D, H, W)`` in voxels.

    Raises:
        NotImplementedError, RuntimeError: the network reads values, which tensors without data do not have.
    """
    shadow = on_meta(model).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty((1, in_channels, *patch), device="meta"))
    return int(counter.get_total_flops()) // 2  # torch counts a multiply-add as two
