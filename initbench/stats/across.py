"""Over data sets: Friedman's test, for which blocks that share a data set are one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from initbench.stats.design import Array, Refused
from initbench.stats.ranks import ranks
from initbench.stats.summary import LEVEL


@dataclass(frozen=True)
class Friedman:
    """Test that no init ranks above another over data sets.

    Attributes:
        chi2: Friedman's statistic.
        f: Iman and Davenport's form of it, which `p` is of.
        mean_ranks: of every init, 1 the best.
        critical_difference: Nemenyi's, of mean ranks at 5 %.
    """

    chi2: float
    f: float
    df1: int
    df2: int
    p: float
    mean_ranks: tuple[float, ...]
    critical_difference: float
    datasets: tuple[str, ...]


def by_dataset(scores: Array, datasets: Sequence[str]) -> tuple[Array, tuple[str, ...]]:
    """Mean ranks [data set, init] from the scores [block, init]: ranked within every block, averaged within a data set.

    As ranks, since backbones differ in their scale. Treated as data sets of their own, two data sets × four backbones reject 58 %
    where no init is better.
    """
    names = tuple(dict.fromkeys(datasets))
    within = ranks(np.asarray(scores, np.float64))
    which = np.array(list(datasets))
    return np.stack([within[which == name].mean(0) for name in names]), names


def friedman(scores: Array, datasets: Sequence[str]) -> Friedman | Refused:
    """Friedman's test over data sets with Iman and Davenport's F = (N − 1) χ² / [N (k − 1) − χ²].

    Args:
        scores: mean Dice [block, init]; every init in every block.
        datasets: the data set of every block.

    Raises:
        ValueError: a score is not finite or the lengths differ.
    """
    if scores.ndim != 2 or len(scores) != len(datasets) or not np.isfinite(scores).all():
        raise ValueError("finite scores [block, init] and a data set for every block are needed")
    k = scores.shape[1]
    table, names = by_dataset(scores, datasets)
    n = len(names)
    if k < 3:
        return Refused("Friedman's test needs three inits; two are compared within blocks")
    smallest = _smallest(n, k)
    if n < 2 or smallest > 1 - LEVEL:
        sets = "1 data set" if n == 1 else f"{n} data sets"
        return Refused(f"with {sets} and {k} inits nothing can be told of others: the claim is about these")
    if np.ptp(table, axis=1).max() == 0:
        return Refused("all inits rank alike in every data set")
    from scipy.stats import friedmanchisquare  # scipy.stats takes long to import

    chi2 = float(friedmanchisquare(*table.T).statistic)
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else math.inf
    df1, df2 = k - 1, (k - 1) * (n - 1)
    # Where all data sets agree F is infinite; no p is smaller than the chance of that.
    p = max(float(special.fdtrc(df1, df2, f)) if math.isfinite(f) else 0.0, smallest)
    places = tuple(float(rank) for rank in ranks(-table).mean(0))
    return Friedman(chi2, f, df1, df2, p, places, nemenyi(k, n), names)


def _smallest(datasets: int, inits: int) -> float:
    """Chance that all data sets rank the inits in the same order."""
    return float(math.factorial(inits)) ** -(datasets - 1)


def nemenyi(inits: int, datasets: int) -> float:
    """Nemenyi's critical difference of mean ranks at 5 %: q / √2 · √(k (k + 1) / 6N) (Demšar 2006)."""
    from scipy.stats import studentized_range  # scipy.stats takes long to import

    q = float(studentized_range.ppf(LEVEL, inits, np.inf)) / math.sqrt(2)
    return q * math.sqrt(inits * (inits + 1) / (6 * datasets))
