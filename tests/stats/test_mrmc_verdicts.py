"""Verdicts on differences: which interval has which word, what is untestable, and that a pair has one answer."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from scipy import stats

from initbench.stats.compare import Difference, Verdict, compare, difference, verdict
from initbench.stats.design import Refused
from initbench.stats.families import Family
from initbench.stats.mrmc import crossed_difference
from initbench.stats.summary import Interval
from initbench.stats.tails import equivalence
from initbench.stats.testable import undecidable
from tests.simulated import DESIGNS, SCOPES, scores

RNG = np.random.default_rng
STUDIES = 4000


def runs_of(means: list[float], cases: int = 8) -> np.ndarray:
    """Runs with these means: cases differ alike in all of them."""
    return np.array(means)[:, None] + np.linspace(-20, 20, cases)


@pytest.mark.parametrize(
    ("a", "says"),
    [
        ([75.0, 75.1, 75.2], "better"),
        ([65.0, 65.1, 65.2], "worse"),
        ([70.0, 70.11, 70.18], "equivalent"),
        ([70.2, 70.32, 70.38], "equivalent, but above 0"),
        ([69.8, 69.92, 70.0], "equivalent, but below 0"),
        ([65.0, 70.0, 77.0], "undecided"),
    ],
)
def test_the_verdicts_on_runs(a: list[float], says: str) -> None:
    got = difference(runs_of(a), runs_of([70.0, 70.12, 70.19]))
    assert got.verdict == says
    assert got.told_from_0 == (says not in {"equivalent", "undecided"})
    assert got.reason == ""
    assert got.estimate.low < got.estimate.value < got.estimate.high


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.1, 0.6, "better"),
        (0.6, 2.0, "better"),
        (-0.6, -0.1, "worse"),
        (-2.0, -0.6, "worse"),
        (-0.4, 0.4, "equivalent"),
        (0.1, 0.4, "equivalent, but above 0"),
        (-0.4, -0.1, "equivalent, but below 0"),
        (-0.1, 0.6, "undecided"),
        (-3.0, 3.0, "undecided"),
        # Edges: an interval that touches the margin lies within it, and one that touches 0 holds 0.
        (-0.5, 0.5, "equivalent"),
        (0.0, 0.5, "equivalent"),
        (-0.5, 0.0, "equivalent"),
        (0.0, 0.0, "equivalent"),
        (5e-324, 0.5, "equivalent, but above 0"),
        (-0.5, -5e-324, "equivalent, but below 0"),
        (0.0, np.nextafter(0.5, 1), "undecided"),
        (np.nextafter(-0.5, -1), 0.0, "undecided"),
        (5e-324, np.nextafter(0.5, 1), "better"),
        (np.nextafter(-0.5, -1), -5e-324, "worse"),
        (0.5, 0.5, "equivalent, but above 0"),
    ],
)
def test_an_interval_has_one_verdict(low: float, high: float, says: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), 0.5) == says


def test_every_word_has_an_example() -> None:
    words = {
        verdict(Interval(0.0, low, high), 0.5) for low in (-1, -0.4, 0.1, 0.7) for high in (-0.7, -0.2, 0.4, 1) if low < high
    }
    untestable = difference(np.zeros((3, 4)), np.ones((3, 4))).verdict
    assert words | {untestable} == set(get_args(Verdict))


def test_equivalence_by_two_one_sided_tests() -> None:
    a, b = np.array([70.1, 70.5, 69.9, 70.2]), np.array([70.0, 70.1, 70.2, 70.0])
    got = difference(runs_of(list(a)), runs_of(list(b)), margin=1.0)
    lower = stats.ttest_1samp(a - b, -1.0, alternative="greater").pvalue
    upper = stats.ttest_1samp(a - b, 1.0, alternative="less").pvalue
    # Each at half of p: "equivalent" is what the printed two-sided interval shows.
    assert got.p_equivalence == pytest.approx(2 * max(lower, upper))


def test_equivalence_is_wrongly_claimed_in_2_5_percent_at_most() -> None:
    y = scores(RNG(10), STUDIES, 2, 5, 63, seed=0.2, init_case=0.2, residual=0.5)
    at_the_margin = y[:, 0] - y[:, 1] + 0.5
    # The interval of 95 % has to lie within the margin, not that of 90 %: half of what it was.
    assert 0.01 <= float((equivalence(crossed_difference(at_the_margin), 0.5) < 0.05).mean()) <= 0.04


def untestable(got: Difference, word: str) -> None:
    assert got.verdict == "untestable"
    assert word in got.reason
    assert all(math.isnan(p) for p in (got.p, got.p_adjusted, got.p_equivalence, got.estimate.low, got.estimate.high))


def test_what_cannot_be_decided_gets_no_p() -> None:
    rng = RNG(11)
    a, b = scores(rng, 1, 2, 4, 9)[0]
    untestable(difference(a[:1], b[:1]), "one seed")
    untestable(difference(a[:1], b[:1], scope="B"), "one seed")
    untestable(difference(a[:, :1], b[:, :1]), "one reported case")
    untestable(difference(a, np.repeat(b[:1], 4, axis=0)), "its seed is not in effect")
    untestable(difference(a, np.zeros_like(b)), "diverged")
    untestable(difference(a, a), "the same for every seed")
    untestable(difference(a, a + 1), "the same for every seed")
    untestable(difference(a[:, :1], b[:, :1], scope="C"), "one reported case")
    untestable(difference(a, a, scope="C"), "the same on every case")
    untestable(difference(a, a + 1, scope="C"), "the same on every case")
    for scope in ("A", "B"):
        omnibus = compare(np.stack([a, b])[:, :1], "ab", scope=scope).omnibus  # type: ignore[arg-type]
        assert isinstance(omnibus, Refused)
        assert "one seed" in omnibus.reason


def test_what_a_study_cannot_decide_is_known_before_it_is_run() -> None:
    assert "one seed" in undecidable(8, 1, 20)
    assert "one reported case" in undecidable(8, 3, 1)
    assert undecidable(2, 2, 2) == undecidable(1, 1, 1) == ""
    # The same as the comparison says afterwards.
    y = scores(RNG(25), 1, 2, 3, 4)[0]
    for part in (y, y[:, :1], y[..., :1]):
        said = undecidable(*part.shape)
        reason = difference(*part).reason
        assert bool(said) == bool(reason)
        assert said[:8] == reason[:8]


def test_no_noise_gives_no_omnibus() -> None:
    a = scores(RNG(18), 1, 1, 4, 9)[0, 0]
    for y, seeds in ((np.stack([a, a + 0.1, a]), "crossed"), (np.repeat(a[None, :1], 4, axis=1).repeat(2, axis=0), "nested")):
        for scope in ("A", "B"):
            got = compare(y, [str(k) for k in range(len(y))], scope=scope, seeds=seeds)  # type: ignore[arg-type]
            assert isinstance(got.omnibus, Refused)
            assert {d.verdict for d in got.differences} == {"untestable"}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("seeds", DESIGNS)
def test_a_difference_does_not_depend_on_order_origin_or_unit(scope: Any, seeds: Any) -> None:
    a, b = scores(RNG(19), 1, 2, 4, 15)[0]
    one = difference(a, b, scope=scope, seeds=seeds)
    back = difference(b, a, scope=scope, seeds=seeds)
    assert (back.estimate.value, back.estimate.low, back.estimate.high) == pytest.approx(
        (-one.estimate.value, -one.estimate.high, -one.estimate.low)
    )
    scaled = difference(3 * a + 7, 3 * b + 7, scope=scope, seeds=seeds, margin=1.5)
    for other in (back, scaled):
        assert (other.p, other.p_equivalence) == pytest.approx((one.p, one.p_equivalence))
    assert scaled.error == pytest.approx(3 * one.error)
    assert scaled.estimate.high == pytest.approx(3 * one.estimate.high)


def test_wrong_input_is_an_error() -> None:
    y = scores(RNG(12), 1, 2, 3, 4)[0]
    with pytest.raises(ValueError, match="not finite"):
        difference(np.full((2, 3), math.nan), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="margin"):
        compare(y, "ab", margin=0.0)
    with pytest.raises(ValueError, match="names"):
        compare(y, "abc")
    with pytest.raises(ValueError, match="names"):
        compare(y, "ab", against="c")


def test_against_default_the_family_is_smaller_than_that_of_all_pairs() -> None:
    y = scores(RNG(13), 1, 4, 5, 12)[0]
    names = ("default", "lwi", "mae", "tube")
    every, control = compare(y, names), compare(y, names, against="default")
    assert [(d.first, d.second) for d in control.differences] == [(n, "default") for n in names[1:]]
    assert {d.family for d in control.differences} == {Family("baseline", 3)}
    assert [d.family.size for d in every.differences] == [3, 3, 3, 6, 6, 6]
    for scope in SCOPES:
        for found in compare(y, names, scope=scope).differences:  # type: ignore[arg-type]
            assert found.p_adjusted == pytest.approx(min(1.0, found.p * found.family.size))


def one_answer(y: np.ndarray, scope: Any, seeds: Any) -> None:
    """A pair has the same `Difference` in all pairs, against one init, with the inits in another order, and alone."""
    names = ["default", *(f"init-{k}" for k in range(1, len(y)))]
    every = {(d.first, d.second): d for d in compare(y, names, scope=scope, seeds=seeds).differences}
    back = {(d.first, d.second): d for d in compare(y[::-1], names[::-1], scope=scope, seeds=seeds).differences}
    for (first, second), found in every.items():
        assert back[second, first].turned() == found
        a, b = y[names.index(first)], y[names.index(second)]
        options = {"scope": scope, "seeds": seeds, "judged_with": found.family}
        assert difference(a, b, names=(first, second), **options) == found
        assert difference(b, a, names=(second, first), **options) == found.turned()
    for control in names:
        for found in compare(y, names, scope=scope, seeds=seeds, against=control).differences:
            assert found.second == control
            pair = (found.first, found.second)
            assert found == (every[pair] if pair in every else every[pair[::-1]].turned())


SHAPES = [(2, 3, 6), (5, 3, 7), (8, 3, 44), (8, 5, 12)]


@pytest.mark.parametrize(
    ("scope", "seeds"), [(scope, seeds) for seeds in DESIGNS for scope in SCOPES if scope + seeds != "Anested"]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_pair_has_one_answer_in_whatever_order_it_is_asked(shape: tuple[int, int, int], scope: str, seeds: str) -> None:
    """To the last bit."""
    one_answer(50 + scores(RNG(sum(shape)), 1, *shape)[0], scope, seeds)


def test_a_pair_with_seeds_of_their_own_has_one_answer_to_the_last_bit() -> None:
    for shape in SHAPES:
        one_answer(50 + scores(RNG(sum(shape)), 1, *shape)[0], "A", "nested")


def test_to_turn_a_difference_turns_its_sign_and_its_word() -> None:
    got = difference(runs_of([70.2, 70.32, 70.38]), runs_of([70.0, 70.12, 70.19]), names=("x", "y"))
    back = got.turned()
    assert (back.first, back.second, back.verdict) == ("y", "x", "equivalent, but below 0")
    assert (back.estimate.value, back.estimate.low, back.estimate.high) == (
        -got.estimate.value,
        -got.estimate.high,
        -got.estimate.low,
    )
    assert (back.p, back.p_adjusted, back.p_equivalence, back.error) == (got.p, got.p_adjusted, got.p_equivalence, got.error)
    assert back.turned() == got


def test_an_untestable_init_leaves_the_others_their_verdicts() -> None:
    y = scores(RNG(14), 1, 3, 5, 12)[0]
    y[2] = 0.0
    got = compare(y, ("a", "b", "dead"))
    assert [d.verdict == "untestable" for d in got.differences] == [False, True, True]
    # The dead init still counts in the family: how many differences are judged does not depend on how they turn out.
    assert {d.family.size for d in got.differences} == {3}
    assert got.differences[0] == difference(y[0], y[1], judged_with=Family("pairs", 3))


def test_an_interval_is_cut_where_no_difference_can_be() -> None:
    found = difference(np.array([[99.0, 97.0], [9.0, 5.0]]), np.array([[1.0, 2.0], [90.0, 99.0]]))
    assert (found.estimate.low, found.estimate.high) == (-100, 100)


def test_the_order_of_cases_and_seeds_changes_nothing() -> None:
    y, rng = scores(RNG(15), 1, 2, 4, 10)[0], RNG(0)
    one, other = compare(y, "ab"), compare(y[:, rng.permutation(4)][..., rng.permutation(10)], "ab")
    assert other.differences[0].p == pytest.approx(one.differences[0].p)
