"""What it costs, what it changed, and whether the network still computes."""

from __future__ import annotations

import copy
from typing import Any

from initbench.harness.build import redraw_heads
from initbench.harness.kept import few
from initbench.harness.snapshot import differing
from initbench.validation.backbones.training import training_step
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.inits.subject import InitSubject
from initbench.validation.inits.trials import Trial, trial
from initbench.validation.wording import no


def check_budget(subject: InitSubject) -> str:
    """A learned one takes the steps that it is given, in the harness's loop; others take none."""
    ctx = trial(subject).ctx
    if ctx.seen.outside:
        raise BrokenPromiseError(f"{ctx.seen.outside} optimizer steps outside ctx.fit, which no budget counts")
    taken = sum(fit.steps for fit in ctx.fits)
    if taken != ctx.steps:
        raise BrokenPromiseError(f"{taken} steps in {len(ctx.fits)} calls of ctx.fit; its budget is {ctx.steps}")
    read = " and ".join(sorted(ctx.seen.read)) or "nothing"
    patches = sum(fit.patches for fit in ctx.fits)
    cost = f"{taken} of {ctx.steps} steps, {patches} patches" if taken else "no steps"
    return f"{cost}; of the training cases it read {read}"


def check_coverage(subject: InitSubject) -> str:
    """How much it changed, by top-level module."""
    found = trial(subject)
    table = _measured(found)
    changed = [key for key in table["digests"] if key not in table["unchanged"]]
    if not changed:
        return "changes nothing: the network as constructed"
    groups = ", ".join(f"{name} {share:.0%}" for name, share in table["groups"].items())
    return f"{table['changed_share']:.1%} of the parameters: {groups}"


def _measured(found: Trial) -> dict[str, Any]:
    """What runs would record.

    Raises:
        BrokenPromiseError: a run would stop here.
    """
    if isinstance(found.coverage, str):
        raise BrokenPromiseError(f"runs stop here: {found.coverage}")
    return found.coverage


def check_heads(subject: InitSubject) -> str:
    """Whatever it did to output heads is undone."""
    found = trial(subject)
    heads = [name for name in found.before.objects if found.in_head(name)]
    changed = [name for name in heads if name in differing(found.before.digests, found.after.digests)]
    return f"changed: {few(changed)}; the harness redraws them" if changed else "left to the harness, which redraws them"


def check_others(subject: InitSubject) -> str:
    """Norms, positional tables, layer scales and temperatures: a scheme of weights leaves them alone."""
    found = trial(subject)
    changed = set(differing(found.before.digests, found.after.digests))
    others = [site.name for site in found.ctx.sites if site.role in ("norm", "other") and site.name in changed]
    if not others:
        return "left alone"
    trained = "trained with the rest" if found.ctx.fits else "changed, which is right where the scheme is about them"
    return f"{trained}: {few(others)}"


def check_signal(subject: InitSubject) -> str:
    """With heads redrawn as in a run, one training step has a finite loss and finite gradients."""
    found = trial(subject)
    model = copy.deepcopy(found.model)
    model.zero_grad(set_to_none=True)
    redraw_heads(model, found.structure.heads, seed=0)
    loss = training_step(model, subject.network, seed=0)
    if not bool(loss.isfinite()):
        raise BrokenPromiseError(f"the loss is {float(loss)}")
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    no([name for name, gradient in gradients.items() if not bool(gradient.isfinite().all())], "gradient not finite")
    silent = sum(not bool(gradient.any()) for gradient in gradients.values())
    said = f"loss {float(loss):.3g}, gradients finite"
    return said + (f", {silent} of {len(gradients)} zero" if silent else "")
