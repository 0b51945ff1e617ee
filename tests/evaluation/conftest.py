"""Fixtures of the tests of evaluation: runs with distances and without, which are trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.measured_runs import started
from tests.msd_factory import make_noise


@pytest.fixture(scope="session")
def ten_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ten small random volumes, of which two are reported; tests read it and leave it alone."""
    return make_noise(tmp_path_factory.mktemp("data"), cases=10)


@pytest.fixture(scope="session")
def without_distances(ten_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that measured no distances; tests copy it."""
    return started(ten_cases, tmp_path_factory.mktemp("without") / "runs")


@pytest.fixture(scope="session")
def with_distances(ten_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that measured distances and kept its predictions; tests copy it."""
    return started(ten_cases, tmp_path_factory.mktemp("with") / "runs", distances=True, nsd_tolerance=1.0, save_predictions=True)
