"""Which differences are judged together, and that one wrong verdict of a family happens in 5 % of studies."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from initbench.stats import compare as compare_module
from initbench.stats.analysis import facts_of, pair
from initbench.stats.blocks import PLACEBO
from initbench.stats.compare import compare
from initbench.stats.families import Family, family
from initbench.stats.pooled import pool
from tests.simulated import scores
from tests.stats.made_up import scored

OTHER_PLACEBO = "default(construct='more')"
SCHEMES = ("default", "lwi", "mae", "tube")


def test_pairs_with_default_are_one_family() -> None:
    for init in SCHEMES[1:]:
        assert family(init, "default", SCHEMES) == Family("baseline", 3)
    assert family("lwi", "default", ("default", "lwi")) == Family("baseline", 1)


def test_all_other_pairs_are_one_family_of_all_pairs() -> None:
    for first, second in combinations(SCHEMES[1:], 2):
        assert family(first, second, SCHEMES) == Family("pairs", 6)
    assert family("a", "b", ("a", "b", "c")) == Family("pairs", 3)  # no default in the block
    assert family("a", "b", ("a", "b")) == Family("pairs", 1)


def test_a_placebo_costs_the_schemes_nothing() -> None:
    inits = (*SCHEMES, PLACEBO)
    assert family("lwi", "default", inits) == Family("baseline", 3)
    assert family("lwi", "mae", inits) == Family("pairs", 6)
    assert family(PLACEBO, "default", inits) == Family("placebo", 1)
    assert family(PLACEBO, "lwi", inits) == Family("placebo", 3)


def test_two_placebos() -> None:
    inits = (*SCHEMES, PLACEBO, OTHER_PLACEBO)
    assert family("lwi", "default", inits) == Family("baseline", 3)
    assert family("lwi", "mae", inits) == Family("pairs", 6)
    for placebo in (PLACEBO, OTHER_PLACEBO):
        assert family(placebo, "default", inits) == Family("placebo", 1)
        # One placebo with each of the other four but default.
        assert family(placebo, "tube", inits) == Family("placebo", 4)
    assert family(PLACEBO, OTHER_PLACEBO, inits) == Family("placebo", 4)
    assert family(PLACEBO, OTHER_PLACEBO, (PLACEBO, OTHER_PLACEBO)) == Family("placebo", 1)


@pytest.mark.parametrize("inits", [SCHEMES, (*SCHEMES, PLACEBO), (*SCHEMES, PLACEBO, OTHER_PLACEBO), SCHEMES[1:]])
def test_the_order_of_names_does_not_matter(inits: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    for first, second in combinations(inits, 2):
        wanted = family(first, second, inits)
        assert family(second, first, inits) == wanted
        for _ in range(5):
            shuffled = [str(name) for name in rng.permutation(inits)]
            assert family(first, second, shuffled) == wanted
        assert wanted.size >= 1


def test_a_pair_has_the_same_family_in_every_command() -> None:
    inits = ("default", "lwi", "mae", PLACEBO)
    y = 50 + scores(np.random.default_rng(1), 1, 4, 3, 12)[0]
    table = scored(y, inits)
    every = {(one.first, one.second): one for one in compare(y, inits, facts=facts_of(table)).differences}
    for (first, second), found in every.items():
        assert pair(table, first, second) == found
        assert pair(table, second, first) == found.turned()
    pooled = pool([table])
    for row in pooled.inits:  # type: ignore[union-attr]
        if row.difference is not None:
            assert row.difference.family == every["default", row.init].family
            assert row.difference.p_adjusted == pytest.approx(every["default", row.init].p_adjusted)


# --- the size of a family ---------------------------------------------------------------------------------------------


def false_verdicts_of_studies(against: str | None) -> float:
    """Share of studies of eight equal inits in which some verdict of a family names a difference."""
    names = ["default", *(f"init-{k}" for k in range(1, 8))]
    wrong = []
    for y in 50 + scores(np.random.default_rng(7), 400, 8, 3, 20, shared=3.0):
        found = compare(y, names, against=against).differences
        judged = [one for one in found if against or "default" not in {one.first, one.second}]
        wrong.append(any(one.told_from_0 for one in judged))
    return float(np.mean(wrong))


def finds_too_much(share: float) -> bool:
    """The bound of benchmarks/coverage.py, .08, and two standard errors of 400 studies."""
    return share > 0.08 + 2 * (0.08 * 0.92 / 400) ** 0.5


@pytest.mark.parametrize("against", ["default", None])
def test_a_family_finds_nothing_where_nothing_is(against: str | None) -> None:
    assert not finds_too_much(false_verdicts_of_studies(against))


@pytest.mark.parametrize("against", ["default", None])
def test_a_family_that_counts_as_one_difference_is_seen(against: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_module, "family", lambda first, second, inits, facts: Family("pairs", 1))
    assert finds_too_much(false_verdicts_of_studies(against))
