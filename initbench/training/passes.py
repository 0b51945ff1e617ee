"""Counts what training costs in passes through the network: a forward pass is one unit, a backward pass two."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from initbench.protocols import BACKWARD, FORWARD


class Passes:
    """Counts the passes of networks.

    Attributes:
        units: what they came to so far.
    """

    def __init__(self) -> None:
        self.units = 0

    @contextlib.contextmanager
    def watched(self, network: nn.Module) -> Iterator[None]:
        """Inside the block the passes of a network count, and the passes of copies that are made of it there."""

        # A copy of a module has the same functions as hooks, so a teacher counts here as well.
        def count_backward(gradient: Tensor) -> None:
            self.units += BACKWARD

        def count_forward(module: nn.Module, inputs: Any, output: Any) -> None:
            """Counts a forward pass, and has the backward pass counted once it reaches `output`."""
            self.units += FORWARD
            for item in _tensors(output):
                if item.requires_grad:  # under deep supervision the first output stands for all
                    item.register_hook(count_backward)  # type: ignore[no-untyped-call]
                    break

        handle = network.register_forward_hook(count_forward)
        try:
            yield
        finally:
            handle.remove()


def _tensors(output: Any) -> list[Tensor]:
    """Returns the tensors among the outputs of a network."""
    if not isinstance(output, list | tuple):
        output = [output]
    return [item for item in output if isinstance(item, Tensor)]
