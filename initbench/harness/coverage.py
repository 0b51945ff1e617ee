"""What an initializer touched, measured from outside: a digest per parameter before and after."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

from torch import nn

from initbench.errors import InitbenchError
from initbench.harness.kept import changed_buffers, changed_hooks, changed_modules, few
from initbench.harness.snapshot import Snapshot, snapshot, tensor_digest


def state_digest(model: nn.Module) -> str:
    """Returns the digest of all weights and buffers by name: equal for bit-identical networks only."""
    lines = []
    for name, value in sorted(model.state_dict().items()):
        lines.append(f"{name}={tensor_digest(value)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Coverage:
    """Compares a network before and after an initializer.

    Attributes:
        before: the network before it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.before = snapshot(model)
        self._names = list(dict(model.named_parameters()))

    def compare(self, model: nn.Module, name: str, *, learns: bool = True, parameters_alone: bool = False) -> dict[str, Any]:
        """Shares of parameters changed, whole and per top-level module; the names that did not change.

        Args:
            model: the network after the initializer.
            name: what messages call the initializer.
            learns: whether it trains or brings weights, and may so carry the running statistics of norms.
            parameters_alone: whether modules, hooks and buffers are left to checks of their own.

        Raises:
            InitbenchError: the initializer broke its contract: names, ties, shapes, dtypes, gradient flags or the device
                changed, a value is not finite, or a module, a hook or a buffer is not as it was.
        """
        after = dict(model.named_parameters())
        if list(after) != self._names:
            raise InitbenchError(
                f"initializer {name} changed the network's parameters (names or ties); it may change values only"
            )
        now = snapshot(model)
        for key, parameter in after.items():
            if now.forms[key] != self.before.forms[key] or now.gradients[key] != self.before.gradients[key]:
                raise InitbenchError(
                    f"initializer {name} changed the shape, dtype or requires_grad of {key}; it may change values only"
                )
            if parameter.device.type != "cpu":
                raise InitbenchError(f"initializer {name} left {key} on {parameter.device}; move parameters back to the CPU")
            if not bool(parameter.isfinite().all()):
                raise InitbenchError(
                    f"initializer {name} left values in {key} that are not finite; look at its parameters, or mend it"
                )
        if not parameters_alone:
            self._check_kept(now, model, name, learns=learns)
        return self._table(after, now, model)

    def _check_kept(self, now: Snapshot, model: nn.Module, name: str, *, learns: bool) -> None:
        """Refuses what would compute something else with the same parameters."""
        hooks = changed_hooks(self.before, now)
        kept = [
            *changed_modules(self.before, now),
            ("hooks or a forward of its own were left on or taken off", hooks),
            *changed_buffers(self.before, now, model, learns=learns),
        ]
        for what, found in kept:
            if found:
                raise InitbenchError(f"initializer {name}: {what} {few(found)}; it may change values of parameters only")

    def _table(self, after: dict[str, nn.Parameter], now: Snapshot, model: nn.Module) -> dict[str, Any]:
        total, changed = 0, 0
        groups: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        same = []
        digests = {}
        for key, parameter in after.items():
            digests[key] = [self.before.digests[key], now.digests[key]]
            moved = now.digests[key] != self.before.digests[key]
            size = parameter.numel()
            group = groups[key.partition(".")[0]]
            group[0] += size * moved
            group[1] += size
            changed, total = changed + size * moved, total + size
            if not moved:
                same.append(key)
        buffers = []
        for key, _ in model.named_buffers():
            if now.digests[key] != self.before.digests.get(key):
                buffers.append(key)
        return {
            "changed_share": changed / total,
            "groups": {key: part / whole for key, (part, whole) in groups.items()},
            "unchanged": same,
            "digests": digests,
            "buffers_changed": buffers,
        }
