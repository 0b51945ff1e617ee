"""The script that describes many runs of one init, over runs whose spread is known."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fifty_seeds import described, misled, runs_of
from initbench.errors import UsageError
from tests.recorded import write_block

RUNS = np.array([78.0, 79.0, 80.0, 81.0, 82.0, 79.5, 80.5, 81.5, 26.0, 80.2])


def test_the_runs_of_default_are_read(tmp_path: Path) -> None:
    write_block(tmp_path, {"default": (RUNS / 100).tolist(), "lwi": [0.5]})
    assert runs_of(tmp_path).size == RUNS.size
    write_block(tmp_path / "other", {"lwi": [0.5, 0.6]})
    with pytest.raises(UsageError, match="0 blocks have default"):
        runs_of(tmp_path / "other")


def test_a_run_that_collapsed_is_counted_beside_the_others() -> None:
    found = described(RUNS)
    assert (found["runs"], found["collapsed"]) == (10, 1)
    assert found["mean of the runs that stand"] == pytest.approx(RUNS[RUNS > 50].mean())
    assert found["50 % lie below"] == pytest.approx(np.median(RUNS))


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
