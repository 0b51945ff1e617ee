"""Puts a whole image encoder into a network that contains the same one, in 2D or with every layer made for volumes.

The network declares which encoder it contains and where its weights go (`Published.images`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from initbench.checkpoints.images import ImageEncoder
from initbench.checkpoints.inflation import Rule, inflate, turned, with_channels
from initbench.checkpoints.matching import is_part, sizes
from initbench.checkpoints.report import Report, divide, few
from initbench.checkpoints.transfer import Taken, take_positions, turned_grid
from initbench.errors import UsageError
from initbench.protocols import ImageWeights, Structure

Stem = Literal["average", "released", "constructed"]
_COUNTER = "num_batches_tracked"  # of batch norms; older files lack it, and it changes nothing


@dataclass(frozen=True)
class Filling:
    """How an encoder is filled.

    Attributes:
        init: name of the init, for messages.
        stem: what the first convolution gets where the network gives it another number of channels than three.
        rule: makes a 2D kernel a 3D one; None where the network's kernels are 2D, too.
        generator: returns the random generator of the parameter of a name.
    """

    init: str
    stem: Stem
    rule: Rule | None
    generator: Callable[[str], torch.Generator]


def dimension_of_kernels(model: nn.Module, key: str, declared: ImageWeights) -> int:
    """Returns the number of spatial axes of the network's kernel for a key of timm; 0 where it has no such kernel.

    Args:
        model: the network.
        key: of timm.
        declared: where weights of images go in the network.
    """
    own = model.state_dict()
    for name in declared.places(key):
        if name in own:
            return int(own[name].ndim) - 2
    return 0


def transfer_whole(
    model: nn.Module, encoder: ImageEncoder, structure: Structure, filling: Filling
) -> tuple[Report, dict[str, Any]]:
    """Fills the encoder of a network, with the running statistics of its norms.

    Args:
        model: gets the weights.
        encoder: gives them.
        structure: what the network declares.
        filling: how the encoder is filled.

    Returns:
        The report, and what to record beside it.

    Raises:
        UsageError: the two are different encoders; nothing was changed.
    """
    stem = f"{encoder.stem}.weight"
    if filling.rule is None and dimension_of_kernels(model, stem, structure.published.images) == 3:
        name = structure.name or "the network"
        raise UsageError(f"{filling.init}: the encoder of {name} is of volumes: take inflate-2d, which makes 2D kernels 3D ones")
    transfer = _WholeTransfer(model.state_dict(), encoder, structure, filling)
    transfer.fill_behind_stem()
    transfer.fill_stem()
    transfer.check()
    with torch.no_grad():
        for name, value in (transfer.found.values | transfer.drawn).items():
            transfer.own[name].copy_(value)
    report = transfer.report(model)
    return report, {"stem": transfer.stem_is, "parts": transfer.shares(report)}


@dataclass
class _WholeTransfer:
    """One encoder on its way into one network.

    Attributes:
        own: the network's parameters and buffers.
        encoder: gives the weights.
        structure: what the network declares.
        filling: how the encoder is filled.
        found: the values that come from the encoder.
        drawn: the values that are random numbers.
        stem_is: what the first convolution gets, for people.
    """

    own: Mapping[str, Tensor]
    encoder: ImageEncoder
    structure: Structure
    filling: Filling
    found: Taken = field(default_factory=Taken)
    drawn: dict[str, Tensor] = field(default_factory=dict)
    stem_is: str = "kept"

    @property
    def declared(self) -> ImageWeights:
        """Where weights of images go in the network."""
        return self.structure.published.images

    @property
    def network(self) -> str:
        """Names of the network, for messages."""
        return self.structure.name or "the network"

    @property
    def stem(self) -> str:
        """Key of the encoder's first kernel."""
        return f"{self.encoder.stem}.weight"

    def places(self, key: str) -> list[str]:
        """Returns the keys that the network has for a key of the encoder."""
        return [name for name in self.declared.places(key) if name in self.own]

    def fill_behind_stem(self) -> None:
        """Fills everything but the first kernel.

        Raises:
            UsageError: a weight has another shape, or the rule cannot make it.
        """
        for key, tensor in self.encoder.tensors.items():
            if key in (self.stem, "pos_embed"):
                continue
            for name in self.places(key):
                value = self._fitted(key, tensor, self.own[name])
                self.found.put(name, value, key, reshaped=value.ndim != tensor.ndim)
            for name, rows in self._unstacked(key, tensor):
                self.found.put(name, self._fitted(key, rows, self.own[name]), key, reshaped=True)
        take_positions(self.found, self.encoder, self.own, self.structure)

    def _unstacked(self, key: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
        """Divides a weight into the rows that are weights of their own in the network; empty where it is one weight there."""
        names = self.declared.stack(key)
        if not names:
            return []
        return list(zip(names, torch.chunk(tensor, len(names)), strict=True))

    def fill_stem(self) -> None:
        """Fills the first kernel.

        With three channels it stays; with one, the colours are summed, also in the release. With another number the release puts
        N(0, 1) noise in its place, whatever its fan-in: the norm behind it hides the scale.

        Raises:
            UsageError: it has another shape, or the rule cannot make it.
        """
        kernel = self.encoder.tensors[self.stem]
        colours = kernel.shape[1]
        for name in self.places(self.stem):
            target = self.own[name]
            channels = target.shape[1]
            if channels != colours and self.filling.stem == "constructed":
                self.found.skipped[self.stem] = "the network's own first convolution stays as constructed"
                self.stem_is = "as constructed"
            elif channels not in (1, colours) and self.filling.stem == "released":
                self.drawn[name] = torch.randn(target.shape, generator=self.filling.generator(name))
                self.found.skipped[self.stem] = f"noise stands in its place, since the network gives it {channels} channels"
                self.stem_is = "N(0, 1) noise"
            else:
                flat = with_channels(kernel, channels)
                self.found.put(name, self._fitted(self.stem, flat, target), self.stem, reshaped=target.shape != kernel.shape)
                if channels != colours:
                    self.stem_is = f"the sum over its colours, divided by the number of channels ({channels})"

    def _fitted(self, key: str, tensor: Tensor, target: Tensor) -> Tensor:
        """Returns the value for a parameter or buffer of the network.

        Args:
            key: of the encoder.
            tensor: the encoder's weight.
            target: the network's parameter or buffer.

        Raises:
            UsageError: the weight has another shape, or the rule cannot make it.
        """
        rule = self.filling.rule
        deeper = rule is not None and target.ndim == tensor.ndim + 1
        shape = tuple(target.shape)
        if deeper:
            shape = (*shape[:2], *shape[3:])
        if tuple(tensor.shape) != shape:
            raise UsageError(
                f"{self.filling.init}: {key} of {self.encoder.origin} has shape {tuple(tensor.shape)}, and {self.network} has "
                f"{shape} there. Take weights of {self.declared.source}, which it contains. If these are, this size of the "
                "network is narrower: take --size paper, or a variant that is as wide at every size"
            )
        if not deeper or rule is None:
            return tensor
        if tensor.shape[2:] == (1, 1):  # every rule gives this, but for rounding
            return tensor[:, :, None]
        a, b, c = target.shape[2:]
        size = turned_grid((a, b, c), self.structure)
        try:
            return turned(inflate(tensor, target.shape[1], size, rule), self.structure.axes, 2)
        except ValueError as error:  # of the rule
            raise UsageError(f"{self.filling.init}: {error}") from None

    def check(self) -> None:
        """Refuses an encoder that is not the network's: with part of it, or with more, the network computes something else.

        Raises:
            UsageError: names a parameter without a value, a weight without a place, or the other number of attention heads.
        """
        if self.encoder.heads not in (0, self.declared.heads):
            raise UsageError(
                f"{self.filling.init}: {self.encoder.origin} has {self.encoder.heads} attention heads, and {self.network} "
                f"{self.declared.heads}: the same weights mean something else in each. Take weights of {self.declared.source}"
            )
        lacking, homeless = self._lacking(), self._homeless()
        if lacking:
            wrong = f"{self.encoder.origin} has no values for {few(lacking, 1)}"
        elif homeless:
            wrong = f"of {self.encoder.origin} it has no place for {few(homeless, 1)}"
        else:
            return
        raise UsageError(
            f"{self.filling.init}: {self.network} contains {self.declared.source}, and {wrong}: take weights of that"
        )

    def _lacking(self) -> list[str]:
        """Returns the weights of the network's encoder that get no value."""
        stems = self.places(self.stem)
        found = []
        for name in self.own:
            filled = name in self.found.values or name in stems
            if is_part(name, self.declared.parts) and not filled and not self._stays(name):
                found.append(name)
        return found

    def _homeless(self) -> list[str]:
        """Returns the keys of the encoder's weights that have no place in the network."""
        found = []
        for key in self.encoder.tensors:
            placed = key in self.found.used or key in self.found.skipped
            needed = not self.declared.leaves_out(key) and not key.endswith(_COUNTER)
            if needed and not placed:
                found.append(key)
        return found

    def _stays(self, name: str) -> bool:
        """Returns whether a buffer of the network is no weight: it counts steps, or was computed at construction."""
        return name.endswith(_COUNTER) or any(re.search(pattern, name) for pattern in self.declared.constants)

    def report(self, model: nn.Module) -> Report:
        """Reports where the weights of the encoder went."""
        wanted = sizes(model, self.structure)
        loaded, missing = divide(wanted, self.found.values)
        skipped = self.found.passed_over(self.encoder)
        return Report(
            file=self.encoder.origin,
            layout=f"timm's {self.encoder.source}",
            part="",
            wanted=wanted,
            loaded=loaded,
            reshaped=tuple(self.found.reshaped),
            skipped=skipped,
            missing=missing,
            buffers=tuple(key for key, _ in model.named_buffers() if key in self.found.values),
            brought={key: value.numel() for key, value in self.encoder.tensors.items()},
            homeless=skipped,
        )

    def shares(self, report: Report) -> dict[str, float]:
        """Returns the share of each declared part that came from the encoder, without its first convolution."""
        stems = self.places(self.stem)
        shares = {}
        for part in self.declared.parts:
            wanted = loaded = 0
            for key, size in report.wanted.items():
                if not is_part(key, (part,)) or key in stems:
                    continue
                wanted += size
                if key in report.loaded:
                    loaded += size
            shares[part] = loaded / max(1, wanted)
        return shares
