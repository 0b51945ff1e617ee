"""Where its numbers come from: the seed, and nothing else."""

from __future__ import annotations

from typing import Literal

from initbench.harness.kept import few
from initbench.harness.snapshot import differing
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.inits.subject import InitSubject
from initbench.validation.inits.trials import AGAIN, ALL_OF_IT, DISTURBED, FIRST, OTHER_SEED, TURNED, Circumstances, trial
from initbench.validation.wording import no


def _moved(subject: InitSubject, by: Circumstances) -> list[str]:
    """Parameters and buffers that come out otherwise under these circumstances."""
    return differing(trial(subject, FIRST).bits, trial(subject, by).bits)


def _followed(subject: InitSubject) -> Literal["nothing", "the call", "the generators", "the order"]:
    """What the numbers follow beside the seed, the first of these; one call answers it where that is nothing."""
    if not _moved(subject, ALL_OF_IT):
        return "nothing"
    if _moved(subject, AGAIN):
        return "the call"
    return "the generators" if _moved(subject, DISTURBED) else "the order"


def check_same_bits(subject: InitSubject) -> str:
    """Called twice with one seed on one network, it gives the same bits."""
    if _followed(subject) == "the call":
        no(_moved(subject, AGAIN), "two calls with one seed differ (a clock, the system's numbers, a memory of calls?) in")
    return "the same seed gives the same bits"


def check_generators(subject: InitSubject) -> str:
    """The global generators are neither moved nor read."""
    no(trial(subject).ctx.seen.written, "it moves the global generator of")
    followed = _followed(subject)
    if followed == "the call":
        return "torch's, numpy's and Python's untouched; whether they are read cannot be told where no two calls agree"
    if followed == "the generators":
        no(_moved(subject, DISTURBED), "it reads a global generator and no ctx.generator(name) or ctx.rng(step, purpose) for")
    return "torch's, numpy's and Python's untouched and not read"


def check_order(subject: InitSubject) -> str:
    """The order in which sites and modules come changes no bit."""
    followed = _followed(subject)
    if followed in ("the call", "the generators"):
        return f"cannot be told where the numbers follow {followed}"
    if followed == "the order":
        moved = _moved(subject, TURNED) or _moved(subject, ALL_OF_IT)
        no(moved, "the order of visits decides (a ctx.generator(name) per parameter would not)")
    turned = "sites and submodules" if trial(subject, ALL_OF_IT).turned else "sites"
    return f"{turned} in the opposite order give the same bits"


def check_seed(subject: InitSubject) -> str:
    """Another seed gives other bits, unless nothing is drawn."""
    moved = _moved(subject, OTHER_SEED)
    if moved:
        return f"another seed changes {len(moved)} of {len(trial(subject).bits)} tensors"
    changed = differing(trial(subject).before.digests, trial(subject).bits)
    if not changed:
        return "nothing to draw: it changes nothing"
    if subject.info.learned:
        raise BrokenPromiseError(f"another seed changes nothing, though it learns: {few(changed)}")
    return "deterministic: another seed changes nothing"
