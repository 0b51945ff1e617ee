"""What planned looks cost and save: ``python -m benchmarks.looks``. Prints a table of docs/explanation/statistics.md.

Studies are made up as in `benchmarks.collapse`, and stop at the first of the planned looks at which every difference to the first
init is told from 0 or equivalent. Beside them stand studies to which seeds are added until a verdict comes, without a plan.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from benchmarks.collapse import NOISE, SHAPES, Setting, standing_studies
from initbench.stats.looks import is_decided, seeds_taken, shares

LOOKS = (3, 5, 10)
UNPLANNED = (3, 4, 5, 6, 7, 8, 9, 10)


def any_false(y: NDArray[np.float64], seeds: tuple[int, ...], spent: tuple[float, ...]) -> float:
    """Share of studies of equal inits in which some look tells a difference from 0."""
    wrong = np.zeros(len(y), bool)
    for number, share in zip(seeds, spent, strict=True):
        _, told = is_decided(y[:, :, :number], share)
        wrong |= told.any(-1)
    return float(wrong.mean())


def measured(setting: Setting, count: int, points: float) -> dict[str, float]:
    """What the looks do in made-up studies.

    Args:
        setting: the noise and the number of inits.
        count: number of studies.
        points: the true difference of all other inits to the first, for the power.
    """
    y = standing_studies(replace(setting, seeds=LOOKS[-1]), np.random.default_rng(5), count)
    found = {
        "false, planned": any_false(y, LOOKS, shares(LOOKS)),
        "false, seeds added": any_false(y, UNPLANNED, (1.0,) * len(UNPLANNED)),
        "seeds, no difference": float(seeds_taken(y, LOOKS).mean()),
    }
    y[:, 1:] += points
    found["seeds, a difference"] = float(seeds_taken(y, LOOKS).mean())
    last = np.zeros(len(y), bool)
    for number, share in zip(LOOKS, shares(LOOKS), strict=True):
        last |= is_decided(y[:, :, :number], share)[1].all(-1)
    found["found, planned"] = float(last.mean())
    found["found, 10 seeds"] = float(is_decided(y, 1.0)[1].all(-1).mean())
    return found


def main() -> None:
    """Prints the table, and the mean and the largest false verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2500, help="made-up studies a row")
    count = parser.parse_args().studies
    rows: list[dict[str, float]] = []
    for noise, shape, inits in product(NOISE, SHAPES, (2, 4)):
        setting = Setting(noise, shape, LOOKS[-1], inits)
        points = {"lung": 6.0, "organs": 12.0, "precise": 2.0}[noise]
        found = measured(setting, count, points)
        if not rows:
            print("| studies | points | " + " | ".join(found) + " |\n|" + " --- |" * (len(found) + 2))
        rows.append(found)
        numbers = " | ".join(f"{value:.1f}" if name.startswith("seeds") else f"{value:.3f}" for name, value in found.items())
        print(f"| {noise}, {shape}, {inits} inits | {points:g} | {numbers} |", flush=True)
    false = [row["false, planned"] for row in rows]
    print(f"\nfalse verdicts with planned looks: {np.mean(false):.3f} on average, {max(false):.3f} at the most")


if __name__ == "__main__":
    main()
