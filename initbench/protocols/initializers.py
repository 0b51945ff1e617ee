"""Initializers: what they are given, and what they have to say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from initbench.protocols.structure import Structure

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from initbench.protocols.training import Task

F = TypeVar("F", bound=Callable[..., Any])
Crops = Literal["uniform", "labels"]
Role = Literal["linear", "conv", "transposed-conv", "projection", "bias", "norm", "other"]


@dataclass(frozen=True)
class Site:
    """One named parameter that an initializer may set.

    Attributes:
        name: as in ``named_parameters``; a tied parameter appears once, under its first name.
        role: what the parameter is; ``projection`` is a bare matrix used as a linear map, ``other`` everything that no scheme
            touches unless it names it (positional tables, layer scales, temperatures).
        fan_in: number of inputs summed into one output, taken from what the layer computes (a transposed convolution whose
            kernel equals its stride sums its input channels), 0 for roles without fans.
        fan_out: number of outputs one input feeds at stride 1: ``out_channels`` times the kernel's voxels, as Xavier takes it.
        owner: role of the layer a bias belongs to; equals `role` elsewhere.
    """

    name: str
    role: Role
    fan_in: int
    fan_out: int
    owner: Role


@dataclass(frozen=True)
class InitializerInfo:
    """What the harness has to know before it calls an initializer.

    Attributes:
        summary: one line for `describe`; a built-in has its line in the catalog.
        learned: trains on unlabelled patches of the training cases, so it costs steps.
        revision: raised whenever the numbers it gives change.
        files: parameters that name files; a run is identified by what these hold, not by where they lie.
        external: brings in data from outside the study, in one draw that all seeds share.
        later: parameters that came after results existed: at their defaults they are in no id, so earlier runs keep theirs.
        permissions: parameters that allow something (a download) and change no number: they are in no id and in no label.
    """

    summary: str = ""
    paper: str = ""
    learned: bool = False
    revision: int = 1
    files: tuple[str, ...] = ()
    external: bool = False
    later: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Patches:
    """A batch of unlabelled training patches.

    Attributes:
        image: ``(N, C, D, H, W)`` on the context's device.
        inside: ``(N, 3, 2)`` first and one-past-last voxel per axis that lie in the volume; the rest is padding.
    """

    image: Tensor
    inside: NDArray[np.int64]

    def inside_mask(self) -> Tensor:
        """Returns ``(N, 1, D, H, W)`` bool on the image's device: voxels that lie in the volume."""
        import torch

        mask = torch.zeros_like(self.image[:, :1], dtype=torch.bool)
        for n, ((d0, d1), (h0, h1), (w0, w1)) in enumerate(self.inside.tolist()):
            mask[n, :, d0:d1, h0:h1, w0:w1] = True
        return mask


class InitContext(Protocol):
    """What the harness hands an initializer."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every parameter of the network, tied ones once."""

    @property
    def structure(self) -> Structure:
        """What the network says of itself: patch, encoder levels, output heads (which the harness redraws afterwards)."""

    @property
    def device(self) -> torch.device:
        """Where a learned initializer trains."""

    @property
    def steps(self) -> int:
        """Step budget of the pretext."""

    @property
    def mask_patch(self) -> int:
        """Edge of a masked cell in voxels, as the recipe of the backbone states it."""

    @property
    def taps(self) -> tuple[int, ...] | None:
        """Numbers from 1 (shallow) of the encoder levels that an order prediction asks, where the recipe names them."""

    @property
    def depths(self) -> tuple[int, ...]:
        """Slices of each training volume after preprocessing; empty where there is none."""

    def generator(self, name: str) -> torch.Generator:
        """Makes a CPU generator of its own for the parameter `name`: the order of visits changes no bit."""

    def constructed(self, name: str) -> nn.Module:
        """Constructs the network once more as its authors do, from numbers of that name."""

    def rng(self, step: int, purpose: str) -> np.random.Generator:
        """Makes the counter-based generator of the pretext stream at `step`: needs no history."""

    def patches(self, step: int, *, slab: int = 1, crops: Crops = "uniform") -> Patches:
        """Returns the unlabelled batch of `step`: uniform over the training cases, no depth flip.

        With `slab` > 1 slices per slab, the depth inside the volume is a whole number of slabs, at least two. With `crops` as
        ``labels`` they are cut as the supervised stage cuts its patches, around labelled voxels and flipped along every axis.
        """

    def fit(self, task: Task, *, schedule: str | None = None) -> None:
        """Trains `task` with the one training loop for `steps` steps under the recipe's pretext settings.

        `schedule` replaces the recipe's learning-rate schedule.
        """

    def report(self, summary: str, details: Mapping[str, Any]) -> None:
        """Puts on record what the initializer did, beside what the harness measures itself.

        What is reported later is added to what was reported before. `summary` is a line for people, `details` are JSON values for
        ``coverage.json``.
        """


class Initializer(Protocol):
    """Changes a network's parameters in place; keeps shapes, ties and ``requires_grad``; reads no global generator."""

    def __call__(self, model: nn.Module, ctx: InitContext, /, **params: Any) -> None:
        """Initializes `model`."""


def initializer(
    *,
    summary: str = "",
    paper: str = "",
    learned: bool = False,
    revision: int = 1,
    files: tuple[str, ...] = (),
    external: bool = False,
    later: tuple[str, ...] = (),
    permissions: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Marks a function as an initializer. A plain function ``(model, ctx)`` is one too, data-independent.

    Args:
        summary: as in `InitializerInfo`, and so are all others.
        paper: where the scheme is published.
        learned: whether it trains.
        revision: of the numbers it gives.
        files: parameters that name files.
        external: whether it brings in data from outside.
        later: parameters that came after results existed.
        permissions: parameters that allow something and change no number.
    """
    info = InitializerInfo(summary, paper, learned, revision, files, external, later, permissions)

    def mark(function: F) -> F:
        function.info = info  # type: ignore[attr-defined]
        return function

    return mark
