"""Whether what the tables print holds in simulation: ``python -m benchmarks.coverage --jobs 2``.

Studies are made up with known truth and given to the functions that every table reads (`initbench.stats`). Settings are a
pairwise cover: every two values of two factors meet in some row. ``--quick`` takes 200 studies a row and minutes, the default
2500 studies (Monte-Carlo error at most 0.006) most of an hour of two cores. Prints the tables of docs/explanation/statistics.md.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from initbench.choices import BASELINE, MARGIN, REGIMEN
from initbench.stats import components as components_module
from initbench.stats.compare import compare
from initbench.stats.design import Refused, SeedDesign
from initbench.stats.inits import summarize
from initbench.stats.interactions import Scores, contrast, judge
from initbench.stats.meansquares import two_way
from initbench.stats.mrmc import crossed_difference
from initbench.stats.power import Pilot, detectable, pilot, power, power_of
from initbench.stats.ranks import ranking, ranks
from initbench.stats.summary import LEVEL, Interval
from initbench.stats.table import averaged_by_patient
from initbench.stats.tails import Estimate, combined, quantile
from initbench.stats.treatments import Treatment
from tests.simulated import LUNG, ORGANS

Array = NDArray[np.float64]

DICE = 50.0  # true mean: no interval is cut on the way
EFFECT = 2.0  # SD of the true effects of inits, in points
SHARED = 3.0  # SD of what a seed does to all inits, where they share seeds
ALIKE = 0.8  # share of the variance of case effects that the cases of a patient have in common
HEAVY = 7.5 / math.sqrt(2)  # init × case SD: differences of cases then have an SD of 7.5 points
DEGREES = 4 + 6 / 13  # of Student's t with kurtosis 16, as public per-case tables of 19 methods have it


@dataclass(frozen=True)
class Setting:
    """How studies of a row are made up.

    Attributes:
        noise: `lung`: cases differ much, seeds little; `organs`: seeds do much.
        shape: `normal`; `skewed`: cases and residuals have an exponential tail to low Dice; `heavy`: init × case effects are of
            Student's t with kurtosis 16; `unequal`: the first init has three times the seed SD of the others.
        seeds: `shared`: all inits have the same seeds, which do something to all of them; `crossed`: the same seeds, which do
            nothing to all of them; `own`: every init has seeds of its own.
        per_patient: cases of a patient.
        number: of seeds.
        patients: reported.
    """

    noise: str = "lung"
    shape: str = "normal"
    seeds: str = "shared"
    per_patient: int = 1
    number: int = 3
    patients: int = 20
    inits: int = 8

    @property
    def design(self) -> SeedDesign:
        """As the statistics call it."""
        return "nested" if self.seeds == "own" else "crossed"

    @property
    def name(self) -> str:
        """A row's name."""
        cases = f"{self.patients} × {self.per_patient} cases" if self.per_patient > 1 else f"{self.patients} cases"
        return f"{self.noise}, {self.shape}, {self.seeds} seeds, S = {self.number}, {cases}, {self.inits} inits"


FACTORS: dict[str, tuple[Any, ...]] = {
    "number": (2, 3, 5, 10),
    "patients": (5, 12, 20, 44),
    "shape": ("normal", "skewed", "heavy", "unequal"),
    "seeds": ("shared", "crossed", "own"),
    "per_patient": (1, 2, 4),
    "noise": ("lung", "organs"),
    "inits": (8, 2),
}


def cover() -> list[Setting]:
    """Settings in which every pair of values of two factors occurs; chosen greedily, the same in every call."""
    names = list(FACTORS)
    missing = {((a, x), (b, y)) for a, b in combinations(names, 2) for x, y in product(FACTORS[a], FACTORS[b])}
    candidates = [dict(zip(names, values, strict=True)) for values in product(*FACTORS.values())]
    chosen = []
    while missing:
        best = max(candidates, key=lambda values: len(_pairs(values) & missing))
        missing -= _pairs(best)
        chosen.append(Setting(**best))
    return chosen


# Where the quantiles of `stats/tails.py` were hardest to get right: few seeds that do much beside many cases, and many seeds
# beside few cases. The pairwise cover meets none of them with eight inits.
HARDEST = (
    Setting(noise="organs", seeds="crossed", number=2, patients=44),
    Setting(noise="organs", shape="heavy", seeds="crossed", number=2, patients=44),
    Setting(noise="organs", seeds="crossed", number=3, patients=44),
    Setting(noise="lung", shape="heavy", seeds="own", number=10, patients=5),
)


def _pairs(values: dict[str, Any]) -> set[tuple[tuple[str, Any], tuple[str, Any]]]:
    return set(combinations(values.items(), 2))


@dataclass(frozen=True)
class Study:
    """A made-up study and its truth.

    Attributes:
        y: Dice points [init, seed, case].
        patients: of every case.
        effects: true effect of each init, in points.
        components: true variances, by the name that `Components` gives them.
        run_sds: true SD of the run scores of each init on its cases.
    """

    y: Array
    patients: tuple[str, ...]
    effects: Array
    components: dict[str, float]
    run_sds: Array

    @property
    def by_patient(self) -> Array:
        """What the tables take."""
        return averaged_by_patient(self.y, self.patients)


def studies(setting: Setting, count: int, effects: Array | None = None) -> Iterator[Study]:
    """Made-up studies; inits have random true effects where none are given."""
    rng = np.random.default_rng([20261129, *(_key(levels, getattr(setting, name)) for name, levels in FACTORS.items())])
    for _ in range(count):
        yield _study(setting, rng, effects)


def _key(levels: tuple[Any, ...], value: Any) -> int:
    """A number for the value of a factor: its place, or the number that it is where the cover has no such level."""
    return levels.index(value) if value in levels else int(value)


def _study(setting: Setting, rng: np.random.Generator, effects: Array | None) -> Study:
    sds = dict(LUNG if setting.noise == "lung" else ORGANS)
    I, S, P, K = setting.inits, setting.number, setting.patients, setting.per_patient  # noqa: E741
    tail = setting.shape == "skewed"
    if setting.shape == "heavy":
        sds["init_case"] = HEAVY
    own = np.full(I, sds["seed"])
    if setting.shape == "unequal":
        own[0] *= 3
    shared = SHARED if setting.seeds == "shared" else 0.0
    true = rng.normal(0, EFFECT, I) if effects is None else effects
    y = DICE + true[:, None, None] + own[:, None, None] * rng.normal(size=(I, S, 1)) + shared * rng.normal(size=(1, S, 1))
    y = y + sds["case"] * _cases(rng, (1,), P, K, skewed=tail)[:, None]
    of_inits = _cases(rng, (I,), P, K)
    if setting.shape == "heavy":
        # One scale per patient, for all inits: the difference of any two is then of Student's t.
        scales = (DEGREES - 2) / rng.chisquare(DEGREES, P)
        of_inits = of_inits * np.sqrt(np.repeat(scales, K))
    y = y + sds["init_case"] * of_inits[:, None]
    y = y + sds["residual"] * _noise(rng, (I, S, P * K), skewed=tail)
    patient = ALIKE + (1 - ALIKE) / K  # variance of the mean of a patient's cases
    rest = sds["residual"] ** 2 / K
    truth = {
        "init": EFFECT**2,
        "seed": shared**2 if setting.design == "crossed" else float((own**2).mean()),
        "seed_init": float((own**2).mean()),
        "seed_case": 0.0,
        "case": sds["case"] ** 2 * patient,
        "init_case": sds["init_case"] ** 2 * patient,
        "residual": rest,
        "retraining": shared**2 + float((own**2).mean()) + rest / P,
    }
    runs = np.sqrt(shared**2 + own**2 + rest / P)
    return Study(y, tuple(str(k // K) for k in range(P * K)), true, truth, runs)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], *, skewed: bool = False) -> Array:
    """Numbers of variance 1."""
    return 1 - rng.exponential(1, shape) if skewed else rng.normal(size=shape)


def _cases(rng: np.random.Generator, lead: tuple[int, ...], patients: int, each: int, *, skewed: bool = False) -> Array:
    """Effects of cases [..., case] of variance 1, alike within patients."""
    of_patients = _noise(rng, (*lead, patients), skewed=skewed)
    if each == 1:
        return of_patients
    own = _noise(rng, (*lead, patients * each), skewed=skewed)
    return math.sqrt(ALIKE) * np.repeat(of_patients, each, axis=-1) + math.sqrt(1 - ALIKE) * own


# --- what is measured -------------------------------------------------------------------------------------------------


def names(inits: int) -> list[str]:
    """Names of inits, the baseline first."""
    return [BASELINE, *(f"init-{k}" for k in range(1, inits))]


def measure(setting: Setting, count: int) -> dict[str, float]:
    """Shares of the made-up studies in which what is printed is true, and median widths of intervals; by what is meant."""
    rows = [_of_one(setting, study) for study in studies(setting, count)]
    keys = list(rows[0])
    found = {}
    for key in keys:
        values = np.array([row[key] for row in rows])
        if np.isnan(values).all():  # as places with two seeds, which are withheld
            found[key] = math.nan
        else:
            found[key] = float(np.median(values) if key.startswith("width") else values.mean())
    return found


def _of_one(setting: Setting, study: Study) -> dict[str, float]:
    y, inits = study.by_patient, names(setting.inits)
    return {
        **_differences(setting, study, y, inits),
        **_dice(setting, study, y, inits),
        **_spread(setting, study, y),
        **_places(setting, study, y, inits),
    }


def _differences(setting: Setting, study: Study, y: Array, inits: Sequence[str]) -> dict[str, float]:
    """Coverage of the intervals of differences. A false verdict is one that an interval without the truth gives."""
    against = compare(y, inits, seeds=setting.design, against=BASELINE).differences
    every = compare(y, inits, seeds=setting.design).differences
    truth = dict(zip(inits, study.effects, strict=True))
    held = [_holds(item.estimate, truth[item.first] - truth[item.second]) for item in against]
    pairs = [item for item in every if BASELINE not in (item.first, item.second)] or list(every)
    held_pairs = [_holds(item.estimate, truth[item.first] - truth[item.second]) for item in pairs]
    first = against[0]
    alone = compare(y[:2], inits[:2], seeds=setting.design).differences[0].turned()
    half = first.estimate.high - first.estimate.value
    return {
        "differences to default, all at once": float(all(held)),
        "all other pairs, all at once": float(all(held_pairs)),
        "one pair alone": float(_holds(alone.estimate, truth[inits[1]] - truth[BASELINE])),
        "width of a difference": 2 * half,
        "width of a difference, a3d907f": 2 * _former_reach(y[1], y[0]) if setting.design == "crossed" else math.nan,
    }


def _holds(interval: Any, truth: float) -> bool:
    return bool(interval.low - 1e-9 <= truth <= interval.high + 1e-9)


def _dice(setting: Setting, study: Study, y: Array, inits: Sequence[str]) -> dict[str, float]:
    found = summarize(y, inits, setting.design)
    held = [_holds(item.mean, DICE + effect) for item, effect in zip(found, study.effects, strict=True)]
    sds = [_holds(item.run_sd, sd) for item, sd in zip(found, study.run_sds, strict=True)]
    return {
        "Dice, all inits at once": float(all(held)),
        "Dice of one init": float(np.mean(held)),
        "seed SD of one init": float(np.mean(sds)),
        "width of Dice": found[-1].mean.high - found[-1].mean.low,
        "width of Dice, a3d907f": 2 * _former_dice(y[-1]),
    }


def _spread(setting: Setting, study: Study, y: Array) -> dict[str, float]:
    found = components_module.components(y, setting.design)
    assert not isinstance(found, Refused)
    assert found.init is not None
    values: dict[str, float] = {"between-init variance": found.init.raw}
    for name, truth in study.components.items():
        part = getattr(found, name)
        if part is not None:
            values[f"SD of {name}"] = float(_holds(part.sd, math.sqrt(truth)))
    if setting.design == "nested":
        values.pop("SD of seed_init", None)
    return values


def _places(setting: Setting, study: Study, y: Array, inits: Sequence[str]) -> dict[str, float]:
    found = ranking(y, inits, setting.design)
    if isinstance(found, Refused):
        return {"places of an init": math.nan, "the best may be best": math.nan}
    truth = dict(zip(inits, ranks(study.effects), strict=True))
    return {
        "places of an init": float(np.mean([item.low <= truth[item.init] <= item.high for item in found])),
        "the best may be best": float(all(item.may_be_best for item in found if truth[item.init] == 1)),
    }


# --- what commit a3d907f printed --------------------------------------------------------------------------------------


def _former_reach(a: Array, b: Array) -> float:
    """Half the interval of a difference: Hillis' t, for each pair alone."""
    estimate = crossed_difference(a - b)
    share = float(estimate.share)
    df = min((a.shape[0] - 1) / share**2, 1e9)
    return -float(special.stdtrit(df, (1 - LEVEL) / 2)) * float(estimate.error)


def _former_dice(y: Array) -> float:
    """Half the interval of a mean: Satterthwaite's t, for each init alone."""
    seeds, cases, rest = two_way(y)
    noise = float(seeds.value) + max(float(cases.value - rest.value), 0.0)
    spread = 0.0
    for square in (seeds, cases, rest):
        spread += float(square.value) ** 2 / square.df
    return -float(special.stdtrit(noise**2 / spread, (1 - LEVEL) / 2)) * math.sqrt(noise / y.size)


def _former_p(estimate: Estimate) -> Array:
    """p values before Holm's adjustment: the quantiles of the two sources weighted by their shares (Cochran)."""
    t = np.abs(estimate.value) / estimate.error
    low, high = np.full(t.shape, -700.0), np.zeros(t.shape)
    for _ in range(45):
        middle = (low + high) / 2
        p = np.exp(middle) / 2
        q = -estimate.share * special.stdtrit(estimate.df_seeds, p) - (1 - estimate.share) * special.stdtrit(estimate.df_cases, p)
        low, high = np.where(q > t, middle, low), np.where(q > t, high, middle)
    return np.asarray(np.exp(high), np.float64)


def _holm(p: Array) -> Array:
    """Adjusted p values along the last axis."""
    order = np.argsort(p, axis=-1)
    count = p.shape[-1]
    stepped = np.maximum.accumulate(np.take_along_axis(p, order, -1) * np.arange(count, 0, -1), axis=-1)
    found = np.empty_like(p)
    np.put_along_axis(found, order, np.minimum(stepped, 1.0), axis=-1)
    return found


# --- power ------------------------------------------------------------------------------------------------------------

POWER_SETTINGS = tuple(
    Setting(noise=noise, shape=shape, seeds="crossed", number=number, patients=patients)
    for noise, shape, (number, patients) in product(
        ("lung", "organs"), ("normal", "heavy"), ((2, 44), (3, 12), (3, 44), (5, 12), (5, 44), (10, 44))
    )
)


def powers(setting: Setting, count: int) -> dict[str, float]:
    """How often a true difference to default is found, beside Holm's procedure of a3d907f; one of seven is true, or five are.

    The differences are those that this procedure finds in about half of the studies.
    """
    noise = _pilot_of(setting)
    size = _half_found(noise, setting)
    found = {}
    for number in (1, 5):
        effects = np.zeros(setting.inits)
        effects[1 : 1 + number] = size
        y = np.stack([study.by_patient for study in studies(setting, count, effects)])
        estimates = [crossed_difference(y[:, k] - y[:, 0]) for k in range(1, setting.inits)]
        p = np.stack([_former_p(item) for item in estimates], axis=-1)
        former = (_holm(p)[:, :number] <= 1 - LEVEL).mean()
        told = [np.abs(item.value) > quantile(item, (1 - LEVEL) / len(estimates)) * item.error for item in estimates[:number]]
        found[f"{number} true"] = float(np.mean(told))
        found[f"{number} true, a3d907f"] = float(former)
    return {"points": size, **found}


def _pilot_of(setting: Setting) -> Pilot:
    """True components of a difference to an init of usual seed SD."""
    truth = next(studies(setting, 1)).components
    return Pilot(2 * truth["seed_init"], 2 * truth["init_case"], 2 * truth["residual"])


def _half_found(noise: Pilot, setting: Setting) -> float:
    low, high = 0.0, 100.0
    while high - low > 0.01:
        middle = (low + high) / 2
        enough = power(noise, setting.number, setting.patients, middle, setting.inits - 1) > 0.5
        low, high = (low, middle) if enough else (middle, high)
    return high


def forecasts(setting: Setting, count: int) -> dict[str, float]:
    """Whether forecasts of 80 % power come true.

    The first value: power at the difference that the true components name. The others: share of pilot studies, of two inits and
    of all, whose interval of the power at the difference that they name holds the true power.
    """
    noise = _pilot_of(setting)
    family = setting.inits - 1
    named = detectable(noise, setting.number, setting.patients, family)
    assert not isinstance(named, Refused)
    effects = np.zeros(setting.inits)
    effects[1] = named.value
    y = np.stack([study.by_patient for study in studies(setting, count, effects)])
    estimate = crossed_difference(y[:, 1] - y[:, 0])
    told = np.abs(estimate.value) > quantile(estimate, (1 - LEVEL) / family) * estimate.error
    found = {"from the true components": float(told.mean())}
    for inits in (2, setting.inits):
        held = []
        for study in studies(replace(setting, inits=inits), max(100, count // 5)):
            own = pilot(study.by_patient)
            assert not isinstance(own, Refused)
            said = detectable(own, setting.number, setting.patients, family)
            points = 100.0 if isinstance(said, Refused) else said.value  # "not even a difference of 100 points"
            true = power(noise, setting.number, setting.patients, points, family)
            held.append(_holds(power_of(own, setting.number, setting.patients, points, family), true))
        found[f"pilot of {inits} inits holds the true power"] = float(np.mean(held))
    return found


# --- several data sets --------------------------------------------------------------------------------------------------

POOLED = tuple(
    (Setting(noise=noise, shape=shape, seeds="crossed", number=number, patients=patients), sets)
    for (noise, shape), (sets, number, patients) in product(
        (("lung", "normal"), ("organs", "unequal"), ("lung", "heavy")), ((2, 3, 44), (4, 3, 44), (4, 3, 12), (4, 5, 5))
    )
)


def pooled(setting: Setting, sets: int, count: int) -> dict[str, float]:
    """`--by`: size of one pair and of a family of seven, and power of one pair where a3d907f's interval excludes 0 in 68 %."""
    rows = [list(studies(setting, count * sets, np.zeros(setting.inits)))]
    y = np.stack([study.by_patient for study in rows[0]]).reshape(count, sets, setting.inits, setting.number, -1)
    estimates = [crossed_difference(y[:, :, k] - y[:, :, 0]) for k in range(1, setting.inits)]
    wholes = [[combined(_sliced(item, number, sets)) for number in range(count)] for item in estimates]
    first = wholes[0]
    distance = np.array([abs(float(item.value)) / float(item.error) for item in first])
    one = np.array([float(quantile(item, 1 - LEVEL)) for item in first])
    family = 0
    for number in range(count):
        told = [
            abs(float(item[number].value)) > float(quantile(item[number], (1 - LEVEL) / 7)) * float(item[number].error)
            for item in wholes
        ]
        family += any(told)
    shift = _former_shift(estimates[0], first)
    value = np.array([float(item.value) for item in first]) + shift
    error = np.array([float(item.error) for item in first])
    return {
        "size of one pair": float((distance > one).mean()),
        "false verdicts of seven": family / count,
        "power": float((np.abs(value) > one * error).mean()),
        "points": shift,
    }


def _sliced(item: Estimate, study: int, sets: int) -> list[Estimate]:
    found = []
    for k in range(sets):
        of_set = {name: np.asarray(getattr(item, name)[study, k]) for name in ("value", "error", "share", "tail_share")}
        found.append(replace(item, **of_set))
    return found


def _former_shift(parts: Estimate, wholes: Sequence[Estimate]) -> float:
    """The true difference at which a3d907f's pooled interval (Satterthwaite's t) excluded 0 in 68 % of studies."""
    variances = parts.error**2
    df = variances.sum(-1) ** 2 / (variances**2 / np.minimum(parts.df_seeds / parts.share**2, 1e9)).sum(-1)
    value = np.array([float(item.value) for item in wholes])
    error = np.array([float(item.error) for item in wholes])
    limit = -special.stdtrit(df, (1 - LEVEL) / 2) * error
    low, high = 0.0, 100.0
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if (np.abs(value + middle) > limit).mean() > 0.68 else (middle, high)
    return high


# --- inits and regimens -------------------------------------------------------------------------------------------------

CROSSED_INITS = ("default", "init-1", "init-2")
CROSSED_SETTINGS = tuple(
    Setting(noise=noise, shape=shape, seeds=seeds, number=number, patients=patients, inits=2 * inits)
    for (noise, shape), (seeds, number, patients, inits) in product(
        (("lung", "normal"), ("lung", "heavy"), ("organs", "normal"), ("organs", "unequal")),
        (
            ("shared", 2, 44, 2),
            ("shared", 3, 12, 2),
            ("crossed", 3, 44, 2),
            ("crossed", 5, 5, 3),
            ("crossed", 5, 44, 3),
            ("own", 3, 20, 2),
        ),
    )
)


def crossed(setting: Setting, count: int) -> dict[str, float]:
    """Coverage of the intervals of inits under two regimens: of interactions, and of the family that they belong to."""
    rows = [Treatment(init, regimen).name for init in CROSSED_INITS[: setting.inits // 2] for regimen in (REGIMEN, "other")]
    held: list[tuple[bool, bool, bool]] = []
    widths: list[tuple[float, float]] = []
    for study in studies(setting, count):
        y, truth = study.by_patient, dict(zip(rows, study.effects, strict=True))
        against = compare(y, rows, seeds=setting.design, against=BASELINE).differences
        found = judge([Scores(y, setting.design)], rows, MARGIN)
        true = []
        for item in found:
            under, default, plain, default_under = (truth[name] for name in item.interaction.rows)
            true.append(under - plain - default_under + default)
        own = contrast(y[[rows.index(name) for name in found[0].interaction.rows]], setting.design)
        alone = abs(float(own.value) - true[0]) <= float(quantile(own, 1 - LEVEL)) * float(own.error)
        of_crossed = all(_holds(item.difference.estimate, value) for item, value in zip(found, true, strict=True))
        of_rows = all(_holds(item.estimate, truth[item.first] - truth[item.second]) for item in against)
        held.append((alone, of_crossed, of_crossed and of_rows))
        widths.append((_width(found[0].difference.estimate), _width(against[1].estimate)))
    shares, medians = np.mean(held, axis=0), np.median(widths, axis=0)
    return {
        "one interaction alone": float(shares[0]),
        "interactions": float(shares[1]),
        "interactions and differences to default": float(shares[2]),
        "width of an interaction": float(medians[0]),
        "width of a difference": float(medians[1]),
    }


def _width(interval: Interval) -> float:
    return interval.high - interval.low


# --- printing -----------------------------------------------------------------------------------------------------------


def condensed(row: dict[str, float]) -> dict[str, float]:
    """The row of `measure` as the page on statistics has it, with the least of the shares of the SDs of all sources of spread."""
    sds = [value for key, value in row.items() if key.startswith("SD of ")]
    return {
        "differences to default": row["differences to default, all at once"],
        "other pairs": row["all other pairs, all at once"],
        "one pair alone": row["one pair alone"],
        "Dice": row["Dice, all inits at once"],
        "seed SD": row["seed SD of one init"],
        "any other SD": min(sds),
        "between-init variance": row["between-init variance"],
        "places": row["places of an init"],
        "width of a difference": row["width of a difference"],
        "width, a3d907f": row["width of a difference, a3d907f"],
        "width of Dice": row["width of Dice"],
        "width of Dice, a3d907f": row["width of Dice, a3d907f"],
    }


def table(rows: Sequence[tuple[str, dict[str, float]]], first: str) -> str:
    """A Markdown table, a line a row."""
    keys = list(dict.fromkeys(key for _, row in rows for key in row))
    lines = [f"| {first} | " + " | ".join(keys) + " |", "|" + " --- |" * (len(keys) + 1)]
    for name, row in rows:
        lines.append(f"| {name} | " + " | ".join(_number(key, row.get(key, math.nan)) for key in keys) + " |")
    return "\n".join(lines)


def _number(key: str, value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.1f}" if key.startswith("width") or key == "points" else f"{value:.3f}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2500, help="made up for each row")
    parser.add_argument("--quick", action="store_true", help="200 studies a row")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--whole", action="store_true", help="every SD of the table of intervals in a column of its own")
    parser.add_argument("--only", choices=("intervals", "power", "forecasts", "pooled", "regimens"), help="one table")
    given = parser.parse_args()
    count = 200 if given.quick else given.studies
    started = time.perf_counter()
    with ProcessPoolExecutor(given.jobs) as pool:
        if given.only in (None, "intervals"):
            ask = partial(measure, count=count) if given.whole else partial(_condensed_row, count=count)
            _print(pool, ask, [*cover(), *HARDEST], lambda setting: setting.name)
        if given.only in (None, "power"):
            _print(pool, partial(powers, count=count), POWER_SETTINGS, lambda setting: setting.name)
        if given.only in (None, "forecasts"):
            few = [setting for setting in POWER_SETTINGS if setting.number > 2]
            _print(pool, partial(forecasts, count=count), few, lambda setting: setting.name)
        if given.only in (None, "pooled"):
            _print(pool, partial(_pooled_row, count=min(count, 1500)), POOLED, lambda row: f"{row[1]} data sets: {row[0].name}")
        if given.only in (None, "regimens"):
            _print(pool, partial(crossed, count=count), CROSSED_SETTINGS, lambda setting: setting.name.replace("inits", "rows"))
    print(f"{count} studies a row, {time.perf_counter() - started:.0f} s")


def _condensed_row(setting: Setting, count: int) -> dict[str, float]:
    return condensed(measure(setting, count))


def _pooled_row(row: tuple[Setting, int], count: int) -> dict[str, float]:
    return pooled(*row, count)


def _print(
    pool: ProcessPoolExecutor, ask: Callable[[Any], dict[str, float]], settings: Sequence[Any], name: Callable[[Any], str]
) -> None:
    found = list(pool.map(ask, settings))
    print(table([(name(setting), row) for setting, row in zip(settings, found, strict=True)], "studies"), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
