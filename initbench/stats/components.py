"""Variance components of a block: what the seed, the case and the init each add to the spread of Dice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from initbench.stats.design import Array, Refused, SeedDesign, checked, generator
from initbench.stats.meansquares import MeanSquares, Square, mean_squares, two_way
from initbench.stats.summary import LEVEL, Interval

DRAWS = 20_000
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
        return Interval(math.sqrt(self.value), math.sqrt(self.low), math.sqrt(self.high))


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
        pairing_gain: seed / (seed + seed_init), the share of the seed variance that runs of equal seed share (crossed); NaN value
            where neither is above 0.
        inits: number of inits; likewise `seeds` and `cases`.
    """

    design: SeedDesign
    inits: int
    seeds: int
    cases: int
    seed: Component
    case: Component
    residual: Component
    init: Component | None
    init_case: Component | None
    seed_init: Component | None
    seed_case: Component | None
    pairing_gain: Interval | None

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

    Nested: σ²_e = MS_E, σ²_seed = (MS_R(T) − MS_E)/C, σ²_init×case = (MS_TC − MS_E)/S, σ²_case = (MS_C − MS_TC)/(IS),
    σ²_init = (MS_T − MS_R(T) − MS_TC + MS_E)/(SC). Crossed: σ²_seed = (MS_R − MS_TR − MS_RC + MS_E)/(IC),
    σ²_seed×init = (MS_TR − MS_E)/C, and likewise by symmetry. One init: two-way, seed and case alone.

    Intervals are generalized ones (Weerahandi 1993): each mean square over its chi-square draw stands for its expectation. For a
    single mean square that is the exact chi-square interval. For the seed variance 92 to 97 % cover in simulations with 3 and 5
    seeds; Satterthwaite's interval covers 63 to 95 % there, and the percentiles of a parametric bootstrap, which turn a skewed
    distribution the wrong way round, 84 to 100 %.

    Args:
        y: Dice points [init, seed, case].
        seeds: crossed or nested in inits.
    """
    y = checked(y, "init, seed, case")
    I, S, C = y.shape  # noqa: E741 - the letters of the literature
    if S < 2:
        return Refused("one seed: the seed variance needs two or more")
    if C < 2:
        return Refused("one case: what the seed does cannot be told from what is left of one case")
    if I == 1:
        return _one_init(y[0])
    squares = mean_squares(y)
    contrasts = _crossed(squares, I, S, C) if seeds == "crossed" else _nested(squares, I, S, C)
    estimated, gain = _estimate(contrasts)
    return Components(
        design=seeds,
        inits=I,
        seeds=S,
        cases=C,
        seed=estimated["seed"],
        case=estimated["case"],
        residual=estimated["residual"],
        init=estimated["init"],
        init_case=estimated["init_case"],
        seed_init=estimated.get("seed_init"),
        seed_case=estimated.get("seed_case"),
        pairing_gain=gain,
    )


def _one_init(y: Array) -> Components:
    S, C = y.shape
    r, c, e = two_way(y)
    estimated, _ = _estimate({"seed": ((r, 1 / C), (e, -1 / C)), "case": ((c, 1 / S), (e, -1 / S)), "residual": ((e, 1.0),)})
    return Components(
        "nested", 1, S, C, **estimated, init=None, init_case=None, seed_init=None, seed_case=None, pairing_gain=None
    )


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
    }


def _nested(ms: MeanSquares, I: int, S: int, C: int) -> dict[str, _Contrast]:  # noqa: E741
    e, r = ms.nested_residual, ms.seed_in_init
    return {
        "init": _difference(1 / (S * C), (ms.init, e), (r, ms.init_case)),
        "seed": _difference(1 / C, (r,), (e,)),
        "case": _difference(1 / (I * S), (ms.case,), (ms.init_case,)),
        "init_case": _difference(1 / S, (ms.init_case,), (e,)),
        "residual": ((e, 1.0),),
    }


def _difference(scale: float, plus: tuple[Square, ...], minus: tuple[Square, ...]) -> _Contrast:
    return (*((square, scale) for square in plus), *((square, -scale) for square in minus))


def _estimate(contrasts: dict[str, _Contrast]) -> tuple[dict[str, Component], Interval | None]:
    """Every component with its interval, and the pairing gain. A mean square has one draw for all components."""
    squares = list({id(square): square for contrast in contrasts.values() for square, _ in contrast}.values())
    chances = _chances(tuple(square.df for square in squares))
    drawn = {id(square): square.sum / chance for square, chance in zip(squares, chances, strict=True)}
    found: dict[str, Component] = {}
    draws: dict[str, Array] = {}
    for name, contrast in contrasts.items():
        raw = float(sum(scale * float(square.value) for square, scale in contrast))
        draws[name] = np.maximum(np.sum([scale * drawn[id(square)] for square, scale in contrast], axis=0), 0.0)
        found[name] = Component(raw, *_percentiles(draws[name]))
    gain = _gain(found, draws) if "seed_init" in found else None
    return found, gain


@lru_cache(maxsize=16)  # a study asks for the same few sizes once per block and init
def _chances(freedoms: tuple[int, ...]) -> tuple[Array, ...]:
    """Chi-square draws of these degrees of freedom."""
    rng = generator("components")
    return tuple(rng.chisquare(df, DRAWS) for df in freedoms)


def _gain(found: dict[str, Component], draws: dict[str, Array]) -> Interval:
    total = found["seed"].value + found["seed_init"].value
    sums = draws["seed"] + draws["seed_init"]
    shares = draws["seed"][sums > 0] / sums[sums > 0]
    if total == 0 or not shares.size:
        return Interval(math.nan, 0.0, 1.0)
    return Interval(found["seed"].value / total, *_percentiles(shares))


def _percentiles(draws: Array) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def case_instability(y: Array) -> Array:
    """SD over seeds of every case: [init, case] from y [init, seed, case], Dice points; NaN with one seed. Descriptive."""
    y = checked(y, "init, seed, case")
    return np.std(y, axis=-2, ddof=1) if y.shape[-2] > 1 else np.full((*y.shape[:-2], y.shape[-1]), np.nan)
