"""initbench: how much does weight initialization decide volumetric medical segmentation?

The Python API, imported on first use so that ``import initbench`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from initbench.harness.build import build
    from initbench.harness.initialize import initialize
    from initbench.runs.read import load_cases, load_runs
    from initbench.studies.pretrain import pretrain
    from initbench.studies.sweep import run

__all__ = ["build", "initialize", "load_cases", "load_runs", "pretrain", "run"]

_WHERE = {
    "build": "initbench.harness.build",
    "initialize": "initbench.harness.initialize",
    "pretrain": "initbench.studies.pretrain",
    "run": "initbench.studies.sweep",
    "load_runs": "initbench.runs.read",
    "load_cases": "initbench.runs.read",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'initbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
