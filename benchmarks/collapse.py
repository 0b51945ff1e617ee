"""What verdicts are worth where runs collapse: ``python -m benchmarks.collapse`` prints tables of docs/explanation/statistics.md.

Studies of two inits are made up, in which a run loses some points with some chance. They are given to the functions that every
table reads: the rule that finds collapsed runs, the family of the difference, its interval, and the words of its verdict.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from initbench.stats.collapse import STANDING, joining, limit
from initbench.stats.mrmc import crossed_difference
from initbench.stats.power import Pilot, power
from initbench.stats.summary import LEVEL
from initbench.stats.tails import quantile
from tests.simulated import LUNG, ORGANS

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

DICE = 75.0
SHARED = 3.0  # SD of what a seed does to all inits
PATIENTS = 20
SEEDS = (3, 5, 10, 30)
# Precise: studies in which a difference of two points is found, so that a collapse that did not happen misleads most.
NOISE = {"lung": LUNG, "organs": ORGANS, "precise": {"seed": 0.5, "init_case": 1.0, "residual": 3.0, "case": 20.0}}
SHAPES = ("normal", "skewed", "unequal")


@dataclass(frozen=True)
class Setting:
    """How the studies of a row are made up.

    Attributes:
        noise: `lung`: cases differ much, seeds little; `organs`: seeds do much.
        shape: `normal`; `skewed`: residuals have an exponential tail to low Dice; `unequal`: the first init has three times the
            seed SD of the others.
        seeds: number of them, shared by the inits.
        inits: number of them.
    """

    noise: str = "lung"
    shape: str = "normal"
    seeds: int = 5
    inits: int = 2

    @property
    def name(self) -> str:
        """Of the row."""
        return f"{self.noise}, {self.shape}, S = {self.seeds}, {self.inits} inits"


@dataclass(frozen=True)
class Truth:
    """What is true of the second of two inits, and how either collapses.

    Attributes:
        gain: its points above the first one where both stand.
        rates: chance that a run of each collapses.
        loss: points that a collapsed run loses.
    """

    gain: float = 0.0
    rates: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0

    @property
    def difference(self) -> float:
        """Of the means over all runs."""
        return self.gain - self.loss * (self.rates[1] - self.rates[0])


def standing_studies(setting: Setting, rng: np.random.Generator, count: int) -> Array:
    """Dice points [study, init, seed, patient] of studies in which no run collapses and all inits are equal."""
    sds = NOISE[setting.noise]
    of_seeds = np.full(setting.inits, sds["seed"])
    if setting.shape == "unequal":
        of_seeds[0] *= 3
    shape = (count, setting.inits, setting.seeds, PATIENTS)
    rest = 1 - rng.exponential(1, shape) if setting.shape == "skewed" else rng.normal(size=shape)
    y = DICE + sds["residual"] * rest
    y += of_seeds[:, None, None] * rng.normal(size=(*shape[:3], 1))
    y += SHARED * rng.normal(size=(count, 1, setting.seeds, 1))
    y += sds["init_case"] * rng.normal(size=(count, setting.inits, 1, PATIENTS))
    return np.asarray(y + sds["case"] * rng.normal(size=(count, 1, 1, PATIENTS)), np.float64)


def with_truth(y: Array, truth: Truth, rng: np.random.Generator) -> tuple[Array, Flags]:
    """Studies of two inits with what is true of them, and which runs truly collapsed [study, init, seed]."""
    fell = rng.random(y.shape[:3]) < np.array(truth.rates)[:, None]
    gains = np.array([0.0, truth.gain])[:, None, None]
    return y + gains - truth.loss * fell[..., None], fell


def found_runs(y: Array) -> Flags:
    """The runs that the rule finds, [study, init, seed]."""
    runs = y.mean(-1)
    return np.asarray(runs < limit(runs.reshape(len(runs), -1))[:, None, None], bool)


def is_better(y: Array, sizes: Array) -> Flags:
    """In which studies [study] the second init is told to be above the first, judged with families of these sizes."""
    found = crossed_difference(y[:, 1] - y[:, 0])
    return np.asarray(found.value > quantile(found, (1 - LEVEL) / sizes) * found.error, bool)


def family_sizes(flags: Flags) -> Array:
    """Size of the family of the one difference in each study [study]: the test of the two rates joins where it can."""
    alone = (flags[:, 0] != flags[:, 1]).sum(-1)
    most = flags.shape[-1]
    sizes = np.array([1 + joining([min(1.0, 2 / 2**number)], 1) for number in range(most + 1)], float)
    return np.asarray(sizes[alone], np.float64)


def verdicts(setting: Setting, truth: Truth, count: int, seed: int) -> dict[str, float]:
    """How often the second init is called better, in the words of each kind.

    Args:
        setting: the noise and the number of seeds.
        truth: what is true.
        count: number of studies.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    y, fell = with_truth(standing_studies(setting, rng, count), truth, rng)
    flags = found_runs(y)
    better = is_better(y, family_sizes(flags))
    lost, truly = flags[:, 1].sum(-1), fell[:, 1].any(-1)
    plain = better & (lost == 0) & (setting.seeds >= STANDING)
    named = better & (lost > 0)
    both = int((better & truly).sum())
    return {
        "difference": truth.difference,
        "former tables": float(is_better(y, np.ones(count)).mean()),
        "better": float(better.mean()),
        "plainly": float(plain.mean()),
        "with its bound": float((better & ~plain & ~named).mean()),
        "names a collapse": float(named.mean()),
        "named, of better with one": float((named & truly).sum() / both) if both else math.nan,
    }


def false_alarms(setting: Setting, count: int, seed: int) -> tuple[float, float]:
    """Share of runs that the rule finds where none collapsed: of all inits, and of the init of which it finds most."""
    y = standing_studies(setting, np.random.default_rng(seed), count)
    flags = found_runs(y)
    return float(flags.mean()), float(flags.mean((0, 2)).max())


def finds(setting: Setting, truth: Truth, count: int, seed: int) -> float:
    """Share of the collapsed runs that the rule finds."""
    rng = np.random.default_rng(seed)
    y, fell = with_truth(standing_studies(setting, rng, count), truth, rng)
    return float(found_runs(y)[fell].mean())


def half_found(setting: Setting) -> float:
    """The true difference that is found in half of the studies without a collapse."""
    sds = NOISE[setting.noise]
    noise = Pilot(2 * sds["seed"] ** 2, 2 * sds["init_case"] ** 2, 2 * sds["residual"] ** 2)
    low, high = 0.0, 100.0
    while high - low > 0.01:
        middle = (low + high) / 2
        enough = power(noise, setting.seeds, PATIENTS, middle) > 0.5
        low, high = (low, middle) if enough else (middle, high)
    return high


def worse_truths() -> Iterator[Truth]:
    """An init that stands ahead by less than its collapses cost it."""
    for rate, loss in product((0.05, 0.1, 0.2), (10.0, 30.0, 54.0, 60.0)):
        for other in (0.0, rate / 2):
            cost = loss * (rate - other)
            yield Truth(min(2.0, 0.8 * cost), (other, rate), loss)


def kept_without_a_seed(setting: Setting, count: int, seed: int) -> float:
    """How often a verdict on a real difference is kept when it is made again without one of the seeds."""
    y = standing_studies(setting, np.random.default_rng(seed), count)
    y[:, 1] += half_found(setting)
    once = np.ones(len(y))
    found = is_better(y, once)
    kept = [is_better(np.delete(y, place, axis=2), once)[found].mean() for place in range(setting.seeds)]
    return float(np.mean(kept))


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=4000, help="made-up studies a row")
    count = parser.parse_args().studies
    print_false_alarms(count)
    print_found(count)
    print_worse(count)
    print_alike(count)
    print_kept(count)


def print_false_alarms(count: int) -> None:
    """The rule where no run collapses."""
    print("\n| studies without a collapse | runs found | of the init with most |\n| --- | --- | --- |")
    for noise, shape, seeds, inits in product(NOISE, SHAPES, SEEDS[:3], (2, 3, 8)):
        setting = Setting(noise, shape, seeds, inits)
        every, most = false_alarms(setting, count, 1)
        print(f"| {setting.name} | {every:.3f} | {most:.3f} |", flush=True)


def print_found(count: int) -> None:
    """The rule where a tenth of the runs, or a fifth, of both inits collapse."""
    losses = (10.0, 20.0, 30.0, 54.0)
    print("\n| share of collapsed runs found, loss of | " + " | ".join(f"{loss:g}" for loss in losses) + " |\n|" + " --- |" * 5)
    for noise, seeds, rate in product(NOISE, SEEDS, (0.1, 0.2)):
        setting = Setting(noise, seeds=seeds)
        shares = [f"{finds(setting, Truth(0.0, (rate, rate), loss), count, 2):.2f}" for loss in losses]
        print(f"| {noise}, S = {seeds}, {100 * rate:.0f} % collapse | " + " | ".join(shares) + " |", flush=True)


def print_worse(count: int) -> None:
    """How often an init that is truly worse is called better, at each number of seeds where it is so most often."""
    keys = ("difference", "former tables", "plainly", "with its bound", "names a collapse", "named, of better with one")
    print("\n| truly worse init | " + " | ".join(keys) + " |\n|" + " --- |" * (len(keys) + 1))
    for noise, seeds in product(NOISE, SEEDS):
        setting = Setting(noise, seeds=seeds)
        rows = [(truth, verdicts(setting, truth, count, 3)) for truth in worse_truths()]
        usual = Truth(2.0, (0.0, 0.1), 54.0)
        chosen = {"10 % lose 54": (usual, verdicts(setting, usual, count, 3))}
        chosen["most often plainly better"] = max(rows, key=lambda row: row[1]["plainly"])
        chosen["most often better in former tables"] = max(rows, key=lambda row: row[1]["former tables"])
        for name, (truth, found) in chosen.items():
            how = f"{100 * truth.rates[1]:g} % against {100 * truth.rates[0]:g} % lose {truth.loss:g}"
            shown = " | ".join("–" if math.isnan(found[key]) else f"{found[key]:.3f}" for key in keys)
            print(f"| {noise}, S = {seeds}, {name}: {how} | {shown} |", flush=True)


def print_alike(count: int) -> None:
    """Power where nothing collapses in truth."""
    print("\n| nothing collapses | points | better, former tables | better, with its bound or plainly | lost |\n|" + " --- |" * 5)
    for noise, shape, seeds in product(NOISE, SHAPES, SEEDS):
        setting = Setting(noise, shape, seeds)
        points = half_found(setting)
        found = verdicts(setting, Truth(points), count, 4)
        reached = found["plainly"] + found["with its bound"]
        print(
            f"| {setting.name} | {points:.1f} | {found['former tables']:.3f} | {reached:.3f} | "
            f"{found['former tables'] - reached:.3f} |",
            flush=True,
        )


def print_kept(count: int) -> None:
    """How firm a real verdict is where a seed is left out and the verdict made again."""
    print("\n| a real difference | verdict kept without a seed |\n| --- | --- |")
    for noise, seeds in product(NOISE, SEEDS[:3]):
        print(f"| {noise}, S = {seeds} | {kept_without_a_seed(Setting(noise, seeds=seeds), count, 9):.3f} |", flush=True)


if __name__ == "__main__":
    main()
