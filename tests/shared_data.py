"""Finds the data that is shared beside the repository and never copied into it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared(*parts: str) -> Path:
    """Path below the shared folder; skips the test where it is absent.

    The folder is ``$INITBENCH_SHARED``, or ``shared`` next to the repository.
    """
    default = Path(__file__).resolve().parents[2] / "shared"
    path = Path(os.environ.get("INITBENCH_SHARED") or default).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no shared data at {path}")
    return path
