"""Dice from counts: one formula for a class and for a table, and what a class scores that the reference lacks."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

from initbench.choices import DicePolicy, TablePolicy
from initbench.dice import POLICIES, TABLE_POLICIES, Counts, case_dice, dice_of_counts, policies_in_words, run_dice
from tests.folders import ROOT

NAN = math.nan


def test_a_class_and_a_table_get_the_same_bits() -> None:
    counts = np.random.default_rng(3).integers(0, 10**8, (400, 3))
    counts[::7, 0] = 0  # no overlap
    counts[::11, [0, 2]] = 0  # the reference lacks the class
    counts[::31] = 0
    alone = [Counts(*map(int, row)).dice for row in counts]
    assert dice_of_counts(*counts.T).tobytes() == np.array(alone).tobytes()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("reference-mask", [2 / 3, 0, NAN, NAN]),
        ("monai", [2 / 3, 0, NAN, NAN]),
        ("nnunet", [2 / 3, 0, 0, NAN]),
        ("empty-is-one", [2 / 3, 0, 0, 1]),
        ("worst", [2 / 3, 0, 0, 0]),
        ("transunet", [2 / 3, 0, 1, 0]),
    ],
)
def test_a_policy_says_what_a_class_scores_that_the_reference_lacks(policy: TablePolicy, expected: list[float]) -> None:
    scores = dice_of_counts([5, 0, 0, 0], [0, 3, 3, 0], [5, 5, 0, 0], policy)
    assert scores.tolist() == pytest.approx(expected, nan_ok=True)
    assert dice_of_counts([[5, 0], [0, 0]], [[0, 3], [3, 0]], [[5, 5], [0, 0]], policy).shape == (2, 2)


def test_every_policy_has_a_rule_and_a_meaning() -> None:
    assert tuple(POLICIES) == get_args(DicePolicy)
    assert tuple(TABLE_POLICIES) == get_args(TablePolicy)
    for rule in POLICIES.values():
        assert rule.meaning


def test_policies_that_score_alike_are_named_together() -> None:
    assert policies_in_words() == (
        "nothing (reference-mask, monai); 0 if predicted, else nothing (nnunet); 0 if predicted, else 1 (empty-is-one); "
        "always 0 (worst)"
    )


def test_means_are_over_what_has_a_score() -> None:
    whole, half, none = Counts(1, 0, 0), Counts(1, 1, 1), Counts(0, 4, 0)
    assert case_dice([whole, half, none]) == 0.75
    assert math.isnan(case_dice([none]))
    assert run_dice([[whole, half], [none], [half]]) == 0.625
    assert math.isnan(run_dice([]))


def test_the_formula_stands_once() -> None:
    formula = re.compile(r"2(\.0)? ?\* ?\w*tp\b|tp\w* ?\* ?2\b")
    files = [file for folder in ("initbench", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    assert [file.name for file in files if formula.search(file.read_text("utf-8"))] == ["dice.py"]


def test_the_names_of_policies_cost_no_numpy() -> None:
    code = "import sys, initbench.dice; assert not {'numpy', 'pandas', 'scipy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
