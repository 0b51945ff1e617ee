"""Checks whether a regimen keeps what `initbench.protocols.Regimen` asks of it: one small check for each promise.

The checks let it train a fresh network for a few steps on the CPU: once, again with other global generators, and again from a
checkpoint.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from initbench import registry, seeding
from initbench.errors import UsageError
from initbench.harness.process_state import MisbehavedError
from initbench.harness.regimens import units_of
from initbench.harness.snapshot import differing, snapshot
from initbench.protocols import RegimenInfo
from initbench.validation.checks import BrokenPromiseError, Check, first_call, run_checks
from initbench.validation.regimens.subject import STEPS, RegimenSubject, Trial, run, trial
from initbench.validation.wording import no


def check_declared(subject: RegimenSubject) -> str:
    """Checks that a regimen says what it is, or is a plain function."""
    component = subject.component
    declared = component.declared
    if declared is not None and not isinstance(declared, RegimenInfo):
        raise BrokenPromiseError(f"`info` is {type(declared).__name__} and no RegimenInfo: use @regimen(...)")
    no(sorted(set(component.info.later) - component.takes.keys()), "RegimenInfo.later names no parameter")
    return f"{units_of(component)} units a step; parameters: {component.options}"


def check_unknown_parameter(subject: RegimenSubject) -> str:
    """Checks that a regimen refuses a parameter that it does not have: a misspelt one would change nothing, in silence."""
    try:
        registry.find("regimen", subject.component.spec.with_param("no_such_parameter", 0)).check()
    except UsageError:
        return "refused"
    raise BrokenPromiseError("no_such_parameter=0 is taken: name the parameters in place of **")


def check_trains(subject: RegimenSubject) -> str:
    """Checks that a regimen trains every parameter of the network that the loop may train, and that the loss is finite."""
    found = trial(subject)
    if found.fit.diverged_at is not None:
        raise BrokenPromiseError(f"the loss is not finite at step {found.fit.diverged_at}")
    left_out = []
    for name, parameter in found.model.named_parameters():
        if id(parameter) not in found.trained:
            left_out.append(name)
    no(left_out, "not in the task's module, so never trained")
    changed = differing(found.before.digests, snapshot(found.model).digests)
    if not changed:
        raise BrokenPromiseError("no parameter of the network changed")
    parts = sorted(found.fit.curve[0].keys() - {"step", "lr", "loss"})
    return f"{len(changed)} parameters and buffers changed in {STEPS} steps; parts of the loss: {', '.join(parts) or 'none'}"


def check_units(subject: RegimenSubject) -> str:
    """Checks that a step costs as many units as declared: ``--regimen-budget compute`` derives the steps from them."""
    declared, counted = units_of(subject.component), trial(subject).fit.units
    if counted != STEPS * declared:
        raise BrokenPromiseError(
            f"it declares {declared} units a step, and {counted / STEPS:g} were counted; a forward pass is 1, a backward pass 2"
        )
    return f"{declared} units a step"


def check_batches(subject: RegimenSubject) -> str:
    """Checks that a regimen takes the batches of plain training, so that runs of two regimens are paired."""
    found = trial(subject)
    if sorted(found.sampler.given) != list(range(STEPS)):
        raise BrokenPromiseError(f"of the steps 0 to {STEPS - 1} it takes the batches {sorted(found.sampler.given)}")
    changed = []
    for step, (batch, image) in found.sampler.given.items():
        if not torch.equal(batch.image, image):
            changed.append(str(step))
    no(changed, "it changes the images of batches in place")
    return f"{STEPS} batches, each asked for and unchanged"


def check_network(subject: RegimenSubject) -> str:
    """Checks that training leaves the modules, keys, hooks and ``requires_grad`` of the network as they were."""
    found = trial(subject)
    before, after = found.before, snapshot(found.model)
    no(sorted(before.modules.keys() ^ after.modules.keys()), "it adds or removes modules")
    no(sorted(before.forms.keys() ^ after.forms.keys()), "it adds or removes parameters or buffers")
    no(differing(before.forms, after.forms), "another shape or type")
    no(differing(before.gradients, after.gradients), "it freezes or unfreezes")
    no(differing(before.hooks, after.hooks), "hooks that it did not take off")
    return f"{len(after.modules)} modules as before"


def check_same_bits(subject: RegimenSubject) -> str:
    """Checks that a second training gives the same bits, wherever the global generators begin."""
    _compare(trial(subject), run(subject, generators=7), "a second training gives other numbers; take them from ctx.rng")
    return "the same, also with other states of the global generators"


def check_resumes(subject: RegimenSubject) -> str:
    """Checks that training which stops and goes on from its checkpoint ends in the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        run(subject, until=STEPS // 2, checkpoints=Path(folder))
        resumed = run(subject, checkpoints=Path(folder))
    _compare(trial(subject), resumed, "training that goes on from a checkpoint ends elsewhere; keep the rest in state()")
    if resumed.fit.units != trial(subject).fit.units:
        raise BrokenPromiseError("the passes before the checkpoint are not counted")
    return f"stopped after step {STEPS // 2} of {STEPS}, and the same"


def _compare(first: Trial, second: Trial, what: str) -> None:
    """Fails the check where two trials did not end in the same network with the same curve.

    Raises:
        BrokenPromiseError: says `what`, and the names of the tensors that differ.
    """
    no(differing(snapshot(first.model).digests, snapshot(second.model).digests), what)
    if first.fit.curve != second.fit.curve:
        raise BrokenPromiseError(f"{what}: the curves differ")


CHECKS: dict[str, Callable[[RegimenSubject], str]] = {
    "declared": check_declared,
    "unknown parameter": check_unknown_parameter,
    "trains": check_trains,
    "units": check_units,
    "batches": check_batches,
    "network": check_network,
    "same bits": check_same_bits,
    "resumes": check_resumes,
}


def validate_regimen(subject: RegimenSubject) -> list[Check]:
    """Makes every check of a regimen on a network.

    Raises:
        RefusedError: the regimen does not take this network.
    """
    try:
        with seeding.deterministic(threads=1):  # as runs have it
            with first_call(MisbehavedError):
                trial(subject)
            return run_checks(CHECKS, subject)
    finally:
        trial.cache_clear()  # trials hold networks
