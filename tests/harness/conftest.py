"""Fixtures of the tests of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.msd_factory import make_noise


@pytest.fixture(scope="session")
def four_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of four small random volumes of two classes, for studies that are stopped; tests read it and leave it alone."""
    return make_noise(tmp_path_factory.mktemp("data"), cases=4, classes=2)
