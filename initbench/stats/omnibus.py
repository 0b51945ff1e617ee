"""The F test of all inits of a block together. It is shown; verdicts come from pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from initbench.stats.design import Array, Refused, Scope, SeedDesign
from initbench.stats.meansquares import mean_squares
from initbench.stats.mrmc import omnibus_crossed, omnibus_nested
from initbench.stats.testable import seed_effects, tiny


@dataclass(frozen=True)
class Omnibus:
    """F test of no difference among all inits.

    Attributes:
        f: the statistic.
        df1: degrees of freedom of its numerator; `df2` of its denominator.
        p: the probability of such an F, or a larger one, where no init is better.
    """

    f: float
    df1: float
    df2: float
    p: float


def omnibus(y: Array, scope: Scope, seeds: SeedDesign) -> Omnibus | Refused:
    """Tests all inits of a block together, or says why there is no test.

    Args:
        y: Dice points [init, seed, case].
        scope: what the claim is about.
        seeds: crossed or nested in inits.
    """
    I, S, C = y.shape  # noqa: E741 - the letters of the literature
    if I < 2:
        return Refused("one init: nothing to compare")
    if scope == "C":
        return Refused("no omnibus test for these trained weights: see the pairs")
    if S < 2:
        return Refused("one seed: the inits cannot be told from the seeds (S = 1)")
    if scope == "A" and C < 2:
        return Refused("one case: nothing can be said of new cases (C = 1)")
    if tiny(seed_effects(y.mean(-1), seeds), y):
        return Refused("no variance over seeds to test against")
    if scope == "B":
        f, df1, df2 = _runs_f(y, seeds)
    elif seeds == "crossed":
        f, df1, df2 = omnibus_crossed(y)
    else:
        f, df1, df2 = omnibus_nested(y)
    return Omnibus(float(f), float(df1), float(df2), float(special.fdtrc(df1, df2, f)))


def _runs_f(y: Array, seeds: SeedDesign) -> tuple[Array, int, Array]:
    """Returns the F of the run scores with its degrees of freedom: MS_T / MS_TR for crossed seeds, else MS_T / MS_R(T).

    Args:
        y: Dice points [init, seed, case].
        seeds: crossed or nested in inits.
    """
    ms = mean_squares(y)
    noise = ms.init_seed
    if seeds == "nested":
        noise = ms.seed_in_init
    return ms.init.value / noise.value, ms.init.df, np.asarray(float(noise.df))
