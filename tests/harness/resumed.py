"""The study that is stopped and goes on: its settings for `crash_driver`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.runs_factory import LIGHT


def settings(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """The settings of the study that `crash_driver` runs on a data set; `changes` are entries that differ."""
    return {"data": str(data), "out": str(out), "init": "lwi", "backbone": LIGHT, "trials": [], **changes}
