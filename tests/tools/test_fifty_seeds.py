"""The script that describes many runs of one init, over runs whose spread is known."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.fifty_seeds import described, draw, found_by_patients, learnt, misled, scores_of
from initbench.errors import UsageError
from tests.recorded import write_block

RUNS = np.array([78.0, 79.0, 80.0, 81.0, 82.0, 79.5, 80.5, 81.5, 26.0, 80.2])


def test_the_runs_of_default_are_read(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": (RUNS / 100).tolist(), "lwi": [0.5]})
    scores, classes = scores_of(tmp_path)
    assert scores.mean(-1) == pytest.approx(RUNS)
    assert classes.shape == (10, 1)
    assert classes.mean(axis=1).tolist() == pytest.approx(RUNS)
    write_block(tmp_path / "other", {"lwi": [0.5, 0.6]})
    with pytest.raises(UsageError, match="0 blocks have default"):
        scores_of(tmp_path / "other")


def test_a_run_that_collapsed_is_counted_beside_the_others() -> None:
    found = described(RUNS)
    assert (found["runs"], found["collapsed"]) == (10, 1)
    assert found["mean of the runs that stand"] == pytest.approx(RUNS[RUNS > 50].mean())
    assert found["50 % lie below"] == pytest.approx(np.median(RUNS))


def test_runs_are_counted_by_the_classes_that_they_learn() -> None:
    classes = pd.DataFrame({"head": [70.0, 0.0, 80.0, 9.9, 0.0], "tail": [60.0, 50.0, 62.0, 10.0, 0.0]}, index=[4, 5, 6, 7, 8])
    assert learnt(classes) == {"head and tail": (2, 65.0, 71.0), "tail": (2, 9.95, 25.0), "none": (1, 0.0, 0.0)}


def test_studies_of_three_are_all_threes() -> None:
    found = misled(RUNS)
    threes = [np.mean(three) for three in combinations(RUNS, 3)]
    assert found["mean of three off by more than 2"] == np.mean([abs(mean - RUNS.mean()) > 2 for mean in threes])
    assert found["no collapse among three"] == pytest.approx(84 / 120)  # 9 of 10 runs stand
    assert found["95 % interval of the SD holds that of all"] < 0.95


def test_runs_that_are_alike_mislead_nobody() -> None:
    found = misled(np.linspace(80.0, 80.2, 12))
    assert found["mean of three off by more than 0.5"] == 0
    assert found["two means of three apart by more than 0.5"] == 0
    assert "no collapse among three" not in found


def test_a_test_over_patients_finds_the_run_that_is_shifted() -> None:
    """Of twelve runs on the same patients one is 5 points better than each other; the others differ by noise alone."""
    rng = np.random.default_rng(0)
    scores = rng.normal(80, 10, 40) + rng.normal(0, 2, (12, 40))
    scores[3] += 5
    found = found_by_patients(scores)
    assert found["the best run against each other, paired t test"] == 1
    assert found["the best run against each other, Wilcoxon"] == 1
    assert found["all pairs, paired t test"] == pytest.approx(11 / 66, abs=0.1)
    assert found["all pairs, Wilcoxon"] == pytest.approx(11 / 66, abs=0.1)


def test_the_runs_are_drawn(tmp_path: Path) -> None:
    draw(RUNS, tmp_path / "runs.png")
    assert (tmp_path / "runs.png").stat().st_size > 5_000
