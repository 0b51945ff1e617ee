"""Helpers of the checks: they name what is wrong, and prepare a network and its outputs for comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.harness.kept import few
from initbench.harness.snapshot import tensor_digest
from initbench.validation.checks import BrokenPromiseError


def no(given: Iterable[str], what: str) -> None:
    """Fails the check where `given` holds any name.

    Args:
        given: names of what is wrong; all but lists are sorted.
        what: what is wrong with them, as the message begins.

    Raises:
        BrokenPromiseError: says `what`, and the names.
    """
    found = list(given)
    if not isinstance(given, list):
        found.sort()
    if found:
        raise BrokenPromiseError(f"{what}: {few(found)}")


def stirred(model: nn.Module) -> nn.Module:
    """Adds a little noise to every parameter: heads and layer scales of zeros hide what is before them.

    Returns:
        The same network, in evaluation mode.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=seeding.torch_generator(0, "init", name))
            parameter.add_(0.05 * noise)
    return model.eval()


def listed(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """Returns the outputs of a network as a list, with and without deep supervision."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return outputs


def digests(outputs: Tensor | Sequence[Tensor]) -> list[str]:
    """Returns a digest of each output."""
    return [tensor_digest(output) for output in listed(outputs)]
