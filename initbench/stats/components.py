"""Variance components of a block: what the seed, the case and the init each add to the spread of Dice.

The headline of a block says how much the init moves Dice beside how much the seed does; its numbers are computed here alone.
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
# tails (public tables of 19 methods: kurtosis 16), and a sample shows less of a tail than there is. With all degrees of freedom
# intervals of 95 % hold in 55 to 85 % of studies with such cases, with this share in 93 % or more (benchmarks/coverage.py).
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
        """The estimate to be shown, in squared Dice points: 0 where it is negative."""
        return max(self.raw, 0.0)

    @property
    def sd(self) -> Interval:
        """The square root of the component with its interval, in Dice points."""
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
        """Returns the SD that each source leaves in the mean of an init over the seeds and cases of this study, by component.

        It is in Dice points, with its interval: the root of the variance over the number of seeds, of cases, or of both over
        which the mean averages the source. `init` is averaged over nothing.
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
    """Estimates the variance components of a block from mean squares, unbiased for balanced scores.

    Source: Searle, Casella & McCulloch, Variance Components (1992), chapter 4.

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

    Returns:
        The components, or why there are none.
    """
    y = checked(y, "init, seed, case")
    refused = _refusal(y)
    if refused:
        return refused
    contrasts = _contrasts(y, seeds)
    drawn = draws(y, contrasts)
    found = {}
    for name, contrast in contrasts.items():
        terms = []
        for square, scale in contrast:
            terms.append(scale * float(square.value))
        found[name] = Component(float(sum(terms)), *_percentiles(drawn[name]))
    inits, number, cases = y.shape
    if inits == 1:
        seeds = "nested"  # the seeds of one init are its own
    wins: Interval | None = None
    gain: Interval | None = None
    if "init" in found:
        wins = _wins(found, drawn)
    if "seed_init" in found:
        gain = _gain(found, drawn)
    return Components(
        design=seeds,
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
        wins=wins,
        pairing_gain=gain,
    )


def _refusal(y: Array) -> Refused | None:
    """Returns why scores y [init, seed, case] have no variance components; None where they have."""
    if y.shape[1] < 2:
        return Refused("with one seed there is no seed variance")
    if y.shape[2] < 2:
        return Refused("with one reported case (or patient) what the seed does cannot be told from what is left of the case")
    return None


def difference_draws(y: Array, seeds: SeedDesign, count: int) -> dict[str, Array] | Refused:
    """Draws the components that two inits do not share, as likely as the scores make them.

    Args:
        y: Dice points [init, seed, case].
        seeds: crossed or nested in inits.
        count: number of draws.

    Returns:
        `own`: variance of the seed in one init; `init_case`, `residual`: as in `Components`; arrays [draw] in squared points. Or
        why there are none.
    """
    y = checked(y, "init, seed, case")
    refused = _refusal(y)
    if refused:
        return refused
    if len(y) < 2:
        return Refused("one init in the pilot: how cases differ between inits is not known")
    drawn = draws(y, _contrasts(y, seeds), count)
    own = "seed_init"
    if seeds == "nested":
        own = "seed"
    return {"own": drawn[own], "init_case": drawn["init_case"], "residual": drawn["residual"]}


def _contrasts(y: Array, seeds: SeedDesign) -> dict[str, _Contrast]:
    """Returns every component of y [init, seed, case] as a sum of mean squares times coefficients."""
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
    if seeds == "crossed":
        return _crossed(squares, I, S, C)
    return _nested(squares, I, S, C)


def _crossed(ms: MeanSquares, I: int, S: int, C: int) -> dict[str, _Contrast]:  # noqa: E741
    """Returns the components of I inits × S seeds × C cases whose seeds are crossed with inits."""
    e = ms.residual
    return {
        "init": _difference(1 / (S * C), (ms.init, e), (ms.init_seed, ms.init_case)),
        "seed": _difference(1 / (I * C), (ms.seed, e), (ms.init_seed, ms.seed_case)),
        "case": _difference(1 / (I * S), (ms.case, e), (ms.init_case, ms.seed_case)),
        "seed_init": _difference(1 / C, (ms.init_seed,), (e,)),
        "init_case": _difference(1 / S, (ms.init_case,), (e,)),
        "seed_case": _difference(1 / I, (ms.seed_case,), (e,)),
        "residual": ((e, 1.0),),
        # These two are the parts of the mean square of the seeds within inits.
        "retraining": ((ms.seed, 1 / (I * C)), (ms.init_seed, (I - 1) / (I * C))),
    }


def _nested(ms: MeanSquares, I: int, S: int, C: int) -> dict[str, _Contrast]:  # noqa: E741
    """Returns the components of I inits × S seeds × C cases where every init has seeds of its own."""
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
    """Returns the sum of some mean squares less the sum of others, times a scale."""
    terms = []
    for square in plus:
        terms.append((square, scale))
    for square in minus:
        terms.append((square, -scale))
    return tuple(terms)


def draws(y: Array, contrasts: dict[str, _Contrast], count: int = DRAWS) -> dict[str, Array]:
    """Draws what each component may be, [draw] in squared points, at least 0 (Weerahandi 1993).

    A mean square is drawn once for all components that it is a part of.

    Args:
        y: Dice points [init, seed, case].
        contrasts: the components as sums of mean squares.
        count: number of draws.
    """
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
    """Returns the degrees of freedom of a mean square, as the scores show them.

    Args:
        square: of a block.
        balance: `effective_inits` over the number of inits, 0 to 1.
    """
    if square.by_case is not None:
        return _OF_CASES * min(square.df, _shown_by_cases(square.by_case))
    if square.over_inits:
        return square.df * balance
    return float(square.df)


def _shown_by_cases(sums: Array) -> float:
    """Returns the degrees of freedom of a sum over C cases with parts `sums` q as unequal as these, by Satterthwaite (1946).

    They are 2 (Σ q)² / (C · variance of q).
    """
    variance = float(sums.var(ddof=1))
    if variance == 0:
        return math.inf
    return 2 * float(sums.sum()) ** 2 / (sums.size * variance)


def _wins(found: dict[str, Component], drawn: dict[str, Array]) -> Interval:
    """Returns the chance that the truly better of two inits scores higher in one run each, with its interval.

    It is 1/2 + arctan(σ_init / σ_retraining) / π: the mean over normal differences δ of Φ(|δ| / (√2 σ_retraining)), δ with the
    variance 2 σ²_init.

    Args:
        found: the components by name.
        drawn: their draws, [draw].
    """
    chances = _chance(drawn["init"], drawn["retraining"])
    value = _chance(np.asarray(found["init"].value), np.asarray(found["retraining"].value))
    return Interval(float(value), *_percentiles(chances))


def _chance(init: Array, retraining: Array) -> Array:
    """Returns 1/2 + arctan(σ_init / σ_retraining) / π from the two variances, which are arrays of one shape."""
    return np.asarray(0.5 + np.arctan2(np.sqrt(init), np.sqrt(retraining)) / math.pi, np.float64)


def _gain(found: dict[str, Component], drawn: dict[str, Array]) -> Interval:
    """Returns the share of the seed variance that runs of equal seed have in common, 0 to 1, with its interval.

    Args:
        found: the components by name.
        drawn: their draws, [draw].
    """
    total = found["seed"].value + found["seed_init"].value
    sums = drawn["seed"] + drawn["seed_init"]
    shares = drawn["seed"][sums > 0] / sums[sums > 0]
    if total == 0 or not shares.size:
        return Interval(math.nan, 0.0, 1.0)
    return Interval(found["seed"].value / total, *_percentiles(shares))


def _percentiles(values: Array) -> tuple[float, float]:
    """Returns the 2.5 % and the 97.5 % quantile of draws [draw]."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def case_instability(y: Array) -> Array:
    """Returns the SD over seeds of every case, [init, case] in Dice points; NaN with one seed. It is descriptive.

    Args:
        y: Dice points [init, seed, case].
    """
    y = checked(y, "init, seed, case")
    if y.shape[-2] < 2:
        return np.full((*y.shape[:-2], y.shape[-1]), np.nan)
    return np.asarray(np.std(y, axis=-2, ddof=1), np.float64)
