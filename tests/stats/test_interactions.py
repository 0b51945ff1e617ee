"""Interactions of inits and regimens: against a calculation by hand, and how often they are found where there are none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from initbench.stats import interactions as module
from initbench.stats.compare import compare, difference
from initbench.stats.design import Refused
from initbench.stats.interactions import Judged, Scores, contrast, judge
from initbench.stats.mrmc import crossed_difference, nested_contrast, nested_difference
from initbench.stats.pooled import pool
from initbench.stats.tails import quantile
from tests.simulated import LUNG, ORGANS, scores
from tests.stats.made_up import said, scored

Array = NDArray[np.float64]
INITS = ("default", "default + medcontext", "lwi", "lwi + medcontext")
ORDER = [3, 0, 2, 1]  # the rows of the only interaction: those that count with a plus first


def made_up(seed: int = 0, extra: float = 0.0, seeds: int = 4, cases: int = 12) -> Array:
    """Dice points of `INITS` [init, seed, case]; the regimen gives lwi `extra` points more than default."""
    y = 60 + scores(np.random.default_rng(seed), 1, 4, seeds, cases, shared=2.0, case=8.0, residual=3.0)[0]
    y[3] += extra
    return y


def only(y: Array, seeds: str = "crossed") -> Judged:
    """The interaction of a block of `INITS`."""
    (found,) = judge([Scores(y, seeds)], INITS, 0.5)  # type: ignore[arg-type]
    return found


# --- by hand ----------------------------------------------------------------------------------------------------------


def by_hand(y: Array) -> tuple[float, float]:
    """Value and standard error, from sums over seeds and patients that are written out."""
    S, C = y.shape[1:]
    d = [[(y[3, s, c] - y[2, s, c]) - (y[1, s, c] - y[0, s, c]) for c in range(C)] for s in range(S)]
    grand = sum(sum(row) for row in d) / (S * C)
    of_seed = [sum(row) / C for row in d]
    of_case = [sum(d[s][c] for s in range(S)) / S for c in range(C)]
    ms_seed = C * sum((value - grand) ** 2 for value in of_seed) / (S - 1)
    ms_case = S * sum((value - grand) ** 2 for value in of_case) / (C - 1)
    rest = 0.0
    for s in range(S):
        for c in range(C):
            rest += (d[s][c] - of_seed[s] - of_case[c] + grand) ** 2
    ms_rest = rest / ((S - 1) * (C - 1))
    return grand, math.sqrt((ms_seed + max(ms_case - ms_rest, 0.0)) / (S * C))


@pytest.mark.parametrize("seed", range(4))
def test_an_interaction_is_what_a_calculation_by_hand_gives(seed: int) -> None:
    y = made_up(seed, extra=3.0)
    found = only(y).difference
    value, error = by_hand(y)
    assert found.estimate.value == pytest.approx(value)
    assert found.error == pytest.approx(error)
    assert (found.first, found.second) == ("lwi + medcontext − lwi", "default + medcontext − default")
    assert (found.family.kind, found.family.size, found.family.interactions) == ("baseline", 4, 1)


def test_its_law_is_that_of_a_paired_difference_in_the_family_of_default() -> None:
    y = made_up(extra=9.0)
    found = only(y).difference
    wanted = difference(y[3] - y[2], y[1] - y[0], judged_with=found.family, names=(found.first, found.second))
    assert found == wanted
    assert found.p_adjusted == pytest.approx(4 * found.p)


def test_the_analysis_of_a_block_and_of_one_that_is_pooled_say_the_same() -> None:
    table = scored(made_up(extra=5.0), INITS)
    (found,) = said(table).interactions
    assert replace(found, difference=replace(found.difference, collapses=None)) == only(table.by_patient)
    pooled = pool([table])
    assert not isinstance(pooled, Refused)
    assert pooled.interactions == said(table).interactions
    assert {one.family for one in said(table).comparison.differences} == {only(table.by_patient).difference.family}


def test_two_data_sets_count_the_same() -> None:
    tables = [scored(made_up(seed, extra=4.0), INITS, dataset=name) for seed, name in enumerate(("lung", "liver"))]
    pooled = pool(tables)
    assert not isinstance(pooled, Refused)
    (found,) = pooled.interactions
    values, errors = zip(*(by_hand(table.by_patient) for table in tables), strict=True)
    assert found.difference.estimate.value == pytest.approx(np.mean(values))
    assert found.difference.error == pytest.approx(math.hypot(*errors) / 2)


def test_with_seeds_of_their_own_the_noise_of_all_four_rows_counts() -> None:
    y = made_up()
    a, b = y[0], y[1]
    two, pair = nested_contrast([a], [b]), nested_difference(a, b)
    assert two == pair
    four = contrast(y[ORDER], "nested")
    assert four.df_seeds == 4 * (4 - 1)
    S, C = y.shape[1:]
    seeds, rest = 0.0, 0.0
    for row in y:
        left = row - row.mean(0) - row.mean(1)[:, None] + row.mean()
        seeds += C * row.mean(1).var(ddof=1)
        rest += (left**2).sum() / ((S - 1) * (C - 1))
    d = y[3] - y[2] - y[1] + y[0]
    assert four.value == pytest.approx(d.mean())
    assert four.error == pytest.approx(math.sqrt((seeds + max(S * d.mean(0).var(ddof=1) - rest, 0.0)) / (S * C)))


def test_what_cannot_be_tested_says_why() -> None:
    y = made_up()
    assert only(y[:, :1]).difference.reason.startswith("with one seed")
    assert only(y[:, :, :1]).difference.reason.startswith("with one reported case")
    diverged = y.copy()
    diverged[1] = 0.0
    assert only(diverged).difference.reason.startswith("all runs of an init score the same on every case")
    same = y.copy()
    same[3], same[1] = same[2] + 1.0, same[0]
    assert only(same).difference.reason.startswith("the difference is the same for every seed")
    assert only(same).difference.verdict == "untestable"
    (missing,) = judge([Scores(y[:3], "crossed")], INITS[:3], 0.5, withheld={INITS[3]: "lwi + medcontext: no score for seed 1"})
    assert missing.difference.reason == "lwi + medcontext: no score for seed 1"


# --- how often --------------------------------------------------------------------------------------------------------


def held(y: Array, truth: float, seeds: str = "crossed") -> float:
    """Share of the studies y [study, row, seed, case] in which the interval of an interaction alone holds the truth."""
    plus, minus = (y[:, 3], y[:, 0]), (y[:, 2], y[:, 1])
    if seeds == "crossed":
        found = module.crossed_difference((plus[0] - minus[0]) - (minus[1] - plus[1]))
    else:
        found = nested_contrast(plus, minus)
    estimate = found.spread(len(y))
    return float((np.abs(estimate.value - truth) <= quantile(estimate, np.full(len(y), 0.05)) * estimate.error).mean())


@pytest.mark.parametrize("seeds", ["crossed", "nested"])
@pytest.mark.parametrize("effects", [LUNG, ORGANS], ids=["lung", "organs"])
@pytest.mark.parametrize(("number", "cases"), [(3, 44), (5, 12)])
def test_intervals_hold_the_true_interaction(effects: dict[str, float], number: int, cases: int, seeds: str) -> None:
    y = scores(np.random.default_rng(3), 1500, 4, number, cases, **effects, shared=3.0 if seeds == "crossed" else 0.0)
    y[:, 3] += 6.0
    assert held(y, 6.0, seeds) > 0.94 - 2 * (0.05 * 0.95 / 1500) ** 0.5
    assert held(y, 0.0, seeds) < held(y, 6.0, seeds)  # an interaction of 6 points is found now and then


def test_an_error_of_two_rows_instead_of_four_is_seen() -> None:
    """The fault of taking the error of one difference, of an init under the regimen and not, for that of the interaction."""
    y = scores(np.random.default_rng(3), 1500, 4, 5, 12, **ORGANS)
    right = held(y, 0.0)
    estimate = crossed_difference((y[:, 3] - y[:, 2]) - (y[:, 1] - y[:, 0]))
    wrong = crossed_difference(y[:, 3] - y[:, 2]).error
    limits = quantile(estimate.spread(len(y)), np.full(len(y), 0.05)) * wrong
    assert float((np.abs(estimate.value) <= limits).mean()) < 0.9 < right


def false_verdicts(rows: tuple[str, ...], studies: int = 300) -> float:
    """Share of studies of equal inits and regimens without effect in which a verdict of the family of default is wrong."""
    wrong = []
    for y in 50 + scores(np.random.default_rng(7), studies, len(rows), 3, 20, shared=3.0):
        found = [*compare(y, rows, against="default").differences]
        found += [one.difference for one in judge([Scores(y, "crossed")], rows, 0.5)]
        told = [one.told_from_0 for one in found]
        wrong.append(any(told))
    return float(np.mean(wrong))


def test_the_family_with_its_interactions_finds_nothing_where_nothing_is() -> None:
    assert false_verdicts(INITS) <= 0.08
