"""Says why the runs at hand cannot decide a difference, for which there is then no p."""

from __future__ import annotations

import numpy as np

from initbench.stats.design import Array, Scope, SeedDesign

_ONE_SEED = "with one seed a difference of inits cannot be told from one of seeds"
_ONE_CASE = "with one reported case (or patient) nothing can be said of new ones"
_ANOTHER_QUESTION = f"{_ONE_CASE}; new seeds on this one are another question, which `initbench compare` answers"
_NO_SEED = "all runs of an init score the same on every case: its seed is not in effect, or all of them diverged"
_SAME_DIFFERENCE = "the difference is the same for every seed: no variance over seeds to test it against"


def untestable(a: Array, b: Array, scope: Scope, seeds: SeedDesign) -> str:
    """Returns why two inits cannot be compared under a scope; empty where they can.

    Args:
        a: Dice points of one init [seed, case].
        b: Dice points of the other one.
        scope: what the claim would be about.
        seeds: whether the two share their seeds.
    """
    S, C = a.shape
    if scope != "C" and S < 2:
        return _ONE_SEED
    if scope != "B" and C < 2:
        return _ANOTHER_QUESTION
    both = np.stack([a, b])
    if scope == "C":
        d = (a - b).mean(0)
        if tiny(d - d.mean(), both):
            return "the difference is the same on every case"
    elif _same_runs(a) or _same_runs(b):
        return _NO_SEED
    elif tiny(seed_effects(both.mean(-1), seeds), both):
        return _SAME_DIFFERENCE
    return ""


def untestable_interaction(rows: Array, seeds: SeedDesign) -> str:
    """Returns why the first two of four rows less the others cannot be judged; empty where they can.

    Args:
        rows: Dice points [row, seed, case].
        seeds: whether the rows share their seeds.
    """
    S, C = rows.shape[1:]
    if S < 2:
        return _ONE_SEED
    if C < 2:
        return _ANOTHER_QUESTION
    if any(map(_same_runs, rows)):
        return _NO_SEED
    gain, usual = rows[0] - rows[2], rows[3] - rows[1]
    effects = seed_effects(np.stack([gain, usual]).mean(-1), seeds)
    if tiny(effects, rows):
        return _SAME_DIFFERENCE
    return ""


def undecidable(inits: int, seeds: int, patients: int) -> str:
    """Returns why a planned study can decide nothing; empty where it can decide something.

    Args:
        inits: number of inits, placebos not counted.
        seeds: number of seeds.
        patients: number of reported patients.
    """
    if inits < 2:
        return ""  # nothing is asked of it
    if seeds < 2:
        return f"{_ONE_SEED}; run 5 (--seeds 5), or 3 at the least"
    if patients < 2:
        return f"{_ONE_CASE}; report more, as with --fold 1/2, which reports half of the cases"
    return ""


def _same_runs(runs: Array) -> bool:
    """Returns whether all runs [seed, case] score the same."""
    return bool((runs == runs[0]).all())


def seed_effects(m: Array, seeds: SeedDesign) -> Array:
    """Returns how far a seed moves the run scores of each init, [init, seed] in their unit.

    Where inits share their seeds, only what the seed does to an init beyond all inits counts.

    Args:
        m: run scores [init, seed].
        seeds: whether the inits share their seeds.
    """
    own = m - m.mean(1, keepdims=True)
    if seeds == "crossed":
        own = own - own.mean(0)
    return np.asarray(own, np.float64)


def tiny(effects: Array, scores: Array) -> bool:
    """Returns whether effects are nothing but rounding beside the scores from which they were computed."""
    return bool(np.abs(effects).max() <= 1e-12 * max(1.0, float(np.abs(scores).max())))
