"""initbench: how much does weight initialization decide volumetric medical segmentation?

The Python API, imported on first use so that ``import initbench`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from initbench.api import classes, compare, leaderboard, plan, run, variance
    from initbench.harness.build import build
    from initbench.harness.initialize import initialize
    from initbench.report import report
    from initbench.runs.read import load_cases, load_runs
    from initbench.studies.pretrain import pretrain

__all__ = [
    "build",
    "classes",
    "compare",
    "initialize",
    "leaderboard",
    "load_cases",
    "load_runs",
    "plan",
    "pretrain",
    "report",
    "run",
    "variance",
]

_WHERE = {
    "build": "initbench.harness.build",
    "classes": "initbench.api",
    "compare": "initbench.api",
    "initialize": "initbench.harness.initialize",
    "leaderboard": "initbench.api",
    "load_cases": "initbench.runs.read",
    "load_runs": "initbench.runs.read",
    "plan": "initbench.api",
    "pretrain": "initbench.studies.pretrain",
    "run": "initbench.api",
    "variance": "initbench.api",
}


def __getattr__(name: str) -> Any:
    if name == "report":  # a module that can be called
        return importlib.import_module("initbench.report")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'initbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
