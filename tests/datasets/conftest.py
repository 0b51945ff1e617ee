"""Fixtures of the tests of data sets."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the only one in which data sets are looked for."""
    monkeypatch.setenv("INITBENCH_DATA", str(tmp_path))
    return tmp_path
