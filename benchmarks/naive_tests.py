"""How often the obvious tests find a difference of two inits where there is none: ``python -m benchmarks.naive_tests``.

Studies of two inits with the same law are made up in two settings, one like lung nodules (63 cases that differ much, a small
effect of the seed), one like abdominal organs (30 cases, a large one); SDs in `tests/simulated.py`. Each test is asked at 5 %.
Prints the tables of docs/explanation/statistics.md; ``--figure docs/images/naive-tests.png`` draws them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from initbench.stats.across import Friedman, friedman
from initbench.stats.compare import difference
from initbench.stats.design import Refused
from tests.simulated import LUNG, ORGANS, scores

Array = NDArray[np.float64]
SETTINGS: dict[str, tuple[Mapping[str, float], int]] = {"lung-like": (LUNG, 63), "organ-like": (ORGANS, 30)}
SEEDS = (3, 5, 10)
LEVEL = 0.05
DRAWS = 2000  # of the bootstrap


def _wilcoxon(values: Array) -> Array:
    return np.asarray(stats.wilcoxon(values, axis=1, zero_method="pratt").pvalue, np.float64)


def _one_seed(differences: Array) -> Array:
    return _wilcoxon(differences[:, 0])


def _pooled(differences: Array) -> Array:
    return _wilcoxon(differences.reshape(len(differences), -1))


def _averaged(differences: Array) -> Array:
    return _wilcoxon(differences.mean(1))


def _paired_t(differences: Array) -> Array:
    return np.asarray(stats.ttest_1samp(differences.mean(-1), 0, axis=1).pvalue, np.float64)


# P values [study] from differences [study, seed, case].
TESTS: dict[str, Callable[[Array], Array]] = {
    "one seed, Wilcoxon over cases": _one_seed,
    "all seeds × cases pooled, Wilcoxon": _pooled,
    "seeds averaged, Wilcoxon over cases": _averaged,
    "paired t over runs": _paired_t,
}
OURS = "scope A, as `initbench compare`"


def _scope_a(y: Array) -> float:
    """As the command asks, a study at a time: the share of verdicts that the inits differ."""
    found = [difference(*study) for study in y]
    assert not any(one.reason for one in found)  # what is untestable would pass for a test that never errs
    return float(np.mean([one.told_from_0 for one in found]))


def equal_inits(setting: str, seeds: int, studies: int) -> Array:
    """Dice points [study, init, seed, case] of two inits of one law."""
    sds, cases = SETTINGS[setting]
    rng = np.random.default_rng([seeds, cases])
    return scores(rng, studies, 2, seeds, cases, **sds)


def false_positives(setting: str, seeds: int, studies: int) -> dict[str, float]:
    """Share of the studies in which each test finds what is not there."""
    y = equal_inits(setting, seeds, studies)
    naive = {name: float((test(y[:, 0] - y[:, 1]) < LEVEL).mean()) for name, test in TESTS.items()}
    return naive | {OURS: _scope_a(y)}


def coverage(seeds: int, studies: int) -> dict[str, float]:
    """Share of the 95 % intervals of a mean over so many seeds that hold the true mean."""
    rng = np.random.default_rng(seeds)
    runs = rng.normal(0, 1, (studies, seeds))
    hits = 0
    for row in runs:
        low, high = np.quantile(rng.choice(row, (DRAWS, seeds)).mean(1), (0.025, 0.975))
        hits += bool(low <= 0 <= high)
    low, high = stats.t.interval(0.95, seeds - 1, runs.mean(-1), runs.std(-1, ddof=1) / np.sqrt(seeds))
    return {"percentile bootstrap of the seeds": hits / studies, "t interval": float(((low <= 0) & (high >= 0)).mean())}


def friedman_positives(datasets: int, studies: int) -> dict[str, float]:
    """Share of the studies in which Friedman's test finds one of 8 equal inits better over data sets × 4 backbones.

    What an init does by chance on a data set it does to all backbones there: as much as what is left of a block.
    """
    rng, shape = np.random.default_rng(datasets), (studies, datasets, 4, 8)
    blocks = (rng.normal(0, 1, (studies, datasets, 1, 8)) + rng.normal(0, 1, shape)).reshape(studies, -1, 8)
    names = [str(number // 4) for number in range(4 * datasets)]
    ours = [friedman(table, names) for table in blocks]
    assert not any(isinstance(found, Refused) for found in ours)
    return {
        "every block a data set of its own": float(
            np.mean([stats.friedmanchisquare(*table.T).pvalue < LEVEL for table in blocks])
        ),
        "backbones averaged within data sets": float(np.mean([isinstance(f, Friedman) and f.p < LEVEL for f in ours])),
    }


Results = dict[str, list[float]]  # by test, a share per column
DATASETS = (2, 4, 6)


def collect(studies: int) -> tuple[Results, Results, Results]:
    """False positives in the order of `SETTINGS` × `SEEDS`, coverage in that of `SEEDS`, Friedman's in that of `DATASETS`."""
    wrong = [false_positives(setting, seeds, studies) for setting in SETTINGS for seeds in SEEDS]
    covered = [coverage(seeds, studies) for seeds in SEEDS]
    ranked = [friedman_positives(datasets, studies) for datasets in DATASETS]
    return _columns(wrong), _columns(covered), _columns(ranked)


def _columns(rows: list[dict[str, float]]) -> Results:
    return {name: [row[name] for row in rows] for name in rows[0]}


def markdown(wrong: Results, covered: Results, ranked: Results) -> str:
    """The tables, in per cent."""
    settings = [f"{setting}, {seeds} seeds" for setting in SETTINGS for seeds in SEEDS]
    tables = (
        _table("test at 5 %", settings, wrong),
        _table("95 % interval of a mean", [f"{number} seeds" for number in SEEDS], covered),
        _table("Friedman at 5 %, 8 inits", [f"{number} data sets × 4 backbones" for number in DATASETS], ranked),
    )
    return "\n\n".join(tables)


def _table(title: str, columns: list[str], rows: Results) -> str:
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|" + " --- |" * (len(columns) + 1)]
    return "\n".join(
        [*lines, *(f"| {name} | " + " | ".join(f"{100 * x:.1f} %" for x in row) + " |" for name, row in rows.items())]
    )


def draw(wrong: Results, covered: Results, path: Path) -> None:
    """False positives by setting, and coverage: what should lie on a line, and what does."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    colours = dict(zip(wrong, ("#c1272d", "#e07b39", "#b8860b", "#8c6bb1", "#1b6ca8"), strict=True))
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), width_ratios=(1, 1, 0.8), layout="constrained")
    for panel, (axis, setting) in enumerate(zip(axes, SETTINGS, strict=False)):
        for name, row in wrong.items():
            shown = [100 * x for x in row[panel * len(SEEDS) : (panel + 1) * len(SEEDS)]]
            axis.plot(range(len(SEEDS)), shown, "o-", color=colours[name], label=name.replace("`", ""), lw=1.5, ms=5)
        axis.set(title=setting, ylim=(0, 75), ylabel="" if panel else "false positives, %")
        axis.axhline(5, color="#444", lw=0.8, ls="--")
    for (name, row), colour in zip(covered.items(), ("#c1272d", "#1b6ca8"), strict=True):
        axes[2].plot(range(len(SEEDS)), [100 * x for x in row], "o-", color=colour, label=name, lw=1.5, ms=5)
    axes[2].axhline(95, color="#444", lw=0.8, ls="--")
    axes[2].set(title="95 % interval of a mean", ylim=(60, 100), ylabel="covered, %")
    axes[2].legend(fontsize=7, frameon=False, loc="lower right")
    for axis in axes:
        axis.set_xticks(range(len(SEEDS)), [str(n) for n in SEEDS])
        axis.set_xlabel("seeds")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, fontsize=8, frameon=False, loc="outside lower center")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints the tables, and draws them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=4000, help="made up for each number")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    started = time.perf_counter()
    found = collect(given.studies)
    print(markdown(*found))
    print(f"\n{given.studies} studies for each number, {time.perf_counter() - started:.0f} s")
    if given.figure:
        draw(*found[:2], given.figure)


if __name__ == "__main__":
    main()
