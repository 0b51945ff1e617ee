"""How stable the order of the inits is: another draw of seeds and cases, fewer seeds, another way to rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from initbench.stats.compare import Comparison, compare
from initbench.stats.design import Array, Refused, SeedDesign, checked, generator
from initbench.stats.multiplicity import compact_letters
from initbench.stats.summary import LEVEL

DRAWS = 4000
_SUBSETS = 5000  # subsets of seeds that are all looked at; above, as many are drawn


@dataclass(frozen=True)
class InitRank:
    """The place of an init, 1 the best; descriptive, not a test.

    Attributes:
        rank: by the mean over seeds and cases.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        best: share of the draws in which it is first; ties share.
        places: share of the draws in which it has the first place, the second, ...; ties share.
        letters: inits that share a letter are not told apart at 5 % over all pairs.
        with_leader: not told apart from the init of the highest mean, or equivalent to it.
    """

    init: str
    mean: float
    rank: float
    low: float
    high: float
    best: float
    places: tuple[float, ...]
    letters: str
    with_leader: bool


@dataclass(frozen=True)
class Ranking:
    """The inits by falling mean.

    Attributes:
        tau: mean Kendall τ of the draws' orders to the order shown.
        draws: number of bootstrap draws.
    """

    inits: tuple[InitRank, ...]
    tau: float
    draws: int
    comparison: Comparison


@dataclass(frozen=True)
class Orders:
    """Ranks by three rules, 1 the best, and Kendall τ between them (NaN where a rule ranks all alike).

    Attributes:
        mean_then_rank: by the mean over seeds and cases.
        rank_then_mean: by the mean of the ranks within every seed and case.
        test_then_rank: by won less lost comparisons of scope A under Holm.
    """

    mean_then_rank: tuple[float, ...]
    rank_then_mean: tuple[float, ...]
    test_then_rank: tuple[float, ...]
    tau_mean_rank: float
    tau_mean_test: float
    tau_rank_test: float


def bootstrap_means(y: Array, seeds: SeedDesign = "crossed", draws: int = DRAWS) -> Array:
    """Means [draw, init] of y [init, seed, case] with seeds and cases resampled.

    One draw of cases for all inits; one draw of seeds for all inits where they are crossed, one for each where nested. For ranks
    and quantiles only: as an interval of a mean its percentiles cover too little with few seeds.
    """
    y = checked(y, "init, seed, case")
    I, S, C = y.shape  # noqa: E741 - the letters of the literature
    cases, once = _weights(C, S, draws, 1 if seeds == "crossed" else I)
    weights = np.broadcast_to(once, (I, draws, S))
    # One product of matrices for the cases, [draw, case] · [case, init × seed]; the few seeds are weighted after it.
    runs = (cases @ y.reshape(I * S, C).T).reshape(draws, I, S)
    return np.asarray(np.einsum("dis,ids->di", runs, weights), np.float64)


@lru_cache(maxsize=4)  # the blocks of a study have mostly one size
def _weights(cases: int, seeds: int, draws: int, inits: int) -> tuple[Array, Array]:
    """Shares of every case [draw, case] and seed [init, draw, seed] in the draws."""
    rng = generator("ranks")
    of_cases = rng.multinomial(cases, np.full(cases, 1 / cases), draws) / cases
    return of_cases, rng.multinomial(seeds, np.full(seeds, 1 / seeds), (inits, draws)) / seeds


def ranks(scores: Array) -> Array:
    """Ranks along the last axis, 1 for the highest; ties share the mean of their places."""
    higher = (scores[..., None, :] > scores[..., :, None]).sum(-1)
    equal = (scores[..., None, :] == scores[..., :, None]).sum(-1)
    return np.asarray(higher + (equal + 1) / 2, np.float64)


def place_shares(drawn: Array) -> Array:
    """Share of the draws in which every init has every place, [init, place], from ranks [draw, init]; ties share their places."""
    count = drawn.shape[-1]
    tied = np.sum([drawn == drawn[:, [k]] for k in range(count)], axis=0)
    first = drawn - (tied - 1) / 2
    held = [((first <= place) & (place < first + tied)) / tied for place in range(1, count + 1)]
    return np.stack([share.mean(0) for share in held], axis=-1)


def kendall(orders: Array, reference: Array) -> Array:
    """Kendall τ-b of every row of `orders` [..., init] to `reference` [init]; NaN where one of the two ranks all alike."""
    i, j = np.triu_indices(reference.size, 1)
    a, b = np.sign(orders[..., i] - orders[..., j]), np.sign(reference[i] - reference[j])
    size = np.sqrt((a != 0).sum(-1) * float((b != 0).sum()))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size > 0, (a * b).sum(-1) / size, np.nan)


def ranking(y: Array, inits: Sequence[str], seeds: SeedDesign = "crossed", draws: int = DRAWS) -> Ranking | Refused:
    """The order of the inits with its uncertainty, from y [init, seed, case] in Dice points.

    Rank intervals come from the two-axis bootstrap, ties from the pairs of scope A under Holm.
    """
    y = checked(y, "init, seed, case")
    refused = _refusal(y)
    if refused:
        return refused
    means = y.mean((-2, -1))
    drawn = ranks(bootstrap_means(y, seeds, draws))
    ends = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [ends, 1 - ends], axis=0, method="inverted_cdf")
    places = place_shares(drawn)
    comparison = compare(y, inits, seeds=seeds)
    order = np.argsort(-means, kind="stable")
    letters = tie_letters(comparison, [inits[i] for i in order])
    below = _worse_than(comparison, inits[order[0]])
    own = ranks(means)
    rows = [
        InitRank(
            init=inits[i],
            mean=float(means[i]),
            rank=float(own[i]),
            low=float(low[i]),
            high=float(high[i]),
            best=float(places[i, 0]),
            places=tuple(float(share) for share in places[i]),
            letters=text,
            with_leader=inits[i] not in below,
        )
        for i, text in zip(order, letters, strict=True)
    ]
    return Ranking(tuple(rows), _mean(kendall(-drawn, means)), draws, comparison)


def _refusal(y: Array) -> Refused | None:
    if len(y) < 2:
        return Refused("one init: nothing to rank")
    if y.shape[1] < 2:
        return Refused("one seed: how stable the order is cannot be told (S = 1)")
    return None


def tie_letters(comparison: Comparison, inits: Sequence[str]) -> list[str]:
    """Compact letters of the inits in the order given, which is best first."""
    place = {name: k for k, name in enumerate(inits)}
    told_apart = [(item.first, item.second) for item in comparison.differences if item.verdict in ("better", "worse")]
    pairs = sorted((min(place[a], place[b]), max(place[a], place[b])) for a, b in told_apart)
    return compact_letters(len(inits), pairs)


def _worse_than(comparison: Comparison, leader: str) -> set[str]:
    found = set()
    for item in comparison.differences:
        if item.verdict == "better" and item.first == leader:
            found.add(item.second)
        if item.verdict == "worse" and item.second == leader:
            found.add(item.first)
    return found


def orders(y: Array, seeds: SeedDesign = "crossed") -> Orders:
    """Three ways to rank y [init, seed, case], and how well they agree.

    Ranks within a seed and case compare runs that share a seed; with nested seeds they pair runs by place, which is arbitrary.
    """
    y = checked(y, "init, seed, case")
    by_mean = ranks(y.mean((-2, -1)))
    by_rank = ranks(-ranks(np.moveaxis(y, 0, -1)).mean((0, 1)))
    names = [str(k) for k in range(len(y))]
    won = np.zeros(len(y))
    for item in compare(y, names, seeds=seeds).differences:
        sign = {"better": 1, "worse": -1}.get(item.verdict, 0)
        won[int(item.first)] += sign
        won[int(item.second)] -= sign
    by_test = ranks(won)
    return Orders(
        mean_then_rank=tuple(map(float, by_mean)),
        rank_then_mean=tuple(map(float, by_rank)),
        test_then_rank=tuple(map(float, by_test)),
        tau_mean_rank=float(kendall(by_mean, by_rank)),
        tau_mean_test=float(kendall(by_mean, by_test)),
        tau_rank_test=float(kendall(by_rank, by_test)),
    )


def seed_curve(y: Array) -> dict[int, float]:
    """For every s < S: the share of subsets of s seeds in which the init that leads with all of them leads too; ties share.

    The subsets lie inside the full set, so new seeds would agree less often. y [init, seed, case], crossed.
    """
    m = checked(y, "init, seed, case").mean(-1)
    S = m.shape[1]
    winner = int(np.argmax(m.mean(1)))
    curve = {}
    for size in range(1, S):
        means = _subsets(S, size) @ m.T / size
        # Sums in another order may differ in the last bit: that is a tie, too.
        first = means >= means.max(-1, keepdims=True) - 1e-9
        curve[size] = float((first[:, winner] / first.sum(-1)).mean())
    return curve


def _subsets(seeds: int, size: int) -> NDArray[np.float64]:
    """Indicators [subset, seed] of all subsets of a size, or of as many as are looked at."""
    if math.comb(seeds, size) <= _SUBSETS:
        chosen = np.array(list(combinations(range(seeds), size)))
    else:
        chosen = np.argsort(generator("seed curve").random((_SUBSETS, seeds)), axis=-1)[:, :size]
    found = np.zeros((len(chosen), seeds))
    np.put_along_axis(found, chosen, 1.0, axis=-1)
    return found


def _mean(values: Array) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if found.size else math.nan
