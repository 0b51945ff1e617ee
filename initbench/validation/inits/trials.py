"""One call of an initializer on one fresh network, and the several that the checks compare."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from initbench import seeding
from initbench.errors import InitbenchError
from initbench.harness import compose
from initbench.harness.coverage import Coverage
from initbench.harness.process_state import contained
from initbench.harness.sites import find_sites
from initbench.harness.snapshot import Snapshot, snapshot
from initbench.protocols import Structure, structure_of
from initbench.validation.backbones.construction import global_generators
from initbench.validation.inits.context import WatchedContext, watched_context
from initbench.validation.inits.subject import InitSubject
from initbench.validation.wording import digests


@dataclass(frozen=True)
class Circumstances:
    """What should make no difference, and the seed, which should.

    Attributes:
        disturbed: the global generators begin elsewhere.
        turned: sites and submodules come in the opposite order.
        repeat: counts calls that differ in nothing.
    """

    seed: int = 0
    disturbed: bool = False
    turned: bool = False
    repeat: int = 0


FIRST = Circumstances()
AGAIN = Circumstances(repeat=1)
DISTURBED = Circumstances(disturbed=True)
TURNED = Circumstances(turned=True)
ALL_OF_IT = Circumstances(disturbed=True, turned=True)
OTHER_SEED = Circumstances(seed=1)


@dataclass(frozen=True)
class Trial:
    """A network right after the initializer, before the harness redraws its heads.

    Attributes:
        coverage: what changed, as runs record it; what the harness says where it would stop.
        turned: whether submodules were registered in the opposite order.
    """

    model: nn.Module
    structure: Structure
    ctx: WatchedContext
    before: Snapshot
    after: Snapshot
    coverage: dict[str, Any] | str
    turned: bool = False

    @property
    def bits(self) -> dict[str, str]:
        """A digest per name of what the initializer leaves: without the heads, which the harness redraws."""
        return {name: digest for name, digest in self.after.digests.items() if not self.in_head(name)}

    def in_head(self, name: str) -> bool:
        """Whether a parameter belongs to an output head."""
        return any(name.startswith(f"{head}.") for head in self.structure.heads)


@functools.cache
def trial(subject: InitSubject, circumstances: Circumstances = FIRST) -> Trial:
    """The initializer called on the network of construction seed 0."""
    model = subject.network.call()
    sites = find_sites(model, structure_of(model).projections)
    turned = False
    if circumstances.turned:
        model, turned = turn(model, subject.network.image())
        sites = sites[::-1]
    ctx = watched_context(subject, structure_of(model), sites, circumstances.seed)
    coverage = Coverage(model)
    with contained("it", ctx.note), _generators(7 if circumstances.disturbed else 3), ctx.seen.watching():
        compose.call(subject.component, model, ctx)
    return Trial(model, structure_of(model), ctx, coverage.before, snapshot(model), _measured(coverage, model), turned)


@contextlib.contextmanager
def _generators(seed: int) -> Iterator[None]:
    """All global generators in states that follow `seed`, and put back."""
    with global_generators(seed), seeding.forked(seed, "init"):
        yield


def _measured(before: Coverage, model: nn.Module) -> dict[str, Any] | str:
    try:
        return before.compare(model, "it", parameters_alone=True)
    except (InitbenchError, NotImplementedError) as error:  # the latter where an init left tensors without values
        return str(error)


def turn(model: nn.Module, image: Tensor) -> tuple[nn.Module, bool]:
    """The network with submodules and parameters registered in the opposite order, and whether that was possible.

    Containers compute in that order, and a parameter under two names is found under the first, so both keep it; a network
    that then computes something else is handed back as it was.
    """
    expected = digests(_output(model, image))
    names = {name for name, _ in model.named_parameters()}
    done: list[nn.Module] = []
    for module in list(model.modules()):
        if not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict):
            _reverse(module)
            if {name for name, _ in model.named_parameters()} == names:
                done.append(module)
            else:
                _reverse(module)
    if digests(_output(model, image)) != expected:
        for module in done:
            _reverse(module)
        done = []
    return model, bool(done)


def _reverse(module: nn.Module) -> None:
    for table in (module._modules, module._parameters):
        for name in list(table)[::-1]:
            table[name] = table.pop(name)  # type: ignore[assignment]


def _output(model: nn.Module, image: Tensor) -> Any:
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        output = model.eval()(image)
    for module, training in modes.items():
        module.training = training
    return output
