"""The study that is stopped and goes on: its settings for `crash_driver`, and what that says of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.folders import ROOT
from tests.runs_factory import LIGHT


def settings(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """The settings of the study that `crash_driver` runs on a data set; `changes` are entries that differ."""
    return {"data": str(data), "out": str(out), "init": "lwi", "backbone": LIGHT, "trials": [], **changes}


def drive(asked: dict[str, Any]) -> dict[str, Any]:
    """What `crash_driver` prints of a study with these settings."""
    command = [sys.executable, "-m", "tests.crash_driver", json.dumps(asked)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
