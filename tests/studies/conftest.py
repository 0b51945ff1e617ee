"""Fixtures of the tests of studies: the runs of a published table, written without training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.reproduced import write_rows

INITS = {"default": 0.0, "mae": 0.01, "tube": 0.0, "order": -0.02, "lwi": 0.03}


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three runs of every init of Table VI; tests read it and leave it alone."""
    out = tmp_path_factory.mktemp("reproduce") / "runs"
    write_rows(out, INITS)
    return out
