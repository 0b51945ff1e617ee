"""One call of an initializer on one fresh network, and the several calls that the checks compare."""

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
from initbench.harness.snapshot import Snapshot, differing, modes_kept, snapshot
from initbench.protocols import Structure, structure_of
from initbench.validation.backbones.construction import global_generators
from initbench.validation.inits.context import WatchedContext, watched_context
from initbench.validation.inits.subject import InitSubject
from initbench.validation.wording import digests


@dataclass(frozen=True)
class Circumstances:
    """How an initializer is called: the seed should make a difference, everything else should make none.

    Attributes:
        seed: root seed of the run.
        disturbed: whether the global generators begin elsewhere.
        turned: whether sites and submodules come in the opposite order.
        repeat: number that tells apart calls which differ in nothing else.
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
        ctx: the context that the initializer was handed, with its notes.
        before: the network before the call.
        after: the network after the call.
        coverage: what changed, as runs record it; where a run would stop, the message of the harness.
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
        """Digests, by name, of the tensors that a run keeps: all but the heads, which the harness redraws."""
        return {name: digest for name, digest in self.after.digests.items() if not self.in_head(name)}

    @property
    def changed(self) -> list[str]:
        """Names of the parameters and buffers whose values changed."""
        return differing(self.before.digests, self.after.digests)

    def in_head(self, name: str) -> bool:
        """Whether a parameter belongs to an output head."""
        return name.startswith(tuple(f"{head}." for head in self.structure.heads))


@functools.cache
def trial(subject: InitSubject, circumstances: Circumstances = FIRST) -> Trial:
    """Calls the initializer on the network of construction seed 0."""
    model = subject.network.call()
    sites = find_sites(model, structure_of(model).projections)
    turned = False
    if circumstances.turned:
        model, turned = turn(model, subject.network.image())
        sites = sites[::-1]
    generators = 3
    if circumstances.disturbed:
        generators = 7
    ctx = watched_context(subject, structure_of(model), sites, circumstances.seed)
    coverage = Coverage(model)
    with contained("it", ctx.note), _generators(generators), ctx.seen.watching():
        compose.call(subject.component, model, ctx)
    return Trial(model, structure_of(model), ctx, coverage.before, snapshot(model), _measured(coverage, model), turned)


@contextlib.contextmanager
def _generators(seed: int) -> Iterator[None]:
    """Seeds all global generators with `seed` inside the block, and puts their states back after it."""
    with global_generators(seed), seeding.forked(seed, "init"):
        yield


def _measured(before: Coverage, model: nn.Module) -> dict[str, Any] | str:
    try:
        return before.compare(model, "it", parameters_alone=True)
    except (InitbenchError, NotImplementedError) as error:  # NotImplementedError where an init left tensors without values
        return str(error)


def turn(model: nn.Module, image: Tensor) -> tuple[nn.Module, bool]:
    """Registers submodules and parameters of a network in the opposite order, where that changes nothing that it computes.

    Containers are left alone, because they compute in the order of registration. So is a module with a parameter under two
    names where the parameter would then be found under the other one. A network that computes something else after the
    reversal is handed back as it was.

    Args:
        model: the network, which is changed in place.
        image: a batch ``(N, C, D, H, W)``, to compare the outputs.

    Returns:
        The network, and whether any order was reversed.
    """
    expected = digests(_output(model, image))
    names = dict(model.named_parameters()).keys()
    done: list[nn.Module] = []
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict):
            continue
        _reverse(module)
        if dict(model.named_parameters()).keys() == names:
            done.append(module)
        else:
            _reverse(module)
    if digests(_output(model, image)) != expected:
        for module in done:
            _reverse(module)
        done = []
    return model, bool(done)


def _reverse(module: nn.Module) -> None:
    """Registers the children and parameters of one module in the opposite order."""
    for table in (module._modules, module._parameters):
        for name in list(table)[::-1]:
            table[name] = table.pop(name)  # type: ignore[assignment]


def _output(model: nn.Module, image: Tensor) -> Any:
    """Returns the output in evaluation mode, and puts every module back into the mode that it had."""
    with modes_kept(model), torch.no_grad():
        return model.eval()(image)
