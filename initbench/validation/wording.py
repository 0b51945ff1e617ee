"""What the checks share: how they name things, and what they do to a network before looking at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.harness.kept import few
from initbench.harness.snapshot import tensor_digest
from initbench.validation.checks import BrokenPromiseError


def no(given: Iterable[str], what: str) -> None:
    """Fails the check where there are such names.

    Raises:
        BrokenPromiseError: names them.
    """
    found = given if isinstance(given, list) else sorted(given)
    if found:
        raise BrokenPromiseError(f"{what}: {few(found)}")


def stirred(model: nn.Module) -> nn.Module:
    """The network in evaluation with a little noise on every parameter: heads and layer scales of zeros hide what is before."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=seeding.torch_generator(0, "init", name))
            parameter.add_(0.05 * noise)
    return model.eval()


def listed(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """Outputs as a list, with and without deep supervision."""
    return [outputs] if isinstance(outputs, Tensor) else outputs


def digests(outputs: Tensor | Sequence[Tensor]) -> list[str]:
    """A digest of each output."""
    return [tensor_digest(output) for output in listed(outputs)]
