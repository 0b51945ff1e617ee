"""Checks the values that an initializer leaves: which numbers they follow, what they cost, and whether the network computes."""

from __future__ import annotations

import copy
from typing import Any, Literal

from initbench.harness.build import redraw_heads
from initbench.harness.kept import few
from initbench.harness.snapshot import differing
from initbench.validation.backbones.training import gradients_of, infinite, nonzero, training_step
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.inits.subject import InitSubject
from initbench.validation.inits.trials import AGAIN, ALL_OF_IT, DISTURBED, FIRST, OTHER_SEED, TURNED, Circumstances, Trial, trial
from initbench.validation.wording import no


def _moved(subject: InitSubject, by: Circumstances) -> list[str]:
    """Returns the names of parameters and buffers that come out differently under these circumstances."""
    return differing(trial(subject, FIRST).bits, trial(subject, by).bits)


def _followed(subject: InitSubject) -> Literal["nothing", "the call", "the generators", "the order"]:
    """Returns what the numbers follow beside the seed. Where they follow nothing, one call of the initializer shows it."""
    if not _moved(subject, ALL_OF_IT):
        return "nothing"
    if _moved(subject, AGAIN):
        return "the call"
    if _moved(subject, DISTURBED):
        return "the generators"
    return "the order"


def check_same_bits(subject: InitSubject) -> str:
    """Checks that two calls with one seed on one network give the same bits."""
    if _followed(subject) == "the call":
        no(_moved(subject, AGAIN), "two calls with one seed differ (a clock, the system's numbers, a memory of calls?) in")
    return "the same seed gives the same bits"


def check_generators(subject: InitSubject) -> str:
    """Checks that the initializer neither moves nor reads the global generators."""
    no(trial(subject).ctx.seen.written, "it moves the global generator of")
    followed = _followed(subject)
    if followed == "the call":
        return "torch's, numpy's and Python's untouched; whether they are read cannot be told where no two calls agree"
    if followed == "the generators":
        no(_moved(subject, DISTURBED), "it reads a global generator and no ctx.generator(name) or ctx.rng(step, purpose) for")
    return "torch's, numpy's and Python's untouched and not read"


def check_order(subject: InitSubject) -> str:
    """Checks that the order in which sites and modules come changes no bit."""
    followed = _followed(subject)
    if followed in ("the call", "the generators"):
        return f"cannot be told where the numbers follow {followed}"
    if followed == "the order":
        moved = _moved(subject, TURNED) or _moved(subject, ALL_OF_IT)
        no(moved, "the order of visits decides (a ctx.generator(name) per parameter would not)")
    turned = "sites"
    if trial(subject, ALL_OF_IT).turned:
        turned = "sites and submodules"
    return f"{turned} in the opposite order give the same bits"


def check_seed(subject: InitSubject) -> str:
    """Checks that another seed gives other bits, unless the initializer draws nothing."""
    moved = _moved(subject, OTHER_SEED)
    if moved:
        return f"another seed changes {len(moved)} of {len(trial(subject).bits)} tensors"
    changed = differing(trial(subject).before.digests, trial(subject).bits)
    if not changed:
        return "nothing to draw: it changes nothing"
    if subject.info.learned:
        raise BrokenPromiseError(f"another seed changes nothing, though it learns: {few(changed)}")
    return "deterministic: another seed changes nothing"


def check_budget(subject: InitSubject) -> str:
    """Checks that a learned initializer takes the steps that it is given, in the harness's loop, and that others take none."""
    ctx = trial(subject).ctx
    if ctx.seen.outside:
        raise BrokenPromiseError(f"{ctx.seen.outside} optimizer steps outside ctx.fit, which no budget counts")
    taken, patches = 0, 0
    for fit in ctx.fits:
        taken += fit.steps
        patches += fit.patches
    if taken != ctx.steps:
        raise BrokenPromiseError(f"{taken} steps in {len(ctx.fits)} calls of ctx.fit; its budget is {ctx.steps}")
    read = " and ".join(sorted(ctx.seen.read)) or "nothing"
    cost = "no steps"
    if taken:
        cost = f"{taken} of {ctx.steps} steps, {patches} patches"
    return f"{cost}; of the training cases it read {read}"


def check_coverage(subject: InitSubject) -> str:
    """Tells how much the initializer changed, by top-level module."""
    table = _measured(trial(subject))
    if set(table["unchanged"]) >= table["digests"].keys():
        return "changes nothing: the network as constructed"
    groups = ", ".join(f"{name} {share:.0%}" for name, share in table["groups"].items())
    return f"{table['changed_share']:.1%} of the parameters: {groups}"


def _measured(found: Trial) -> dict[str, Any]:
    """Returns the coverage that runs would record.

    Raises:
        BrokenPromiseError: a run would stop here.
    """
    if isinstance(found.coverage, str):
        raise BrokenPromiseError(f"runs stop here: {found.coverage}")
    return found.coverage


def check_heads(subject: InitSubject) -> str:
    """Tells whether the initializer changed output heads, which the harness redraws in any case."""
    found = trial(subject)
    changed = set(found.changed)
    heads = [name for name in found.before.objects if found.in_head(name) and name in changed]
    if heads:
        return f"changed: {few(heads)}; the harness redraws them"
    return "left to the harness, which redraws them"


def check_others(subject: InitSubject) -> str:
    """Tells which norms, positional tables, layer scales and temperatures changed: a scheme of weights leaves them alone."""
    found = trial(subject)
    changed = set(found.changed)
    others = [site.name for site in found.ctx.sites if site.role in ("norm", "other") and site.name in changed]
    if not others:
        return "left alone"
    if found.ctx.fits:
        return f"trained with the rest: {few(others)}"
    return f"changed, which is right where the scheme is about them: {few(others)}"


def check_signal(subject: InitSubject) -> str:
    """Checks that, with heads redrawn as in a run, one training step has a finite loss and finite gradients."""
    found = trial(subject)
    model = copy.deepcopy(found.model)
    model.zero_grad(set_to_none=True)
    redraw_heads(model, found.structure.heads, seed=0)
    loss = training_step(model, subject.network, seed=0)
    if not bool(loss.isfinite()):
        raise BrokenPromiseError(f"the loss is {float(loss)}")
    gradients = gradients_of(model)
    no(infinite(gradients), "gradient not finite")
    said = f"loss {float(loss):.3g}, gradients finite"
    zero = len(gradients) - len(nonzero(gradients))
    if zero:
        said += f", {zero} of {len(gradients)} zero"
    return said
