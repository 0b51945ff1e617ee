"""Power and smallest detectable difference of two inits in a study of S seeds × C cases, at scope A.

A difference is found when its verdict says that it is not 0. The chance of that is computed with the quantiles of `tails`,
averaged over many made-up mean squares of such a study.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import special

from initbench.stats.components import Components, components, difference_draws
from initbench.stats.design import Array, Refused, SeedDesign, generator
from initbench.stats.mrmc import shares
from initbench.stats.scale import DIFFERENCE, cut
from initbench.stats.summary import LEVEL, Interval
from initbench.stats.tails import Estimate, quantile

POWER = 0.8
_STUDIES = 2000  # made-up mean squares for each power: its error is below 0.005
_PILOTS = 200  # draws of what the pilot's components may be
_STUDIES_OF_A_PILOT = 128  # for each of these
_HALVINGS = 24  # of the interval in which a detectable difference lies


@dataclass(frozen=True)
class Pilot:
    """Variance components of the difference of two inits, in squared Dice points.

    Attributes:
        seed: σ²_Ds: how the difference varies with the seed, on all cases alike.
        case: σ²_Dc: how it varies with the case, for all seeds alike.
        residual: σ²_De: how it varies beyond both, from one case of one seed to the next.
        design: whether the two inits share seeds.
        may_be: draws of the three, [draw, component], as likely as the pilot's scores make them; None where the components were
            stated and not measured.
    """

    seed: float
    case: float
    residual: float
    design: SeedDesign = "crossed"
    may_be: Array | None = None

    def __post_init__(self) -> None:
        if min(self.seed, self.case, self.residual) < 0 or not math.isfinite(self.seed + self.case + self.residual):
            raise ValueError(f"{self}: variances are 0 or more")

    @property
    def own(self) -> Array:
        """The three components, [1, component]."""
        return np.array([[self.seed, self.case, self.residual]])


def pilot(y: Array, design: SeedDesign = "crossed") -> Pilot | Refused:
    """Returns the components of a difference of two inits of a block, with draws of them, or why there are none.

    Args:
        y: Dice points [init, seed, case].
        design: crossed or nested in inits.
    """
    found = components(y, design)
    if isinstance(found, Refused):
        return found
    own = stated_by(found)
    if isinstance(own, Refused):
        return own
    drawn = difference_draws(y, design, _PILOTS)
    if isinstance(drawn, Refused):
        return drawn
    may_be = 2 * np.stack([drawn["own"], drawn["init_case"], drawn["residual"]], axis=-1)
    return replace(own, may_be=may_be)


def stated_by(found: Components) -> Pilot | Refused:
    """Returns the components of a difference: twice the components of a block that two inits do not share."""
    own = found.seed_init
    if found.design == "nested":
        own = found.seed
    if own is None or found.init_case is None:
        return Refused("one init in the pilot: how cases differ between inits is not known")
    return Pilot(2 * own.value, 2 * found.init_case.value, 2 * found.residual.value, found.design)


def stated(seed_sd: float, init_case_sd: float, residual_sd: float, design: SeedDesign = "crossed") -> Pilot:
    """Returns the components of a difference, in squared points, from SDs of one init.

    Args:
        seed_sd: SD over seeds, in Dice points.
        init_case_sd: SD of init × case, in Dice points.
        residual_sd: SD of the residual, in Dice points.
        design: whether the two inits share seeds.
    """
    return Pilot(2 * seed_sd**2, 2 * init_case_sd**2, 2 * residual_sd**2, design)


def error(pilot: Pilot, seeds: int, cases: int) -> float:
    """Returns the standard error of a difference in Dice points, √V with V = (σ²_Ds + σ²_De / C) / S + σ²_Dc / C.

    Args:
        pilot: the variance components.
        seeds: their number S.
        cases: their number C; likewise of patients.
    """
    return math.sqrt((pilot.seed + pilot.residual / cases) / seeds + pilot.case / cases)


def power(pilot: Pilot, seeds: int, cases: int, difference: float, comparisons: int = 1) -> float:
    """Returns the chance that a true difference is told from 0; NaN with one seed or one case.

    Args:
        pilot: how noisy differences are.
        seeds: of the study.
        cases: reported cases of the study, or patients.
        difference: the true one, in Dice points.
        comparisons: number of differences that are judged together.
    """
    if seeds < 2 or cases < 2:
        return math.nan
    return float(_power(_Studies(pilot.own, pilot.design, seeds, cases, comparisons, _STUDIES), np.array([difference]))[0])


def detectable(pilot: Pilot, seeds: int, cases: int, comparisons: int = 1) -> Interval | Refused:
    """Returns the smallest true difference, in Dice points, that is told from 0 in 80 % of studies.

    Its interval is what it may be, because the pilot's own components are uncertain; NaN for stated components.

    Args:
        pilot: how noisy differences are.
        seeds: of the study.
        cases: reported cases of the study, or patients.
        comparisons: number of differences that are judged together.
    """
    if seeds < 2:
        return Refused("one seed finds nothing: 2 or more are needed, 5 are better")
    if cases < 2:
        return Refused("one reported case (or patient) finds nothing: 2 or more are needed")
    value = float(_detectable(_Studies(pilot.own, pilot.design, seeds, cases, comparisons, _STUDIES))[0])
    if value > DIFFERENCE.high:
        return Refused("not even a difference of 100 points would be found")
    if pilot.may_be is None:
        return Interval(value, math.nan, math.nan)
    drawn = _detectable(_Studies(pilot.may_be, pilot.design, seeds, cases, comparisons, _STUDIES_OF_A_PILOT))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return cut(Interval(value, min(float(low), value), max(float(high), value)), DIFFERENCE)


def power_of(pilot: Pilot, seeds: int, cases: int, difference: float, comparisons: int = 1) -> Interval:
    """Returns the `power`, with an interval for the uncertainty of the pilot; its bounds are NaN for stated components.

    Args:
        pilot: how noisy differences are.
        seeds: of the study.
        cases: reported cases of the study, or patients.
        difference: the true one, in Dice points.
        comparisons: number of differences that are judged together.
    """
    value = power(pilot, seeds, cases, difference, comparisons)
    if pilot.may_be is None or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    studies = _Studies(pilot.may_be, pilot.design, seeds, cases, comparisons, _STUDIES_OF_A_PILOT)
    drawn = _power(studies, np.full(len(pilot.may_be), difference))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value))


class _Studies:
    """Studies of given components: the true error of a difference, and the distances at which it is told from 0.

    Attributes:
        error: true standard error, [pilot].
        limits: what |difference| has to exceed, [pilot, study].
    """

    def __init__(self, components: Array, design: SeedDesign, seeds: int, cases: int, comparisons: int, count: int) -> None:
        of_seed, of_case, residual = components.T
        inits = 1
        if design == "nested":
            inits = 2  # with seeds of their own both inits tell of the noise of the seeds
        df_seeds, df_cases = inits * (seeds - 1), cases - 1
        drawn = _mean_squares(df_seeds, df_cases, df_seeds * df_cases, count)
        ms_seeds = (cases * of_seed + residual)[:, None] * drawn[0]
        ms_cases = (seeds * of_case + residual)[:, None] * drawn[1]
        ms_rest = residual[:, None] * drawn[2]
        noise, share, tail_share = shares(ms_seeds, ms_cases, ms_rest)
        of_error = np.sqrt(noise / (seeds * cases))
        law = Estimate(
            np.zeros_like(noise), of_error, share, tail_share, np.asarray(float(df_seeds)), np.asarray(float(df_cases))
        )
        self.error = np.sqrt((of_seed + residual / cases) / seeds + of_case / cases)
        self.limits = np.where(noise > 0, quantile(law, (1 - LEVEL) / comparisons) * of_error, 0.0)


@lru_cache(maxsize=32)
def _mean_squares(df_seeds: int, df_cases: int, df_rest: int, count: int) -> tuple[Array, Array, Array]:
    """Draws mean squares of expectation 1, [study]: the same in every call, so that a plan says the same twice.

    Args:
        df_seeds: degrees of freedom of the mean square of the seeds.
        df_cases: of the cases.
        df_rest: of the residual.
        count: number of studies.
    """
    rng = generator("power")
    seeds = rng.chisquare(df_seeds, count) / df_seeds
    cases = rng.chisquare(df_cases, count) / df_cases
    rest = rng.chisquare(df_rest, count) / df_rest
    return seeds, cases, rest


def _power(studies: _Studies, differences: Array) -> Array:
    """Returns the chance to find each of the `differences` [pilot], which are in Dice points."""
    with np.errstate(divide="ignore", invalid="ignore"):
        above = special.ndtr((np.abs(differences)[:, None] - studies.limits) / studies.error[:, None])
        below = special.ndtr((-np.abs(differences)[:, None] - studies.limits) / studies.error[:, None])
    # Without any noise every difference is found, and 0 over 0 is not a number.
    return np.asarray(np.where(studies.error > 0, np.nan_to_num(above + below).mean(-1), 1.0), np.float64)


def _detectable(studies: _Studies) -> Array:
    """Returns the differences [pilot], in Dice points, that are found with 80 % power; they are searched by halving."""
    low = np.zeros_like(studies.error)
    high = np.quantile(studies.limits, 0.9, axis=-1) + 4 * studies.error  # found in at least 0.9 of studies, nearly always
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = _power(studies, middle) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.asarray(high, np.float64)


def floor(pilot: Pilot, cases: int, comparisons: int = 1) -> float:
    """Returns the difference, in Dice points, to which `detectable` falls with ever more seeds; only more cases get below it.

    It is (t_{1−α/2} + z_{.8}) √(σ²_Dc / C), with t of C − 1 degrees of freedom; NaN with one case.

    Args:
        pilot: how noisy differences are.
        cases: the number C of reported cases of the study, or of patients.
        comparisons: number of differences that are judged together.
    """
    if cases < 2:
        return math.nan
    told = -float(special.stdtrit(cases - 1, (1 - LEVEL) / (2 * comparisons)))
    return (told + float(special.ndtri(POWER))) * math.sqrt(pilot.case / cases)
