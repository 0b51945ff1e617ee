"""How runs of one init over many seeds are spread, and how often three of them mislead: ``python -m benchmarks.fifty_seeds OUT``.

OUT holds finished runs of `default` in one block. Every three of them are a study that somebody might have had. Prints the
tables of a page in docs/studies.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import special, stats

from initbench.choices import BASELINE
from initbench.errors import InitbenchError, UsageError
from initbench.plots import COLOURS
from initbench.stats.cases import class_scores
from initbench.stats.collapse import collapses, limit
from initbench.stats.summary import LEVEL
from initbench.tables.study import read_study

Array = NDArray[np.float64]

FEW = 3  # runs of a study that somebody might have had
POINTS = (0.5, 1.0, 2.0)
LEARNT = 10.0  # Dice points of a class; a network that never predicts it has 0
SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_SPLITS = 20_000  # pairs of studies with no run in common
_BINS = 12


def scores_of(out: Path) -> tuple[Array, pd.DataFrame]:
    """Dice points [seed, patient] of all runs of `default` below a folder, and those of each class [seed, class].

    Raises:
        UsageError: there is not one block with `default` complete, or it has too few runs.
    """
    study = read_study(out)
    tables = [table for table in study.tables if BASELINE in table.inits]
    if len(tables) != 1:
        raise UsageError(f"{out}: {len(tables)} blocks have {BASELINE}; one is read")
    [table] = tables
    place = table.inits.index(BASELINE)
    scores = table.by_patient[place]
    if len(scores) < 2 * FEW:
        raise UsageError(f"{out}: {len(scores)} runs of {BASELINE}; {2 * FEW} or more tell something")
    classes = class_scores(study.cases[study.cases["cell"] == table.cells[place]], "dice")
    return scores, classes.pivot_table(index="seed", columns="class_name", values="score", observed=True)


def learnt(classes: pd.DataFrame) -> dict[str, tuple[int, float, float]]:
    """Returns how many runs learn which classes, and the least and the largest mean Dice of the classes in these runs.

    Args:
        classes: Dice points [seed, class].
    """
    found: dict[str, list[float]] = {}
    for _seed, row in classes.iterrows():
        names = [str(name) for name, dice in row.items() if dice >= LEARNT]
        found.setdefault(" and ".join(names) or "none", []).append(float(row.mean()))
    return {names: (len(dice), min(dice), max(dice)) for names, dice in sorted(found.items(), key=lambda item: -len(item[1]))}


def described(runs: Array) -> dict[str, float]:
    """The spread of run scores [seed]."""
    lost = runs < limit(runs)
    found = {"runs": float(len(runs)), "mean": float(runs.mean()), "SD": float(runs.std(ddof=1))}
    for share in SHARES:
        found[f"{100 * share:g} % lie below"] = float(np.quantile(runs, share))
    found["collapsed"] = float(lost.sum())
    found["may collapse, at the most"] = collapses(lost).bound
    if lost.any() and not lost.all():
        found["mean of the runs that stand"] = float(runs[~lost].mean())
        found["SD of the runs that stand"] = float(runs[~lost].std(ddof=1))
    return found


def misled(runs: Array) -> dict[str, float]:
    """Shares of studies of three of the runs, or of two such studies without a common run, that mislead."""
    threes = runs[np.array(list(combinations(range(len(runs)), FEW)))]
    mean, sd = float(runs.mean()), float(runs.std(ddof=1))
    off = np.abs(threes.mean(-1) - mean)
    found = {f"mean of three off by more than {points:g}": float((off > points).mean()) for points in POINTS}
    spread = threes.std(-1, ddof=1)
    found["SD of three below half of that of all"] = float((spread < sd / 2).mean())
    low, high = (spread * np.sqrt((FEW - 1) / special.chdtri(FEW - 1, tail)) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    found["95 % interval of the SD holds that of all"] = float(((low <= sd) & (sd <= high)).mean())
    lost = runs < limit(runs)
    if lost.any():
        of_three = lost[np.array(list(combinations(range(len(runs)), FEW)))]
        found["no collapse among three"] = float((~of_three.any(-1)).mean())
    return found | _two_studies(runs)


def _two_studies(runs: Array) -> dict[str, float]:
    """Two studies of three runs each of the same init, as if they were two inits."""
    rng = np.random.default_rng(0)
    drawn = np.stack([runs[rng.permutation(len(runs))[: 2 * FEW]] for _ in range(_SPLITS)])
    first, second = drawn[:, :FEW], drawn[:, FEW:]
    gap = np.abs(first.mean(-1) - second.mean(-1))
    found = {f"two means of three apart by more than {points:g}": float((gap > points).mean()) for points in POINTS}
    error = np.sqrt((first.var(-1, ddof=1) + second.var(-1, ddof=1)) / FEW)
    told = gap > -special.stdtrit(2 * FEW - 2, (1 - LEVEL) / 2) * error
    found["t test over runs finds a difference"] = float(told.mean())
    found["all three of one above all three of the other"] = float(
        ((first.min(-1) > second.max(-1)) | (second.min(-1) > first.max(-1))).mean()
    )
    return found


def found_by_patients(scores: Array) -> dict[str, float]:
    """Returns how often a test over the patients of two runs finds a difference between runs of the same init.

    It is the test that papers print, and what Åkesson, Töger and Heiberg (2024) did with 50 runs of nnU-Net.

    Args:
        scores: Dice points [seed, patient].
    """
    best = int(scores.mean(-1).argmax())
    others = np.delete(scores, best, axis=0)
    first, second = np.triu_indices(len(scores), 1)
    shares = {}
    for name, pairs in (
        ("the best run against each other", scores[best] - others),
        ("all pairs", scores[first] - scores[second]),
    ):
        shares[f"{name}, paired t test"] = float(np.mean(stats.ttest_1samp(pairs, 0, axis=1).pvalue < 1 - LEVEL))
        shares[f"{name}, Wilcoxon"] = float(np.mean(stats.wilcoxon(pairs, axis=1, zero_method="pratt").pvalue < 1 - LEVEL))
    return shares


def draw(runs: Array, path: Path) -> None:
    """Draws the runs, and how the means of three of them are spread."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist(runs, np.arange(0, 2 * np.ceil(runs.max() / 2) + 1, 2), color=COLOURS[4])
    if limit(runs) > 0:
        left.axvline(limit(runs), color="0.4", linestyle=":", label="below it a run has collapsed")
        left.legend(frameon=False)
    left.set(xlabel="Dice points", ylabel="runs", title=f"{len(runs)} runs of {BASELINE}")
    means = runs[np.array(list(combinations(range(len(runs)), FEW)))].mean(-1)
    right.hist(means, 60, color=COLOURS[5], density=True)
    right.axvline(runs.mean(), color="0.2", label="mean of all")
    right.set(xlabel="Dice points", yticks=[], title=f"means of {FEW} of them")
    right.legend(frameon=False)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Prints the tables, and draws the runs where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--plot", type=Path, help="a picture of the runs")
    given = parser.parse_args()
    try:
        scores, classes = scores_of(given.out)
    except InitbenchError as error:
        parser.error(str(error))
    runs = scores.mean(-1)
    print("| | |\n| --- | --- |")
    for name, value in described(runs).items():
        print(f"| {name} | {value:.2f} |")
    print(f"\n| classes with a Dice of {LEARNT:g} and above | runs | Dice |\n| --- | --- | --- |")
    for names, (count, low, high) in learnt(classes).items():
        print(f"| {names} | {count} | {low:.1f} to {high:.1f} |")
    counts, edges = np.histogram(runs, _BINS)
    print("\n| Dice | runs |\n| --- | --- |")
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        print(f"| {low:.1f} to {high:.1f} | {'■' * int(count)} {count} |")
    print("\n| studies of three | share |\n| --- | --- |")
    for name, value in misled(runs).items():
        print(f"| {name} | {value:.3f} |")
    print("\n| a difference is found over patients | share |\n| --- | --- |")
    for name, value in found_by_patients(scores).items():
        print(f"| {name} | {value:.3f} |")
    if given.plot:
        draw(runs, given.plot)


if __name__ == "__main__":
    main()
