"""The regimen of a supervised stage: what identifies it, what it costs, and the context that it is handed."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from initbench import registry, seeding
from initbench.errors import UsageError
from initbench.harness.process_state import contained
from initbench.harness.request import PLAIN
from initbench.protocols import PLAIN_UNITS, Labelled, RegimenInfo, Structure, Task, structure_of
from initbench.recipes.settings import Loss
from initbench.registry import Component
from initbench.sampling.samplers import PatchSampler
from initbench.training.losses import supervised_loss

Regimen = Component[RegimenInfo]


@dataclass
class Context:
    """Everything a regimen may use. Without a `sampler` there are no batches, as when a regimen is only asked what it refuses."""

    model: nn.Module
    structure: Structure
    device: torch.device
    steps: int
    root: int
    loss: Loss
    sampler: PatchSampler | None = None
    mask_patch: int = 16
    reported: dict[str, Any] = field(default_factory=dict)

    def batch(self, step: int) -> Labelled:
        """Returns the labelled batch of a step."""
        if self.sampler is None:
            raise UsageError("a regimen asked for a batch before training: ask for it in the task's `batch`")
        return self.sampler.batch(step)

    def supervised(self, output: Any, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes the recipe's loss of an `output` of the network on `label`."""
        return supervised_loss(output, label, self.loss)

    def rng(self, step: int, purpose: str) -> np.random.Generator:
        """Makes the counter-based generator of the regimen's stream."""
        return seeding.rng(self.root, "regimen", purpose, step)

    def copied(self) -> nn.Module:
        """Copies the network; the copy gets no gradient."""
        return copy.deepcopy(self.model).requires_grad_(requires_grad=False)

    def report(self, summary: str, details: Mapping[str, Any]) -> None:
        """Puts on record what the regimen says, beside what it said before."""
        before = self.reported.get("summary")
        if before and summary:
            summary = f"{before}; {summary}"
        self.reported |= {**details, "summary": summary or before or ""}


def is_plain(component: Regimen) -> bool:
    """Returns whether it is the baseline."""
    return component.spec == PLAIN


def identity(component: Regimen) -> dict[str, Any]:
    """Returns what the id of a cell holds of its regimen: of `plain` the name alone, as ids had it before there were others.

    Parameters that came later are left out at their defaults.
    """
    if is_plain(component):
        return {"regimen": PLAIN.name}
    params: dict[str, Any] = {}
    for key, value in component.params.items():
        if key in component.info.later and value == component.takes[key]:
            continue
        if isinstance(value, tuple):
            params[key] = list(value)
        else:
            params[key] = value
    return {
        "regimen": registry.display_name(component),
        "regimen_params": params,
        "regimen_source": component.source_digest or f"revision {component.info.revision}",
    }


def units_of(component: Regimen) -> int:
    """Units of a step as the regimen declares them.

    Raises:
        UsageError: they are no whole number from 1.
    """
    return _declared(component, "units", component.info.units_of(component.params), least=1)


def copies_of(component: Regimen) -> int:
    """Copies of the network that the regimen keeps beside it, as it declares them.

    Raises:
        UsageError: they are no whole number from 0.
    """
    return _declared(component, "copies", component.info.copies_of(component.params), least=0)


def _declared(component: Regimen, name: str, value: object, least: int) -> int:
    """Returns the whole number that a regimen declares under a name."""
    if not isinstance(value, int) or value < least:
        raise UsageError(f"regimen {component.spec.name}: {name}={value!r}: give a whole number from {least} on")
    return value


def affordable_steps(steps: int, units: int) -> int:
    """Returns how many steps of a regimen cost no more than a number of plain steps.

    Args:
        steps: number of plain steps.
        units: what a step of the regimen costs.
    """
    return math.floor(steps * PLAIN_UNITS / units)


def make_task(component: Regimen, ctx: Context) -> Task:
    """Makes the task of the supervised stage.

    Raises:
        UsageError: the regimen refuses its parameters or the network, or gives no task.
    """
    task = component.target(ctx, **component.params)
    if not hasattr(task, "module") or not hasattr(task, "batch"):
        raise UsageError(
            f"regimen {component.spec.name} gave {type(task).__name__} and no task; return one with module, batch and loss"
        )
    return task  # type: ignore[no-any-return]


@contextlib.contextmanager
def contained_regimen(component: Regimen, note: Callable[[str], object]) -> Iterator[None]:
    """Inside the block a regimen that is not built in leaves the process as it was.

    Args:
        component: the regimen.
        note: told what was put back.

    Raises:
        MisbehavedError: it wants to end the process, or changed its settings.
    """
    if registry.is_built_in("regimen", component.spec):
        yield
        return
    with contained(f"regimen {registry.canonical(component, shown=True)}", note):
        state = torch.get_rng_state()  # the numbers of dropout are the loop's own
        try:
            yield
        finally:
            torch.set_rng_state(state)


def plain_task(model: nn.Module, sampler: PatchSampler, loss: Loss, device: torch.device) -> Task:
    """Makes the plain supervised stage of a network on its device.

    Args:
        model: the network; it declares its `structure`.
        sampler: gives the batches.
        loss: settings of the loss.
        device: where the network is.
    """
    ctx = Context(model, structure_of(model), device, steps=0, root=0, loss=loss, sampler=sampler)
    return make_task(registry.find("regimen", PLAIN), ctx)
