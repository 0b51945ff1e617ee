"""What the runs at hand cannot decide, in words: then there is no p."""

from __future__ import annotations

import numpy as np

from initbench.stats.design import Array, Scope, SeedDesign
from initbench.stats.exact import smallest_sign_flip
from initbench.stats.summary import LEVEL


def untestable(a: Array, b: Array, scope: Scope, seeds: SeedDesign, family: int = 1) -> str:
    """Why two inits [seed, case] cannot be compared under a scope; empty where they can.

    `family` is the number of pairs that Holm's adjustment goes over.
    """
    S, C = a.shape
    if scope != "C" and S < 2:
        return "one seed: a difference of inits cannot be told from one of seeds (S = 1)"
    if scope != "B" and C < 2:
        return "one case: nothing can be said of new cases (C = 1); new seeds on this case are scope B"
    if scope == "C":
        return _too_few_cases((a - b).mean(0), family)
    if _same_runs(a) or _same_runs(b):
        return "all runs of an init score the same on every case: its seed is not in effect, or all of them diverged"
    both = np.stack([a, b])
    if tiny(seed_effects(both.mean(-1), seeds), both):
        return "the difference is the same for every seed: no variance over seeds to test it against"
    return ""


def _same_runs(runs: Array) -> bool:
    return bool((runs == runs[0]).all())


def _too_few_cases(d: Array, family: int) -> str:
    if not d.any():
        return "no difference on any case"
    smallest = family * smallest_sign_flip(d.size)
    if smallest > 1 - LEVEL:
        return f"cannot reach significance with {d.size} cases: the smallest p is {smallest:.3g} over {family} comparison(s)"
    return ""


def seed_effects(m: Array, seeds: SeedDesign) -> Array:
    """What the seed does to the run scores [init, seed] of an init; crossed: beyond what it does to all."""
    own = m - m.mean(1, keepdims=True)
    return np.asarray(own - own.mean(0) if seeds == "crossed" else own, np.float64)


def tiny(effects: Array, scores: Array) -> bool:
    """Whether they are nothing but rounding."""
    return bool(np.abs(effects).max() <= 1e-12 * max(1.0, float(np.abs(scores).max())))
