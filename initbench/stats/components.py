"""Variance components of a block: what the seed, the case and the init each add to the spread of Dice.

The headline of a block, how much the init moves Dice beside how much the seed does, is made of them here and nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from initbench.stats.design import Array, Refused, SeedDesign, checked, generator
from initbench.stats.inits import effective_inits
from initbench.stats.meansquares import MeanSquares, Square, mean_squares, two_way
from initbench.stats.scale import SD, cut
from initbench.stats.summary import LEVEL, Interval

DRAWS = 8_000
# Degrees of freedom of a mean square over cases, beside those that its cases show: scores of cases are skewed and have heavy
# tails (public tables of 19 methods: kurtosis 16), and a sample shows less of a tail than there is. With all of them intervals of
# 95 % hold in 55 to 85 % of studies with such cases, with these in 93 % or more (benchmarks/coverage.py).
_OF_CASES = 0.4
_Contrast = tuple[tuple[Square, float], ...]  # Σ coefficient · mean square


@dataclass(frozen=True)
class Component:
    """A variance component in squared Dice points.

    Attributes:
        raw: the unbiased estimate, which may be negative.
        low: lower end of its 95 % interval, at least 0.
        high: upper end; 0, too, where the mean squares lie further below their noise than chance has it in 97.5 %.
    """

    raw: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """The estimate to be shown: negative ones are 0."""
        return max(self.raw, 0.0)

    @property
    def sd(self) -> Interval:
        """Its square root with interval, in Dice points."""
        return cut(Interval(math.sqrt(self.value), math.sqrt(self.low), math.sqrt(self.high)), SD)


@dataclass(frozen=True)
class Components:
    """Variance components of y [init, seed, case]; None where a design cannot have one.

    Attributes:
        init: between-init variance, the noise of seeds and cases removed. The inits of a study are fixed; the interval is the one
            for inits drawn from a population of inits.
        seed: seed variance. Crossed: what all inits of a seed share. Nested: all that the seed does to a run's mean over cases.
        case: variance of the difficulty of cases.
        init_case: cases that are easier for one init than for another.
        seed_init: what the seed does to one init alone (crossed).
        seed_case: what the seed does to one case in all inits (crossed).
        residual: what is left of one case in one run.
        retraining: variance of the score of a run on these cases when it is trained again with another seed.
        wins: of two inits drawn like these and trained once each with seeds of their own, how often the truly better one scores
            higher: from 0.5, luck alone, to 1.
        pairing_gain: seed / (seed + seed_init), the share of the seed variance that runs of equal seed share (crossed); NaN value
            where neither is above 0.
        inits: number of inits; likewise `seeds` and `cases`, which are patients where those are known.
    """

    design: SeedDesign
    inits: int
    seeds: int
    cases: int
    seed: Component
    case: Component
    residual: Component
    retraining: Component
    init: Component | None = None
    init_case: Component | None = None
    seed_init: Component | None = None
    seed_case: Component | None = None
    wins: Interval | None = None
    pairing_gain: Interval | None = None

    def left_in_mean(self) -> dict[str, Interval]:
        """SD in Dice points that each source leaves in the mean of an init over the seeds and cases of this study, with interval.

        Its variance over the number of seeds, of cases, or of both that the mean averages it over; `init` is averaged over none.
        """
        over = {
            "init": 1,
            "seed": self.seeds,
            "seed_init": self.seeds,
            "case": self.cases,
            "init_case": self.cases,
            "seed_case": self.seeds * self.cases,
            "residual": self.seeds * self.cases,
        }
        found = {}
        for name, count in over.items():
            part: Component | None = getattr(self, name)
            if part is not None:
                found[name] = Component(part.raw / count, part.low / count, part.high / count).sd
        return found

    @property
    def pairing(self) -> str:
        """The pairing gain in words."""
        gain = self.pairing_gain
        if gain is None:
            return "every init has seeds of its own: runs are not paired"
        if math.isnan(gain.value) or gain.value < 0.05:
            return "runs of one seed are as unlike as runs of two: pairing gains nothing and costs degrees of freedom"
        return f"runs of the same seed share {100 * gain.value:.0f} % of the seed variance"


def components(y: Array, seeds: SeedDesign = "crossed") -> Components | Refused:
    """Variance components from mean squares, unbiased for balanced y [init, seed, case].

    Crossed seeds: what all inits of a seed share cancels in the differences of inits, so it is not taken off their variance:
    σ²_init = (MS_T − MS_TR − MS_TC + MS_E)/(SC), σ²_seed = (MS_R − MS_TR − MS_RC + MS_E)/(IC), σ²_seed×init = (MS_TR − MS_E)/C,
    and likewise by symmetry. Nested: σ²_e = MS_E, σ²_seed = (MS_R(T) − MS_E)/C, σ²_init×case = (MS_TC − MS_E)/S,
    σ²_case = (MS_C − MS_TC)/(IS), σ²_init = (MS_T − MS_R(T) − MS_TC + MS_E)/(SC). One init: two-way, seed and case alone.

    Intervals are generalized ones (Weerahandi 1993): each mean square over its chi-square draw stands for its expectation. The
    degrees of freedom of that draw are those that the scores show where seed variances differ between inits or scores of cases
    have heavy tails.

    Args:
        y: Dice points [init, seed, case].
        seeds: crossed or nested in inits.
    """
    y = checked(y, "init, seed, case")
    refused = _refusal(y)
    if refused:
        return refused
    contrasts = _contrasts(y, seeds)
    drawn = draws(y, contrasts)
    found = {}
    for name, contrast in contrasts.items():
        raw = float(sum(scale * float(square.value) for square, scale in contrast))
        found[name] = Component(raw, *_percentiles(drawn[name]))
    inits, number, cases = y.shape
    return Components(
        design=seeds if inits > 1 else "nested",
        inits=inits,
        seeds=number,
        cases=cases,
        seed=found["seed"],
        case=found["case"],
        residual=found["residual"],
        retraining=found["retraining"],
        init=found.get("init"),
        init_case=found.get("init_case"),
        seed_init=found.get("seed_init"),
        seed_case=found.get("seed_case"),
        wins=_wins(found, drawn) if "init" in found else None,
        pairing_gain=_gain(found, drawn) if "seed_init" in found else None,
    )


def _refusal(y: Array) -> Refused | None:
    if y.shape[1] < 2:
        return Refused("with one seed there is no seed variance")
    if y.shape[2] < 2:
        return Refused("with one reported case (or patient) what the seed does cannot be told from what is left of the case")
    return None


def difference_draws(y: Array, seeds: SeedDesign, count: int) -> dict[str, Array] | Refused:
    """Draws of the components that two inits do not share, as likely as the scores y [init, seed, case] make them.

    Returns:
        `own`: variance of the seed in one init; `init_case`, `residual`: as in `Components`; arrays [draw] in squared points.
    """
    y = checked(y, "init, seed, case")
    refused = _refusal(y)
    if refused:
        return refused
    if len(y) < 2:
        return Refused("one init in the pilot: how cases differ between inits is not known")
    drawn = draws(y, _contrasts(y, seeds), count)
    own = drawn["seed_init"] if seeds == "crossed" else drawn["seed"]
    return {"own": own, "init_case": drawn["init_case"], "residual": drawn["residual"]}


def _contrasts(y: Array, seeds: SeedDesign) -> dict[str, _Contrast]:
    """Every component as a sum of mean squares times coefficients."""
    I, S, C = y.shape  # noqa: E741 - the letters of the literature
    if I == 1:
        r, c, e = two_way(y[0])
        return {
            "seed": _difference(1 / C, (r,), (e,)),
            "case": _difference(1 / S, (c,), (e,)),
            "residual": ((e, 1.0),),
            "retraining": ((r, 1 / C),),
        }
    squares = mean_squares(y)
    return _crossed(squares, I, S, C) if seeds == "crossed" else _nested(squares, I, S, C)


def _crossed(ms: MeanSquares, I: int, S: int, C: int) -> dict[str, _Contrast]:  # noqa: E741
    e = ms.residual
    return {
        "init": _difference(1 / (S * C), (ms.init, e), (ms.init_seed, ms.init_case)),
        "seed": _difference(1 / (I * C), (ms.seed, e), (ms.init_seed, ms.seed_case)),
        "case": _difference(1 / (I * S), (ms.case, e), (ms.init_case, ms.seed_case)),
        "seed_init": _difference(1 / C, (ms.init_seed,), (e,)),
        "init_case": _difference(1 / S, (ms.init_case,), (e,)),
        "seed_case": _difference(1 / I, (ms.seed_case,), (e,)),
        "residual": ((e, 1.0),),
        # The mean square of the seeds within inits, which these two are the parts of.
        "retraining": ((ms.seed, 1 / (I * C)), (ms.init_seed, (I - 1) / (I * C))),
    }


def _nested(ms: MeanSquares, I: int, S: int, C: int) -> dict[str, _Contrast]:  # noqa: E741
    e, r = ms.nested_residual, ms.seed_in_init
    return {
        "init": _difference(1 / (S * C), (ms.init, e), (r, ms.init_case)),
        "seed": _difference(1 / C, (r,), (e,)),
        "case": _difference(1 / (I * S), (ms.case,), (ms.init_case,)),
        "init_case": _difference(1 / S, (ms.init_case,), (e,)),
        "residual": ((e, 1.0),),
        "retraining": ((r, 1 / C),),
    }


def _difference(scale: float, plus: tuple[Square, ...], minus: tuple[Square, ...]) -> _Contrast:
    return (*((square, scale) for square in plus), *((square, -scale) for square in minus))


def draws(y: Array, contrasts: dict[str, _Contrast], count: int = DRAWS) -> dict[str, Array]:
    """What each component may be, [draw], at least 0. A mean square has one draw for all components that it is a part of."""
    rng = generator("components")
    balance = effective_inits(y) / len(y)
    expectations: dict[int, Array] = {}
    found = {}
    for name, contrast in contrasts.items():
        total = np.zeros(count)
        for square, scale in contrast:
            if id(square) not in expectations:
                df = _freedom(square, balance)
                expectations[id(square)] = square.value / (rng.chisquare(df, count) / df)
            total += scale * expectations[id(square)]
        found[name] = np.maximum(total, 0.0)
    return found


def _freedom(square: Square, balance: float) -> float:
    """Degrees of freedom of a mean square, as the scores show them.

    Args:
        square: of a block.
        balance: `effective_inits` over their number.
    """
    if square.by_case is not None:
        return _OF_CASES * min(square.df, _shown_by_cases(square.by_case))
    return square.df * balance if square.over_inits else float(square.df)


def _shown_by_cases(sums: Array) -> float:
    """Degrees of freedom of a sum over cases with parts q as unequal as these: 2 (Σ q)² / (C · variance of q) (Satterthwaite)."""
    variance = float(sums.var(ddof=1))
    return 2 * float(sums.sum()) ** 2 / (sums.size * variance) if variance > 0 else math.inf


def _wins(found: dict[str, Component], drawn: dict[str, Array]) -> Interval:
    """Chance that the truly better of two inits scores higher in one run each: 1/2 + arctan(σ_init / σ_retraining) / π.

    The mean over normal differences δ of Φ(|δ| / (√2 σ_retraining)), δ with the variance 2 σ²_init.
    """
    chances = _chance(drawn["init"], drawn["retraining"])
    value = _chance(np.asarray(found["init"].value), np.asarray(found["retraining"].value))
    return Interval(float(value), *_percentiles(chances))


def _chance(init: Array, retraining: Array) -> Array:
    return np.asarray(0.5 + np.arctan2(np.sqrt(init), np.sqrt(retraining)) / math.pi, np.float64)


def _gain(found: dict[str, Component], drawn: dict[str, Array]) -> Interval:
    total = found["seed"].value + found["seed_init"].value
    sums = drawn["seed"] + drawn["seed_init"]
    shares = drawn["seed"][sums > 0] / sums[sums > 0]
    if total == 0 or not shares.size:
        return Interval(math.nan, 0.0, 1.0)
    return Interval(found["seed"].value / total, *_percentiles(shares))


def _percentiles(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def case_instability(y: Array) -> Array:
    """SD over seeds of every case: [init, case] from y [init, seed, case], Dice points; NaN with one seed. Descriptive."""
    y = checked(y, "init, seed, case")
    return np.std(y, axis=-2, ddof=1) if y.shape[-2] > 1 else np.full((*y.shape[:-2], y.shape[-1]), np.nan)
