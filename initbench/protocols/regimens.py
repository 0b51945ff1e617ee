"""Regimens: how the supervised stage is run, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from initbench.protocols.structure import Structure

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from initbench.protocols.training import Task

F = TypeVar("F", bound=Callable[..., Any])
FORWARD = 1
BACKWARD = 2
PLAIN_UNITS = FORWARD + BACKWARD
"""Cost of a step in units of one forward pass through the network: a backward pass takes about as long as two of them."""

Number = int | Callable[[Mapping[str, Any]], int]
"""A whole number, or a function that gives it from the parameters."""


@dataclass(frozen=True)
class RegimenInfo:
    """What the harness has to know before it calls a regimen.

    Attributes:
        summary: one line for `describe`; a built-in has its line in the catalog.
        revision: raised whenever the numbers it gives change.
        later: parameters that came after results existed: at their defaults they are in no id, so earlier runs keep theirs.
        units: what a step costs: 1 for each forward pass of the network or of a copy, 2 for each backward pass. A number, or a
            function of the parameters. Under ``--regimen-budget compute`` the steps follow from it.
        copies: of the network that are kept beside it, as a teacher is, in memory and in checkpoints; likewise. No number of a
            run depends on it.
    """

    summary: str = ""
    paper: str = ""
    revision: int = 1
    later: tuple[str, ...] = ()
    units: Number = PLAIN_UNITS
    copies: Number = 0

    def copies_of(self, params: Mapping[str, Any]) -> int:
        """Returns how many copies of the network there are under these parameters."""
        if callable(self.copies):
            return self.copies(params)
        return self.copies

    def units_of(self, params: Mapping[str, Any]) -> int:
        """Returns the units of a step under these parameters."""
        if callable(self.units):
            return self.units(params)
        return self.units


class Labelled(Protocol):
    """A batch of labelled patches."""

    @property
    def image(self) -> Tensor:
        """``(N, C, D, H, W)`` float32."""

    @property
    def label(self) -> Tensor:
        """``(N, D, H, W)`` uint8: a class a byte. Losses of torch that take indices want ``label.long()``."""


class RegimenContext(Protocol):
    """What the harness hands a regimen."""

    @property
    def model(self) -> nn.Module:
        """The network after its init stage, on the device. It is what is kept and evaluated."""

    @property
    def structure(self) -> Structure:
        """What the network says of itself."""

    @property
    def device(self) -> torch.device:
        """Where the network trains."""

    @property
    def steps(self) -> int:
        """Steps of the supervised stage."""

    @property
    def mask_patch(self) -> int:
        """Edge of a masked cell of the image in voxels, as the recipe states it for pretexts."""

    def batch(self, step: int) -> Labelled:
        """Returns the labelled batch of `step`, the same one under every regimen."""

    def supervised(self, output: Any, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes the recipe's loss of an output of the network, and its detached parts.

        Args:
            output: logits, or a list of them under deep supervision.
            label: ``(N, D, H, W)``.
        """

    def rng(self, step: int, purpose: str) -> np.random.Generator:
        """Makes the counter-based generator of the regimen's stream at `step`: needs no history, and no other stream shifts."""

    def copied(self) -> nn.Module:
        """Copies the network as it is now; the copy gets no gradient. Its passes count as the network's do."""

    def report(self, summary: str, details: Mapping[str, Any]) -> None:
        """Puts on record what the regimen has to say.

        `summary` is a line for people, empty where there is nothing that a reader of results has to know. `details` are JSON
        values.
        """


class Regimen(Protocol):
    """Gives the task of the supervised stage.

    The loop trains what `Task.module` holds, and the harness keeps and evaluates the network of the context alone: temporary
    parameters belong into a wrapper around it. The function looks at its parameters and at the network, and refuses what cannot
    be with a `UsageError`: it is called on the network without values (torch's meta device) before the first step of a study.
    """

    def __call__(self, ctx: RegimenContext, /, **params: Any) -> Task:
        """Makes the task."""


def regimen(
    *,
    summary: str = "",
    paper: str = "",
    revision: int = 1,
    later: tuple[str, ...] = (),
    units: Number = PLAIN_UNITS,
    copies: Number = 0,
) -> Callable[[F], F]:
    """Marks a function as a regimen.

    Args:
        summary: as in `RegimenInfo`, and so are all others.
        paper: where it is published.
        revision: of the numbers it gives.
        later: parameters that came after results existed.
        units: what a step costs.
        copies: of the network that are kept beside it.
    """
    info = RegimenInfo(summary, paper, revision, later, units, copies)

    def mark(function: F) -> F:
        function.info = info  # type: ignore[attr-defined]
        return function

    return mark
