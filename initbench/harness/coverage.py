"""What an initializer touched, measured from outside: a digest per parameter before and after."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import InitbenchError


def tensor_digest(tensor: Tensor) -> str:
    """sha256 (hex) of a tensor's bytes, dtype and shape."""
    host = tensor.detach().cpu().contiguous()
    head = f"{host.dtype}{tuple(host.shape)}".encode()
    return hashlib.sha256(head + host.view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def state_digest(model: nn.Module) -> str:
    """Digest of all weights and buffers by name: equal for bit-identical networks only."""
    parts = [f"{name}={tensor_digest(value)}" for name, value in sorted(model.state_dict().items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _form(parameter: Tensor) -> tuple[tuple[int, ...], torch.dtype, bool]:
    return tuple(parameter.shape), parameter.dtype, parameter.requires_grad


class Coverage:
    """Compares a network before and after an initializer."""

    def __init__(self, model: nn.Module) -> None:
        self._before = {name: (_form(p), tensor_digest(p)) for name, p in model.named_parameters()}
        self._buffers = {name: tensor_digest(buffer) for name, buffer in model.named_buffers()}

    def compare(self, model: nn.Module, name: str) -> dict[str, Any]:
        """Shares of parameters changed, whole and per top-level module; the names that did not change.

        Raises:
            InitbenchError: the initializer broke its contract: names, ties, shapes, dtypes, gradient flags or the device
                changed, or a value is not finite.
        """
        after = dict(model.named_parameters())
        if list(after) != list(self._before):
            raise InitbenchError(
                f"initializer {name} changed the network's parameters (names or ties); it may change values only"
            )
        for key, parameter in after.items():
            if _form(parameter) != self._before[key][0]:
                raise InitbenchError(
                    f"initializer {name} changed the shape, dtype or requires_grad of {key}; it may change values only"
                )
            if parameter.device.type != "cpu":
                raise InitbenchError(f"initializer {name} left {key} on {parameter.device}; parameters come back on the CPU")
            if not bool(parameter.isfinite().all()):
                raise InitbenchError(f"initializer {name} left values in {key} that are not finite")
        return self._table(after, model)

    def _table(self, after: dict[str, nn.Parameter], model: nn.Module) -> dict[str, Any]:
        total, changed = 0, 0
        groups: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        same = []
        for key, parameter in after.items():
            moved = tensor_digest(parameter) != self._before[key][1]
            size = parameter.numel()
            group = groups[key.partition(".")[0]]
            group[0] += size * moved
            group[1] += size
            changed, total = changed + size * moved, total + size
            if not moved:
                same.append(key)
        buffers = [key for key, value in model.named_buffers() if tensor_digest(value) != self._buffers.get(key)]
        return {
            "changed_share": changed / total,
            "groups": {key: part / whole for key, (part, whole) in groups.items()},
            "unchanged": same,
            "digests": {key: [self._before[key][1], tensor_digest(parameter)] for key, parameter in after.items()},
            "buffers_changed": buffers,
        }
