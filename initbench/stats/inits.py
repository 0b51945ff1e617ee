"""One init of a block at a time: its mean, and what its seeds do to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from initbench.stats.design import Array, Flags, checked
from initbench.stats.meansquares import two_way
from initbench.stats.mrmc import Estimate
from initbench.stats.summary import LEVEL, Interval, mean_interval, sd_interval, t_quantile


@dataclass(frozen=True)
class InitSummary:
    """An init's Dice points.

    Attributes:
        mean: over seeds and cases, with the 95 % interval for new seeds on these cases (scope B); bounds NaN with one seed.
        mean_new_cases: the same mean with the interval for new seeds and new cases (scope A).
        run_sd: SD of the run scores with its chi-square interval: what retraining shows on this test set. Its square estimates
            seed variance + residual variance / cases.
        seeds: number of seeds behind all of them.
        diverged: how many of them diverged; they score 0.
        mean_without_diverged: the mean of the others, for comparison alone; NaN if there are none.
    """

    init: str
    mean: Interval
    mean_new_cases: Interval
    run_sd: Interval
    seeds: int
    diverged: int
    mean_without_diverged: float


def summarize(y: Array, init: str = "", diverged: Flags | None = None) -> InitSummary:
    """Summary of y [seed, case] in Dice points; `diverged` [seed]."""
    y = checked(y, "seed, case")
    runs = y.mean(-1)
    out = np.zeros(len(y), bool) if diverged is None else diverged
    return InitSummary(
        init=init,
        mean=mean_interval(runs),
        mean_new_cases=_interval(y),
        run_sd=sd_interval(runs),
        seeds=len(y),
        diverged=int(out.sum()),
        mean_without_diverged=math.nan if out.all() else float(runs[~out].mean()),
    )


def _interval(y: Array) -> Interval:
    if min(y.shape) < 2:
        return Interval(float(y.mean()), math.nan, math.nan)
    estimate = mean_for_new_cases(y)
    value, half = float(estimate.value), t_quantile(0.5 + LEVEL / 2, float(estimate.df)) * float(estimate.error)
    return Interval(value, value - half, value + half)


def mean_for_new_cases(y: Array) -> Estimate:
    """Mean of y [..., seed, case] for new seeds and new cases: V = (MS_S + max(MS_C − MS_E, 0)) / (S C).

    Unlike in a difference the cases dominate V, so the degrees of freedom count them too (Satterthwaite): V² over the sum of
    MS² / df of the three. With those of the seeds alone 12 cases cover 92 %.
    """
    S, C = y.shape[-2:]
    squares = two_way(y)
    seeds, cases, rest = (square.value for square in squares)
    noise = seeds + np.maximum(cases - rest, 0.0)
    spread = sum((square.value**2 / square.df for square in squares), np.zeros(()))
    with np.errstate(invalid="ignore", divide="ignore"):
        df = np.where(spread > 0, noise**2 / spread, 1.0)
        share = seeds / noise
    return Estimate(y.mean((-2, -1)), np.sqrt(noise / (S * C)), df, share, np.asarray(S - 1.0), np.asarray(C - 1.0))
