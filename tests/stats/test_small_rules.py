"""Rules that one sign decides: the order of verdicts, the divisor of a variance, and what an empty reference scores."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from initbench.choices import DicePolicy
from initbench.dice import Counts, case_dice, dice_of_counts, run_dice
from initbench.stats.cases import case_scores, class_dice
from initbench.stats.compare import Verdict, difference, verdict
from initbench.stats.summary import Interval


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        # Within the margin comes first: so small a difference is equivalence, though it is told from 0.
        (0.1, 0.9, "equivalent, but above 0"),
        (-0.9, -0.1, "equivalent, but below 0"),
        (-0.9, 0.9, "equivalent"),
        (0.0, 0.5, "equivalent"),
        (-0.5, 0.0, "equivalent"),
        (-1.0, 1.0, "equivalent"),
        (0.1, 1.0, "equivalent, but above 0"),
        (-1.0, -0.1, "equivalent, but below 0"),
        # Beyond it on one side.
        (0.1, 1.1, "better"),
        (1.1, 2.0, "better"),
        (-1.1, -0.1, "worse"),
        (-2.0, -1.1, "worse"),
        (-0.1, 1.1, "undecided"),
        (0.0, 1.1, "undecided"),
        (-1.1, 0.1, "undecided"),
        (-1.1, 0.0, "undecided"),
        (-3.0, 3.0, "undecided"),
    ],
)
def test_the_order_of_verdicts(low: float, high: float, says: Verdict) -> None:
    assert verdict(Interval((low + high) / 2, low, high), margin=1.0) == says


@pytest.mark.parametrize("count", [2, 3, 4, 7])
@pytest.mark.parametrize("scope", ["B", "C"])
def test_a_paired_t_divides_by_one_less(count: int, scope: str) -> None:
    shape = (count, 6) if scope == "B" else (3, count)
    a, b = np.random.default_rng(count).normal(70, 5, (2, *shape))
    axis = 1 if scope == "B" else 0
    got = difference(a, b, scope="B" if scope == "B" else "C")
    d = (a - b).mean(axis)
    expected = stats.ttest_rel(a.mean(axis), b.mean(axis))
    interval = expected.confidence_interval(0.95)
    assert got.error == pytest.approx(math.sqrt(((d - d.mean()) ** 2).sum() / (count - 1) / count))
    assert got.p == pytest.approx(expected.pvalue)
    if max(abs(interval.low), abs(interval.high)) < 100:
        assert (got.estimate.low, got.estimate.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_welch_divides_by_one_less(count: int) -> None:
    a, b = np.random.default_rng(count).normal(70, 5, (2, count, 6))
    got = difference(a, b * 2, scope="B", seeds="nested")
    expected = stats.ttest_ind(a.mean(1), 2 * b.mean(1), equal_var=False)
    assert got.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("fp", [0, 1, 500])
def test_an_empty_reference_scores_nothing_whatever_is_predicted(fp: int) -> None:
    assert math.isnan(Counts(0, fp, 0).dice)
    assert math.isnan(case_dice([Counts(0, fp, 0)]))
    there = Counts(3, 1, 2)
    assert case_dice([there, Counts(0, fp, 0)]) == pytest.approx(6 / 9)
    assert run_dice([[there], [Counts(0, fp, 0)]]) == pytest.approx(6 / 9)
    rows = [("a", "one", 3, 1, 2), ("a", "two", 0, fp, 0), ("b", "one", 0, fp, 0), ("b", "two", 0, fp, 0)]
    cases = pd.DataFrame(rows, columns=["case", "class_name", "tp", "fp", "fn"]).assign(cell="c", seed=0, status="ok")
    assert class_dice(cases).isna().tolist() == [False, True, True, True]
    scores = case_scores(cases)
    assert scores["c", 0, "a"] == pytest.approx(600 / 9)
    assert math.isnan(scores["c", 0, "b"])


@pytest.mark.parametrize(
    ("policy", "predicted", "neither"),
    [
        ("reference-mask", math.nan, math.nan),
        ("monai", math.nan, math.nan),
        ("nnunet", 0.0, math.nan),
        ("empty-is-one", 0.0, 1.0),
        ("worst", 0.0, 0.0),
    ],
)
def test_what_an_empty_reference_scores_by_policy(policy: DicePolicy, predicted: float, neither: float) -> None:
    got = dice_of_counts([0, 0, 0, 3], [7, 0, 2, 1], [0, 0, 5, 2], policy)
    assert got == pytest.approx([predicted, neither, 0.0, 6 / 9], nan_ok=True)


@pytest.mark.parametrize("fn", [1, 500])
@pytest.mark.parametrize("fp", [0, 7])
def test_a_class_that_was_missed_scores_0(fn: int, fp: int) -> None:
    assert Counts(0, fp, fn).dice == 0
    assert dice_of_counts([0], [fp], [fn]).tolist() == [0.0]
